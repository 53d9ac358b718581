"""`.tflite` files to graphs: one short function per source op.

What is rewritten on the way: SAME and VALID become explicit padding; shapes, axes and paddings that lie in constant
tensors become attributes; uint8 becomes int8 (every value, and every zero point, less 128), inputs and outputs
included; constants behind DEQUANTIZE become float32 constants. Shapes are the stored ones: a batch of -1 in the shape
signature is the batch that the file holds, mostly 1.

Of several subgraphs the first is taken, as LiteRT's and TFLite Micro's plain invoke do; no op taken here calls another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minikin.check import check
from minikin.errors import MinikinError, ModelError, UnsupportedError
from minikin.graph import Graph, Tensor
from minikin.importers.flatbuffer import FlatBuffer
from minikin.importers.tflite_file import MAX_RANK, Importer, Pair, Readers, Source
from minikin.ops.activation import SoftmaxAttrs, UnaryAttrs
from minikin.ops.conv import Conv2dAttrs, DepthwiseConv2dAttrs
from minikin.ops.dense import DenseAttrs
from minikin.ops.elementwise import BinaryAttrs
from minikin.ops.pool import MeanAttrs, PoolAttrs
from minikin.ops.shape import ConcatAttrs, PadAttrs, ReshapeAttrs


def load_tflite(data: bytes, name: str) -> Graph:
    """The graph of a `.tflite` file's bytes, whatever they are; `name` names the graph and starts every error.

    Raises ModelError for a damaged file and UnsupportedError for ops, dtypes and attributes that are not taken.
    """
    try:
        return read_tflite(data, name)
    except MinikinError as error:
        raise type(error)(f"{name}: {error}") from error


def read_tflite(data: bytes, name: str) -> Graph:
    """load_tflite without the name before the error."""
    if data[4:8] != b"TFL3":
        raise ModelError("the file has no TFL3 mark at byte 4, so it is not a .tflite model: export it again")
    graph = Importer(FlatBuffer(data), OPS).graph(name)
    check(graph)
    return graph


def _fully_connected(source: Source) -> None:
    if source.number(1, "b"):
        raise UnsupportedError(f"{source.label} has shuffled weights, which are not taken: export with default weights")
    attrs = DenseAttrs(source.activation(0), keep_dims=source.flag(2), asymmetric=source.flag(3))
    source.emit("dense", attrs, *_weighted(source))


def _conv_2d(source: Source) -> None:
    x, w, b = _weighted(source)
    source.emit("conv2d", _conv_attrs(source, Conv2dAttrs, w, activation=3, dilation=(5, 4)), x, w, b)


def _depthwise_conv_2d(source: Source) -> None:
    x, w, b = _weighted(source)
    attrs = _conv_attrs(source, DepthwiseConv2dAttrs, w, activation=4, dilation=(6, 5))
    multiplier = source.number(3)
    if w.shape[3] != x.shape[3] * multiplier:
        raise ModelError(
            f"{source.label} has multiplier {multiplier}, but {x.shape[3]} input and {w.shape[3]} output channels: "
            f"the file is damaged"
        )
    source.emit("depthwise_conv2d", attrs, x, w, b)


def _conv_attrs(source: Source, kind: type, w: Tensor, activation: int, dilation: Pair) -> Any:
    """`activation` and `dilation` are slots, (height, width), in the two ops' options; the others are the same."""
    if len(w.shape) != 4:
        raise ModelError(f"{source.label} has weights of shape {w.shape}, which is not of rank 4: the file is damaged")
    if source.importer.dtype(source.inputs[1]) == "INT8" and w.quant is not None and any(w.quant.zero_points):
        raise UnsupportedError(
            f"{source.label} has int8 weights of zero point {max(w.quant.zero_points, key=abs)}, which TFLite's "
            f"convolutions take for 0: quantize the weights symmetrically"
        )
    stride = source.pair(2, 1, "stride")
    dilations = source.pair(*dilation, "dilation", default=1)
    padding = source.padding((w.shape[1], w.shape[2]), stride, dilations)
    return kind(stride, dilations, padding, source.activation(activation), source.is_uint8)


