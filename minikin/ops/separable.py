"""separable_conv2d: a depthwise convolution, then a pointwise one, as one layer whose middle is never a tensor.

No file has it: the compiler joins two layers (`join`) where one kernel is faster than two. Its meaning is that of the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minikin.graph import Node, Quant, Tensor, View
from minikin.ops import conv_dsp
from minikin.ops.conv import Conv2dAttrs, DepthwiseConv2dAttrs, conv2d, depthwise_conv2d
from minikin.ops.fitting import once_per_view
from minikin.ops.opdef import (
    Case,
    Field,
    Kernel,
    OpDef,
    Range,
    Scratch,
    activation_range,
    is_dtype,
    register,
    require,
)
from minikin.ops.packing import GROUP, is_symmetric, mat_kernels, pack_stream, takes_exact, takes_fitted
from minikin.ops.requant import pack_bias, weights_of
from minikin.ops.window import conv_window
from minikin.ops.work import Work, clamp_work, rows_of_calls

MOST_WORDS = 16384
"""Bytes of scratch memory for the words of a pair of rows; of wider layers two kernels take less."""
WORDS = 6144
"""The same of several pairs."""
INPUTS = 3
"""Of each of the two: activations, weights, bias."""


@dataclass(frozen=True)
class SeparableConv2dAttrs:
    """The two layers' attributes, and the quantization of what lies between (None in a float graph)."""

    depthwise: DepthwiseConv2dAttrs
    pointwise: Conv2dAttrs
    middle: Quant | None = None

    @property
    def activation(self) -> str:
        return self.pointwise.activation


def join(first: View, second: View) -> Node | None:
    """The node that is a depthwise int8 layer and the pointwise one that reads it; None of other layers."""
    if (first.node.op, second.node.op) != (depthwise_conv2d.name, conv2d.name) or second.x.name != first.y.name:
        return None
    geometry, depth = conv_window(second), weights_of(second).shape[3]
    plain = geometry.taps == 1 and geometry.stride == (1, 1) and not any(geometry.padding)
    if not plain or depth != second.x.shape[3] or first.x.dtype != "int8" or second.y.dtype != "int8":
        return None
    attrs = SeparableConv2dAttrs(first.attrs, second.attrs, first.y.quant)
    names = [[t.name if t else "" for t in (*view.inputs, None)[:INPUTS]] for view in (first, second)]
    return Node(second.node.name, separable_conv2d.name, attrs, (*names[0], *names[1][1:]), second.node.outputs)


@once_per_view
def parts(view: View) -> tuple[View, View]:
    """The two layers."""
    node, attrs = view.node, view.attrs
    x, w, b, w1, b1 = (view.input(index) for index in range(2 * INPUTS - 1))
    middle = Tensor(f"{node.name}_middle", (), view.x.dtype, attrs.middle)
    own = node.replace(
        op=depthwise_conv2d.name, attrs=attrs.depthwise, inputs=node.inputs[:INPUTS], outputs=(middle.name,)
    )
    (shape,) = depthwise_conv2d.infer(View(own, (x, w, b), (), view.rounding))
    middle = middle.replace(shape=shape)
    first = View(own, (x, w, b), (middle,), view.rounding)
    own = node.replace(op=conv2d.name, attrs=attrs.pointwise, inputs=(middle.name, *node.inputs[INPUTS:]))
    return first, View(own, (middle, w1, b1), view.outputs, view.rounding)


def infer(view: View) -> tuple[tuple[int, ...], ...]:
    second = parts(view)[1]
    w = weights_of(second)
    require(
        len(w.shape) == 4 and w.shape[1:] == (1, 1, second.x.shape[3]),
        view,
        f"weights {w.shape} are not [channels, 1, 1, {second.x.shape[3]}]",
    )
    return conv2d.infer(second)


def eval_float(view: View, *arrays: np.ndarray | None) -> tuple[np.ndarray, ...]:
    first, second = parts(view)
    return conv2d.eval_float(second, *depthwise_conv2d.eval_float(first, *arrays[:INPUTS]), *arrays[INPUTS:])


def eval_int(view: View, *arrays: np.ndarray | None) -> tuple[np.ndarray, ...]:
    first, second = parts(view)
    return conv2d.eval_int(second, *depthwise_conv2d.eval_int(first, *arrays[:INPUTS]), *arrays[INPUTS:])


def rows(view: View, lo: int, hi: int) -> tuple[Range, ...] | None:
    return depthwise_conv2d.rows(parts(view)[0], lo, hi)


