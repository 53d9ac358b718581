"""Post-training quantization: a float32 graph and calibration data in, TFLite's int8 scheme out.

Everything is read from the OpDef table: which constants are weights, what the bias follows, which outputs share their
input's quantization and which are fixed. Works without torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from minikin.compress.calibrate import METHODS, Range, calibrate, float_activations, samples_of
from minikin.display import Table
from minikin.errors import ModelError, UnsupportedError, UsageError
from minikin.fixedpoint import round_half_away
from minikin.graph import Graph, Node, Quant, Tensor, View
from minikin.interp import run
from minikin.ops import get_op
from minikin.passes import optimize

BIAS_LIMIT = 1 << 30  # half of int32: the other half is the products'
ZERO_RANGE = (0.0, 1.0)  # of a tensor that was zero in all the data
FLOAT16_MAX = 65504.0
MIN_SCALE = 2.0**-64  # products and quotients of three scales stay inside float32's range


@dataclass(frozen=True)
class LayerError:
    """How far a layer's int8 output lies from its float one, the errors of the layers before it included.

    `scale` is one step of the output; `saturated` the part of the float values beyond the int8 range by more than that.
    """

    name: str
    op: str
    tensor: str
    sqnr_db: float
    max_abs: float
    scale: float
    saturated: float

    def to_json(self) -> dict[str, Any]:
        """A layer without error has no finite ratio: null."""
        return asdict(self) | {"sqnr_db": self.sqnr_db if np.isfinite(self.sqnr_db) else None}


@dataclass(frozen=True)
class Scheme:
    """How floats become integers.

    Weights are symmetric: `weight_limit` is the largest code, 127 (int8) or 7 (int4, whose codes are kept as int8 numbers);
    `per_channel` gives each output channel a scale, else a layer has one. Activations are int8 of one scale per tensor;
    `symmetric` fixes their zero point at 0. Biases are int32; `bias_bits` below 32 rounds a layer's to multiples of the power
    of two that leaves so many bits, sign included. `io_dtype` "float32": the graph quantizes its inputs and dequantizes its
    outputs. `input_quant` is the scale and zero point of every input, where its data come in codes already; else calibration
    finds them.
    """

    weight_limit: int = 127
    per_channel: bool = True
    symmetric: bool = False
    bias_bits: int = 32
    io_dtype: str = "int8"
    input_quant: Quant | None = None

    def __post_init__(self) -> None:
        if self.io_dtype not in ("int8", "float32"):
            raise UsageError(f"io_dtype {self.io_dtype} is not known: use int8 or float32")

    def activation_quant(self, lo: float, hi: float) -> Quant:
        return symmetric_range(lo, hi) if self.symmetric else asymmetric_quant(lo, hi)


def quantize(
    graph: Graph,
    calibration: np.ndarray | Mapping[str, np.ndarray] | Sequence[tuple[np.ndarray, ...]],
    *,
    method: str = "minmax",
    percentile: float = 99.99,
    **scheme: Any,
) -> Graph:
    """The int8 graph: weights symmetric in [-127, 127] (per channel), biases int32, activations asymmetric per tensor.

    `calibration` is an array of samples, arrays by input name, or a list of tuples, one array per input. `method` gives
    the range of an activation: "minmax", "percentile" (clips what lies outside, on either side), "mse" (clips where
    the expected squared error is least) or "entropy" (clips where int8 loses least information). Tensors that an op ties
    together share the union of their ranges. The passes run first, so that batch norms are folded. `scheme`: the fields
    of `Scheme`. Source of the scheme: TFLite's 8-bit quantization specification. Raises DataError for data that cannot
    calibrate.
    """
    if method not in METHODS:
        raise UsageError(f"calibration method {method} is not known: use one of {', '.join(METHODS)}")
    if not 50.0 < percentile <= 100.0:
        raise UsageError(f"percentile {percentile:g} is outside (50, 100]: 99.99 is usual")
    chosen = Scheme(**scheme)
    require_float(graph)
    graph = optimize(graph)
    return with_ranges(graph, calibrate(graph, samples_of(graph, calibration), method, percentile), chosen)


def with_ranges(
    graph: Graph, ranges: Mapping[str, Range], scheme: Scheme, weight_quants: Mapping[str, Quant] | None = None
) -> Graph:
    """The integer graph, where the range of every float32 activation is known (`calibrate`, or training found it).

    `weight_quants` has the scales of weights for which they are known too; a scale too fine for the layer's int32 bias
    is made coarser all the same.
    """
    ties = tie_activations(graph, scheme.input_quant)
    quants = ties.quants(ranges, scheme)
    return _with_io(_rewrite(ties.graph, quants, scheme, weight_quants or {}), scheme.io_dtype)


def dynamic_range(graph: Graph, weight_quants: Mapping[str, Quant] | None = None) -> Graph:
    """int8 weights in a float32 graph: a layer quantizes each of its inputs by that input's own range.

    Symmetric codes, a scale for each output channel. Source: TFLite's dynamic-range quantization; see `minikin.ops.hybrid`.
    """
    require_float(graph)
    tensors = dict(graph.tensors)
    for view in graph.views():
        for index, axis in get_op(view.node.op).weights.items():
            w = view.input(index)
            if w is not None and w.data is not None:
                quant = (weight_quants or {}).get(w.name) or symmetric_quant(w.data, axis)
                tensors[w.name] = w.replace(dtype="int8", quant=quant, data=_symmetric_codes(w.data, quant))
    return graph.replace(tensors=tensors)


def float16_weights(graph: Graph) -> Graph:
    """Weights and biases rounded to float16, in a graph that computes in float32.

    Values beyond float16's range, 65,504, saturate. A .tflite keeps such constants in two bytes each (`storage`
    "float16").
    """
    require_float(graph)
    tensors = dict(graph.tensors)
    for view in graph.views():
        op = get_op(view.node.op)
        for index in (*op.weights, *([op.bias] if op.bias is not None else [])):
            w = view.input(index)
            if w is not None and w.data is not None:
                half = np.clip(w.data, -FLOAT16_MAX, FLOAT16_MAX).astype(np.float16).astype(np.float32)
                tensors[w.name] = w.replace(data=half, storage="float16")
    return graph.replace(tensors=tensors)


def layer_errors(float_graph: Graph, int8_graph: Graph, samples: Any) -> list[LayerError]:
    """Per layer, in order: signal to quantization noise over all samples, worst element, clipped part."""
    sums: dict[str, np.ndarray] = {}
    compared = [n for n in int8_graph.nodes if _is_comparable(float_graph, int8_graph, n.outputs[0])]
    for sample in samples_of(float_graph, samples):
        wanted = run(float_graph, sample, keep=True)
        feeds = tuple(
            quantize_array(x, int8_graph.tensors[name]) if int8_graph.tensors[name].quant else x
            for name, x in zip(int8_graph.inputs, sample, strict=True)
        )
        got = run(int8_graph, feeds, keep=True)
        for node in compared:
            name = node.outputs[0]
            part = _error_sums(wanted[name], got[name], int8_graph.tensors[name])
            total = sums.setdefault(name, np.zeros(5))
            total[2] = max(total[2], part[2])
            total[[0, 1, 3, 4]] += part[[0, 1, 3, 4]]
    return [_layer_error(node, int8_graph.tensors[node.outputs[0]], sums[node.outputs[0]]) for node in compared]


def error_table(errors: Sequence[LayerError]) -> Table:
    """The layers' errors."""
    headers = ("layer", ">signal / noise", ">largest error", ">one step", ">clipped")
    table = Table(*headers, title="int8 against float32, the errors of the layers before included")
    for e in errors:
        figures = (f"{e.sqnr_db:.1f} dB", f"{e.max_abs:.4g}", f"{e.scale:.4g}", f"{e.saturated:.2%}")
        table.add_row(e.name, *figures)
    return table