def _weighted(source: Source) -> tuple[Tensor, Tensor, Tensor | None]:
    """(x, weights, bias or None) of an op whose weights and bias are constants."""
    source.constant(1, "weights")
    bias = source.optional(2)
    if bias is not None:
        source.constant(2, "biases")
    return source.input(0), source.input(1), bias


def _pool(op: str) -> Callable[[Source], None]:
    def read(source: Source) -> None:
        kernel, stride = source.pair(4, 3, "window"), source.pair(2, 1, "stride")
        unsigned = source.is_uint8 and op == "avg_pool2d"
        attrs = PoolAttrs(kernel, stride, source.padding(kernel, stride), source.activation(5), unsigned)
        source.emit(op, attrs, source.input(0))

    return read


def _mean(source: Source) -> None:
    x = source.input(0)
    axes = {_axis(source, axis, x) for axis in source.integers(1, "axes")}
    source.emit("mean", MeanAttrs(tuple(sorted(axes)), source.flag(0)), x)


def _binary(op: str) -> Callable[[Source], None]:
    def read(source: Source) -> None:
        source.emit(op, BinaryAttrs(source.activation(0)), source.input(0), source.input(1))

    return read


def _unary(op: str) -> Callable[[Source], None]:
    def read(source: Source) -> None:
        source.emit(op, UnaryAttrs(), source.input(0))

    return read


def _softmax(source: Source) -> None:
    beta = float(source.number(0, "f"))
    if not (math.isfinite(beta) and beta > 0):
        raise ModelError(f"{source.label} has beta {beta}, which has to be positive: the file is damaged")
    source.emit("softmax", SoftmaxAttrs(beta), source.input(0))


def _dequantize(source: Source) -> None:
    """Of a constant (float16 or int8 weights), the float32 constant; of an activation, a node."""
    x = source.input(0)
    if x.data is None:
        source.emit("dequantize", UnaryAttrs(), x)
        return
    out = source.importer.activation(source.outputs[0])
    if out.dtype != "float32" or (x.dtype != "float16" and x.quant is None):
        raise UnsupportedError(f"{source.label} from {x.dtype} to {out.dtype} is not taken")
    source.importer.file.spend(4 * x.size)
    data = _dequantized(x)
    storage = "float16" if x.dtype == "float16" else "dense"
    source.importer.define(source.outputs[0], Tensor(out.name, x.shape, "float32", None, data, storage))


def _concatenation(source: Source) -> None:
    if source.activation(1) != "none":
        raise UnsupportedError(f"{source.label} has the fused activation {source.activation(1)}, which is not taken")
    inputs = [source.input(i) for i in range(len(source.inputs))]
    if not inputs:
        raise ModelError(f"{source.label} has no inputs: the file is damaged")
    out = source.importer.activation(source.outputs[0])
    for tensor in inputs:
        if tensor.quant is not None and tensor.quant != out.quant:
            raise UnsupportedError(
                f"{source.label} joins {tensor.name} ({tensor.quant}) into {out.name} ({out.quant}): "
                f"only inputs of the output's quantization are taken"
            )
    source.emit("concat", ConcatAttrs(_axis(source, source.number(0), inputs[0])), *inputs)


def _pad(source: Source) -> None:
    x = source.input(0)
    flat = source.integers(1, "paddings")
    if len(flat) != 2 * len(x.shape):
        raise ModelError(f"{source.label} has {len(flat)} paddings for input {x.shape}: the file is damaged")
    if min(flat, default=0) < 0:
        raise UnsupportedError(f"{source.label} has paddings {flat}: negative ones, which crop, are not taken")
    paddings = tuple(zip(flat[::2], flat[1::2], strict=True))
    source.emit("pad", PadAttrs(paddings, _pad_value(source)), x)


