"""add, sub, mul: y = act(a op b) with numpy's broadcasting; TFLite's ADD, SUB, MUL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minikin.fixedpoint import INT32_MAX, INT32_MIN, quantize_multiplier, requantize, wrap_int32
from minikin.graph import Quant, View
from minikin.ops.channels import Bounds, one_to_one
from minikin.ops.fitting import once_per_view
from minikin.ops.opdef import (
    Case,
    Field,
    Kernel,
    OpDef,
    Range,
    activation_range,
    clamp_float,
    is_dtype,
    register,
    require,
    table,
)
from minikin.ops.requant import float_clamp, never_wraps

LARGEST = 2.0**100  # stands for a multiplier that no float32 holds
LEFT_SHIFT = 20  # operands of int8 add and sub are widened by this before they are brought to one scale


@dataclass(frozen=True)
class BinaryAttrs:
    """`activation` is fused: the result is clamped to its range."""

    activation: str = "none"


def infer(view: View) -> tuple[tuple[int, ...], ...]:
    require(len(view.inputs) == 2 and None not in view.inputs, view, f"{len(view.inputs)} inputs, want two")
    a, b = view.inputs
    assert a is not None
    assert b is not None
    require(a.dtype == b.dtype, view, f"inputs are {a.dtype} and {b.dtype}, want one dtype")
    try:
        return (np.broadcast_shapes(a.shape, b.shape),)
    except ValueError:
        require(False, view, f"shapes {a.shape} and {b.shape} do not broadcast")
        raise


def same_shapes(view: View) -> bool:
    return all(t is not None and t.shape == view.y.shape for t in view.inputs)


def rows(view: View, lo: int, hi: int) -> tuple[Range, ...] | None:
    """Row by row where nothing is broadcast."""
    return ((lo, hi), (lo, hi)) if same_shapes(view) else None


def inplace(view: View) -> int | None:
    """Both kernels read elements i of a full-shaped input just before they write element i."""
    for index, tensor in enumerate(view.inputs):
        if tensor is not None and not tensor.is_constant and tensor.shape == view.y.shape:
            return index
    return None


def eval_add(view: View, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
    return _eval_sum(view, a, b, 1)


def eval_sub(view: View, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
    return _eval_sum(view, a, b, -1)


def _eval_sum(view: View, a: np.ndarray, b: np.ndarray, sign: int) -> tuple[np.ndarray, ...]:
    qa, qb, _ = _quants(view)
    (mult_a, shift_a), (mult_b, shift_b), (mult, shift) = sum_multipliers(view)
    wide_a = requantize((a.astype(np.int64) - qa.zero_point) << LEFT_SHIFT, mult_a, shift_a)
    wide_b = requantize((b.astype(np.int64) - qb.zero_point) << LEFT_SHIFT, mult_b, shift_b)
    return _clamped(view, requantize(wide_a + sign * wide_b, mult, shift))


def eval_mul(view: View, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
    qa, qb, _ = _quants(view)
    acc = (a.astype(np.int64) - qa.zero_point) * (b.astype(np.int64) - qb.zero_point)
    return _clamped(view, requantize(acc, *product_multiplier(view)))


def _clamped(view: View, acc: np.ndarray) -> tuple[np.ndarray, ...]:
    lo, hi = activation_range(view, view.attrs.activation)
    return (np.clip(wrap_int32(acc + _quants(view)[2].zero_point), lo, hi).astype(np.int8),)


def add_interval(view: View, a: Bounds, b: Bounds) -> Bounds:
    return _sum_interval(view, a, b, 1)


def sub_interval(view: View, a: Bounds, b: Bounds) -> Bounds:
    return _sum_interval(view, a, (b[1], b[0]), -1)


def _sum_interval(view: View, a: Bounds, b: Bounds, sign: int) -> Bounds:
    """Widened operands are under 2**27 each."""
    ends = _eval_sum(view, a[0], b[0], sign)[0], _eval_sum(view, a[1], b[1], sign)[0]
    return _in_order(view, ends, 1 << 28, sum_multipliers(view)[2][1])


def mul_interval(view: View, a: Bounds, b: Bounds) -> Bounds:
    """Of the four products of ends, which lie under 2**16."""
    corners = [eval_mul(view, x, y)[0] for x in a for y in b]
    ends = np.minimum.reduce(corners), np.maximum.reduce(corners)
    return _in_order(view, ends, 1 << 16, product_multiplier(view)[1])


def _in_order(view: View, ends: Bounds, most: int, shift: int) -> Bounds:
    """The ends, or all that the activation lets through where sums up to `most` may wrap when they are scaled."""
    if never_wraps((np.asarray(-most), np.asarray(most)), shift):
        return ends
    lo, hi = activation_range(view, view.attrs.activation)
    return np.full(view.y.shape, lo, np.int8), np.full(view.y.shape, hi, np.int8)


def lookup(eval_int: Callable[..., tuple[np.ndarray, ...]]) -> Callable[[View], tuple[int, np.ndarray] | None]:
    """Where one operand is the same number everywhere, the result is a table by the code of the other."""

    def of(view: View) -> tuple[int, np.ndarray] | None:
        codes = np.arange(-128, 128).astype(np.int8)
        for index, other in enumerate(reversed(view.inputs)):
            assert other is not None
            tensor = view.inputs[index]
            if tensor is None or tensor.is_constant or tensor.shape != view.y.shape or other.data is None:
                continue
            if (other.data == other.data.flat[0]).all():
                operands = (codes, other.data.flat[0]) if index == 0 else (other.data.flat[0], codes)
                return index, eval_int(view, *map(np.asarray, operands))[0]
        return None

    return of


def mul_identity(view: View, bounds: Sequence[Bounds | None]) -> int | None:
    """A float times one."""
    for index, other in enumerate(reversed(view.inputs)):
        ones = other is not None and other.data is not None and other.dtype == "float32" and (other.data == 1).all()
        if ones and view.attrs.activation == "none":
            return index
    return None


def sum_multipliers(view: View) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """(mult, shift) of the two operands to the common scale, twice the larger one's, and from there to the output."""
    a, b, y = (float(q.scale) for q in _quants(view))
    common = 2 * max(a, b)
    return (
        quantize_multiplier(a / common),
        quantize_multiplier(b / common),
        quantize_multiplier(common / ((1 << LEFT_SHIFT) * y)),
    )