def quantize_array(x: np.ndarray, tensor: Tensor) -> np.ndarray:
    """round(x / scale) + zero_point, halves away from zero, saturated: what TFLite's QUANTIZE gives."""
    quant, info = tensor.quant, np.iinfo(tensor.dtype)
    assert quant is not None
    q = round_half_away(np.asarray(x, np.float32) / np.float32(quant.scale)) + quant.zero_point
    return np.asarray(np.clip(q, info.min, info.max), tensor.dtype)


def dequantize_array(q: np.ndarray, tensor: Tensor) -> np.ndarray:
    """scale * (q - zero_point) in float32."""
    assert tensor.quant is not None
    return np.asarray((q.astype(np.int32) - tensor.quant.zero_point) * np.float32(tensor.quant.scale), np.float32)


def asymmetric_quant(lo: float, hi: float) -> Quant:
    """int8 scale and zero point that cover [lo, hi] and hold 0 exactly."""
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    if hi - lo < MIN_SCALE * 255:
        lo, hi = ZERO_RANGE
    scale = float(np.float32((hi - lo) / 255.0))
    zero_point = int(round_half_away(np.float64(-128.0 - lo / scale)))
    return Quant((scale,), (min(127, max(-128, zero_point)),))


def symmetric_range(lo: float, hi: float) -> Quant:
    """int8 scale that covers [lo, hi] with zero point 0."""
    peak = max(-lo, hi)
    return Quant(((peak if peak >= MIN_SCALE * 127 else ZERO_RANGE[1]) / 127.0,), (0,))


