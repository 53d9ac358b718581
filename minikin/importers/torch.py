"""PyTorch modules, by way of torch.export: channels-first in, a channels-last graph out.

Inputs of the graph are NHWC: [N, C, H, W] becomes [N, H, W, C], [N, C, L] becomes [N, L, 1, C] (time runs down the
rows, so that a 1D network streams), other ranks stay. `to_nhwc` converts data alike. The batch is that of the example.
"""

from __future__ import annotations

import json
import logging
import math
import os
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export.graph_signature import InputKind
from torch.fx.node import map_arg

from minikin.errors import MinikinError, ModelError, UnsupportedError, UsageError
from minikin.graph import Graph
from minikin.importers import identifier
from minikin.importers.layout import IMAGES, MAX_ELEMENTS, Builder, Value, layouts, shape_of
from minikin.importers.torch_ops import LOWERINGS
from minikin.passes import optimize

MAX_UNPACKED_BYTES = 1 << 30
SAFE_TARGETS = ("torch.ops.aten.", "_operator.getitem")
IGNORED = ("_assert_tensor_metadata", "_assert_async", "sym_constrain_range_for_size", "sym_constrain_range")


def from_torch(module: torch.nn.Module, example_inputs: Sequence[torch.Tensor], name: str = "model") -> Graph:
    """The float32 graph of a module in evaluation mode, for inputs of the examples' shapes.

    Batch norms are folded, activations fused. Raises UnsupportedError, naming the torch op.
    """
    examples = tuple(example_inputs)
    for example in examples:
        if not isinstance(example, torch.Tensor):
            raise UsageError(f"example input is {type(example).__name__}: give a tuple of torch tensors")
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(module, examples)
    except Exception as error:
        raise UnsupportedError(f"torch.export cannot trace {type(module).__name__} ({_first_line(error)})") from error
    finally:
        for part, training in modes.items():
            part.training = training
    return from_program(program, name)


def load_torch_file(path: str | Path) -> Graph:
    """The graph of a file that torch.export.save wrote, named after the file.

    The file is untrusted: pickled objects, custom operators, compiled code and symbolic expressions, all of which torch
    would evaluate, are refused before torch sees them. Raises ModelError.
    """
    path = Path(path)
    _require_safe(path)
    try:
        with quiet(), _weights_only():
            program = torch.export.load(path)
    except Exception as error:
        raise ModelError(f"not a readable torch.export file ({_first_line(error)}): export it again") from error
    try:
        return from_program(program, identifier(path.stem))
    except MinikinError:
        raise
    except Exception as error:  # a file may say anything of its shapes and arguments
        raise ModelError(f"the exported program contradicts itself ({_first_line(error)}): export it again") from error


def to_nhwc(x: np.ndarray) -> np.ndarray:
    """Samples as the graph takes them: [N, C, H, W] -> [N, H, W, C], [N, C, L] -> [N, L, 1, C], others as they are."""
    axes = IMAGES.get(x.ndim)
    if axes is None:
        return x
    return np.ascontiguousarray(x.transpose([a for a in axes if a >= 0]).reshape(shape_of(x.shape, axes)))


def from_program(program: torch.export.ExportedProgram, name: str) -> Graph:
    """The graph of an exported program.

    Inputs of rank 3 or 4 are channels-first; where that cannot be, as the module itself permutes channels-last data,
    they stay as they are.
    """
    problem = None
    permutes = any(_kind(node).startswith(("permute", "transpose")) for node in program.graph.nodes)
    for channels_first in (True, False) if permutes else (True,):
        try:
            return optimize(_Walk(program, name, channels_first).graph())
        except UnsupportedError as error:
            problem = problem or error
    assert problem is not None
    raise problem


