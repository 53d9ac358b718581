"""What the integer meanings of conv, depthwise and dense share: exact products, output multipliers, clamps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minikin.fixedpoint import INT32_MAX, quantize_multiplier, requantize, requantize_once, wrap_int32
from minikin.graph import Quant, Tensor, View
from minikin.ops.channels import Bounds
from minikin.ops.opdef import FLOAT_RANGES, Field, activation_range


def exact_matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b of integers, exact while sums stay under 2**53: float64 products run on BLAS, int64 ones do not."""
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)


def quant_of(tensor: Tensor | None) -> Quant:
    """The quantization that every tensor of an int8 op has."""
    assert tensor is not None
    assert tensor.quant is not None
    return tensor.quant


def weights_of(view: View) -> Tensor:
    """The second input, which conv, depthwise and dense have."""
    weights = view.inputs[1]
    assert weights is not None
    return weights


def output_multipliers(view: View, single: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """(mult int32, shift int8), one per output channel or one in all: scale(x) * scale(w) / scale(y) in double.

    `single` rounds scale(x) * scale(w) to float32 first, as TFLite does for the convolutions of uint8 models.
    """
    x, w, y = quant_of(view.x), quant_of(weights_of(view)), quant_of(view.y)
    products = [float(np.float32(x.scale) * np.float32(s)) if single else float(x.scale) * float(s) for s in w.scales]
    pairs = [quantize_multiplier(product / float(y.scale)) for product in products]
    return np.array([m for m, _ in pairs], np.int32), np.array([s for _, s in pairs], np.int8)


def requantized(view: View, acc: np.ndarray, multipliers: tuple[np.ndarray, np.ndarray], once: bool) -> np.ndarray:
    """int8 outputs of accumulators [..., channels]: scaled with one rounding or two, offset, clamped."""
    scale = requantize_once if once else requantize
    lo, hi = activation_range(view, view.attrs.activation)
    scaled = wrap_int32(scale(wrap_int32(acc), *multipliers))
    return np.clip(wrap_int32(scaled + quant_of(view.y).zero_point), lo, hi).astype(np.int8)


def requantize_fields(view: View, multipliers: tuple[np.ndarray, np.ndarray]) -> dict[str, Field]:
    """The fields of an int8 kernel that go from accumulators to outputs."""
    lo, hi = activation_range(view, view.attrs.activation)
    mult, shift = multipliers
    if len({*zip(mult.tolist(), shift.tolist(), strict=True)}) == 1:  # one scale, said once for each channel
        mult, shift = mult[:1], shift[:1]
    return {
        "in_offset": -quant_of(view.x).zero_point,
        "weight_offset": -quant_of(weights_of(view)).zero_point,
        "out_offset": quant_of(view.y).zero_point,
        "act_min": lo,
        "act_max": hi,
        "per_channel": int(len(mult) > 1),
        "mult": mult,
        "shift": shift,
    }


def centred_weights(view: View) -> np.ndarray:
    """Constant integer weights less their zero point."""
    w = weights_of(view)
    assert w.data is not None
    return w.data.astype(np.int16) - quant_of(w).zero_point


def sum_bounds(x: Bounds, zero_point: int, w: np.ndarray, products: Callable[..., np.ndarray]) -> Bounds:
    """Of products(x - zero_point, w), which is linear in both: half of (lo + hi) * w -+ (hi - lo) * |w|."""
    lo, hi = (end.astype(np.int32) - zero_point for end in x)
    twice_middle, twice_reach = products(lo + hi, w), products(hi - lo, np.abs(w))
    return (twice_middle - twice_reach) >> 1, (twice_middle + twice_reach) >> 1


def requantized_bounds(view: View, acc: Bounds, multipliers: tuple[np.ndarray, np.ndarray], once: bool) -> Bounds:
    """int8 outputs of both ends; where an int32 may wrap on the way, all that the activation lets through."""
    lo, hi = (requantized(view, end, multipliers, once) for end in acc)
    safe = never_wraps(acc, multipliers[1])
    least, greatest = activation_range(view, view.attrs.activation)
    return np.where(safe, lo, np.int8(least)), np.where(safe, hi, np.int8(greatest))


def never_wraps(acc: Bounds, shift: np.ndarray | int) -> np.ndarray:
    """Whether every int32 between both ends stays one when it is scaled by up to 2**shift and takes a zero point."""
    limit = (INT32_MAX - 256) >> np.maximum(np.asarray(shift, np.int64), 0)
    return (acc[0] >= -limit) & (acc[1] <= limit)


def float_clamp(activation: str) -> dict[str, Field]:
    """act_min, act_max of a float kernel."""
    lo, hi = FLOAT_RANGES[activation]
    return {"act_min": lo, "act_max": hi}


def pack_bias(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    """Biases of 16 bits where all of the layer's fit: two bytes for four, where a kernel reads them one by one."""
    bias, half = fields["bias"], np.iinfo(np.int16)
    if not isinstance(bias, np.ndarray) or bias.min(initial=0) < half.min or bias.max(initial=0) > half.max:
        return fields
    narrow: Field = bias.astype(np.int16)
    return {**fields, "bias": narrow}
