"""relu, relu6, logistic, tanh, softmax, quantize, dequantize: ops of one input, by element or (softmax) by vector."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minikin.errors import UnsupportedError
from minikin.fixedpoint import (
    quantize_multiplier,
    requantize,
    round_half_away,
    rounding_doubling_high_mul,
    rounding_shift_right,
    wrap_int32,
)
from minikin.graph import Quant, Tensor, View
from minikin.ops import transcendental
from minikin.ops.channels import one_to_one
from minikin.ops.opdef import Case, Field, Kernel, OpDef, Range, is_dtype, register, require, table
from minikin.ops.work import Work

UNIT_QUANT = Quant((1 / 256,), (-128,))  # of values in [0, 1): logistic, softmax
SYMMETRIC_QUANT = Quant((1 / 128,), (0,))  # of values in [-1, 1): tanh
INT8_MIN, INT8_MAX = -128, 127
LARGEST = 2.0**100  # stands for a multiplier that no float32 holds


@dataclass(frozen=True)
class UnaryAttrs:
    """No attributes."""


@dataclass(frozen=True)
class SoftmaxAttrs:
    """softmax(beta * x) over the last axis."""

    beta: float = 1.0


def infer(view: View) -> tuple[tuple[int, ...], ...]:
    require(len(view.inputs) == 1, view, f"{len(view.inputs)} inputs, want one")
    return (view.x.shape,)


def infer_softmax(view: View) -> tuple[tuple[int, ...], ...]:
    require(len(view.x.shape) > 0, view, f"input {view.x.shape} has no last axis")
    return infer(view)


def rows(view: View, lo: int, hi: int) -> tuple[Range, ...]:
    return ((lo, hi),)


def inplace(view: View) -> int | None:
    return 0 if view.x.dtype == view.y.dtype and not view.x.is_constant else None


# relu, relu6


def relu_int(view: View, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Rescaled to the output's quantization, then clamped there."""
    return _rescaled(view, x, _code(_quant(view.y), 0.0), INT8_MAX, _relu_precision(view))


def relu6_int(view: View, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """TFLite Micro clamps in the input's quantization and ignores the output's; LiteRT rescales as in relu."""
    if view.rounding == "micro":
        quant = _quant(view.x)
        return (np.clip(x, quant.zero_point, _code(quant, 6.0)).astype(np.int8),)
    quant = _quant(view.y)
    return _rescaled(view, x, _code(quant, 0.0), _code(quant, 6.0), _relu_precision(view))


def _relu_precision(view: View) -> type[np.floating]:
    """LiteRT divides the two scales as floats."""
    return np.float64 if view.rounding == "micro" else np.float32


def _code(quant: Quant, real: float) -> int:
    """round(real / scale) + zero_point in float, saturated to int8."""
    return int(
        np.clip(round_half_away(np.float32(real) / np.float32(quant.scale)) + quant.zero_point, INT8_MIN, INT8_MAX)
    )


def _rescaled(
    view: View, x: np.ndarray, lo: int, hi: int, precision: type[np.floating] = np.float64
) -> tuple[np.ndarray, ...]:
    x_quant, y_quant = _quant(view.x), _quant(view.y)
    with np.errstate(over="ignore"):
        ratio = float(precision(x_quant.scale) / precision(y_quant.scale))
    acc = requantize(x.astype(np.int64) - x_quant.zero_point, *quantize_multiplier(min(ratio, LARGEST)))
    return (np.clip(wrap_int32(acc + y_quant.zero_point), lo, hi).astype(np.int8),)


def _quant(tensor: Tensor) -> Quant:
    assert tensor.quant is not None
    return tensor.quant


# logistic, tanh


def logistic_float(view: View, x: np.ndarray) -> tuple[np.ndarray, ...]:
    return (_logistic(x),)


def _logistic(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x.astype(np.float64)))
    return (np.where(x >= 0, 1.0, e) / (1.0 + e)).astype(np.float32)


def _logistic_of_floats(x: np.ndarray) -> np.ndarray:
    """Rounded to float32 after each step, as LiteRT does: its ties at half a code decide."""
    with np.errstate(over="ignore"):
        return np.float32(1) / (np.float32(1) + np.exp(-x.astype(np.float64)).astype(np.float32))


def _tanh(x: np.ndarray) -> np.ndarray:
    return np.tanh(x.astype(np.float64)).astype(np.float32)


def logistic_int(view: View, x: np.ndarray) -> tuple[np.ndarray, ...]:
    _require_quant(view, UNIT_QUANT)
    if view.rounding != "micro":
        return _through_float(view, x, _logistic_of_floats)
    return _through_fixed_point(view, x, transcendental.logistic, 23, -128)