def product_multiplier(view: View) -> tuple[int, int]:
    """(mult, shift) of the product to the output; LiteRT multiplies and divides the scales as floats."""
    precision = np.float64 if view.rounding == "micro" else np.float32
    a, b, y = (precision(q.scale) for q in _quants(view))
    with np.errstate(over="ignore"):
        return quantize_multiplier(min(float(a * b / y), LARGEST))


def _quants(view: View) -> tuple[Quant, Quant, Quant]:
    """Of both inputs and the output."""
    a, b, y = (t.quant for t in (*view.inputs, view.y) if t is not None)
    assert a is not None
    assert b is not None
    assert y is not None
    return a, b, y


def emit_add(view: View) -> dict[str, Field]:
    return _emit(view, {"sign": 1.0 if view.y.dtype == "float32" else 1}, _sum_fields)


def emit_sub(view: View) -> dict[str, Field]:
    return _emit(view, {"sign": -1.0 if view.y.dtype == "float32" else -1}, _sum_fields)


def emit_mul(view: View) -> dict[str, Field]:
    return _emit(view, {}, _product_fields)


def _emit(view: View, own: dict[str, Field], integer: Callable[[View], dict[str, Field]]) -> dict[str, Field]:
    fields = _shape_fields(view) | own
    if view.y.dtype == "float32":
        return fields | float_clamp(view.attrs.activation)
    lo, hi = activation_range(view, view.attrs.activation)
    a, b, y = _quants(view)
    fields |= {"a_offset": -a.zero_point, "b_offset": -b.zero_point}
    return fields | integer(view) | {"out_offset": y.zero_point, "act_min": lo, "act_max": hi}


def _sum_fields(view: View) -> dict[str, Field]:
    fields: dict[str, Field] = {}
    for name, (mult, shift) in zip(("a", "b", "out"), sum_multipliers(view), strict=True):
        fields |= {f"{name}_mult": mult, f"{name}_shift": shift}
    return fields


def _product_fields(view: View) -> dict[str, Field]:
    mult, shift = product_multiplier(view)
    return {"out_mult": mult, "out_shift": shift}


def _shape_fields(view: View) -> dict[str, Field]:
    """`row_elems`, or the walk of a broadcast: outer axes, and steps within the innermost one."""
    if same_shapes(view):
        return {"row_elems": view.y.frame.row_elems}
    dims, (a, b) = broadcast_walk(view.y.shape, [t.shape for t in view.inputs if t is not None])
    return {
        "outer_axes": len(dims) - 1,
        "outer": int(np.prod(dims[:-1], dtype=np.int64)),
        "inner": dims[-1],
        "a_step": a[-1],
        "b_step": b[-1],
        "dims": table(np.array(dims, np.int32)),
        "a_strides": table(np.array(a, np.int32)),
        "b_strides": table(np.array(b, np.int32)),
    }


