"""What the kernels for RISC-V and Cortex-M0+ ask of the compiler: those of conv2d, depthwise_conv2d and dense."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minikin.graph import View
from minikin.ops.conv_mve import (
    GROUP,
    conv_columns,
    conv_rows,
    copied_pixels,
    depthwise_columns,
    padded_to,
    takes_conv,
    takes_dense,
    window_weights,
)
from minikin.ops.fitting import once_per_view
from minikin.ops.fitting_floor import fit_floor
from minikin.ops.opdef import Field, Kernel, Scratch, activation_range
from minikin.ops.packing import is_symmetric, packed_channels
from minikin.ops.requant import quant_of, weights_of
from minikin.ops.window import conv_window
from minikin.ops.work import Work, window_work

MOST = 255
"""Magnitudes of weights that a sum of 16 bits takes."""


@dataclass(frozen=True)
class Outputs:
    """The numbers of mk_out_x4.h, by channel; `low` is 0 where outputs are not fitted."""

    low: int
    weights: np.ndarray
    bias: np.ndarray
    mult: np.ndarray
    addend: np.ndarray
    shift: np.ndarray


def outputs_of(view: View, weights: np.ndarray) -> Outputs:
    """Of a layer with `weights` [channels, inputs]."""
    channels = packed_channels(view, weights)
    fitted = fit_floor(view, channels)
    if fitted:
        return Outputs(fitted.low, channels.weights, fitted.bias, fitted.mult, fitted.addend, fitted.shift)
    offset = np.full(len(weights), quant_of(view.y).zero_point)
    return Outputs(0, channels.weights, channels.bias, channels.mult, offset, channels.shift + 1)


def column_bytes(view: View) -> int:
    """A row's columns of all kernel rows, where windows are not read in place."""
    in_place = copied_pixels(view) is not None
    return 0 if in_place else conv_columns(view) * conv_window(view).kernel[0] * view.x.shape[3]