def _pad_value(source: Source) -> float:
    """PADV2's third input as a real number in the output's quantization; PAD fills with zero."""
    if source.code == "PAD" or source.optional(2) is None:
        return 0.0
    fill = source.constant(2, "fill values")
    out = source.importer.activation(source.outputs[0])
    if fill.size != 1 or str(fill.dtype) != out.dtype:
        raise ModelError(f"{source.label} fills {out.dtype} with {fill.dtype}{list(fill.shape)}: the file is damaged")
    value = fill.item()
    return float(value) if out.quant is None else (value - out.quant.zero_point) * out.quant.scale


def _reshape(source: Source) -> None:
    """The shape is a constant input, or else lies in the options; one -1 in it stands for what is left over."""
    x = source.input(0)
    if len(source.inputs) > 1 and source.inputs[1] != -1:
        shape = source.integers(1, "shapes")
    elif source.options is not None:
        shape = source.options.vector(0, "int32", MAX_RANK).tolist()
    else:
        raise ModelError(f"{source.label} has no shape: the file is damaged")
    rest = math.prod(n for n in shape if n != -1)
    if shape.count(-1) > 1 or min(shape, default=1) < -1 or rest < 1 or x.size % rest:
        raise ModelError(f"{source.label} to {shape} does not fit input {x.shape}: the file is damaged")
    source.emit("reshape", ReshapeAttrs(tuple(x.size // rest if n == -1 else n for n in shape)), x)


def _reshape_to_output(source: Source) -> None:
    """SQUEEZE and EXPAND_DIMS only move ones about: the stored output shape says all."""
    out = source.importer.activation(source.outputs[0])
    source.emit("reshape", ReshapeAttrs(out.shape), source.input(0))


OPS: Readers = {
    "CONV_2D": (_conv_2d, "Conv2DOptions"),
    "DEPTHWISE_CONV_2D": (_depthwise_conv_2d, "DepthwiseConv2DOptions"),
    "FULLY_CONNECTED": (_fully_connected, "FullyConnectedOptions"),
    "AVERAGE_POOL_2D": (_pool("avg_pool2d"), "Pool2DOptions"),
    "MAX_POOL_2D": (_pool("max_pool2d"), "Pool2DOptions"),
    "MEAN": (_mean, "ReducerOptions"),
    "ADD": (_binary("add"), "AddOptions"),
    "SUB": (_binary("sub"), "SubOptions"),
    "MUL": (_binary("mul"), "MulOptions"),
    "CONCATENATION": (_concatenation, "ConcatenationOptions"),
    "PAD": (_pad, ""),
    "PADV2": (_pad, ""),
    "RESHAPE": (_reshape, "ReshapeOptions"),
    "SQUEEZE": (_reshape_to_output, ""),
    "EXPAND_DIMS": (_reshape_to_output, ""),
    "RELU": (_unary("relu"), ""),
    "RELU6": (_unary("relu6"), ""),
    "LOGISTIC": (_unary("logistic"), ""),
    "TANH": (_unary("tanh"), ""),
    "SOFTMAX": (_softmax, "SoftmaxOptions"),
    "QUANTIZE": (_unary("quantize"), ""),
    "DEQUANTIZE": (_dequantize, ""),
}


def _dequantized(x: Tensor) -> np.ndarray:
    """(q - zero_point) * scale in double, then float32, as TFLite's reference."""
    assert x.data is not None
    if x.quant is None:
        return x.data.astype(np.float32)
    along = [1] * len(x.shape)
    if x.quant.axis is not None:
        along[x.quant.axis] = -1
    scales = np.array(x.quant.scales).reshape(along)
    zero_points = np.array(x.quant.zero_points, np.int64).reshape(along)
    return ((x.data.astype(np.int64) - zero_points) * scales).astype(np.float32).reshape(x.shape)


def _axis(source: Source, axis: int, x: Tensor) -> int:
    rank = len(x.shape)
    if not -rank <= axis < rank:
        raise ModelError(f"{source.label} has axis {axis} for input {x.shape}: the file is damaged")
    return axis % rank
