"""conv2d and depthwise_conv2d: a window of weights slides over an NHWC frame; TFLite's CONV_2D, DEPTHWISE_CONV_2D.

y[n, i, j, o] = act(b[o] + sum_{ky, kx, c} x[n, i*sh - top + ky*dh, j*sw - left + kx*dw, c] * w[o, ky, kx, c]), where
x outside the frame is zero. Grouped: output channel o reads its group's input channels only. Depthwise: output
channel o reads input channel o // multiplier only, and w is [1, kh, kw, channels * multiplier].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minikin.graph import Node, Tensor, View
from minikin.ops.channels import Bounds, Channels, Kept, Mixing, free
from minikin.ops.conv_dsp import (
    conv_rows,
    conv_scratch,
    depthwise_rows,
    depthwise_scratch,
    group_scratch,
    pack_conv,
    pack_depthwise,
    pack_groups,
    takes_conv,
    takes_conv_fitted,
    takes_depthwise,
    takes_depthwise_fitted,
    takes_groups,
    takes_groups_fitted,
)
from minikin.ops.conv_mve import CONV_MVE, DEPTHWISE_MVE
from minikin.ops.conv_taps import DEPTHWISE_PIXEL, DEPTHWISE_TAPS
from minikin.ops.conv_x4 import CONV_X4, DEPTHWISE_X4
from minikin.ops.hybrid import HYBRID_DTYPES, hybrid_fields, is_hybrid, quantized_frames, scaled_sums
from minikin.ops.opdef import (
    Case,
    Field,
    Kernel,
    OpDef,
    Range,
    Scratch,
    Surround,
    clamp_float,
    is_dtype,
    register,
    require,
)
from minikin.ops.packing import mat_kernels
from minikin.ops.packing_f32 import float32_kernels, pack_conv_f32, pack_depthwise_f32
from minikin.ops.requant import (
    centred_weights,
    float_clamp,
    output_multipliers,
    pack_bias,
    quant_of,
    requantize_fields,
    requantized,
    requantized_bounds,
    sum_bounds,
    weights_of,
)
from minikin.ops.stored import conv_kernels, grouped_kernels
from minikin.ops.stored_dsp import conv_dsp_kernels, depthwise_dsp_kernels
from minikin.ops.window import conv_window as window
from minikin.ops.window import more_padding, needs_patch
from minikin.ops.work import conv_work, depthwise_work, portable_work


@dataclass(frozen=True)
class Conv2dAttrs:
    """(height, width) pairs; padding is (top, bottom, left, right) in input rows and columns.

    `unsigned`: the int8 codes were a uint8 model's, whose output multiplier TFLite takes from a float32 product.
    """

    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    activation: str = "none"
    unsigned: bool = False


@dataclass(frozen=True)
class DepthwiseConv2dAttrs(Conv2dAttrs):
    """As Conv2dAttrs; the multiplier follows from the weights' shape."""