def emit(view: View) -> dict[str, Field]:
    first, second = parts(view)
    return {"depthwise": depthwise_conv2d.emit(first), "pointwise": conv2d.emit(second)}


def pack(view: View, fields: dict[str, Any]) -> dict[str, Field]:
    first, second = parts(view)
    return {
        "depthwise": pack_bias(first, fields["depthwise"]),
        "pointwise": pack_bias(second, fields["pointwise"]) | {"patch": None},
        **{name: fields["depthwise"][name] for name in ("out_w", "stride_h", "stride_w", "pad_left")},
        "out_ch": view.y.shape[3],
        "pixel": Scratch(),
    }


def macs(view: View) -> int:
    first, second = parts(view)
    return depthwise_conv2d.macs(first) + conv2d.macs(second)


def work(view: View, rows: int, made: int) -> Work:
    """Counts of both."""
    first, second = parts(view)
    assert depthwise_conv2d.work
    assert conv2d.work
    own = {f"pointwise_{name}": count for name, count in conv2d.work(second, rows, made).items()}
    return depthwise_conv2d.work(first, rows, made) | own


def takes(view: View, exact: bool) -> bool:
    """The first of 3x3 with fitted outputs that no activation clamps, and the proofs of mk_mat_s8.h hold for the second."""
    first, second = parts(view)
    if second.y.shape[3] < GROUP or not conv_dsp.takes_depthwise_fitted(first) or not is_symmetric(second):
        return False
    bounds = activation_range(first, first.attrs.activation)
    if bounds != (-128, 127) or word_bytes(view) > MOST_WORDS:
        return False
    return (takes_exact if exact else takes_fitted)(second, word_weights(view))


@once_per_view
def word_weights(view: View) -> np.ndarray:
    """[channels, inputs] in the order in which the first one's groups of four come: the last may overlap the one before."""
    w = weights_of(parts(view)[1]).data
    assert w is not None
    w = w.reshape(len(w), -1)
    whole = w.shape[1] & ~3
    if whole == w.shape[1]:
        return w
    last = np.where(np.arange(w.shape[1] - GROUP, w.shape[1]) < whole, 0, w[:, -GROUP:])
    return np.concatenate([w[:, :whole], last], axis=1)


def quads(view: View) -> int:
    return word_weights(view).shape[1] // GROUP


def word_bytes(view: View) -> int:
    """Of the words of a pair of rows."""
    return 16 * quads(view) * view.y.shape[2]


