"""The public functions. Each imports what it needs when it is called, so that `import minikin` stays fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minikin.boards import Board, get_board
from minikin.errors import UsageError
from minikin.graph import ROUNDINGS, Graph

if TYPE_CHECKING:
    from minikin.compress.result import Measures, Result
    from minikin.data import Dataset
    from minikin.plan import Plan
    from minikin.plan.inspection import Inspection
    from minikin.vboard.build import Build


def load(model: Any, example_inputs: Sequence[Any] | None = None, *, rounding: str = "micro") -> Graph:
    """A Graph from a path (.tflite, .pt2) or a torch module with example inputs (a tuple of NCHW tensors).

    `rounding` is "micro" (equal to TFLite Micro) or "litert" (equal to LiteRT's reference kernels). Raises ModelError.
    """
    if rounding not in ROUNDINGS:
        raise UsageError(f"rounding {rounding!r} is not known: use {' or '.join(ROUNDINGS)}")
    if isinstance(model, str | Path):
        from minikin.importers import load as load_file

        graph = load_file(Path(model))
    else:
        from minikin.importers.torch import from_torch

        if example_inputs is None:
            raise UsageError("a torch module needs example_inputs: a tuple of tensors as it is called with")
        graph = from_torch(model, tuple(example_inputs), type(model).__name__.lower())
    return graph.replace(rounding=rounding)


def save(graph: Graph, path: str | Path) -> Path:
    """Write a graph as `.tflite`; an existing file is replaced only by a whole one."""
    from minikin.exporters.tflite import write_tflite
    from minikin.files import write_atomically

    return write_atomically(Path(path), write_tflite(graph))


def save_c_array(graph: Graph, path: str | Path) -> Path:
    """Write a graph's `.tflite` bytes as a C array named after the file."""
    from minikin.codegen.text import c_identifier
    from minikin.exporters.c_array import write_c_array
    from minikin.exporters.tflite import write_tflite
    from minikin.files import write_atomically

    return write_atomically(Path(path), write_c_array(write_tflite(graph), c_identifier(Path(path).stem)))


def quantize(graph: Graph, calibration: Any, *, method: str = "minmax", **options: Any) -> Graph:
    """Post-training int8 quantization with calibration samples: see `minikin.compress.quantize.quantize`."""
    from minikin.compress.quantize import quantize as quantize_graph

    return quantize_graph(graph, calibration, method=method, **options)


def compress(graph: Graph, dataset: Dataset, recipe: Any, **options: Any) -> Result:
    """Prune, cluster, quantize and train by a recipe, or a list of its steps: see `minikin.compress.run.compress`."""
    from minikin.compress.run import compress as compress_graph

    return compress_graph(graph, dataset, recipe, **options)


def measure_on(
    board: str | Board, *, optimize: str = "balanced", toolchain: str = "zig"
) -> Callable[[Graph], Measures | None]:
    """What `compress` calls to measure a graph: flash, RAM and instructions on a board; None where it does not fit."""
    from minikin.vboard.toolchain import find_toolchain

    row = get_board(board) if isinstance(board, str) else board
    find_toolchain(toolchain, row.core.gcc)  # what is missing is said before the work begins

    def measure(graph: Graph) -> Measures | None:
        from minikin.compress.result import Measures
        from minikin.errors import DoesNotFit

        try:
            build = compile(graph, row, optimize=optimize, toolchain=toolchain)
        except DoesNotFit:
            return None
        run = build.run()
        return Measures(
            build.flash_bytes,
            build.ram_bytes,
            build.weights_bytes,
            run.instructions,
            row.name,
            run.toolchain,
            run.engine,
        )

    return measure


def inspect(graph: Graph, board: str | Board | None = None) -> Inspection:
    """Layers, MACs, memory alive at each step, and whether it fits a board: see `minikin.plan.inspection.inspect`."""
    from minikin.plan.inspection import inspect as inspect_graph

    return inspect_graph(graph, get_board(board) if isinstance(board, str) else board)


def make_plan(graph: Graph, board: str | Board, **options: Any) -> Plan:
    """Where each row lies and when, for a board; for the options see `minikin.vboard.build.choose_plan`."""
    from minikin.vboard.build import choose_plan

    return choose_plan(graph, get_board(board) if isinstance(board, str) else board, **options)


def compile(graph: Graph, board: str | Board, out: str | Path | None = None, **options: Any) -> Build:
    """C and firmware of a graph for a board; for the options see `minikin.vboard.build.compile`."""
    from minikin.vboard.build import compile as compile_graph

    return compile_graph(graph, board, out, **options)
