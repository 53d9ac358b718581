"""reshape, concat, pad: ops that move elements and compute nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minikin.errors import UnsupportedError
from minikin.graph import View
from minikin.ops.channels import Bounds, Channels, Kept, channel_count, free, monotone, one_to_one
from minikin.ops.opdef import Case, Field, Kernel, OpDef, Range, Surround, any_batch, is_dtype, register, require, table

MAX_CONCAT_INPUTS = 4


@dataclass(frozen=True)
class ReshapeAttrs:
    """At most one dimension is -1: what is left over."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class ConcatAttrs:
    """`axis` is non-negative."""

    axis: int


@dataclass(frozen=True)
class PadAttrs:
    """(before, after) of each axis. `value` is real: int8 tensors are filled with its code in the output's scale."""

    paddings: tuple[tuple[int, int], ...]
    value: float = 0.0


# reshape


def infer_reshape(view: View) -> tuple[tuple[int, ...], ...]:
    x, shape = view.x, view.attrs.shape
    known = math.prod(d for d in shape if d != -1)
    unknown = shape.count(-1)
    require(all(d >= -1 for d in shape) and unknown <= 1, view, f"shape {shape} has more than one unknown dimension")
    if unknown:
        require(known > 0 and x.size % known == 0, view, f"input {x.shape} of {x.size} elements does not fill {shape}")
        return (tuple(x.size // known if d == -1 else d for d in shape),)
    require(known == x.size, view, f"input {x.shape} of {x.size} elements does not fill {shape} of {known}")
    return (shape,)


def eval_reshape(view: View, x: np.ndarray) -> tuple[np.ndarray, ...]:
    return (x.reshape(view.y.shape),)


def channels_of_reshape(view: View) -> Channels | None:
    """Flattened, every channel is there over and over: feature f of [pixels * channels] is channel f % channels."""
    before, after = channel_count(view.x.shape), channel_count(view.y.shape)
    if max(before, after) % min(before, after) != 0:
        return None
    labels = min(before, after)
    return Channels((np.arange(before) % labels,), np.arange(after) % labels)


def cut_reshape(view: View, kept: Kept) -> tuple[ReshapeAttrs, dict[int, np.ndarray]]:
    return ReshapeAttrs((*view.y.shape[:-1], len(kept.output))), {}


def keeps_shape(view: View, bounds: Sequence[Bounds | None]) -> int | None:
    """For reshape, and for pad and concat, which only add elements."""
    return 0 if view.x.shape == view.y.shape else None


# concat


def infer_concat(view: View) -> tuple[tuple[int, ...], ...]:
    axis, x = view.attrs.axis, view.x
    require(0 <= axis < len(x.shape), view, f"axis {axis} is outside input {x.shape}")
    for tensor in view.inputs[1:]:
        assert tensor is not None
        require(tensor.dtype == x.dtype, view, f"inputs are {x.dtype} and {tensor.dtype}, want one dtype")
        require(
            len(tensor.shape) == len(x.shape) and _without(tensor.shape, axis) == _without(x.shape, axis),
            view,
            f"inputs {x.shape} and {tensor.shape} differ elsewhere than on axis {axis}",
        )
    return ((*x.shape[:axis], sum(t.shape[axis] for t in view.inputs if t is not None), *x.shape[axis + 1 :]),)


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def eval_concat(view: View, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    _require_one_quant(view)
    return (np.concatenate(inputs, axis=view.attrs.axis),)


def channels_of_concat(view: View) -> Channels:
    last = len(view.y.shape) - 1
    if view.attrs.axis != last:
        return one_to_one(view)
    labels = np.arange(view.y.shape[last])
    starts = np.cumsum([t.shape[last] for t in view.inputs if t is not None])[:-1]
    return Channels(tuple(np.split(labels, starts)), labels, optional=True)


def _require_one_quant(view: View) -> None:
    """TFLite's int8 CONCATENATION copies codes, which only means something in one quantization."""
    for tensor in view.inputs:
        assert tensor is not None
        require(
            tensor.quant == view.y.quant,
            view,
            f"input {tensor.name} has {tensor.quant}, the output {view.y.quant}: put a quantize between them",
        )


def concat_rows(view: View, lo: int, hi: int) -> tuple[Range, ...] | None:
    """Along the rows, input k begins where the ones before it end: a row outside its frame is null and adds nothing."""
    if not _has_rows(view):
        return ((lo, hi),) * len(view.inputs)
    if view.attrs.axis == 0:
        return None
    ranges, start = [], 0
    for tensor in view.inputs:
        assert tensor is not None
        ranges.append((lo - start, hi - start))
        start += tensor.shape[1] if view.attrs.axis == 1 else 0
    return tuple(ranges)


def _has_rows(view: View) -> bool:
    return len(view.y.shape) in (3, 4)


def emit_concat(view: View) -> dict[str, Field]:
    """`outer` times, `size<k>` elements of each input in turn, of one row or of the whole tensor."""
    _require_one_quant(view)
    axis = view.attrs.axis
    start = 2 if _has_rows(view) and axis > 0 else 0  # a row kernel sees the axes after batch and row
    outer = math.prod(view.y.shape[start:axis])
    sizes = {f"size{k}": math.prod(t.shape[max(start, axis) :]) for k, t in enumerate(view.inputs) if t is not None}
    return {"outer": outer, **sizes}


def _concat_kernels() -> tuple[Kernel, ...]:
    kernels = []
    for dtype, suffix in (("int8", "s8"), ("float32", "f32")):
        for count in range(2, MAX_CONCAT_INPUTS + 1):
            kernels.append(Kernel(name=f"mk_concat{count}_{suffix}", when=_joins(dtype, count, frame=False)))
        kernels.append(Kernel(name=f"mk_concat2_frame_{suffix}", when=_joins(dtype, 2, frame=True)))
    *others, last = kernels
    return (*others, replace(last, when=lambda view: last.when(view) or _refuse_concat(view)))


def _joins(dtype: str, count: int, frame: bool) -> Callable[[View], bool]:
    right_dtype = is_dtype(dtype)
    return lambda view: right_dtype(view) and len(view.inputs) == count and (_by_frame(view) == frame)


def _by_frame(view: View) -> bool:
    return concat_rows(view, 0, 1) is None


def _refuse_concat(view: View) -> bool:
    if is_dtype("int8", "float32")(view):
        most = 2 if _by_frame(view) else MAX_CONCAT_INPUTS
        raise UnsupportedError(
            f"{view.node.name} (concat) joins {len(view.inputs)} tensors on axis {view.attrs.axis}, and a kernel takes "
            f"at most {most} there: split it into several concats"
        )
    return False


# pad


def infer_pad(view: View) -> tuple[tuple[int, ...], ...]:
    x, paddings = view.x, view.attrs.paddings
    require(len(paddings) == len(x.shape), view, f"{len(paddings)} paddings for input {x.shape}, want one per axis")
    require(
        all(p >= 0 for pair in paddings for p in pair), view, f"paddings {paddings} of input {x.shape} are negative"
    )
    return (tuple(d + before + after for d, (before, after) in zip(x.shape, paddings, strict=True)),)


def pad_code(view: View) -> int | float:
    """The fill: `value`, or its int8 code."""
    if view.y.dtype != "int8":
        return float(view.attrs.value)
    quant = view.y.quant
    assert quant is not None
    return int(np.clip(np.rint(view.attrs.value / quant.scale) + quant.zero_point, -128, 127))


def eval_pad(view: View, x: np.ndarray) -> tuple[np.ndarray, ...]:
    return (np.pad(x, view.attrs.paddings, constant_values=np.dtype(x.dtype).type(pad_code(view))),)


def channels_of_pad(view: View) -> Channels:
    count, (before, after) = channel_count(view.x.shape), view.attrs.paddings[-1] if view.attrs.paddings else (0, 0)
    labels = np.arange(count)
    return Channels((labels,), np.concatenate([free(before), labels, free(after)]))


def cut_pad(view: View, kept: Kept) -> tuple[PadAttrs, dict[int, np.ndarray]]:
    if not view.attrs.paddings:
        return view.attrs, {}
    *others, (before, _) = view.attrs.paddings
    end = before + channel_count(view.x.shape)
    last = int((kept.output < before).sum()), int((kept.output >= end).sum())
    return replace(view.attrs, paddings=(*others, last)), {}


def surrounds(view: View) -> Surround:
    return view.attrs.paddings, pad_code(view)


def pad_rows(view: View, lo: int, hi: int) -> tuple[Range, ...] | None:
    """Rows of images and sequences; a batch is never padded row by row."""
    if len(view.x.shape) not in (3, 4) or view.attrs.paddings[0] != (0, 0):
        return None
    top = view.attrs.paddings[1][0]
    return ((lo - top, hi - top),)


def emit_pad(view: View) -> dict[str, Field]:
    """A row of `width` vectors of `depth`, with what comes before and after; or the whole tensor, axis by axis."""
    shape, paddings = view.x.shape, view.attrs.paddings
    if pad_rows(view, 0, 1) is None:
        return {
            "axes": len(shape),
            "size": view.y.size,
            "in_dims": table(np.array(shape, np.int32)),
            "out_dims": table(np.array(view.y.shape, np.int32)),
            "before": table(np.array([p[0] for p in paddings], np.int32)),
            "fill": pad_code(view),
        }
    width, (left, right) = (shape[2], paddings[2]) if len(shape) == 4 else (1, (0, 0))
    before, after = paddings[-1]
    out_depth = view.y.shape[-1]
    return {
        "width": width,
        "depth": shape[-1],
        "row_elems": view.y.frame.row_elems,
        "left": left * out_depth,
        "before": before,
        "after": after,
        "right": right * out_depth,
        "fill": pad_code(view),
    }


def _pad_kernels() -> tuple[Kernel, ...]:
    kernels = []
    for dtype, suffix in (("int8", "s8"), ("float32", "f32")):
        right_dtype = is_dtype(dtype)
        kernels += [
            Kernel(
                name=f"mk_pad_{suffix}",
                when=lambda v, right=right_dtype: right(v) and pad_rows(v, 0, 1) is not None,
            ),
            Kernel(name=f"mk_pad_frame_{suffix}", when=right_dtype),
        ]
    return tuple(kernels)


def _concat_to_torch(view: View) -> Any:
    import torch

    return lambda *inputs: torch.cat(inputs, dim=view.attrs.axis)


def _pad_to_torch(view: View) -> Any:
    import torch

    flat = [p for pair in reversed(view.attrs.paddings) for p in pair]  # torch counts from the last axis
    return lambda x: torch.nn.functional.pad(x, flat, value=view.attrs.value)


def _concat_case(name: str, axis: int, *shapes: tuple[int, ...]) -> Case:
    return Case(name, ConcatAttrs(axis), shapes)


def _pad_case(name: str, shape: tuple[int, ...], *paddings: tuple[int, int], value: float = 0.0) -> Case:
    return Case(name, PadAttrs(paddings, value), (shape,))


register(
    OpDef(
        name="reshape",
        attrs=ReshapeAttrs,
        infer=infer_reshape,
        eval_float=eval_reshape,
        eval_int=eval_reshape,
        to_torch=lambda view: lambda x: x.reshape(any_batch(view.y.shape)),
        batched=lambda view, batches: ReshapeAttrs((batches * view.y.shape[0], *view.y.shape[1:])),
        arity=1,
        alias=True,
        channels=channels_of_reshape,
        cut=cut_reshape,
        interval=monotone(eval_reshape),
        identity=keeps_shape,
        out_quant=lambda view: "same",
        cases=(
            Case("flatten", ReshapeAttrs((1, 24)), ((1, 2, 3, 4),)),
            Case("unknown", ReshapeAttrs((2, -1)), ((2, 3, 5),)),
            Case("grow", ReshapeAttrs((1, 4, 1, 6)), ((1, 24),)),
        ),
    ),
    OpDef(
        name="concat",
        attrs=ConcatAttrs,
        infer=infer_concat,
        eval_float=eval_concat,
        eval_int=eval_concat,
        to_torch=_concat_to_torch,
        rows=concat_rows,
        emit=emit_concat,
        out_quant=lambda view: "same",
        kernels=_concat_kernels(),
        channels=channels_of_concat,
        interval=monotone(eval_concat),
        identity=keeps_shape,
        cases=(
            _concat_case("channels", 3, (1, 3, 4, 2), (1, 3, 4, 5)),
            _concat_case("width", 2, (1, 3, 1, 5), (1, 3, 4, 5)),
            _concat_case("rows", 1, (1, 3, 2, 5), (1, 4, 2, 5)),
            _concat_case("batch", 0, (1, 3, 2, 5), (2, 3, 2, 5)),
            _concat_case("three", 3, (1, 2, 3, 1), (1, 2, 3, 2), (1, 2, 3, 4)),
            _concat_case("three_rows", 1, (2, 2, 3), (2, 1, 3), (2, 4, 3)),
            _concat_case("four", 1, (1, 4), (1, 2), (1, 1), (1, 3)),
            _concat_case("four_rows", 1, (1, 6, 2), (1, 4, 2), (1, 1, 2), (1, 3, 2)),
            _concat_case("2d", 0, (2, 5), (3, 5)),
            _concat_case("1d", 0, (3,), (4,)),
            _concat_case("3d", 2, (2, 3, 4), (2, 3, 1)),
        ),
    ),
    OpDef(
        name="pad",
        attrs=PadAttrs,
        infer=infer_pad,
        eval_float=eval_pad,
        eval_int=eval_pad,
        to_torch=_pad_to_torch,
        arity=1,
        rows=pad_rows,
        emit=emit_pad,
        out_quant=lambda view: "same",
        kernels=_pad_kernels(),
        channels=channels_of_pad,
        cut=cut_pad,
        interval=monotone(eval_pad),
        identity=keeps_shape,
        surrounds=surrounds,
        cases=(
            _pad_case("image", (1, 3, 4, 2), (0, 0), (1, 2), (2, 1), (0, 0)),
            _pad_case("channels", (1, 3, 4, 2), (0, 0), (0, 0), (0, 0), (1, 3)),
            _pad_case("all", (1, 2, 3, 2), (0, 0), (1, 1), (1, 0), (2, 1)),
            _pad_case("value", (1, 3, 3, 2), (0, 0), (1, 1), (1, 1), (0, 0), value=0.5),
            _pad_case("sequence", (1, 5, 3), (0, 0), (2, 0), (0, 0)),
            _pad_case("sequence_channels", (2, 5, 3), (0, 0), (1, 1), (1, 2)),
            _pad_case("batch", (1, 2, 2, 2), (1, 0), (0, 1), (0, 0), (0, 0)),
            _pad_case("2d", (2, 4), (0, 1), (2, 1)),
            _pad_case("1d", (5,), (1, 2)),
            _pad_case("nothing", (1, 2, 2, 3), (0, 0), (0, 0), (0, 0), (0, 0)),
        ),
    ),
)