def dsp_rows(view: View) -> int:
    """Of a call: an even number, as many as share constants and fit into WORDS."""
    return max(2, min(conv_dsp.depthwise_rows(parts(view)[0]), WORDS // word_bytes(view) * 2))


def columns_at(view: View) -> int:
    """Where the first one's columns lie in scratch memory: behind the words, or the bytes and words of one row."""
    return word_bytes(view) * (min(dsp_rows(view), view.y.shape[1] + 1) // 2)


def dsp_scratch(view: View, rows: int) -> int:
    return columns_at(view) + conv_dsp.depthwise_scratch(parts(view)[0], rows)


def pack_dsp(view: View, fields: dict[str, Any]) -> dict[str, Field]:
    first, second = parts(view)
    depthwise = conv_dsp.pack_depthwise(first, fields["depthwise"])
    return {
        "depthwise": depthwise | {"buffer": Scratch("int32_t", columns_at(view))},
        **{name: fields["depthwise"][name] for name in ("out_w", "stride_h")},
        "last": first.y.shape[3] - GROUP,
        **pack_stream(second, word_weights(view)),
        "words": Scratch("int32_t"),
        "bytes": Scratch("int8_t", word_bytes(view) // 2),
    }


DEPTHWISE_COUNTS = (
    *("call", "call_block", "pair_block", "pair_double", "pair_odd", "border_pair", "border_pair_column"),
    *("line_block", "line_column", "line_output", "border_line", "border_line_column"),
)
"""Of the first one's counts those that its DSP kernel loops over."""


QUADS = 8
"""Of inputs, that the matrix kernel's loop takes at once."""


def dsp_work(view: View, rows: int, made: int, counts: Work) -> Work:
    """Pairs of rows are pairs of pixels; a row without a partner makes pairs of its own, and leaves a pixel over."""
    first, second = parts(view)
    assert depthwise_conv2d.work
    in_pairs = first.attrs.stride == (1, 1)
    own = depthwise_conv2d.work(first, rows if in_pairs else 1, made)
    out_w, channels = view.y.shape[2:]
    calls = rows_of_calls(rows, made)
    lone, groups = sum(r % 2 for r in calls), -(-channels // GROUP)
    pairs, singles = sum(r // 2 * out_w + r % 2 * (out_w // 2) for r in calls), lone * (out_w % 2)
    matrices = sum(r // 2 + r % 2 for r in calls)
    kept = {name: own[name] for name in DEPTHWISE_COUNTS}
    return kept | {
        "call": float(len(calls)),
        "lone_row": lone,
        "widened_quad": lone * (out_w // 2) * quads(view),
        "matrix": matrices,
        "rest_matrix": matrices * (channels % GROUP > 0),
        "matrix_pair": pairs,
        "matrix_group": pairs * groups,
        "matrix_loop": pairs * groups * -(-quads(view) // QUADS),
        "matrix_quad": pairs * groups * quads(view),
        "matrix_output": pairs * groups * 2 * GROUP,
        "single": singles,
        "single_loop": singles * groups * -(-quads(view) // QUADS),
        "single_quad": singles * groups * quads(view),
        "single_output": singles * groups * GROUP,
        **clamp_work(second, made * out_w * channels),
    }


def separable_case(name: str, x: tuple[int, ...], channels: int, **attrs: Any) -> Case:
    pointwise = Conv2dAttrs(activation=attrs.pop("then", "none"))
    both = SeparableConv2dAttrs(DepthwiseConv2dAttrs(**attrs), pointwise)
    depth = x[3]
    constants = {1: (1, 3, 3, depth), 2: (depth,), 3: (channels, 1, 1, depth), 4: (channels,)}
    return Case(name, both, (x,), constants, dtypes=("int8+int8",))


separable_conv2d = OpDef(
    name="separable_conv2d",
    attrs=SeparableConv2dAttrs,
    infer=infer,
    eval_float=eval_float,
    eval_int=eval_int,
    arity=1,
    rows=rows,
    emit=emit,
    macs=macs,
    work=work,
    weights={1: 3, INPUTS: 0},
    biases=(INPUTS - 1, INPUTS + 1),
    kernels=(
        *mat_kernels(
            "mk_separable_conv2d_s8_dsp",
            "mk_mat2_exact.h",
            takes=lambda view: takes(view, exact=True),
            takes_fitted=lambda view: takes(view, exact=False),
            inner={"depthwise": "mk_depthwise_conv2d_s8_dsp"},
            more=("mk_dw3_words.h", "mk_depthwise_conv2d_s8_dsp.h"),
            pack=pack_dsp,
            work=dsp_work,
            rows=dsp_rows,
            whole_rows=dsp_rows,
            scratch=dsp_scratch,
        ),
        Kernel(
            name="mk_separable_conv2d_s8",
            when=is_dtype("int8"),
            uses=("mk_depthwise_conv2d_s8.h", "mk_conv2d_s8.h"),
            inner={"depthwise": "mk_depthwise_conv2d_s8", "pointwise": "mk_conv2d_s8"},
            pack=pack,
            scratch=lambda view, rows: parts(view)[0].y.shape[3],
        ),
    ),
    cases=(
        separable_case("relu", (1, 9, 5, 8), 12, padding=(1, 1, 1, 1), activation="relu", then="relu"),
        separable_case("stride2", (1, 9, 12, 16), 8, stride=(2, 2), padding=(0, 1, 0, 1), activation="relu6"),
        separable_case("channels_left", (1, 7, 6, 10), 7, padding=(1, 1, 1, 1), activation="relu", then="relu6"),
        separable_case("narrow", (1, 12, 1, 5), 6, padding=(1, 1, 1, 1), activation="relu"),
        separable_case("one_row", (1, 1, 7, 4), 4, padding=(1, 1, 1, 1), activation="relu", then="relu"),
        separable_case("no_activation", (1, 6, 6, 4), 4, padding=(1, 1, 1, 1)),
        separable_case("few_channels", (1, 5, 4, 3), 2, activation="relu"),
        separable_case("stride2_odd", (1, 11, 11, 9), 18, stride=(2, 2), activation="relu", then="relu"),
        separable_case("strides", (1, 8, 9, 8), 8, stride=(1, 2), padding=(1, 1, 1, 1), activation="relu"),
    ),
)

register(separable_conv2d)