def infer_conv(view: View) -> tuple[tuple[int, ...], ...]:
    w = checked_weights(view, "[out_channels, height, width, in_channels / groups]")
    rows, cols = window(view).output_size(view)
    channels, units, depth = view.x.shape[3], w.shape[0], w.shape[3]
    require(
        min(units, depth) > 0 and channels % depth == 0 and units % (channels // depth) == 0 and channels > 0,
        view,
        f"input {view.x.shape} and weights {w.shape} do not divide into groups of channels",
    )
    check_bias(view, units)
    return ((view.x.shape[0], rows, cols, units),)


def infer_depthwise(view: View) -> tuple[tuple[int, ...], ...]:
    w = checked_weights(view, "[1, height, width, channels * multiplier]")
    rows, cols = window(view).output_size(view)
    channels = view.x.shape[3]
    require(
        w.shape[0] == 1 and channels > 0 and w.shape[3] > 0 and w.shape[3] % channels == 0,
        view,
        f"weights {w.shape} are not [1, height, width, a multiple of the channels of input {view.x.shape}]",
    )
    check_bias(view, w.shape[3])
    return ((view.x.shape[0], rows, cols, w.shape[3]),)


def checked_weights(view: View, layout: str) -> Tensor:
    w = view.inputs[1]
    require(w is not None and len(w.shape) == 4, view, f"weights are {w and w.shape}, want {layout}")
    assert w is not None
    return w


def check_bias(view: View, units: int) -> None:
    bias = view.input(2)
    require(bias is None or bias.shape == (units,), view, f"bias is {bias and bias.shape}, want ({units},)")


def convolve(view: View, x: np.ndarray, w: np.ndarray, fill: int, dtype: type) -> np.ndarray:
    """Sums of products of (x - fill) and w in `dtype`: gathers the patches of a few output rows, multiplies by BLAS."""
    geometry, (batch, out_h, out_w, units) = window(view), view.y.shape
    depth = w.shape[3]
    groups = x.shape[3] // depth
    columns = w.astype(dtype).reshape(groups, units // groups, -1).transpose(0, 2, 1)
    y = np.empty((batch, out_h, out_w, groups, units // groups), dtype)
    for rows, padded in geometry.chunks(x, out_h, batch * out_w * w[0].size * groups, fill):
        patches = geometry.patches(padded.astype(dtype) - dtype(fill))
        for group in range(groups):
            part = patches[..., group * depth : (group + 1) * depth]
            flat = part.reshape(-1, depth * geometry.taps) @ columns[group]
            y[:, rows, :, group] = flat.reshape(*part.shape[:3], -1)
    return y.reshape(view.y.shape)


def convolve_depthwise(view: View, x: np.ndarray, w: np.ndarray, fill: int, dtype: type) -> np.ndarray:
    """Sums over the taps of (x - fill) * w in `dtype`, channel by channel."""
    geometry, (batch, out_h, out_w, units) = window(view), view.y.shape
    channels = x.shape[3]
    taps = w.astype(dtype).reshape(*w.shape[1:3], channels, -1)
    y = np.zeros((batch, out_h, out_w, *taps.shape[2:]), dtype)
    for rows, padded in geometry.chunks(x, out_h, batch * out_w * units, fill):
        centred = padded.astype(dtype) - dtype(fill)
        for ky, kx, part in geometry.views(centred):
            y[:, rows] += part[..., None] * taps[ky, kx]
    return y.reshape(view.y.shape)


def float_meaning(convolve: Any) -> Any:
    def eval_float(view: View, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        if is_hybrid(view):
            codes, scales = quantized_frames(x, is_asymmetric(view))
            y = scaled_sums(view, convolve(view, codes, w, 0, np.float64), scales)
        else:
            y = convolve(view, x, w, 0, np.float32)
        if b is not None:
            y += b
        return (clamp_float(y, view.attrs.activation),)

    return eval_float


def int_meaning(convolve: Any) -> Any:
    """Accumulators are exact in float64 (sums under 2**53), then wrap to int32 as the reference's do."""

    def eval_int(view: View, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        centred = w.astype(np.int16) - quant_of(weights_of(view)).zero_point
        acc = convolve(view, x, centred, quant_of(view.x).zero_point, np.float64).astype(np.int64)
        if b is not None:
            acc += b
        return (requantized(view, acc, output_multipliers(view, single=view.attrs.unsigned), once=False),)

    return eval_int


def is_asymmetric(view: View) -> bool:
    """Which scheme of hybrid.py LiteRT has: symmetric only for an ungrouped conv2d whose weights share one scale."""
    w = weights_of(view)
    one_group = view.node.op == conv2d.name and w.shape[3] == view.x.shape[3]
    return not one_group or len({*quant_of(w).scales}) > 1


def interval_meaning(convolve: Any) -> Any:
    """Element by element, so that windows over the border have bounds of their own."""

    def interval(view: View, x: Bounds, w: Bounds, b: Bounds | None = None) -> Bounds:
        def products(x: np.ndarray, w: np.ndarray) -> np.ndarray:
            return convolve(view, x, w, 0, np.float64).astype(np.int64)

        lo, hi = sum_bounds(x, quant_of(view.x).zero_point, centred_weights(view), products)
        bias = 0 if b is None else b[0]
        multipliers = output_multipliers(view, single=view.attrs.unsigned)
        return requantized_bounds(view, (lo + bias, hi + bias), multipliers, once=False)

    return interval


def channels_conv(view: View) -> Channels:
    """A group's channels go all at once; without groups every one by itself."""
    count, units, depth = view.x.shape[3], view.y.shape[3], weights_of(view).shape[3]
    if depth != count:
        return Channels((np.arange(count) // depth,), np.arange(units) // (units * depth // count))
    geometry, (top, bottom, left, right) = window(view), view.attrs.padding

    def unfold(x: np.ndarray) -> np.ndarray:
        patches = geometry.patches(np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0))))
        return patches.reshape(-1, geometry.taps, x.shape[3])

    weights = centred_weights(view).reshape(units, geometry.taps, depth)
    return Channels((free(count),), free(units), Mixing(weights, unfold))


def cut_conv(view: View, kept: Kept) -> tuple[Conv2dAttrs, dict[int, np.ndarray]]:
    w = weights_of(view).data
    assert w is not None
    own = w[kept.output]
    return view.attrs, {1: own[..., kept.inputs[0]] if w.shape[3] == view.x.shape[3] else own}


def channels_depthwise(view: View) -> Channels:
    count, units = view.x.shape[3], view.y.shape[3]
    return Channels((np.arange(count),), np.arange(units) // (units // count))


def cut_depthwise(view: View, kept: Kept) -> tuple[DepthwiseConv2dAttrs, dict[int, np.ndarray]]:
    w = weights_of(view).data
    assert w is not None
    return view.attrs, {1: w[..., kept.output]}


def pad(view: View, surround: Surround, bounds: Bounds | None) -> Conv2dAttrs | None:
    """The op's own padding counts as zero, which is the input's zero point; a hybrid's range has to see the padding."""
    paddings, fill = surround
    zero = 0.0 if view.x.quant is None else view.x.quant.zero_point
    wider = more_padding(view.attrs.padding, paddings)
    same = wider is not None and fill == zero and not is_hybrid(view)
    return replace(view.attrs, padding=wider) if same else None


def to_torch(view: View) -> Any:
    import torch

    from minikin.ops.torch_activation import torch_activation

    attrs, (top, bottom, left, right) = view.attrs, view.attrs.padding
    even = (top, left) == (bottom, right)
    depthwise = view.node.op == depthwise_conv2d.name
    groups = view.x.shape[3] if depthwise else view.x.shape[3] // weights_of(view).shape[3]
    order = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)

    def plain(tensor: Any, order: tuple[int, ...]) -> Any:
        """Permuted in memory too: oneDNN takes a permuted axis of size 1 for another layout and computes wrongly."""
        permuted = tensor.permute(order)
        return permuted.clone(memory_format=torch.contiguous_format) if 1 in permuted.shape else permuted.contiguous()

    def conv(x: Any, w: Any, b: Any = None) -> Any:
        x = plain(x, (0, 3, 1, 2))
        if not even:
            x = torch.nn.functional.pad(x, (left, right, top, bottom))
        padding = (top, left) if even else 0
        y = torch.nn.functional.conv2d(x, plain(w, order), b, attrs.stride, padding, attrs.dilation, groups)
        return torch_activation(y.permute(0, 2, 3, 1), attrs.activation)

    return conv


def rows(view: View, lo: int, hi: int) -> tuple[Range, ...] | None:
    """None for a hybrid, which looks for the largest input of the whole frame first."""
    return None if is_hybrid(view) else (window(view).rows(lo, hi),)


def emit(view: View) -> dict[str, Field]:
    w, bias, geometry = weights_of(view), view.input(2), window(view)
    fields = geometry.fields(view) | {"dilation_h": geometry.dilation[0], "dilation_w": geometry.dilation[1]}
    fields |= {"out_ch": view.y.shape[3]}
    if view.node.op == conv2d.name:
        groups = view.x.shape[3] // w.shape[3]
        fields |= {"group_in": w.shape[3], "group_out": view.y.shape[3] // groups}
    if is_hybrid(view):
        fields = frame_fields(view) | fields | hybrid_fields(view, is_asymmetric(view))
    elif view.x.dtype == "float32":
        fields |= float_clamp(view.attrs.activation)
    else:
        fields |= requantize_fields(view, output_multipliers(view, single=view.attrs.unsigned))
    return fields | {"weight": w.data, "bias": bias.data if bias is not None else None}


def as_conv(view: View) -> tuple[Node, tuple[Tensor, ...]] | None:
    """A depthwise layer of one input channel and several outputs: an ordinary convolution."""
    w = weights_of(view)
    if is_hybrid(view) or view.x.shape[3] != 1 or view.y.shape[3] == 1 or w.data is None:
        return None
    data = np.ascontiguousarray(w.data.transpose(3, 1, 2, 0))
    turned = w.replace(
        name=f"{view.node.name}_{w.name}",
        shape=data.shape,
        data=data,
        quant=w.quant and replace(w.quant, axis=None if w.quant.axis is None else 0),
    )
    attrs = Conv2dAttrs(**vars(view.attrs))
    inputs = (view.node.inputs[0], turned.name, *view.node.inputs[2:])
    return view.node.replace(op=conv2d.name, attrs=attrs, inputs=inputs), (turned,)


def frame_fields(view: View) -> dict[str, Field]:
    """What a kernel of whole frames knows besides the fields of a row."""
    batch, in_h, _, _ = view.x.shape
    return {"batch": batch, "in_h": in_h, "out_h": view.y.shape[1], "pad_top": view.attrs.padding[0]}


def frame_bytes(view: View, rows: int) -> int:
    """One frame as int8 codes."""
    return view.x.size // view.x.shape[0]


def patch_bytes(view: View, rows: int) -> int:
    return window(view).taps * weights_of(view).shape[3] if needs_patch(view) else 0


def pack_patch(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    return pack_bias(view, fields) | {"patch": Scratch() if needs_patch(view) else None}


def macs(view: View) -> int:
    per_output = window(view).taps * (weights_of(view).shape[3] if view.node.op == conv2d.name else 1)
    return view.y.size * per_output


def conv_case(name: str, x: tuple[int, ...], w: tuple[int, ...], *, bias: bool = True, **attrs: Any) -> Case:
    constants = {1: w, 2: (w[0],)} if bias else {1: w}
    return Case(name, Conv2dAttrs(**attrs), (x,), constants, dtypes=HYBRID_DTYPES)


def depthwise_case(name: str, x: tuple[int, ...], w: tuple[int, ...], *, bias: bool = True, **attrs: Any) -> Case:
    constants = {1: w, 2: (w[3],)} if bias else {1: w}
    return Case(name, DepthwiseConv2dAttrs(**attrs), (x,), constants, dtypes=HYBRID_DTYPES)


conv2d = OpDef(
    name="conv2d",
    attrs=Conv2dAttrs,
    infer=infer_conv,
    eval_float=float_meaning(convolve),
    eval_int=int_meaning(convolve),
    to_torch=to_torch,
    arity=1,
    rows=rows,
    emit=emit,
    macs=macs,
    work=conv_work,
    weights={1: 0},
    bias=2,
    channels=channels_conv,
    cut=cut_conv,
    interval=interval_meaning(convolve),
    pad=pad,
    kernels=(
        CONV_MVE,
        *CONV_X4,
        *mat_kernels(
            "mk_conv2d_s8_dsp",
            "mk_mat2_exact.h",
            takes=takes_conv,
            takes_fitted=takes_conv_fitted,
            pack=pack_conv,
            whole_rows=conv_rows,
            scratch=conv_scratch,
        ),
        *mat_kernels(
            "mk_conv2d_s8_groups_dsp",
            "mk_mat2_exact.h",
            takes=takes_groups,
            takes_fitted=takes_groups_fitted,
            pack=pack_groups,
            whole_rows=conv_rows,
            scratch=group_scratch,
        ),
        *conv_dsp_kernels(),
        *conv_kernels(patch_bytes),
        *grouped_kernels(),
        Kernel(name="mk_conv2d_s8", when=is_dtype("int8"), pack=pack_patch, scratch=patch_bytes, work=portable_work),
        Kernel(name="mk_conv2d_f32_w8", when=is_hybrid, scratch=frame_bytes),
        *float32_kernels("mk_conv2d_f32", pack_conv_f32),
    ),
    cases=(
        conv_case("3x3", (1, 6, 5, 3), (4, 3, 3, 3)),
        conv_case("3x3_same", (1, 5, 6, 4), (7, 3, 3, 4), padding=(1, 1, 1, 1)),
        conv_case("3x3_stride2_same_even", (1, 8, 8, 3), (8, 3, 3, 3), stride=(2, 2), padding=(0, 1, 0, 1)),
        conv_case("keywords", (1, 49, 10, 1), (8, 10, 4, 1), stride=(2, 2), padding=(4, 5, 1, 1), activation="relu"),
        conv_case("2x2_same", (1, 5, 5, 2), (3, 2, 2, 2), padding=(0, 1, 0, 1)),
        conv_case("5x3_stride_3x1", (1, 11, 6, 2), (5, 5, 3, 2), stride=(3, 1)),
        conv_case("stride_over_kernel", (1, 9, 9, 2), (3, 1, 2, 2), stride=(4, 3)),
        conv_case("dilated", (1, 9, 8, 3), (4, 3, 3, 3), dilation=(2, 2)),
        conv_case(
            "dilated_one_channel", (1, 7, 1, 1), (6, 4, 5, 1), stride=(1, 4), dilation=(3, 1), padding=(4, 5, 2, 2)
        ),
        conv_case("dilated_same", (1, 7, 9, 2), (3, 3, 3, 2), dilation=(3, 2), padding=(3, 3, 2, 2)),
        conv_case("pointwise", (1, 4, 5, 8), (6, 1, 1, 8)),
        conv_case("pointwise_stride2", (1, 5, 6, 8), (12, 1, 1, 8), stride=(2, 2)),
        conv_case("pointwise_relu6", (1, 3, 3, 16), (5, 1, 1, 16), activation="relu6"),
        conv_case("grouped", (1, 5, 5, 6), (9, 3, 3, 2), padding=(1, 1, 1, 1)),
        conv_case("grouped_one_channel", (1, 4, 4, 3), (6, 3, 3, 1)),
        conv_case("grouped_pointwise", (1, 3, 4, 8), (8, 1, 1, 4)),
        conv_case("1d_time", (1, 16, 1, 4), (6, 5, 1, 4), padding=(2, 2, 0, 0)),
        conv_case("1d_width", (1, 1, 16, 4), (6, 1, 5, 4), stride=(1, 2), padding=(0, 0, 1, 2)),
        conv_case("kernel_over_input", (1, 2, 3, 2), (3, 5, 7, 2), padding=(2, 2, 3, 3)),
        conv_case("whole_frame", (1, 4, 3, 5), (6, 4, 3, 5)),
        conv_case("padding_only_windows", (1, 2, 2, 2), (3, 1, 2, 2), padding=(3, 2, 4, 3)),
        conv_case("batch2_no_bias", (2, 5, 4, 3), (4, 3, 2, 3), bias=False, padding=(1, 1, 0, 1)),
        conv_case("no_bias_relu", (1, 4, 4, 2), (4, 3, 3, 2), bias=False, activation="relu"),
        conv_case("relu_n1_to_1", (1, 4, 4, 3), (4, 3, 3, 3), activation="relu_n1_to_1"),
        conv_case("one", (1, 1, 1, 1), (1, 1, 1, 1)),
        conv_case("12_channels_relu6", (1, 6, 7, 3), (12, 3, 3, 3), padding=(1, 1, 1, 1), activation="relu6"),
        conv_case("groups_of_10", (1, 6, 9, 6), (20, 2, 3, 3), dilation=(1, 2), activation="relu_n1_to_1", bias=False),
    ),
)

depthwise_conv2d = OpDef(
    name="depthwise_conv2d",
    attrs=DepthwiseConv2dAttrs,
    infer=infer_depthwise,
    eval_float=float_meaning(convolve_depthwise),
    eval_int=int_meaning(convolve_depthwise),
    to_torch=to_torch,
    arity=1,
    rows=rows,
    emit=emit,
    macs=macs,
    work=depthwise_work,
    weights={1: 3},
    bias=2,
    channels=channels_depthwise,
    cut=cut_depthwise,
    interval=interval_meaning(convolve_depthwise),
    pad=pad,
    recast=as_conv,
    kernels=(
        *DEPTHWISE_MVE,
        *DEPTHWISE_X4,
        *(
            Kernel(
                name="mk_depthwise_conv2d_s8_dsp",
                isa="dsp",
                uses=("mk_dsp.h", *exact),
                when=takes_depthwise if exact else takes_depthwise_fitted,
                pack=pack_depthwise,
                whole_rows=depthwise_rows,
                scratch=depthwise_scratch,
            )
            for exact in ((), ("mk_dw3_exact.h",))
        ),
        DEPTHWISE_PIXEL,
        *DEPTHWISE_TAPS,
        *depthwise_dsp_kernels(),
        *grouped_kernels(),
        Kernel(name="mk_depthwise_conv2d_s8", when=is_dtype("int8"), pack=pack_bias, work=portable_work),
        Kernel(name="mk_depthwise_conv2d_f32_w8", when=is_hybrid, scratch=frame_bytes),
        *float32_kernels("mk_depthwise_conv2d_f32", pack_depthwise_f32),
    ),
    cases=(
        depthwise_case("3x3", (1, 6, 5, 4), (1, 3, 3, 4)),
        depthwise_case("3x3_same", (1, 5, 5, 9), (1, 3, 3, 9), padding=(1, 1, 1, 1)),
        depthwise_case("3x3_stride2_same_even", (1, 8, 6, 8), (1, 3, 3, 8), stride=(2, 2), padding=(0, 1, 0, 1)),
        depthwise_case("relu6", (1, 5, 4, 6), (1, 3, 3, 6), padding=(1, 1, 1, 1), activation="relu6"),
        depthwise_case("multiplier2", (1, 5, 5, 3), (1, 3, 3, 6), padding=(1, 1, 1, 1)),
        depthwise_case("multiplier3_stride2", (1, 7, 7, 2), (1, 3, 3, 6), stride=(2, 2)),
        depthwise_case("speech", (1, 49, 40, 1), (1, 10, 8, 8), stride=(2, 2), padding=(4, 5, 3, 3), activation="relu"),
        depthwise_case("dilated", (1, 9, 9, 5), (1, 3, 3, 5), dilation=(2, 3), padding=(2, 2, 3, 3)),
        depthwise_case("pointwise", (1, 3, 3, 7), (1, 1, 1, 7)),
        depthwise_case("1d_time", (1, 12, 1, 8), (1, 5, 1, 8), padding=(4, 0, 0, 0)),
        depthwise_case("1d_width", (1, 1, 12, 3), (1, 1, 4, 3), padding=(0, 0, 1, 2)),
        depthwise_case("kernel_over_input", (1, 2, 2, 4), (1, 5, 5, 4), padding=(2, 2, 2, 2)),
        depthwise_case("whole_frame", (1, 5, 4, 6), (1, 5, 4, 6)),
        depthwise_case("batch2_no_bias", (2, 4, 5, 5), (1, 2, 3, 5), bias=False, padding=(0, 1, 1, 1)),
        depthwise_case("relu", (1, 4, 4, 4), (1, 3, 3, 4), activation="relu"),
        depthwise_case("relu_n1_to_1", (1, 4, 4, 3), (1, 3, 3, 3), activation="relu_n1_to_1"),
        depthwise_case("one", (1, 1, 1, 1), (1, 1, 1, 1)),
        depthwise_case("17_channels_relu6", (1, 5, 6, 17), (1, 3, 3, 17), padding=(1, 1, 1, 1), activation="relu6"),
        depthwise_case("5x5_same", (1, 9, 7, 8), (1, 5, 5, 8), padding=(2, 2, 2, 2)),
        depthwise_case(
            "5x5_stride2", (1, 9, 8, 6), (1, 5, 5, 6), stride=(2, 2), padding=(1, 2, 1, 2), activation="relu"
        ),
        depthwise_case("4x6_dilated", (1, 11, 17, 5), (1, 4, 6, 5), dilation=(2, 3), padding=(2, 1, 4, 5)),
        depthwise_case("1x19", (1, 2, 24, 4), (1, 1, 19, 4), padding=(0, 0, 9, 9), activation="relu6"),
        depthwise_case("8_channels_no_bias", (1, 7, 6, 8), (1, 3, 2, 8), dilation=(2, 2), bias=False),
    ),
)

register(conv2d, depthwise_conv2d)
