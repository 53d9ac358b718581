"""avg_pool2d, max_pool2d and mean: TFLite's AVERAGE_POOL_2D, MAX_POOL_2D, MEAN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minikin.fixedpoint import quantize_multiplier, requantize, wrap_int32
from minikin.graph import Quant, View
from minikin.ops.channels import Bounds, Channels, channel_count, monotone, one_to_one
from minikin.ops.opdef import (
    Case,
    Field,
    Kernel,
    OpDef,
    Range,
    Scratch,
    Surround,
    activation_range,
    any_batch,
    clamp_float,
    is_dtype,
    register,
    require,
)
from minikin.ops.requant import float_clamp, never_wraps, quant_of
from minikin.ops.window import Window, more_padding
from minikin.ops.work import pool_work


@dataclass(frozen=True)
class PoolAttrs:
    """(height, width) pairs; padding is (top, bottom, left, right), each less than the kernel: no window is empty.

    `unsigned`: the int8 codes were a uint8 model's. TFLite rounds halves of an average away from code zero, wherever
    that lies, so that there they all go up.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    activation: str = "none"
    unsigned: bool = False


@dataclass(frozen=True)
class MeanAttrs:
    """`axes` are sorted and not negative; `keep_dims` leaves them in the shape as ones."""

    axes: tuple[int, ...]
    keep_dims: bool = False


def infer_pool(view: View) -> tuple[tuple[int, ...], ...]:
    rows, cols = window(view).output_size(view)
    (kernel_h, kernel_w), padding = view.attrs.kernel, view.attrs.padding
    fits = max(padding[:2]) < kernel_h and max(padding[2:]) < kernel_w
    require(fits, view, f"padding {padding} leaves windows of {view.attrs.kernel} without input: pad less")
    return ((view.x.shape[0], rows, cols, view.x.shape[3]),)


def window(view: View) -> Window:
    return Window(view.attrs.kernel, view.attrs.stride, padding=view.attrs.padding)


