"""What a legal graph is. Run after every importer and between passes."""

from __future__ import annotations

import numpy as np

from minikin.errors import ModelError, UnsupportedError
from minikin.graph import ITEM_BYTES, ROUNDINGS, Graph, Quant, Tensor, View
from minikin.ops import get_op

MAX_TENSOR_BYTES = 1 << 30
MAX_SCALE = 2.0**100  # TFLite's multipliers need the products and quotients of scales to stay finite
MIN_SCALE = 2.0**-100


def check(graph: Graph) -> None:
    """Raises ModelError, in one sentence that names the tensor or node, unless the graph is legal.

    Legal: names that exist; tensors that agree with their keys, data and quantization; inputs that are written by
    nobody, every other activation by one node before it is read; shapes and dtypes that each op gives.
    """
    if graph.rounding not in ROUNDINGS:
        raise ModelError(f"rounding {graph.rounding!r} is not one of {', '.join(ROUNDINGS)}")
    for name, tensor in graph.tensors.items():
        if name != tensor.name:
            raise ModelError(f"tensor {tensor.name} is filed under {name}: rename one of them")
        check_tensor(tensor)
    made = _check_order(graph)
    for name in graph.outputs:
        if name not in made:
            raise ModelError(f"output {name} is made by no node: name one that is")
    if not graph.outputs:
        raise ModelError("the graph has no output: name the tensor that is wanted")
    for view in graph.views():
        _check_node(view)


def check_tensor(tensor: Tensor) -> None:
    if tensor.dtype not in ITEM_BYTES:
        raise ModelError(f"{tensor.name} has dtype {tensor.dtype}, not one of {', '.join(ITEM_BYTES)}")
    if not all(isinstance(n, int) and n > 0 for n in tensor.shape):
        raise ModelError(f"{tensor.name} has shape {tensor.shape}: every size has to be a positive integer")
    if tensor.nbytes > MAX_TENSOR_BYTES:
        raise ModelError(f"{tensor.name} of shape {tensor.shape} takes {tensor.nbytes:,} bytes: no board has that")
    if tensor.dtype == "int8" and tensor.quant is None:
        raise ModelError(f"{tensor.name} is int8 without scale and zero point: quantize it or make it float32")
    if tensor.quant is not None:
        check_quant(tensor.name, tensor.shape, tensor.dtype, tensor.quant)
    if tensor.data is not None:
        _check_data(tensor, tensor.data)


def check_quant(name: str, shape: tuple[int, ...], dtype: str, quant: Quant) -> None:
    """Scales are positive and of a sane size, zero points of the dtype, and as many as the axis is long."""
    if dtype.startswith("float") or dtype == "bool":
        raise ModelError(f"{name} is {dtype} and has a scale: only integers are quantized")
    if quant.axis is None:
        expected = 1
    elif 0 <= quant.axis < len(shape):
        expected = shape[quant.axis]
    else:
        raise ModelError(f"{name} is quantized along axis {quant.axis}, which shape {shape} does not have")
    if len(quant.scales) != expected or len(quant.zero_points) != expected:
        raise ModelError(
            f"{name} has {len(quant.scales)} scales and {len(quant.zero_points)} zero points, and shape {shape} along "
            f"axis {quant.axis} wants {expected}"
        )
    info = np.iinfo(dtype)
    for scale, zero_point in zip(quant.scales, quant.zero_points, strict=True):
        if not MIN_SCALE <= scale <= MAX_SCALE:
            raise ModelError(f"{name} has scale {scale!r}, outside {MIN_SCALE:.0e}..{MAX_SCALE:.0e}")
        if not info.min <= zero_point <= info.max:
            raise ModelError(f"{name} has zero point {zero_point}, outside {info.min}..{info.max} of {dtype}")


def _check_data(tensor: Tensor, data: np.ndarray) -> None:
    if data.shape != tensor.shape or str(data.dtype) != tensor.dtype:
        raise ModelError(
            f"{tensor.name} is {tensor.dtype}{list(tensor.shape)}, and its data {data.dtype}{list(data.shape)}"
        )
    if data.dtype.kind == "f" and np.isnan(data).any():
        raise ModelError(f"{tensor.name} holds NaN: train or export the model again")