def broadcast_walk(shape: tuple[int, ...], inputs: list[tuple[int, ...]]) -> tuple[list[int], list[list[int]]]:
    """The output's axes, neighbours merged where no input tells them apart, and each input's strides (0: repeated)."""
    padded = [(1,) * (len(shape) - len(s)) + s for s in inputs]
    dims, kinds = [1], [None]
    for axis, dim in enumerate(shape):
        kind = tuple(s[axis] == 1 for s in padded)
        if dim == 1:
            continue
        if kind == kinds[-1]:
            dims[-1] *= dim
        else:
            dims, kinds = ([*dims, dim], [*kinds, kind]) if kinds[-1] is not None else ([dim], [kind])
    strides = []
    for index in range(len(inputs)):
        step, own = 1, []
        for dim, kind in zip(reversed(dims), reversed(kinds), strict=True):
            repeated = kind is None or kind[index]
            own.append(0 if repeated else step)
            step *= 1 if repeated else dim
        strides.append(own[::-1])
    return dims, strides


SUM_FRACTION = 21
"""Fraction bits of a sum in mk_add_s8_dsp and mk_add_s8_x4."""


@once_per_view
def fit_sum(view: View, sign: int) -> dict[str, Field] | None:
    """a_mult, b_mult and start of mk_add_s8_dsp and mk_add_s8_x4 that give all sums of two codes; None where none were found.

    A sum of two products whose halves are rounded once is within 2**-19 of the one that TFLite rounds four times. A start
    within an interval makes up for that, unless some pair of codes lies nearer to a half than the multipliers are exact.
    """
    codes = np.arange(-128, 128)
    y = _eval_sum(view, codes[:, None], codes[None], sign)[0].astype(np.int64)
    lo, hi = activation_range(view, view.attrs.activation)
    a, b, out = (mult * 2.0 ** (shift - 31) for mult, shift in sum_multipliers(view))
    ratios = a * out * 2**LEFT_SHIFT, sign * b * out * 2**LEFT_SHIFT
    if sum(map(abs, ratios)) >= 4:
        return None
    for change in np.ndindex(5, 5):
        mults = [round(ratio * 2 ** (SUM_FRACTION + 8)) + c - 2 for ratio, c in zip(ratios, change, strict=True)]
        sums = (mults[0] * codes >> 8)[:, None] + (mults[1] * codes >> 8)[None]
        least = np.where(y > lo, (y << SUM_FRACTION) - sums, INT32_MIN // 4).max()
        most = np.where(y < hi, (y + 1 << SUM_FRACTION) - 1 - sums, INT32_MAX // 4).min()
        start = int(least + most) // 2
        if least <= most and max(abs(sums.min() + start), abs(sums.max() + start)) <= INT32_MAX:
            return {"a_mult": mults[0], "b_mult": mults[1], "start": start}
    return None


def takes_mve(view: View) -> bool:
    """An int8 sum of equal shapes, whose output multiplier is below a half."""
    return is_dtype("int8")(view) and same_shapes(view) and -31 <= sum_multipliers(view)[2][1] <= -1


def pack_mve(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    """The fields of mk_add_s8_mve."""
    a, b, y = _quants(view)
    multipliers = sum_multipliers(view)
    swapped = b.scale > a.scale
    left, right = (b, a) if swapped else (a, b)
    mult, shift = multipliers[0] if swapped else multipliers[1]
    lo, hi = activation_range(view, view.attrs.activation)
    r_factor = 1 << LEFT_SHIFT + (shift == 0)  # a shift of 0 has an exact product: doubled, it is halved again
    l_factor = 1 << LEFT_SHIFT - 1
    return {
        "row_elems": view.y.frame.row_elems,
        "swapped": int(swapped),
        "r_factor": r_factor,
        "r_term": -right.zero_point * r_factor,
        "r_mult": mult,
        "r_shift": min(shift, -1),
        "l_factor": l_factor,
        "l_term": -left.zero_point * l_factor,
        "mult": multipliers[2][0],
        "shift": multipliers[2][1],
        "offset": y.zero_point,
        "act_min": lo,
        "act_max": hi,
    }


def pack_fitted(view: View, sign: int) -> dict[str, Field]:
    fitted = fit_sum(view, sign)
    assert fitted is not None
    lo, hi = activation_range(view, view.attrs.activation)
    return {"row_elems": view.y.frame.row_elems, **fitted, "act_min": lo, "act_max": hi}


def _kernels(op: str, sign: int) -> tuple[Kernel, ...]:
    """Rows where the shapes are equal; the frame kernel takes every node. `sign` is that of b in a sum, or 0."""
    kernels = []
    if sign > 0:
        mve_headers = ("mk_dsp.h", "mk_mve.h")
        kernels.append(Kernel(name="mk_add_s8_mve", isa="mve", uses=mve_headers, when=takes_mve, pack=pack_mve))
    if sign:
        kernels += [
            Kernel(
                name=name,
                isa=isa,
                uses=uses,
                when=lambda v: is_dtype("int8")(v) and same_shapes(v) and fit_sum(v, sign) is not None,
                pack=lambda v, fields: pack_fitted(v, sign),
            )
            for name, isa, uses in (
                ("mk_add_s8_dsp", "dsp", ("mk_dsp.h",)),
                ("mk_add_s8_x4", "rv", ()),
                ("mk_add_s8_x4", "v6m", ()),
            )
        ]
    for dtype, suffix in (("int8", "s8"), ("float32", "f32")):
        right_dtype = is_dtype(dtype)
        kernels += [
            Kernel(name=f"mk_{op}_{suffix}", when=lambda v, right=right_dtype: right(v) and same_shapes(v)),
            Kernel(name=f"mk_{op}_broadcast_{suffix}", when=right_dtype),
        ]
    return tuple(kernels)


def _to_torch(function: str) -> Callable[[View], Any]:
    def to_torch(view: View) -> Any:
        import torch

        from minikin.ops.torch_activation import torch_activation

        op = getattr(torch, function)
        return lambda a, b: torch_activation(op(a, b), view.attrs.activation)

    return to_torch


def _eval_float(function: np.ufunc) -> Callable[..., tuple[np.ndarray, ...]]:
    return lambda view, a, b: (clamp_float(function(a, b), view.attrs.activation),)


CASES = (
    Case("4d", BinaryAttrs(), ((1, 5, 4, 3), (1, 5, 4, 3))),
    Case("relu", BinaryAttrs("relu"), ((1, 3, 4, 2), (1, 3, 4, 2))),
    Case("relu6", BinaryAttrs("relu6"), ((1, 3, 8), (1, 3, 8)), ranges=(-5.0, 5.0)),
    Case("relu_n1_to_1", BinaryAttrs("relu_n1_to_1"), ((2, 9), (2, 9)), ranges=(-2.0, 2.0)),
    Case("batch2", BinaryAttrs(), ((2, 3, 2, 4), (2, 3, 2, 4))),
    Case("1d", BinaryAttrs(), ((7,), (7,))),
    Case("constant", BinaryAttrs(), ((1, 4, 2, 3),), {1: (1, 4, 2, 3)}),
    Case("channels", BinaryAttrs(), ((1, 4, 3, 5),), {1: (5,)}),
    Case("channels_first", BinaryAttrs(), ((5,), (1, 4, 3, 5))),
    Case("scalar", BinaryAttrs("relu"), ((1, 4, 6),), {1: ()}),
    Case("both_ways", BinaryAttrs(), ((1, 4, 1, 3), (1, 1, 5, 1))),
    Case("rows", BinaryAttrs(), ((2, 3, 4, 2), (1, 3, 1, 1))),
    Case("outer", BinaryAttrs(), ((6, 1), (1, 7))),
)


def _define(
    name: str, kernel: str, ufunc: np.ufunc, eval_int: Callable, emit: Callable, sign: int = 0, **more: Any
) -> OpDef:
    return OpDef(
        name=name,
        attrs=BinaryAttrs,
        infer=infer,
        eval_float=_eval_float(ufunc),
        eval_int=eval_int,
        to_torch=_to_torch(name),
        rows=rows,
        inplace=inplace,
        emit=emit,
        kernels=_kernels(kernel, sign),
        cases=CASES,
        channels=one_to_one,
        lookup=lookup(eval_int),
        **more,
    )


register(
    _define("add", "add", np.add, eval_add, emit_add, sign=1, interval=add_interval),
    _define("sub", "add", np.subtract, eval_sub, emit_sub, sign=-1, interval=sub_interval),
    _define("mul", "mul", np.multiply, eval_mul, emit_mul, interval=mul_interval, identity=mul_identity),
)