def tanh_int(view: View, x: np.ndarray) -> tuple[np.ndarray, ...]:
    if view.rounding != "micro":
        return _through_float(view, x, _tanh)
    _require_quant(view, SYMMETRIC_QUANT)
    return _through_fixed_point(view, x, transcendental.tanh, 24, 0)


def _through_fixed_point(
    view: View, x: np.ndarray, function: Callable[[np.ndarray], np.ndarray], bits: int, zero_point: int
) -> tuple[np.ndarray, ...]:
    """TFLite Micro: q - zero_point to Q4, the function in Q0, `bits` fewer bits; saturated beyond the radius of Q4."""
    quant = _quant(view.x)
    real = float(quant.scale) * (1 << 27)
    mult, shift = quantize_multiplier(real)
    radius = math.floor(15 * (1 << 27) / 2.0 ** math.frexp(real)[1])
    q = x.astype(np.int64) - quant.zero_point
    inside = np.abs(q) < radius
    y = rounding_shift_right(function(requantize(np.where(inside, q, 0), mult, shift)), bits) + zero_point
    y = np.where(inside, y, np.where(q > 0, INT8_MAX, INT8_MIN))
    return (np.clip(y, INT8_MIN, INT8_MAX).astype(np.int8),)


def _through_float(view: View, x: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, ...]:
    """LiteRT: a table made in float32."""
    x_quant, y_quant = _quant(view.x), _quant(view.y)
    y = function(np.float32(x_quant.scale) * (x.astype(np.float32) - np.float32(x_quant.zero_point)))
    inverse = np.float32(1) / np.float32(y_quant.scale)
    return (np.clip(round_half_away(y * inverse) + y_quant.zero_point, INT8_MIN, INT8_MAX).astype(np.int8),)


def _require_quant(view: View, want: Quant) -> None:
    if view.y.quant != want:
        raise UnsupportedError(
            f"{view.node.name} ({view.node.op}) gives int8 of {view.y.quant}, but only {want} has a meaning: "
            "quantize the model again"
        )


# softmax


def softmax_float(view: View, x: np.ndarray) -> tuple[np.ndarray, ...]:
    e = np.exp((x - x.max(axis=-1, keepdims=True)) * np.float32(view.attrs.beta))
    return ((e / e.sum(axis=-1, keepdims=True)).astype(np.float32),)