def symmetric_quant(w: np.ndarray, axis: int | None, least: np.ndarray | float = 0.0, limit: int = 127) -> Quant:
    """Scales max|w| / limit, one per index of `axis` (None: one in all), each at least `least`.

    A channel of zeros takes the least scale of its layer: it stores nothing, and its bias stays fine.
    """
    absolute = np.abs(w.astype(np.float64))
    peaks = absolute.max(axis=_others(w, axis)) if axis is not None else np.array([absolute.max(initial=0.0)])
    scales = peaks / limit
    positive = scales[scales > 0]
    scales = np.where(scales > 0, scales, positive.min() if positive.size else 1.0 / limit)
    scales = np.maximum(scales, np.maximum(least, MIN_SCALE)).astype(np.float32)
    return Quant(tuple(map(float, scales)), (0,) * len(scales), axis)


def require_float(graph: Graph) -> None:
    """Raise ModelError where something is quantized already."""
    for tensor in graph.tensors.values():
        if tensor.quant is not None:
            raise ModelError(
                f"{tensor.name} is {tensor.dtype} already: quantize takes a float32 graph, use this one as it is"
            )


# Activations: groups of tensors that share one quantization


class _Groups:
    """Union-find over tensor names."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        while self._parent.get(name, name) != name:
            name = self._parent[name]
        return name

    def join(self, a: str, b: str) -> None:
        self._parent[self.find(b)] = self.find(a)


@dataclass(frozen=True)
class Ties:
    """A graph whose clashing inputs are requantized; `roots`: activation -> its group; `fixed`: group -> its Quant.

    `copies`: tensor that requantizes -> the tensor that it copies.
    """

    graph: Graph
    roots: Mapping[str, str]
    fixed: Mapping[str, Quant]
    copies: Mapping[str, str]

    def group_ranges(self, ranges: Mapping[str, Range]) -> dict[str, Range]:
        """The union of each group's ranges."""
        merged: dict[str, Range] = {}
        for name, root in self.roots.items():
            lo, hi = ranges[self.copies.get(name, name)] if name not in ranges else ranges[name]
            old = merged.get(root, (lo, hi))
            merged[root] = (min(lo, old[0]), max(hi, old[1]))
        return merged

    def quants(self, ranges: Mapping[str, Range], scheme: Scheme) -> dict[str, Quant]:
        groups = {
            root: self.fixed.get(root) or scheme.activation_quant(*span)
            for root, span in self.group_ranges(ranges).items()
        }
        return {name: groups[root] for name, root in self.roots.items()}