class _Walk:
    """One pass over the program's nodes: `values` holds a Value or a constant for each."""

    def __init__(self, program: torch.export.ExportedProgram, name: str, channels_first: bool) -> None:
        self.program, self.channels_first = program, channels_first
        self.builder = Builder(name)
        self.values: dict[torch.fx.Node, Any] = {}
        self.inputs: list[str] = []
        self.one_dimensional = any("1d" in str(node.target) for node in program.graph.nodes)

    def graph(self) -> Graph:
        specs = iter(self.program.graph_signature.input_specs)
        for node in self.program.graph.nodes:
            self.builder.here, self.builder.kind = identifier(node.name), _kind(node)
            if node.op == "placeholder":
                self.values[node] = self.placeholder(node, next(specs))
            elif node.op == "call_function":
                self.values[node] = self.call(node)
            elif node.op == "output":
                return self.finish(node)
            else:
                raise self.builder.error(
                    "is no op of an exported program: export the module without submodules as attributes"
                )
        raise ModelError("the exported program has no output: export it again")

    def placeholder(self, node: torch.fx.Node, spec: Any) -> Any:
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            store = self.program.state_dict
            return store[spec.target] if spec.target in store else self.program.constants[spec.target]
        if spec.kind == InputKind.CONSTANT_TENSOR:
            return self.program.constants[spec.target]
        if spec.kind != InputKind.USER_INPUT or not isinstance(node.meta.get("val"), torch.Tensor):
            raise self.builder.error("is no tensor input: make it a constant of the module")
        dtype, shape = node.meta["val"].dtype, self.shape(node)
        if dtype != torch.float32:
            raise self.builder.error(f"is {dtype}: only float32 inputs are taken")
        first = layouts(len(shape))[0]
        image = self.channels_first and (len(shape) != 3 or self.one_dimensional)
        name = self.builder.here
        self.inputs.append(name)
        return self.builder.input(name, shape, first if image else tuple(range(len(shape))))

    def call(self, node: torch.fx.Node) -> Any:
        kind = self.builder.kind
        base = kind.partition(".")[0]
        if base in IGNORED:
            return None
        arguments = self.arguments(node)
        flat = [v for a in arguments for v in (a if isinstance(a, list | tuple) else [a])]
        activations = [v for v in flat if isinstance(v, Value)]
        shape = self.shape(node)
        if not activations:
            return self.fold(node)
        function = next((LOWERINGS[k] for k in (kind, base, base.rstrip("_")) if k in LOWERINGS), None)
        if function is None:
            raise self.builder.error("is an op that is not taken: replace it, or export a smaller module")
        if isinstance(node.meta["val"], torch.Tensor) and node.meta["val"].dtype != torch.float32:
            raise self.builder.error(f"gives {node.meta['val'].dtype}: only float32 activations are taken")
        result = function(self.builder, shape, *arguments)
        if base.endswith("_"):  # in place: who reads the input later sees the result
            self.values[node.all_input_nodes[0]] = result
        return result

    def arguments(self, node: torch.fx.Node) -> list[Any]:
        """All arguments in the order of the op's schema, defaults filled in, values looked up."""
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            raise self.builder.error("is no ATen op: replace it, or export a smaller module")
        given = dict(zip((a.name for a in schema.arguments), node.args, strict=False)) | dict(node.kwargs)
        ordered = [given.get(a.name, a.default_value) for a in schema.arguments]
        return [map_arg(value, lambda n: self.values[n]) for value in ordered]

    def fold(self, node: torch.fx.Node) -> Any:
        """An op of constants alone (a masked weight, torch.ones) is computed now."""
        if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace != "aten":
            raise self.builder.error("is no ATen op: replace it, or export a smaller module")
        args, kwargs = map_arg((node.args, node.kwargs), lambda n: self.values[n])
        with torch.no_grad():
            return node.target(*args, **kwargs)

    def shape(self, node: torch.fx.Node) -> tuple[int, ...]:
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            raise self.builder.error("gives no single tensor: replace it, or export a smaller module")
        if not all(isinstance(size, int) for size in value.shape):
            raise self.builder.error(f"has a dynamic shape {tuple(value.shape)}: export it without dynamic_shapes")
        if math.prod(value.shape) > MAX_ELEMENTS:
            raise self.builder.error(
                f"has {math.prod(value.shape):,} elements: {MAX_ELEMENTS:,} are the most that are taken"
            )
        return tuple(value.shape)

    def finish(self, node: torch.fx.Node) -> Graph:
        outputs = [self.output(self.values[n]) for n in node.all_input_nodes]
        if not self.builder.nodes:
            raise ModelError("the module computes nothing: export one with layers")
        return self.builder.graph(self.inputs, outputs)

    def output(self, value: Any) -> str:
        """As an image where it is one, else in torch's own order."""
        if not isinstance(value, Value) or value.name in self.inputs:
            raise self.builder.error("gives an input or a constant back: leave it out of the outputs")
        fitting = [axes for axes in layouts(len(value.shape)) if value.fits(axes)]
        shapes = [shape_of(value.shape, axes) for axes in fitting]
        if self.builder.tensors[value.name].shape in shapes:
            return value.name
        self.builder.here = f"{value.name}_output"
        if not fitting:
            return self.builder.arranged(value, layouts(len(value.shape))[-1])
        return self.builder.shaped(value.name, shapes[0])


def _require_safe(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_UNPACKED_BYTES:
                raise ModelError(f"the file unpacks to more than {MAX_UNPACKED_BYTES:,} bytes: export a smaller model")
            for name in archive.namelist():
                inner = name.partition("/")[2]
                if "custom_obj" in inner or "opaque_obj" in inner or inner.startswith("data/aotinductor"):
                    raise UnsupportedError(
                        f"the file holds {inner}, which torch would execute: export plain tensors and ATen ops"
                    )
            programs = [json.loads(archive.read(n)) for n in archive.namelist() if n.endswith(".json")]
    except (
        OSError,
        zipfile.BadZipFile,
        ValueError,
        RecursionError,
        NotImplementedError,
        EOFError,
        RuntimeError,
    ) as error:
        raise ModelError(f"not a readable torch.export file ({_first_line(error)}): export it again") from error
    except zipfile.zlib.error as error:  # type: ignore[attr-defined]
        raise ModelError(f"not a readable torch.export file ({_first_line(error)}): export it again") from error
    for part in (p for program in programs for p in _objects(program)):
        if part.get("expr_str"):
            raise UnsupportedError("the program has dynamic shapes: export it without dynamic_shapes")
        target = part.get("target")
        if isinstance(target, str) and "inputs" in part and not target.startswith(SAFE_TARGETS):
            raise UnsupportedError(f"the program calls {target}: only ATen ops are taken")


def _objects(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON tree; a list of its own in place of recursion, as the depth is the file's."""
    pending = [tree]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            yield part
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)


@contextmanager
def _weights_only() -> Iterator[None]:
    """torch.load inside torch.export.load falls back to full pickle unless this says otherwise."""
    key = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(key)
    os.environ[key] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before


@contextmanager
def quiet() -> Iterator[None]:
    """torch.export logs and warns of what becomes one sentence here."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _kind(node: torch.fx.Node) -> str:
    """conv2d.default -> conv2d.default, operator.getitem -> getitem."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        return str(target).removeprefix("aten.")
    return getattr(target, "__name__", str(target))


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