def softmax_int(view: View, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """exp in Q0, summed in Q12, times the sum's reciprocal; gemmlowp's fixed point."""
    _require_quant(view, UNIT_QUANT)
    mult, shift, diff_min = softmax_multiplier(view)
    diff = x.astype(np.int64) - x.max(axis=-1, keepdims=True)
    counted = diff >= diff_min
    e = transcendental.exp_on_negative(requantize(np.where(counted, diff, 0), mult, shift), 5)
    total = np.where(counted, rounding_shift_right(e, 12), 0).sum(axis=-1, keepdims=True)
    _, bits = np.frexp(total.astype(np.float64))  # 2**(bits - 1) <= total < 2**bits
    scale = transcendental.one_over_one_plus((total << (32 - bits)) - (1 << 31))
    exponent = bits + 3  # total is 2**(bits - 20) at most; int8 keeps 8 of 31 bits
    y = rounding_shift_right(rounding_doubling_high_mul(scale, e), np.minimum(exponent, 31)) + INT8_MIN
    y = np.where(counted & (exponent <= 31), y, INT8_MIN)
    return (np.clip(y, INT8_MIN, INT8_MAX).astype(np.int8),)


def softmax_multiplier(view: View) -> tuple[int, int, int]:
    """(mult, shift) from a difference of codes to Q5.26, and the least difference that counts."""
    real = float(np.float32(view.attrs.beta)) * float(_quant(view.x).scale) * (1 << 26)
    mult, shift = quantize_multiplier(min(real, (1 << 31) - 1.0))
    return mult, shift, max(-256, -math.floor(31 * (1 << 26) / 2.0**shift))


def emit_softmax(view: View) -> dict[str, Field]:
    depth = view.x.shape[-1]
    fields: dict[str, Field] = {"vectors": view.x.frame.row_elems // depth, "depth": depth}
    if view.x.dtype == "float32":
        return fields | {"beta": float(view.attrs.beta)}
    _require_quant(view, UNIT_QUANT)
    mult, shift, diff_min = softmax_multiplier(view)
    return fields | {"mult": mult, "shift": shift, "diff_min": diff_min}


def softmax_work(view: View, rows: int, made: int, counts: Work) -> Work:
    """Elements, and those that count if differences to the largest one are spread over half the codes."""
    vectors, depth = counts["vector"], view.x.shape[-1]
    share = min(1.0, -softmax_multiplier(view)[2] / 128)
    return {
        "call": counts["call"],
        "vector": vectors,
        "element": counts["element"],
        "exponential": vectors * (1 + (depth - 1) * share),
    }


# quantize, dequantize


def quantize_int(view: View, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """float32 -> int8: round(x / scale) + zero_point, halves away from zero, saturated; int8 -> int8: requantized.

    NaN is the least code; TFLite's own result for NaN and beyond int32 depends on the compiler.
    """
    if view.x.dtype == "int8":
        return _rescaled(view, x, INT8_MIN, INT8_MAX)
    quant = _quant(view.y)
    scale = np.float32(quant.scale)
    bound = 1024 * scale  # beyond any code, and its quotient is finite
    x = np.clip(np.where(np.isnan(x), -bound, x), -bound, bound)
    codes = round_half_away(x / scale) + quant.zero_point
    return (np.clip(codes, INT8_MIN, INT8_MAX).astype(np.int8),)


def dequantize_int(view: View, x: np.ndarray) -> tuple[np.ndarray, ...]:
    """scale * (q - zero_point), rounded once."""
    quant = _quant(view.x)
    return (np.float32(quant.scale) * (x.astype(np.float32) - np.float32(quant.zero_point)),)


def identity_float(view: View, x: np.ndarray) -> tuple[np.ndarray, ...]:
    return (x,)


# C


def _lookup(eval_int: Callable[..., tuple[np.ndarray, ...]]) -> Callable[[View], tuple[int, np.ndarray] | None]:
    """The results of all 256 codes, where int8 comes in."""

    def lookup(view: View) -> tuple[int, np.ndarray] | None:
        if view.x.dtype != "int8":
            return None
        return 0, eval_int(view, np.arange(INT8_MIN, INT8_MAX + 1).astype(np.int8))[0]

    return lookup


def _table(eval_int: Callable[..., tuple[np.ndarray, ...]]) -> Callable[[View], dict[str, Field]]:
    """Every int8 -> int8 op is a table of its 256 results; a float op needs the number of elements only."""

    def emit(view: View) -> dict[str, Field]:
        fields: dict[str, Field] = {"row_elems": view.x.frame.row_elems}
        found = _lookup(eval_int)(view)
        return fields if found is None else fields | {"table": table(found[1])}

    return emit


def _emit_clamp(eval_int: Callable[..., tuple[np.ndarray, ...]], high: float) -> Callable[[View], dict[str, Field]]:
    in_table = _table(eval_int)
    return lambda view: in_table(view) | ({"act_max": high} if view.x.dtype == "float32" else {})


def emit_quantize(view: View) -> dict[str, Field]:
    fields = _table(quantize_int)(view)
    if view.x.dtype == "int8":
        return fields
    quant = _quant(view.y)
    return fields | {"scale": float(quant.scale), "zero_point": quant.zero_point}


def emit_dequantize(view: View) -> dict[str, Field]:
    quant = _quant(view.x)
    return {"row_elems": view.x.frame.row_elems, "scale": float(quant.scale), "zero_point": quant.zero_point}


def _to_torch(function: Callable[[Any, View, Any], Any]) -> Callable[[View], Any]:
    """`function(torch, view, x)` with torch imported when it is wanted."""

    def to_torch(view: View) -> Any:
        import torch

        return lambda x: function(torch, view, x)

    return to_torch


TABLE = Kernel(name="mk_lut_s8", when=is_dtype("int8"))
SHAPES = (("4d", (1, 5, 4, 3)), ("3d", (1, 7, 6)), ("2d", (2, 9)), ("1d", (11,)), ("batch2", (2, 3, 4, 2)))


def _cases(high: float) -> tuple[Case, ...]:
    spread = tuple(Case(name, UnaryAttrs(), (shape,), ranges=(-high, high)) for name, shape in SHAPES)
    small = Case("small", UnaryAttrs(), ((1, 64),), ranges=(-0.5, 0.5))
    return (*spread, small, Case("saturating", UnaryAttrs(), ((1, 64),), ranges=(-40.0, 40.0)))


def _unary(name: str, out_quant: Quant | str, high: float, **functions: Any) -> OpDef:
    return OpDef(
        name=name,
        attrs=UnaryAttrs,
        infer=infer,
        rows=rows,
        inplace=inplace,
        out_quant=lambda view: out_quant,
        kernels=(TABLE, Kernel(name=f"mk_{name.rstrip('6')}_f32", when=is_dtype("float32"))),
        cases=_cases(high),
        channels=one_to_one,
        lookup=_lookup(functions["eval_int"]),
        **functions,
    )


register(
    _unary(
        "relu",
        "calibrate",
        1.0,
        eval_float=lambda view, x: (np.maximum(x, np.float32(0)),),
        eval_int=relu_int,
        to_torch=_to_torch(lambda torch, view, x: torch.relu(x)),
        emit=_emit_clamp(relu_int, np.inf),
    ),
    _unary(
        "relu6",
        "same",  # TFLite Micro ignores the output's quantization
        8.0,
        eval_float=lambda view, x: (np.clip(x, np.float32(0), np.float32(6)),),
        eval_int=relu6_int,
        to_torch=_to_torch(lambda torch, view, x: torch.clamp(x, 0.0, 6.0)),
        emit=_emit_clamp(relu6_int, 6.0),
    ),
    _unary(
        "logistic",
        UNIT_QUANT,
        6.0,
        eval_float=logistic_float,
        eval_int=logistic_int,
        to_torch=_to_torch(lambda torch, view, x: torch.sigmoid(x)),
        link="binary",
        emit=_table(logistic_int),
    ),
    _unary(
        "tanh",
        SYMMETRIC_QUANT,
        3.0,
        eval_float=lambda view, x: (_tanh(x),),
        eval_int=tanh_int,
        to_torch=_to_torch(lambda torch, view, x: torch.tanh(x)),
        emit=_table(tanh_int),
    ),
    OpDef(
        name="softmax",
        attrs=SoftmaxAttrs,
        infer=infer_softmax,
        eval_float=softmax_float,
        eval_int=softmax_int,
        to_torch=_to_torch(lambda torch, view, x: torch.softmax(x * view.attrs.beta, dim=-1)),
        link="cross_entropy",
        rows=rows,
        inplace=inplace,
        emit=emit_softmax,
        out_quant=lambda view: UNIT_QUANT,
        kernels=(
            Kernel(name="mk_softmax_s8", when=is_dtype("int8"), work=softmax_work),
            Kernel(name="mk_softmax_f32", when=is_dtype("float32")),
        ),
        cases=(
            Case("10", SoftmaxAttrs(), ((1, 10),), ranges=(-4.0, 4.0)),
            Case("two", SoftmaxAttrs(), ((1, 2),), ranges=(-6.0, 6.0)),
            Case("one", SoftmaxAttrs(), ((1, 1),)),
            Case("beta", SoftmaxAttrs(0.25), ((1, 12),), ranges=(-8.0, 8.0)),
            Case("sharp", SoftmaxAttrs(2.0), ((1, 12),), ranges=(-30.0, 30.0)),
            Case("long", SoftmaxAttrs(), ((1, 500),)),  # TFLite Micro stops where the exps sum to more than 512
            Case("1d", SoftmaxAttrs(), ((5,),)),
            Case("3d", SoftmaxAttrs(), ((1, 4, 6),), ranges=(-3.0, 3.0)),
            Case("4d_batch", SoftmaxAttrs(), ((2, 3, 4, 5),), ranges=(-3.0, 3.0)),
        ),
    ),
    OpDef(
        name="quantize",
        attrs=UnaryAttrs,
        infer=infer,
        eval_float=identity_float,
        eval_int=quantize_int,
        to_torch=_to_torch(lambda torch, view, x: x),
        rows=rows,
        inplace=inplace,
        emit=emit_quantize,
        kernels=(TABLE, Kernel(name="mk_quantize_f32_s8", when=is_dtype("float32->int8"))),
        cases=tuple(
            Case(name, UnaryAttrs(), (shape,), dtypes=("int8->int8", "float32->int8")) for name, shape in SHAPES
        ),
        channels=one_to_one,
        lookup=_lookup(quantize_int),
    ),
    OpDef(
        name="dequantize",
        attrs=UnaryAttrs,
        infer=infer,
        eval_float=identity_float,
        eval_int=dequantize_int,
        to_torch=_to_torch(lambda torch, view, x: x),
        rows=rows,
        emit=emit_dequantize,
        kernels=(Kernel(name="mk_dequantize_s8_f32", when=is_dtype("int8->float32")),),
        cases=tuple(Case(name, UnaryAttrs(), (shape,), dtypes=("int8->float32",)) for name, shape in SHAPES),
        channels=one_to_one,
    ),
)
