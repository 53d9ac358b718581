"""A Graph as a `.tflite` file that LiteRT and TFLite Micro run: one short function per op.

The schema is TensorFlow's `schema.fbs` as generated in the PyPI package `tflite`. The format knows no node
names and no explicit paddings: a padding that is neither SAME nor VALID becomes a PAD before the op.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import tflite

from minikin.errors import ModelError, UnsupportedError
from minikin.graph import Graph, Quant, Tensor, View
from minikin.ops.hybrid import is_hybrid
from minikin.ops.padding import same_padding
from minikin.ops.separable import parts

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
BUFFER_ALIGNMENT = 16
DTYPES = {
    "float32": tflite.TensorType.FLOAT32,
    "float16": tflite.TensorType.FLOAT16,
    "int8": tflite.TensorType.INT8,
    "int16": tflite.TensorType.INT16,
    "int32": tflite.TensorType.INT32,
    "int64": tflite.TensorType.INT64,
    "bool": tflite.TensorType.BOOL,
}
ACTIVATIONS = {
    "none": tflite.ActivationFunctionType.NONE,
    "relu": tflite.ActivationFunctionType.RELU,
    "relu6": tflite.ActivationFunctionType.RELU6,
    "relu_n1_to_1": tflite.ActivationFunctionType.RELU_N1_TO_1,
}
Paddings = tuple[tuple[int, int], ...]


def write_tflite(graph: Graph) -> bytes:
    """The bytes of a `.tflite` file that holds this graph; the same graph gives the same bytes.

    Raises UnsupportedError for what the format or its runtimes can't hold, naming the node.
    """
    if graph.states or graph.subgraphs:
        raise UnsupportedError(f"{graph.name} has states or subgraphs, which no .tflite is written for")
    writer = Writer(graph)
    for tensor in graph.constants():
        if tensor.storage == "float16":
            writer.halve(tensor)
    for view in graph.views():
        if view.node.op not in OPS:
            raise UnsupportedError(
                f"{view.node.name}: op {view.node.op} has no TFLite form; fold or replace it before writing"
            )
        OPS[view.node.op](writer, view)
    return writer.finish()


@dataclass
class Operator:
    """One TFLite operator before it is serialized, over names of tensors ("" for an absent input)."""

    code: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


def is_int4(tensor: Tensor) -> bool:
    """Weights that came as INT4, and whose codes still are."""
    return tensor.storage == "int4" and tensor.data is not None and bool((np.abs(tensor.data + 0.5) < 8).all())


def pack_nibbles(codes: np.ndarray) -> bytes:
    """INT4 elements, two in a byte, the first one low."""
    flat = np.append(codes.reshape(-1), np.zeros(codes.size % 2, codes.dtype)).astype(np.uint8) & 15
    return (flat[::2] | flat[1::2] << 4).tobytes()


class Writer:
    """Collects operators and the tensors that only the file has, then serializes all at once."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tensors: dict[str, Tensor] = dict(graph.tensors)
        self.operators: list[Operator] = []

    def add(self, view: View, code: str, options: str = "", *, version: int = 1, **fields: Any) -> None:
        """The operator of a node whose inputs and outputs are the node's own."""
        self.operators.append(Operator(code, version, view.node.inputs, view.node.outputs, options, fields))

    def tensor(self, tensor: Tensor) -> str:
        """Adds a tensor under a name that is still free, and gives that name."""
        name, count = tensor.name, 0
        while name in self.tensors:
            count += 1
            name = f"{tensor.name}_{count}"
        self.tensors[name] = tensor.replace(name=name)
        return name

    def constant(self, view: View, suffix: str, data: np.ndarray, quant: Quant | None = None) -> str:
        name = f"{view.node.name}_{suffix}"
        return self.tensor(Tensor(name, data.shape, str(data.dtype), quant, data))

    def halve(self, tensor: Tensor) -> None:
        """A float32 constant in two bytes an element: a float16 one, and a DEQUANTIZE that runtimes fold."""
        assert tensor.data is not None
        half = self.tensor(
            Tensor(f"{tensor.name}_float16", tensor.shape, "float16", None, tensor.data.astype(np.float16))
        )
        self.tensors[tensor.name] = tensor.replace(data=None)
        self.operators.append(Operator("DEQUANTIZE", 3, (half,), (tensor.name,), "DequantizeOptions"))

    def finish(self) -> bytes:
        self.builder = flatbuffers.Builder(4096)
        buffers = [self.table("Buffer")]  # buffer 0 is empty by convention: its tensors have no data
        tensors = [self._tensor(tensor, buffers) for tensor in self.tensors.values()]
        index = {name: i for i, name in enumerate(self.tensors)}
        codes = list(dict.fromkeys((op.code, op.version) for op in self.operators))
        operators = [self._operator(op, codes, index) for op in self.operators]
        subgraph = self.table(
            "SubGraph",
            Tensors=self.offsets(tensors),
            Inputs=self.numbers(np.int32, (index[name] for name in self.graph.inputs)),
            Outputs=self.numbers(np.int32, (index[name] for name in self.graph.outputs)),
            Operators=self.offsets(operators),
            Name=self.builder.CreateString(self.graph.name),
        )
        model = self.table(
            "Model",
            Version=SCHEMA_VERSION,
            OperatorCodes=self.offsets([self._code(*code) for code in codes]),
            Subgraphs=self.offsets([subgraph]),
            Description=self.builder.CreateString("minikin"),
            Buffers=self.offsets(buffers),
        )
        self.builder.Finish(model, file_identifier=IDENTIFIER)
        return bytes(self.builder.Output())

    def table(self, kind: str, **fields: Any) -> int:
        """A flatbuffers table of this schema type; its vectors and strings are offsets made before."""
        getattr(tflite, f"{kind}Start")(self.builder)
        for name, value in fields.items():
            getattr(tflite, f"{kind}Add{name}")(self.builder, value)
        return getattr(tflite, f"{kind}End")(self.builder)

    def offsets(self, offsets: list[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return self.builder.EndVector()

    def numbers(self, dtype: type[np.generic], values: Iterable[float]) -> int:
        return self.builder.CreateNumpyVector(np.array(list(values), dtype))

    def data(self, raw: bytes) -> int:
        """A byte vector that is aligned for any element type, in the file as in memory."""
        self.builder.StartVector(1, len(raw), BUFFER_ALIGNMENT)
        head = self.builder.head - len(raw)
        self.builder.head = head
        self.builder.Bytes[head : head + len(raw)] = raw
        return self.builder.EndVector()

    def _tensor(self, tensor: Tensor, buffers: list[int]) -> int:
        buffer = 0
        if tensor.data is not None:
            if tensor.data.shape != tensor.shape or str(tensor.data.dtype) != tensor.dtype:
                raise ModelError(
                    f"{tensor.name} is {tensor.dtype}{list(tensor.shape)}, but its data is "
                    f"{tensor.data.dtype}{list(tensor.data.shape)}"
                )
            little = np.ascontiguousarray(tensor.data, tensor.data.dtype.newbyteorder("<"))
            raw = pack_nibbles(tensor.data) if is_int4(tensor) else little.tobytes()
            buffer = len(buffers)
            buffers.append(self.table("Buffer", Data=self.data(raw)))
        if tensor.dtype not in DTYPES:
            raise UnsupportedError(f"{tensor.name} is {tensor.dtype}, which no .tflite is written for")
        fields: dict[str, Any] = {
            "Shape": self.numbers(np.int32, tensor.shape),
            "Type": tflite.TensorType.INT4 if is_int4(tensor) else DTYPES[tensor.dtype],
            "Buffer": buffer,
            "Name": self.builder.CreateString(tensor.name),
        }
        if tensor.quant is not None:
            fields["Quantization"] = self._quant(tensor.quant)
        return self.table("Tensor", **fields)

    def _quant(self, quant: Quant) -> int:
        return self.table(
            "QuantizationParameters",
            Scale=self.numbers(np.float32, quant.scales),
            ZeroPoint=self.numbers(np.int64, quant.zero_points),
            QuantizedDimension=quant.axis or 0,
        )

    def _code(self, code: str, version: int) -> int:
        value = getattr(tflite.BuiltinOperator, code)
        return self.table("OperatorCode", DeprecatedBuiltinCode=value, BuiltinCode=value, Version=version)

    def _operator(self, op: Operator, codes: list[tuple[str, int]], index: dict[str, int]) -> int:
        fields: dict[str, Any] = {
            "OpcodeIndex": codes.index((op.code, op.version)),
            "Inputs": self.numbers(np.int32, (index[name] if name else -1 for name in op.inputs)),
            "Outputs": self.numbers(np.int32, (index[name] for name in op.outputs)),
        }
        if op.options:
            options = {k: self.numbers(np.int32, v) if isinstance(v, tuple) else v for k, v in op.fields.items()}
            fields["BuiltinOptions"] = self.table(op.options, **options)
            fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, op.options)
        return self.table("Operator", **fields)


def _dense(writer: Writer, view: View) -> None:
    attrs, w = view.attrs, view.inputs[1]
    version = _quantized(view, 4, hybrid=9 if attrs.asymmetric else 3)
    if attrs.keep_dims:
        version = max(version, 5)
    if view.input(2) is None:
        version = max(version, 6)
    if w is not None and w.quant is not None and len(w.quant.scales) > 1:
        version = 12
    _set_bias_quant(writer, view)
    fields = {"FusedActivationFunction": ACTIVATIONS[attrs.activation], "KeepNumDims": attrs.keep_dims}
    fields |= {"AsymmetricQuantizeInputs": attrs.asymmetric}
    writer.add(view, "FULLY_CONNECTED", "FullyConnectedOptions", version=version, **fields)


def _conv2d(writer: Writer, view: View) -> None:
    w = view.inputs[1]
    assert w is not None
    grouped = w.shape[3] != view.x.shape[3]
    if grouped and is_hybrid(view):
        writer.tensors[w.name] = _per_channel(w, 0)
    view, fields = _convolution(writer, view, w, w.shape[0])
    version = 6 if grouped else _quantized(view, 3, hybrid=5)
    writer.add(view, "CONV_2D", "Conv2DOptions", version=version, **fields)


def _depthwise_conv2d(writer: Writer, view: View) -> None:
    w = view.inputs[1]
    assert w is not None
    if is_hybrid(view):
        writer.tensors[w.name] = _per_channel(w, 3)
    dilated = 2 if view.attrs.dilation != (1, 1) else 1
    multiplier = w.shape[3] // view.x.shape[3]
    view, fields = _convolution(writer, view, w, w.shape[3])
    fields |= {"DepthMultiplier": multiplier}
    version = _quantized(view, 3, dilated, hybrid=6)
    writer.add(view, "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", version=version, **fields)


def _separable_conv2d(writer: Writer, view: View) -> None:
    """The two layers that it is."""
    first, second = parts(view)
    middle = (writer.tensor(first.y),)
    _depthwise_conv2d(writer, View(first.node.replace(outputs=middle), first.inputs, first.outputs, view.rounding))
    _conv2d(writer, _with_inputs(second, writer, (*middle, *second.node.inputs[1:])))


def _convolution(writer: Writer, view: View, w: Tensor, units: int) -> tuple[View, dict[str, Any]]:
    """The view with what TFLite wants of a convolution, and the option fields that both kinds share."""
    _refuse_unsigned(view)
    attrs, kernel = view.attrs, (w.shape[1], w.shape[2])
    if w.quant is not None and any(w.quant.zero_points):
        raise UnsupportedError(
            f"{view.node.name}: weights {w.name} have zero point {max(w.quant.zero_points, key=abs)}, "
            f"but int8 convolution in TFLite takes 0 only: keep the uint8 source, or quantize the float model"
        )
    if view.input(2) is None:  # LiteRT's CONV_2D insists on a bias
        bias = writer.constant(view, "bias", np.zeros(units, np.float32 if view.x.quant is None else np.int32))
        view = _with_inputs(view, writer, (*view.node.inputs[:2], bias))
    _set_bias_quant(writer, view)
    padding = _padding(view, kernel, attrs.dilation)
    if padding is None:
        view, padding = _padded(writer, view, 0.0), tflite.Padding.VALID
    return view, {
        "Padding": padding,
        "StrideH": attrs.stride[0],
        "StrideW": attrs.stride[1],
        "DilationHFactor": attrs.dilation[0],
        "DilationWFactor": attrs.dilation[1],
        "FusedActivationFunction": ACTIVATIONS[attrs.activation],
    }


def _avg_pool2d(writer: Writer, view: View) -> None:
    padding = _padding(view, view.attrs.kernel, (1, 1))
    if padding is None:
        raise UnsupportedError(
            f"{view.node.name}: average pooling with padding {view.attrs.padding}, neither SAME nor VALID, "
            f"has no TFLite form: a PAD before it would be averaged in"
        )
    _refuse_unsigned(view)
    _pool(writer, view, "AVERAGE_POOL_2D", padding)


def _max_pool2d(writer: Writer, view: View) -> None:
    padding = _padding(view, view.attrs.kernel, (1, 1))
    if padding is None:
        view, padding = _padded(writer, view, _lowest(view.x)), tflite.Padding.VALID
    _pool(writer, view, "MAX_POOL_2D", padding)


def _pool(writer: Writer, view: View, code: str, padding: int) -> None:
    attrs = view.attrs
    writer.add(
        view,
        code,
        "Pool2DOptions",
        version=_quantized(view, 2),
        Padding=padding,
        StrideH=attrs.stride[0],
        StrideW=attrs.stride[1],
        FilterHeight=attrs.kernel[0],
        FilterWidth=attrs.kernel[1],
        FusedActivationFunction=ACTIVATIONS[attrs.activation],
    )


def _mean(writer: Writer, view: View) -> None:
    axes = writer.constant(view, "axes", np.array(view.attrs.axes, np.int32))
    view = _with_inputs(view, writer, (view.node.inputs[0], axes))
    writer.add(view, "MEAN", "ReducerOptions", version=_quantized(view, 2), KeepDims=view.attrs.keep_dims)


def _binary(code: str, options: str) -> Callable[[Writer, View], None]:
    def write(writer: Writer, view: View) -> None:
        activation = ACTIVATIONS[view.attrs.activation]
        writer.add(view, code, options, version=_quantized(view, 2), FusedActivationFunction=activation)

    return write


def _unary(code: str, options: str = "") -> Callable[[Writer, View], None]:
    def write(writer: Writer, view: View) -> None:
        writer.add(view, code, options, version=_quantized(view, 2))

    return write


def _softmax(writer: Writer, view: View) -> None:
    writer.add(view, "SOFTMAX", "SoftmaxOptions", version=_quantized(view, 2), Beta=view.attrs.beta)


def _quantize(writer: Writer, view: View) -> None:
    writer.add(view, "QUANTIZE", "QuantizeOptions", version=2 if view.x.quant else 1)


def _reshape(writer: Writer, view: View) -> None:
    shape = writer.constant(view, "shape", np.array(view.y.shape, np.int32))
    view = _with_inputs(view, writer, (view.node.inputs[0], shape))
    writer.add(view, "RESHAPE", "ReshapeOptions", NewShape=view.y.shape)


def _concat(writer: Writer, view: View) -> None:
    version = _quantized(view, 2)
    writer.add(view, "CONCATENATION", "ConcatenationOptions", version=version, Axis=view.attrs.axis)


def _pad(writer: Writer, view: View) -> None:
    _add_pad(writer, view, view.y, view.attrs.paddings, view.attrs.value)


def _add_pad(writer: Writer, view: View, y: Tensor, paddings: Paddings, value: float) -> None:
    """Pads the node's first input to `y`: PAD fills with zero (int8: zero point), PADV2 with a constant."""
    inputs = (view.node.inputs[0], writer.constant(view, "paddings", np.array(paddings, np.int32)))
    code, options = "PAD", "PadOptions"
    if value != 0.0:
        inputs = (*inputs, writer.constant(view, "fill", _fill(y, value), y.quant))
        code, options = "PADV2", "PadV2Options"
    writer.operators.append(Operator(code, 2 if y.quant else 1, inputs, (y.name,), options))


def _fill(y: Tensor, value: float) -> np.ndarray:
    """The value as a scalar of the tensor's type."""
    if y.quant is None:
        return np.array(value, np.float32)
    info = np.iinfo(y.dtype)
    code = round(value / y.quant.scale) + y.quant.zero_point
    return np.array(min(max(code, info.min), info.max), y.dtype)


OPS: dict[str, Callable[[Writer, View], None]] = {
    "dense": _dense,
    "conv2d": _conv2d,
    "depthwise_conv2d": _depthwise_conv2d,
    "separable_conv2d": _separable_conv2d,
    "avg_pool2d": _avg_pool2d,
    "max_pool2d": _max_pool2d,
    "mean": _mean,
    "add": _binary("ADD", "AddOptions"),
    "sub": _binary("SUB", "SubOptions"),
    "mul": _binary("MUL", "MulOptions"),
    "relu": _unary("RELU"),
    "relu6": _unary("RELU6"),
    "logistic": _unary("LOGISTIC"),
    "tanh": _unary("TANH"),
    "softmax": _softmax,
    "quantize": _quantize,
    "dequantize": _unary("DEQUANTIZE", "DequantizeOptions"),
    "reshape": _reshape,
    "concat": _concat,
    "pad": _pad,
}


def _padding(view: View, kernel: tuple[int, int], dilation: tuple[int, int]) -> int | None:
    """TFLite's padding scheme that gives the node's explicit padding, or None."""
    attrs = view.attrs
    if not any(attrs.padding):
        return tflite.Padding.VALID
    same = same_padding((view.x.shape[1], view.x.shape[2]), kernel, attrs.stride, dilation)
    return tflite.Padding.SAME if same == tuple(attrs.padding) else None


def _padded(writer: Writer, view: View, value: float) -> View:
    """A PAD before the node, and the node reading from it."""
    x, (top, bottom, left, right) = view.x, view.attrs.padding
    n, h, w, c = x.shape
    shape = (n, h + top + bottom, w + left + right, c)
    name = writer.tensor(Tensor(f"{view.node.name}_padded", shape, x.dtype, x.quant))
    paddings = ((0, 0), (top, bottom), (left, right), (0, 0))
    _add_pad(writer, view, writer.tensors[name], paddings, value)
    return _with_inputs(view, writer, (name, *view.node.inputs[1:]))


def _lowest(x: Tensor) -> float:
    """The least value of the tensor's type: what a maximum over padding ignores."""
    if x.quant is None:
        return float(np.finfo(x.dtype).min)
    return (np.iinfo(x.dtype).min - x.quant.zero_point) * x.quant.scale


def _set_bias_quant(writer: Writer, view: View) -> None:
    """TFLite checks that an int32 bias has scale(x) * scale(w): say it where the graph leaves it out."""
    w, bias = view.inputs[1], view.input(2)
    if bias is None or bias.quant is not None or view.x.quant is None or w is None or w.quant is None:
        return
    scales = tuple(float(np.float32(view.x.quant.scale * scale)) for scale in w.quant.scales)
    quant = Quant(scales, (0,) * len(scales), 0 if len(scales) > 1 else None)
    writer.tensors[bias.name] = bias.replace(quant=quant)


def _per_channel(w: Tensor, axis: int) -> Tensor:
    """The same weights with a scale for each channel: LiteRT reads so many beside float32, also where all are equal."""
    assert w.quant is not None
    count = w.shape[axis] // len(w.quant.scales)
    return w.replace(quant=Quant(w.quant.scales * count, w.quant.zero_points * count, axis))


def _refuse_unsigned(view: View) -> None:
    if view.attrs.unsigned:
        raise UnsupportedError(
            f"{view.node.name} ({view.node.op}) rounds as in the uint8 model that it was read from, and an int8 one "
            f"rounds otherwise: keep the uint8 file, or quantize the float model"
        )


def _with_inputs(view: View, writer: Writer, inputs: tuple[str, ...]) -> View:
    tensors = tuple(writer.tensors[name] if name else None for name in inputs)
    return View(view.node.replace(inputs=inputs), tensors, view.outputs, view.rounding)


def _quantized(view: View, int8: int, float32: int = 1, hybrid: int = 1) -> int:
    """The operator version by dtype: the runtimes take a version up to the newest that they know."""
    if view.x.quant is not None:
        return int8
    w = view.input(1)
    return hybrid if w is not None and w.quant is not None else float32