def _check_order(graph: Graph) -> set[str]:
    """Names that nodes write; raises where one is missing, written twice, or read before it is written."""
    known = {tensor.name for tensor in graph.constants()}
    for name in (*graph.inputs, *(state.read for state in graph.states)):
        if name not in graph.tensors:
            raise ModelError(f"input {name} is no tensor of the graph")
        if name in known:
            raise ModelError(f"input {name} is given twice, or is a constant")
        known.add(name)
    made: set[str] = set()
    names: set[str] = set()
    for node in graph.nodes:
        if node.name in names:
            raise ModelError(f"two nodes have the name {node.name}: rename one")
        names.add(node.name)
        for name in filter(None, node.inputs):
            if name not in graph.tensors:
                raise ModelError(f"{node.name} reads {name}, which is no tensor of the graph")
            if name not in known:
                raise ModelError(f"{node.name} reads {name} before any node writes it: order the nodes")
        for name in node.outputs:
            if name not in graph.tensors:
                raise ModelError(f"{node.name} writes {name}, which is no tensor of the graph")
            if name in known:
                raise ModelError(f"{node.name} writes {name}, which is an input, a constant or written before")
            known.add(name)
            made.add(name)
    return made


def _check_node(view: View) -> None:
    node, definition = view.node, get_op(view.node.op)
    if type(node.attrs) is not definition.attrs:
        raise ModelError(
            f"{node.name} has {type(node.attrs).__name__}, and {node.op} takes {definition.attrs.__name__}"
        )
    if not view.inputs or view.inputs[0] is None or not view.outputs:
        raise ModelError(f"{node.name} ({node.op}) has no input or no output")
    shapes = definition.infer(View(node, view.inputs, (), view.rounding))
    stored = tuple(tensor.shape for tensor in view.outputs)
    if stored != shapes:
        raise ModelError(f"{node.name} ({node.op}) makes {shapes}, and its outputs are {stored}")
    for position, tensor in enumerate(view.inputs):
        if tensor is not None:
            _check_input(view, position, tensor)
    for tensor in (view.x, *view.outputs):
        if tensor.quant is not None and tensor.quant.axis is not None:
            raise UnsupportedError(f"{tensor.name} is an activation with a scale per channel: give it one scale")
    _check_taken(view)


def _check_input(view: View, position: int, tensor: Tensor) -> None:
    """Weights have the dtype of x, or int8 beside float32; a bias has that of its accumulator; all are constants."""
    definition, label = get_op(view.node.op), f"{view.node.name} ({view.node.op})"
    is_weight, is_bias = position in definition.weights, position in (definition.bias, *definition.biases)
    wanted = "int32" if is_bias and view.x.dtype != "float32" else view.x.dtype
    is_hybrid = is_weight and (view.x.dtype, tensor.dtype) == ("float32", "int8")
    if tensor.dtype != wanted and not is_hybrid:
        raise UnsupportedError(f"{label} takes {wanted}, and {tensor.name} is {tensor.dtype}")
    if (is_weight or is_bias) and tensor.data is None:
        raise UnsupportedError(f"{label} has weights {tensor.name} that are computed")
    if is_weight and tensor.quant is not None:
        _check_weight_quant(label, tensor.name, tensor.quant, definition.weights[position], is_hybrid)


def _check_weight_quant(label: str, name: str, quant: Quant, axis: int | None, is_hybrid: bool) -> None:
    if quant.axis not in (None, axis):
        raise UnsupportedError(
            f"{label} takes scales along axis {axis} of its weights, and {name} has axis {quant.axis}"
        )
    if any(quant.zero_points) and (is_hybrid or quant.axis is not None):
        raise UnsupportedError(
            f"{label} has weights {name} of zero point {max(quant.zero_points, key=abs)}, which beside float32 or with "
            f"a scale per channel has to be 0: quantize the weights symmetrically"
        )


def _check_taken(view: View) -> None:
    """Where an op has kernels, one takes these dtypes; where it has none, its output is like its input."""
    definition = get_op(view.node.op)
    if definition.kernels:
        definition.kernel(view)
    elif any((t.dtype, t.quant) != (view.x.dtype, view.x.quant) for t in view.outputs):
        raise ModelError(f"{view.node.name} ({view.node.op}) turns {view.x} into {view.y}: both have to be alike")