def tie_activations(graph: Graph, input_quant: Quant | None = None) -> Ties:
    """Which float32 activations share one quantization; where tied inputs clash, some are requantized.

    `input_quant` fixes that of the inputs.

    ::

        softmax (1/256) -+                       softmax -> quantize -+
        conv  (0.05) ----+-> concat      =>      conv ----------------+-> concat (0.05)
    """
    groups, fixed = _Groups(), {}
    if input_quant is not None:
        fixed.update((name, input_quant) for name in graph.inputs if _is_float(graph, name))
    nodes: list[Node] = []
    tensors, copies = dict(graph.tensors), {}
    for view in graph.views():
        node, rule = view.node, get_op(view.node.op).out_quant(view)
        if isinstance(rule, Quant):
            fixed.update((name, rule) for name in node.outputs)
        elif rule == "same":
            tied = [name for name in _data_inputs(graph, node) if _is_float(graph, name)]
            pinned = {fixed[groups.find(name)] for name in tied if groups.find(name) in fixed}
            free = any(groups.find(name) not in fixed for name in tied)
            if len(pinned) > 1 or (pinned and free):
                for name in dict.fromkeys(n for n in tied if groups.find(n) in fixed):
                    copy = f"{name}_for_{node.name}"
                    tensors[copy], copies[copy] = tensors[name].replace(name=copy), name
                    nodes.append(_unary(copy, "quantize", name, copy))
                    node = node.replace(inputs=tuple(copy if n == name else n for n in node.inputs))
                    tied = [copy if n == name else n for n in tied]
            for name in (*tied[1:], *node.outputs):
                groups.join(tied[0], name)
        nodes.append(node)
    graph = graph.replace(nodes=tuple(nodes), tensors=tensors)
    roots = {name: groups.find(name) for name in float_activations(graph)}
    return Ties(graph, roots, {name: quant for name, quant in fixed.items() if name in roots.values()}, copies)


def _data_inputs(graph: Graph, node: Node) -> list[str]:
    """The inputs that hold activations, or constants in an activation's place: neither weights nor bias."""
    opdef = get_op(node.op)
    parameters = {*opdef.weights, opdef.bias}
    return [name for i, name in enumerate(node.inputs) if name and i not in parameters]


def _is_float(graph: Graph, name: str) -> bool:
    return graph.tensors[name].dtype == "float32"


# Rewriting: every float32 tensor becomes int8, constants with their data


def _rewrite(graph: Graph, quants: Mapping[str, Quant], scheme: Scheme, weight_quants: Mapping[str, Quant]) -> Graph:
    tensors = dict(graph.tensors)
    for name, quant in quants.items():
        tensors[name] = _as_int8(tensors[name], quant)
    nodes = []
    for view in graph.views():
        inputs = list(view.node.inputs)
        for index, tensor in _parameters(view, tensors, scheme, weight_quants).items():
            inputs[index] = _add(tensors, tensor, view.node.name)
        nodes.append(view.node.replace(inputs=tuple(inputs)))
    return graph.replace(nodes=tuple(nodes), tensors=tensors)


def _parameters(
    view: View, tensors: Mapping[str, Tensor], scheme: Scheme, weight_quants: Mapping[str, Quant]
) -> dict[int, Tensor]:
    """The quantized weights and bias of a node, by input index."""
    opdef, found = get_op(view.node.op), {}
    bias = view.input(opdef.bias) if opdef.bias is not None else None
    for index, axis in opdef.weights.items():
        w = view.input(index)
        if w is None or w.dtype != "float32":
            continue
        if w.data is None:
            raise UnsupportedError(f"{view.node.name} ({view.node.op}) has weights {w.name} that are computed")
        x_quant = tensors[view.x.name].quant
        assert x_quant is not None
        axis = axis if scheme.per_channel else None
        least = _least_weight_scale(bias, x_quant.scale, axis is not None)
        quant = weight_quants.get(w.name)
        if quant is None or (np.array(quant.scales) < least).any():
            quant = symmetric_quant(w.data, axis, least, scheme.weight_limit)
        found[index] = w.replace(dtype="int8", quant=quant, data=_symmetric_codes(w.data, quant, scheme.weight_limit))
        if bias is not None and opdef.bias is not None:
            found[opdef.bias] = _int32_bias(bias, x_quant.scale, quant, scheme.bias_bits)
    return found


def _least_weight_scale(bias: Tensor | None, x_scale: float, per_channel: bool) -> np.ndarray | float:
    """The smallest weight scale at which the int32 bias, at scale(x) * scale(w), stays within BIAS_LIMIT."""
    if bias is None or bias.data is None:
        return 0.0
    least = np.abs(bias.data.astype(np.float64)) / (x_scale * BIAS_LIMIT)
    return least if per_channel else float(least.max(initial=0.0))