def window_sums(view: View, x: np.ndarray, dtype: type) -> np.ndarray:
    y = np.zeros(view.y.shape, dtype)
    for rows, padded in window(view).chunks(x, y.shape[1], y.size // y.shape[1], 0):
        for _, _, part in window(view).views(padded):
            y[:, rows] += part
    return y


def window_counts(view: View) -> np.ndarray:
    _, in_h, in_w, _ = view.x.shape
    _, out_h, out_w, _ = view.y.shape
    return window(view).counts((in_h, in_w), (out_h, out_w))


def window_maxima(view: View, x: np.ndarray, lowest: float) -> np.ndarray:
    y = np.full(view.y.shape, lowest, x.dtype)
    for rows, padded in window(view).chunks(x, y.shape[1], y.size // y.shape[1], lowest):
        for _, _, part in window(view).views(padded):
            np.maximum(y[:, rows], part, out=y[:, rows])
    return y


def avg_float(view: View, x: np.ndarray) -> tuple[np.ndarray, ...]:
    y = window_sums(view, x, np.float32) / window_counts(view).astype(np.float32)
    return (clamp_float(y, view.attrs.activation),)


def avg_int(view: View, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sums of the codes, divided with halves away from code zero: no scale enters."""
    counts, offset = window_counts(view), code_offset(view)
    sums = window_sums(view, x, np.int32) + offset * counts
    y = np.sign(sums) * ((np.abs(sums) + counts // 2) // counts) - offset
    return (np.clip(y, *activation_range(view, view.attrs.activation)).astype(np.int8),)


def code_offset(view: View) -> int:
    """What is added to an int8 code for it to be as the model had it."""
    return 128 if view.attrs.unsigned else 0


def max_float(view: View, x: np.ndarray) -> tuple[np.ndarray, ...]:
    return (clamp_float(window_maxima(view, x, float(np.finfo(np.float32).min)), view.attrs.activation),)


def max_int(view: View, x: np.ndarray) -> tuple[np.ndarray, ...]:
    y = window_maxima(view, x, -128)
    return (np.clip(y, *activation_range(view, view.attrs.activation)).astype(np.int8),)


def pool_to_torch(view: View) -> Any:
    import torch

    from minikin.ops.torch_activation import torch_activation

    attrs, (top, bottom, left, right) = view.attrs, view.attrs.padding
    average = view.node.op == avg_pool2d.name
    counts = torch.from_numpy(window_counts(view).astype(np.float32))

    def pool(x: Any) -> Any:
        fill = 0.0 if average else -math.inf
        padded = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom), value=fill)
        if average:
            y = torch.nn.functional.avg_pool2d(padded, attrs.kernel, attrs.stride, divisor_override=1)
            return torch_activation(y.permute(0, 2, 3, 1) / counts.to(y.device), attrs.activation)
        y = torch.nn.functional.max_pool2d(padded, attrs.kernel, attrs.stride)
        return torch_activation(y.permute(0, 2, 3, 1), attrs.activation)

    return pool


def identity(view: View, bounds: Sequence[Bounds | None]) -> int | None:
    """Windows of one element, and a clamp that none of them reaches."""
    attrs = view.attrs
    if attrs.kernel != (1, 1) or attrs.stride != (1, 1) or any(attrs.padding):
        return None
    return 0 if attrs.activation == "none" or _is_within(view, bounds[0]) else None


def _is_within(view: View, bounds: Bounds | None) -> bool:
    if bounds is None:
        return False
    lo, hi = activation_range(view, view.attrs.activation)
    return bool(bounds[0].min() >= lo and bounds[1].max() <= hi)


def pad_max(view: View, surround: Surround, bounds: Bounds | None) -> PoolAttrs | None:
    """Padding is left out of a maximum: the same where nothing in the frame is below the fill."""
    paddings, fill = surround
    wider = more_padding(view.attrs.padding, paddings)
    never_wins = wider is not None and bounds is not None and fill <= bounds[0].min()
    return replace(view.attrs, padding=wider) if never_wins else None


def rows(view: View, lo: int, hi: int) -> tuple[Range, ...]:
    return (window(view).rows(lo, hi),)


def is_global(view: View) -> bool:
    """Whether the one output pixel is over the whole of a frame, so that rows can be summed as they come."""
    return view.x.frame.batch == 1 and view.y.shape[1:3] == (1, 1) and int(window_counts(view).item()) == pixels(view)


def pixels(view: View) -> int:
    return math.prod(view.x.shape[1:3])


def sums_scratch(view: View, rows: int) -> int:
    """One four-byte sum for each channel."""
    return 4 * view.x.shape[-1]


def sums_fit_halfwords(view: View) -> bool:
    """Those of one row, of channels that come in fours."""
    return view.x.shape[3] % 4 == 0 and view.x.shape[2] <= 255


def pack_global(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    """The window is the frame: its size alone is left of the geometry."""
    geometry = window(view).fields(view)
    size: dict[str, Field] = {"in_h": view.x.shape[1], "in_w": view.x.shape[2], "in_ch": view.x.shape[3]}
    ctype = "float" if view.x.dtype == "float32" else "int32_t"
    return size | {k: v for k, v in fields.items() if k not in geometry} | {"sums": Scratch(ctype)}


def emit_pool(view: View) -> dict[str, Field]:
    fields = window(view).fields(view)
    if view.x.dtype == "float32":
        return fields | float_clamp(view.attrs.activation)
    lo, hi = activation_range(view, view.attrs.activation)
    fields |= {"act_min": lo, "act_max": hi}
    return fields | {"code_offset": code_offset(view)} if view.node.op == avg_pool2d.name else fields


def infer_mean(view: View) -> tuple[tuple[int, ...], ...]:
    shape, axes = view.x.shape, view.attrs.axes
    sound = list(axes) == sorted(set(axes)) and all(0 <= axis < len(shape) for axis in axes)
    require(sound, view, f"axes {axes} are not sorted axes of input {shape}")
    require(view.x.size > 0, view, f"input {shape} is empty")
    kept, reduced = mean_loops(shape, axes)
    require(
        len(kept) <= KEPT_LOOPS and len(reduced) <= REDUCED_LOOPS,
        view,
        f"the mean over axes {axes} of {shape} takes more than {KEPT_LOOPS} + {REDUCED_LOOPS} loops: transpose it",
    )
    if view.attrs.keep_dims:
        return (tuple(1 if axis in axes else n for axis, n in enumerate(shape)),)
    return (tuple(n for axis, n in enumerate(shape) if axis not in axes),)


KEPT_LOOPS, REDUCED_LOOPS = 3, 2
"""Nested loops of the mean kernels over kept and over reduced axes: enough for any axes of four dimensions."""


def mean_loops(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(size, stride in elements) of the loops over kept and reduced axes, neighbours of a kind merged, 1s left out."""
    loops: list[tuple[bool, int, int]] = []
    stride = 1
    for axis in reversed(range(len(shape))):
        size, reduces = shape[axis], axis in axes
        if size > 1 and loops and loops[0][0] == reduces:
            loops[0] = (reduces, loops[0][1] * size, loops[0][2])
        elif size > 1:
            loops.insert(0, (reduces, size, stride))
        stride *= size
    kept = [(size, stride) for reduces, size, stride in loops if not reduces]
    return kept, [(size, stride) for reduces, size, stride in loops if reduces]


def mean_count(view: View) -> int:
    return math.prod(view.x.shape[axis] for axis in view.attrs.axes)


def mean_float(view: View, x: np.ndarray) -> tuple[np.ndarray, ...]:
    y = x.sum(axis=view.attrs.axes, dtype=np.float32) / np.float32(mean_count(view))
    return (np.asarray(y, np.float32).reshape(view.y.shape),)


def mean_int(view: View, x: np.ndarray) -> tuple[np.ndarray, ...]:
    mult, shift = mean_multiplier(view)
    sums = x.sum(axis=view.attrs.axes, dtype=np.int64) - quant_of(view.x).zero_point * mean_count(view)
    scaled = requantize(wrap_int32(sums), mult, shift)
    y = np.clip(wrap_int32(scaled + quant_of(view.y).zero_point), -128, 127)
    return (y.astype(np.int8).reshape(view.y.shape),)


def channels_of_mean(view: View) -> Channels | None:
    last = len(view.x.shape) - 1
    kept = last not in view.attrs.axes and channel_count(view.x.shape) == channel_count(view.y.shape)
    return one_to_one(view) if kept else None


def mean_interval(view: View, x: Bounds) -> Bounds:
    most = 256 * mean_count(view)
    if never_wraps((np.asarray(-most), np.asarray(most)), mean_multiplier(view)[1]):
        return monotone(mean_int)(view, x)
    return np.full(view.y.shape, -128, np.int8), np.full(view.y.shape, 127, np.int8)


def mean_multiplier(view: View) -> tuple[int, int]:
    """(mult, shift) of scale(x) / scale(y) / count, truncated as TFLite's QuantizedMeanOrSum does it."""
    count = mean_count(view)
    mult, shift = quantize_multiplier(float(quant_of(view.x).scale) / float(quant_of(view.y).scale))
    extra = min(count.bit_length() - 1, 32, 31 + shift)
    return (mult << extra) // count, shift - extra


def is_mean_of_frame(view: View) -> bool:
    """Whether the mean is over the rows and columns of one frame, so that rows can be summed as they come."""
    return len(view.x.shape) == 4 and view.x.frame.batch == 1 and view.attrs.axes == (1, 2)


def pack_mean_of_frame(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    size: dict[str, Field] = {"in_h": view.x.shape[1], "in_w": view.x.shape[2], "in_ch": view.x.shape[3]}
    ctype = "float" if view.x.dtype == "float32" else "int32_t"
    loops = ("kept", "reduced")
    return size | {k: v for k, v in fields.items() if not k.startswith(loops)} | {"sums": Scratch(ctype)}


def mean_to_torch(view: View) -> Any:
    axes, shape = view.attrs.axes, any_batch(view.y.shape)
    return lambda x: (x.mean(dim=axes) if axes else x).reshape(shape)


def emit_mean(view: View) -> dict[str, Field]:
    kept, reduced = mean_loops(view.x.shape, view.attrs.axes)
    fields: dict[str, Field] = {}
    for name, loops, total in (("kept", kept, KEPT_LOOPS), ("reduced", reduced, REDUCED_LOOPS)):
        padded = [(1, 0)] * (total - len(loops)) + loops
        fields |= {f"{name}{i}": size for i, (size, _) in enumerate(padded)}
        fields |= {f"{name}{i}_stride": stride for i, (_, stride) in enumerate(padded)}
    if view.x.dtype == "float32":
        return fields
    mult, shift = mean_multiplier(view)
    offset = int(wrap_int32(np.asarray(-quant_of(view.x).zero_point * mean_count(view))))
    return fields | {"sum_offset": offset, "out_offset": quant_of(view.y).zero_point, "mult": mult, "shift": shift}


def same_quant(view: View) -> Quant | str:
    return "same"


def pool_cases() -> tuple[Case, ...]:
    def case(name: str, x: tuple[int, ...], *attrs: Any, **more: Any) -> Case:
        return Case(name, PoolAttrs(*attrs, **more), (x,), ranges=(-2.0, 7.0))

    return (
        case("2x2", (1, 4, 6, 3), (2, 2), (2, 2)),
        case("2x2_odd_valid", (1, 5, 7, 3), (2, 2), (2, 2)),
        case("2x2_same_odd", (1, 5, 7, 3), (2, 2), (2, 2), (0, 1, 0, 1)),
        case("3x3_same", (1, 5, 4, 5), (3, 3), (1, 1), (1, 1, 1, 1)),
        case("3x3_stride2_same_even", (1, 8, 6, 2), (3, 3), (2, 2), (0, 1, 0, 1)),
        case("whole_frame", (1, 25, 5, 8), (25, 5), (25, 5)),
        case("3x2_stride_1x3", (1, 6, 9, 4), (3, 2), (1, 3)),
        case("stride_over_kernel", (1, 9, 9, 2), (2, 2), (4, 3)),
        case("1d_time", (1, 12, 1, 4), (3, 1), (2, 1)),
        case("1d_width", (1, 1, 12, 4), (1, 4), (1, 2), (0, 0, 1, 1)),
        case("kernel_over_input", (1, 2, 3, 3), (4, 5), (1, 1), (1, 2, 2, 2)),
        case("batch2", (2, 4, 4, 3), (2, 2), (2, 2)),
        case("relu", (1, 4, 4, 3), (2, 2), (1, 1), activation="relu"),
        case("relu6", (1, 4, 4, 3), (1, 2), (1, 2), activation="relu6"),
        case("relu_n1_to_1", (1, 4, 4, 3), (2, 2), (2, 2), activation="relu_n1_to_1"),
        case("one", (1, 1, 1, 1), (1, 1), (1, 1)),
    )


def mean_cases() -> tuple[Case, ...]:
    def case(name: str, x: tuple[int, ...], *axes: int, keep_dims: bool = False) -> Case:
        return Case(name, MeanAttrs(axes, keep_dims), (x,), ranges=(-1.0, 3.0))

    return (
        case("frame", (1, 7, 5, 9), 1, 2),
        case("frame_keep", (1, 7, 5, 9), 1, 2, keep_dims=True),
        case("frame_batch2", (2, 3, 4, 5), 1, 2),
        case("height", (1, 6, 4, 5), 1),
        case("width_keep", (1, 6, 4, 5), 2, keep_dims=True),
        case("channels", (1, 4, 3, 7), 3),
        case("channels_keep", (1, 4, 3, 7), 3, keep_dims=True),
        case("height_and_channels", (2, 4, 3, 7), 1, 3),
        case("batch_and_width", (2, 4, 3, 7), 0, 2, keep_dims=True),
        case("sequence", (1, 12, 6), 1),
        case("vector_last", (3, 10), 1, keep_dims=True),
        case("all", (1, 3, 4, 2), 0, 1, 2, 3),
        case("one", (1, 1, 1, 4), 1, 2),
    )


avg_pool2d = OpDef(
    name="avg_pool2d",
    work=pool_work,
    attrs=PoolAttrs,
    infer=infer_pool,
    eval_float=avg_float,
    eval_int=avg_int,
    to_torch=pool_to_torch,
    rows=rows,
    emit=emit_pool,
    out_quant=same_quant,
    kernels=(
        Kernel(
            name="mk_avg_pool2d_global_s8_mve",
            isa="mve",
            uses=("mk_dsp.h", "mk_mve.h"),
            when=lambda view: is_dtype("int8")(view) and is_global(view),
            pack=pack_global,
            scratch=sums_scratch,
            folds=True,
        ),
        Kernel(
            name="mk_avg_pool2d_global_s8_dsp",
            isa="dsp",
            uses=("mk_dsp.h",),
            when=lambda view: is_dtype("int8")(view) and is_global(view) and sums_fit_halfwords(view),
            pack=pack_global,
            scratch=sums_scratch,
            folds=True,
        ),
        Kernel(
            name="mk_avg_pool2d_global_s8",
            when=lambda view: is_dtype("int8")(view) and is_global(view),
            pack=pack_global,
            scratch=sums_scratch,
            folds=True,
        ),
        Kernel(name="mk_avg_pool2d_s8", when=is_dtype("int8")),
        Kernel(
            name="mk_avg_pool2d_global_f32",
            when=lambda view: is_dtype("float32")(view) and is_global(view),
            pack=pack_global,
            scratch=sums_scratch,
            folds=True,
        ),
        Kernel(name="mk_avg_pool2d_f32", when=is_dtype("float32")),
    ),
    cases=pool_cases(),
    channels=one_to_one,
    interval=monotone(avg_int),
    identity=identity,
)

max_pool2d = OpDef(
    name="max_pool2d",
    work=pool_work,
    attrs=PoolAttrs,
    infer=infer_pool,
    eval_float=max_float,
    eval_int=max_int,
    to_torch=pool_to_torch,
    rows=rows,
    emit=emit_pool,
    out_quant=same_quant,
    kernels=(
        Kernel(name="mk_max_pool2d_s8_mve", isa="mve", uses=("mk_dsp.h", "mk_mve.h"), when=is_dtype("int8")),
        Kernel(name="mk_max_pool2d_s8", when=is_dtype("int8")),
        Kernel(name="mk_max_pool2d_f32", when=is_dtype("float32")),
    ),
    cases=pool_cases(),
    channels=one_to_one,
    interval=monotone(max_int),
    identity=identity,
    pad=pad_max,
)

mean = OpDef(
    name="mean",
    attrs=MeanAttrs,
    infer=infer_mean,
    eval_float=mean_float,
    eval_int=mean_int,
    to_torch=mean_to_torch,
    emit=emit_mean,
    kernels=(
        Kernel(
            name="mk_mean_global_s8_mve",
            isa="mve",
            uses=("mk_dsp.h", "mk_mve.h"),
            when=lambda view: is_dtype("int8")(view) and is_mean_of_frame(view),
            pack=pack_mean_of_frame,
            scratch=sums_scratch,
            folds=True,
        ),
        Kernel(
            name="mk_mean_global_s8",
            when=lambda view: is_dtype("int8")(view) and is_mean_of_frame(view),
            pack=pack_mean_of_frame,
            scratch=sums_scratch,
            folds=True,
        ),
        Kernel(name="mk_mean_s8", when=is_dtype("int8")),
        Kernel(
            name="mk_mean_global_f32",
            when=lambda view: is_dtype("float32")(view) and is_mean_of_frame(view),
            pack=pack_mean_of_frame,
            scratch=sums_scratch,
            folds=True,
        ),
        Kernel(name="mk_mean_f32", when=is_dtype("float32")),
    ),
    cases=mean_cases(),
    channels=channels_of_mean,
    interval=mean_interval,
)

register(avg_pool2d, max_pool2d, mean)