def pair_bytes(view: View) -> int:
    """Two pixels' inputs, five words of each four."""
    return 20 * -(-conv_window(view).taps * view.x.shape[3] // GROUP)


def conv_scratch(view: View, rows: int) -> int:
    return pair_bytes(view) + column_bytes(view)


def split_weights(weights: np.ndarray) -> tuple[np.ndarray, list[list[tuple[int, int]]]]:
    """Weights [channels, inputs] of which each four inputs have at most MOST magnitudes, and of each channel what they lack:
    (input, weight)."""
    kept, lacking = weights.copy(), [[] for _ in weights]
    parts = abs(weights).reshape(len(weights), -1, GROUP)
    for channel, part in np.argwhere(parts.sum(axis=2) > MOST):
        own = kept[channel, GROUP * part : GROUP * (part + 1)]
        corrected = {}
        while (excess := int(abs(own).sum()) - MOST) > 0:
            at = int(abs(own).argmax())
            corrected[at] = int(np.sign(own[at])) * min(excess, abs(int(own[at])))
            own[at] -= corrected[at]
        lacking[channel] += [(GROUP * int(part) + at, w) for at, w in sorted(corrected.items())]
    return kept, lacking


def pack_corrections(lacking: list[list[tuple[int, int]]]) -> np.ndarray:
    """Bytes of a group: how many of each channel, then pairs of words to go on in the pair and weight, filled up to words."""
    counts, pairs = [], []
    for own in lacking:
        at, before = 0, len(pairs)
        for k, w in own:
            place = k + k // GROUP + 1
            while place - at > 255:
                pairs.append((255, 0))
                at += 255
            pairs.append((place - at, w & 255))
            at = place
        counts.append(len(pairs) - before)
    codes = np.array(pairs, np.uint8).reshape(-1)
    return np.concatenate([np.array(counts, "<u2").view(np.uint8), padded_to(codes, 4, 0)])


@once_per_view
def conv_outputs(view: View) -> tuple[Outputs, np.ndarray, list[list[tuple[int, int]]]]:
    """The outputs of a convolution, and its weights in whole groups, split."""
    outputs = outputs_of(view, window_weights(view))
    return outputs, *split_weights(padded_to(padded_to(outputs.weights, GROUP, 0), GROUP, 1))


def pack_pairs(view: View) -> np.ndarray:
    """The stream of mk_pair_x4.h."""
    outputs, weights, lacking = conv_outputs(view)
    lacking = [lacking[i : i + GROUP] for i in range(0, len(lacking), GROUP)]
    codes = (weights + 128).astype(np.uint8).reshape(len(lacking), GROUP, -1, GROUP).transpose(0, 2, 1, 3)
    numbers = (outputs.bias, outputs.mult, outputs.addend)
    bias, mult, addend = (
        padded_to(values, GROUP, 0).astype("<i4").reshape(-1, GROUP).view(np.uint8) for values in numbers
    )
    shift = padded_to(outputs.shift, GROUP, 0).astype(np.uint8).reshape(-1, GROUP)
    groups = [
        np.concatenate([bias[i], codes[i].reshape(-1), pack_corrections(lacking[i]), mult[i], addend[i], shift[i]])
        for i in range(len(lacking))
    ]
    return np.concatenate(groups).view("<i4")


def pack_conv(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    kept = ("in_w", "in_ch", "out_w", "stride_h", "stride_w", "pad_left", "dilation_h", "kernel_h")
    outputs = conv_outputs(view)[0]
    lo, hi = activation_range(view, view.attrs.activation)
    return {
        **{name: fields[name] for name in kept},
        "zero": quant_of(view.x).zero_point,
        "columns": conv_columns(view),
        "out_ch": view.y.shape[3],
        "inputs": outputs.weights.shape[1],
        "low": outputs.low,
        "act_min": lo,
        "act_max": hi,
        "stream": pack_pairs(view),
        "pair": Scratch("int32_t"),
        "buffer": Scratch(at=pair_bytes(view)) if column_bytes(view) else None,
    }


def pack_rows(outputs: Outputs) -> np.ndarray:
    """The stream of mk_mat_x4.h."""
    codes = (padded_to(outputs.weights, GROUP, 0) + 128).astype(np.uint8)
    words = np.ascontiguousarray(codes.reshape(-1, GROUP, codes.shape[1]).transpose(0, 2, 1)).view("<i4")[..., 0]
    numbers = (outputs.bias, outputs.mult, outputs.addend)
    bias, mult, addend = (padded_to(values, GROUP, 0).astype("<i4").reshape(-1, GROUP) for values in numbers)
    shift = padded_to(outputs.shift, GROUP, 0).astype(np.int8).reshape(-1, GROUP).view("<i4")
    return np.concatenate([bias, words, mult, addend, shift], axis=1).reshape(-1)


def pack_dense(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    outputs = outputs_of(view, np.asarray(weights_of(view).data))
    lo, hi = activation_range(view, view.attrs.activation)
    return {
        **{name: fields[name] for name in ("batch", "in_ch", "out_ch")},
        "low": outputs.low,
        "act_min": lo,
        "act_max": hi,
        "stream": pack_rows(outputs),
    }


def depthwise_weights(view: View) -> np.ndarray:
    """[channels, taps], taps column by column."""
    return np.asarray(weights_of(view).data)[0].transpose(2, 1, 0).reshape(weights_of(view).shape[3], -1)


def takes_depthwise(view: View) -> bool:
    """int8 without columns left out, with output multipliers below a half."""
    geometry = conv_window(view)
    if not is_symmetric(view) or (geometry.dilation[1] > 1 and geometry.kernel[1] > 1):
        return False
    return packed_channels(view, depthwise_weights(view)).exact


def depthwise_scratch(view: View, rows: int) -> int:
    """A channel's columns as words."""
    return 4 * depthwise_columns(view) * conv_window(view).kernel[0]


def depthwise_rows(view: View) -> int:
    """Narrow rows share the reading of weights: as many as twelve input rows give, up to 32 pixels."""
    stride, extent = view.attrs.stride[0], conv_window(view).extent[0]
    return max(1, min(32 // view.y.shape[2], (12 - extent) // stride + 1))


def pack_depthwise(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    kept = ("in_w", "in_ch", "out_w", "kernel_h", "stride_h", "stride_w", "pad_left", "dilation_h")
    outputs = depthwise_outputs(view)
    lo, hi = activation_range(view, view.attrs.activation)
    codes = padded_to(np.concatenate([outputs.shift[:, None], outputs.weights], axis=1), 4, 1).astype(np.int8)
    numbers = np.stack([outputs.bias, outputs.mult, outputs.addend], axis=1).astype(np.int32)
    return {
        **{name: fields[name] for name in kept},
        "out_ch": view.y.shape[3],
        "multiplier": view.y.shape[3] // view.x.shape[3],
        "taps": conv_window(view).taps,
        "zero": quant_of(view.x).zero_point,
        "columns": depthwise_columns(view),
        "low": outputs.low,
        "act_min": lo,
        "act_max": hi,
        "stream": np.concatenate([numbers, np.ascontiguousarray(codes).view("<i4")], axis=1).reshape(-1),
        "buffer": Scratch("int32_t"),
    }


def output_work(outputs: Outputs, count: float) -> Work:
    return {"fitted_output": count * (outputs.low > 0), "exact_output": count * (outputs.low == 0)}


def conv_work(view: View, rows: int, made: int, counts: Work) -> Work:
    """Columns that are copied, or filled with padding; pairs of pixels and groups of four channels; corrections."""
    outputs, _, lacking = conv_outputs(view)
    channels, inputs = outputs.weights.shape
    geometry, batch, out_w, in_ch = conv_window(view), view.y.frame.batch, view.y.shape[2], view.x.shape[3]
    found: Work = {"call": counts["call"], "row": counts["row"]}
    pairs = made * -(-out_w // 2)
    if column_bytes(view):
        _, down, _ = window_work(view, rows, made, geometry.kernel, geometry.dilation)
        columns, lines = conv_columns(view), made * geometry.kernel[0]
        copied = int(down.inside.sum()) * max(min(columns - geometry.padding[2], view.x.shape[2]), 0)
        filled = lines * columns - copied
        found |= {"line": lines * batch, "copied": copied * batch, "copied_input": copied * in_ch * batch}
        found |= {"filled": filled * batch, "filled_input": filled * in_ch * batch}
    elif out_w * geometry.stride[1] == view.x.shape[2] * geometry.stride[0]:  # rows of a call are one row
        pairs = made // rows * -(-(rows * out_w) // 2) + -(-(made % rows * out_w) // 2)
    pairs *= batch
    parts, groups = -(-inputs // GROUP), len(lacking) // GROUP
    return found | {
        "pair": pairs,
        "pair_quad": pairs * (inputs // GROUP),
        "pair_rest": pairs * (inputs % GROUP > 0),
        "group": pairs * groups,
        "group_part": pairs * groups * parts,
        "group_odd": pairs * groups * (parts % 2),
        "corrected": pairs * sum(map(bool, lacking)),
        "correction": pairs * sum(map(len, lacking)),
        **output_work(outputs, pairs * channels),
    }


@once_per_view
def depthwise_outputs(view: View) -> Outputs:
    return outputs_of(view, depthwise_weights(view))


def depthwise_work(view: View, rows: int, made: int, counts: Work) -> Work:
    """Words that are copied, three rows at once or row by row; windows of nine taps, next to each other or apart; others."""
    geometry, batch, out_w = conv_window(view), view.y.frame.batch, view.y.shape[2]
    (kernel_h, kernel_w), columns, outputs = geometry.kernel, depthwise_columns(view), depthwise_outputs(view)
    _, down, _ = window_work(view, rows, made, geometry.kernel, geometry.dilation)
    inside = max(min(view.x.shape[2], columns - geometry.padding[2]), 0)
    threes = int(down.full.sum()) * (kernel_h == 3)
    single = made - threes
    own = int(down.inside.sum()) - kernel_h * threes
    lines = float(made * batch * len(outputs.weights))
    nine, near = kernel_h * kernel_w == 9, geometry.stride[1] * kernel_h == 3
    each = {
        "padding_word": (columns - inside) * kernel_h,
        "three": threes / made,
        "three_column": threes * inside / made,
        "single": single * kernel_h / made,
        "single_word": own * inside / made,
        "null_word": (single * kernel_h - own) * inside / made,
        "near": nine and near,
        "near_output": out_w * (nine and near),
        "apart": nine and not near,
        "apart_output": out_w * (nine and not near),
        "other": not nine,
        "other_output": out_w * (not nine),
        "other_mac": out_w * kernel_h * kernel_w * (not nine),
        **output_work(outputs, out_w),
    }
    return {
        "call": counts["call"],
        "channel": counts["call"] * len(outputs.weights),
        "line": lines,
        **{name: lines * count for name, count in each.items()},
    }


def dense_work(view: View, rows: int, made: int, counts: Work) -> Work:
    """Groups of four channels, inputs in blocks of four."""
    batch, outputs = counts["batch"], outputs_of(view, np.asarray(weights_of(view).data))
    channels, inputs = outputs.weights.shape
    groups = batch * -(-channels // GROUP)
    return {
        "batch": batch,
        "input": batch * inputs,
        "group": groups,
        "group_quad": groups * (inputs // GROUP),
        "group_rest": groups * (inputs % GROUP),
        **output_work(outputs, batch * channels),
    }


CONV_X4 = tuple(
    Kernel(
        name="mk_conv2d_s8_x4",
        isa=isa,
        uses=("mk_out_x4.h", "mk_pair_x4.h"),
        when=takes_conv,
        pack=pack_conv,
        scratch=conv_scratch,
        whole_rows=conv_rows,
        work=conv_work,
    )
    for isa in ("rv", "v6m")
)
DEPTHWISE_X4 = tuple(
    Kernel(
        name="mk_depthwise_conv2d_s8_x4",
        isa=isa,
        uses=("mk_out_x4.h",),
        when=takes_depthwise,
        pack=pack_depthwise,
        scratch=depthwise_scratch,
        whole_rows=depthwise_rows,
        work=depthwise_work,
    )
    for isa in ("rv", "v6m")
)
DENSE_X4 = tuple(
    Kernel(
        name="mk_dense_s8_x4",
        isa=isa,
        uses=("mk_out_x4.h", "mk_mat_x4.h"),
        when=takes_dense,
        pack=pack_dense,
        work=dense_work,
    )
    for isa in ("rv", "v6m")
)