def _int32_bias(bias: Tensor, x_scale: float, w_quant: Quant, bits: int) -> Tensor:
    if bias.data is None:
        raise UnsupportedError(f"bias {bias.name} is computed by the graph: only constant ones are taken")
    scales = np.array([float(np.float32(x_scale * s)) for s in w_quant.scales])
    real = bias.data.astype(np.float64) / (x_scale * np.array(w_quant.scales))
    unit = 2.0 ** max(0, int(np.ceil(np.log2(max(np.abs(real).max(initial=0.0), 1.0) / (2.0 ** (bits - 1) - 1)))))
    codes = (round_half_away(real / unit) * unit).astype(np.int32)
    quant = Quant(tuple(map(float, scales)), (0,) * len(scales), 0 if len(scales) > 1 else None)
    return bias.replace(dtype="int32", quant=quant, data=codes)


def _symmetric_codes(w: np.ndarray, quant: Quant, limit: int = 127) -> np.ndarray:
    scales = np.array(quant.scales)
    if quant.axis is not None:
        scales = np.expand_dims(scales, _others(w, quant.axis))
    return np.clip(round_half_away(w.astype(np.float64) / scales), -limit, limit).astype(np.int8)


def _as_int8(tensor: Tensor, quant: Quant) -> Tensor:
    int8 = tensor.replace(dtype="int8", quant=quant, data=None)
    return int8 if tensor.data is None else int8.replace(data=quantize_array(tensor.data, int8))


def _add(tensors: dict[str, Tensor], tensor: Tensor, node: str) -> str:
    """Put a constant into the table; one that two nodes share but see with different codes gets a second name."""
    old = tensors[tensor.name]
    if old.quant is not None and (old.quant != tensor.quant or old.dtype != tensor.dtype):
        tensor = tensor.replace(name=f"{tensor.name}_{node}")
    tensors[tensor.name] = tensor
    return tensor.name


def _with_io(graph: Graph, io_dtype: str) -> Graph:
    """Float inputs and outputs: x -> quantize -> x_int8 -> ... -> y_int8 -> dequantize -> y."""
    if io_dtype == "int8":
        return graph
    names = {name: f"{name}_int8" for name in {*graph.inputs, *graph.outputs} if graph.tensors[name].dtype == "int8"}
    tensors = {t.name: t for t in (t.replace(name=names.get(t.name, t.name)) for t in graph.tensors.values())}
    tensors |= {old: Tensor(old, tensors[new].shape, "float32") for old, new in names.items()}

    def renamed(keys: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(names.get(key, key) for key in keys)

    before = [_unary(f"quantize_{n}", "quantize", n, names[n]) for n in graph.inputs if n in names]
    body = [node.replace(inputs=renamed(node.inputs), outputs=renamed(node.outputs)) for node in graph.nodes]
    made = [n for n in dict.fromkeys(graph.outputs) if n in names and n not in graph.inputs]
    after = [_unary(f"dequantize_{n}", "dequantize", names[n], n) for n in made]
    return graph.replace(nodes=(*before, *body, *after), tensors=tensors)


def _unary(name: str, op: str, x: str, y: str) -> Node:
    return Node(name, op, get_op(op).attrs(), (x,), (y,))


# Errors per layer


def _is_comparable(float_graph: Graph, int8_graph: Graph, name: str) -> bool:
    return name in float_graph.tensors and int8_graph.tensors[name].quant is not None


def _error_sums(wanted: np.ndarray, got: np.ndarray, tensor: Tensor) -> np.ndarray:
    """(signal, noise, worst, clipped elements, elements)."""
    assert tensor.quant is not None
    noise = dequantize_array(got, tensor).astype(np.float64) - wanted
    info = np.iinfo(tensor.dtype)
    steps = wanted / tensor.quant.scale + tensor.quant.zero_point
    clipped = np.count_nonzero((steps < info.min - 1) | (steps > info.max + 1))
    worst = np.abs(noise).max(initial=0.0)
    return np.array([np.square(wanted, dtype=np.float64).sum(), np.square(noise).sum(), worst, clipped, got.size])


def _layer_error(node: Node, tensor: Tensor, sums: np.ndarray) -> LayerError:
    signal, noise, worst, clipped, count = map(float, sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        sqnr = float(10 * np.log10(np.float64(signal) / np.float64(noise))) if noise else float("inf")
    assert tensor.quant is not None
    return LayerError(node.name, node.op, tensor.name, sqnr, worst, tensor.quant.scale, clipped / max(1.0, count))


def _others(w: np.ndarray, axis: int) -> tuple[int, ...]:
    return tuple(i for i in range(w.ndim) if i != axis)
