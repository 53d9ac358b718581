"""Output channels of int8 layers as the DSP kernels take them, and their requantization in two instructions.

TFLite rounds a sum twice. The fitted form is y = saturate(((acc + bias) * mult >> 32) + addend >> FRACTION), rounded down
twice. As steps that rise, both are equal for every sum that a channel can reach if they rise to each of its codes at the
same one. For the fitted form that is the first sum from (code * 2**FRACTION - addend) / m - bias on, where m = mult / 2**32.
So addend / m + bias must lie in an interval, about a hundredth wide; bias is whole and addend / m is not: some addend does it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np

from minikin.fixedpoint import INT32_MAX, INT32_MIN, requantize
from minikin.graph import View
from minikin.ops.opdef import activation_range
from minikin.ops.requant import output_multipliers, quant_of

FRACTION = 3
"""Fraction bits of an output before it is rounded down: real multipliers below 2**-4 fit."""
MAX_SHIFT = 21
"""Largest s of a channel: (2 * offset + 1) << s stays under 2**30."""
FAR = 1 << 40  # past every sum
CHOICES = 4  # of a multiplier
BATCH = 1 << 11  # addends tried at once
VIEWS = 256  # whose results are kept
MARGIN = 1e-6  # of a sum: what float64 may be off


@dataclass(frozen=True)
class PackedChannels:
    """Output channels of an int8 layer: y = saturate((round(acc * mult / 2**31) + (twice << shift) >> shift) >> 1).

    weights [channels, inputs]; bias has the input's zero point folded in; `exact` says that every channel has this form at all.
    """

    weights: np.ndarray
    bias: np.ndarray
    mult: np.ndarray
    shift: np.ndarray
    exact: bool

    def take(self, index: np.ndarray) -> PackedChannels:
        return PackedChannels(self.weights[index], self.bias[index], self.mult[index], self.shift[index], self.exact)


def packed_channels(view: View, weights: np.ndarray) -> PackedChannels:
    """`weights` is [channels, inputs] of the view's layer. A channel whose output never changes gets weights of zero."""
    weights = weights.astype(np.int64)
    bias_tensor = view.input(2)
    bias = np.zeros(len(weights), np.int64) if bias_tensor is None else np.array(bias_tensor.data, np.int64)
    bias = bias - quant_of(view.x).zero_point * weights.sum(1)
    mult, shift = output_multipliers(view, single=getattr(view.attrs, "unsigned", False))
    mult, shift = (np.array(np.broadcast_to(values, bias.shape), np.int64) for values in (mult, shift))
    lo, hi = reach(weights, bias)
    left = np.maximum(shift, 0)
    whole = (lo << left >= INT32_MIN) & (hi << left <= INT32_MAX)  # nothing wraps

    offset = quant_of(view.y).zero_point
    bounds = activation_range(view, view.attrs.activation)
    least, most = (np.clip(requantize(acc, mult, shift) + offset, *bounds) for acc in (lo, hi))
    constant = whole & (least == most)
    weights = np.where(constant[:, None], 0, weights)
    bias = np.where(constant, 64 * (least - offset), bias)
    mult, shift = np.where(constant, 1 << 30, mult), np.where(constant, 4, -shift - 1)
    span = np.where(constant, np.abs(bias), np.maximum(np.abs(lo), np.abs(hi)))
    exact = whole & (shift >= 0) & (shift <= MAX_SHIFT) & (span < 1 << 30)
    return PackedChannels(weights, bias, mult, shift, bool(exact.all()))


def reach(weights: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the greatest accumulator of each channel."""
    return (
        bias + np.minimum(-128 * weights, 127 * weights).sum(1),
        bias + np.maximum(-128 * weights, 127 * weights).sum(1),
    )


@dataclass(frozen=True)
class Steps:
    """By choice and channel [CHOICES, channels]: mult, and the interval [low, high) in which addend / m + bias must lie.

    The first choice has the widest interval. sums [channels, n] without bias are those just before and at each rise, and the
    ends of the reach; codes their outputs.
    """

    mult: np.ndarray
    low: np.ndarray
    high: np.ndarray
    sums: np.ndarray
    codes: np.ndarray

    @property
    def scale(self) -> np.ndarray:
        """1 / m: what a unit of the addend is worth."""
        return 2.0**32 / self.mult

    def fit(self, times: np.ndarray, tries: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """(bias, mult, addend) of groups of channels that share an addend, bias and mult [groups, size]; or None.

        `times` [size] are what each channel's sums come multiplied by, its bias too. Biases are as near to 0 as they can be
        found by `tries` addends for each choice.
        """
        mults, lows, highs, scales = (
            v.reshape(len(v), -1, len(times)) for v in (self.mult, self.low, self.high, self.scale)
        )
        shape = mults.shape[1:]
        bias, mult, addend = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape[0], np.int64)
        left = np.arange(shape[0])
        for choice in range(len(mults)):
            nearest = np.round(np.median(lows[choice] / scales[choice], axis=1)).astype(np.int64)
            for start in range(0, tries, BATCH):
                own = nearest[left, None] + _addends(start, start + BATCH)
                shifts = own[:, None] * scales[choice, left, :, None]
                ends = (times[:, None] * end[choice, left, :, None] - shifts for end in (lows, highs))
                whole, fits = _whole_in(*ends)
                all_fit = np.asarray(fits.all(axis=1))
                index = all_fit.argmax(axis=1)
                bias[left] = np.take_along_axis(whole, index[:, None, None], 2)[..., 0]
                mult[left] = mults[choice, left]
                addend[left] = own[np.arange(len(left)), index]
                left = left[~all_fit[np.arange(len(left)), index]]
                if not len(left):
                    return bias, mult, addend
        return None

    def proved(self, outputs: Callable[[np.ndarray], np.ndarray]) -> bool:
        """Whether `outputs` of sums [n, channels], before they are clamped, are the layer's for every sum in reach."""
        lo, hi = self.codes.min(), self.codes.max()
        return np.array_equal(np.clip(outputs(self.sums.T), lo, hi), self.codes.T)


def find_steps(view: View, channels: PackedChannels) -> Steps | None:
    """The steps of a layer's channels, or None where one of them has no such interval."""
    offset, bounds = quant_of(view.y).zero_point, activation_range(view, view.attrs.activation)
    least, greatest = (end[:, None] for end in reach(channels.weights, np.zeros_like(channels.bias)))
    bias, mult, shift = (values[:, None] for values in (channels.bias, channels.mult, channels.shift))
    codes = np.arange(bounds[0] + 1, bounds[1] + 1)
    rises = find_rises(channels, codes - offset)
    at = np.where(rises <= least, least, np.where(rises > greatest, FAR, rises))
    before = np.where(rises <= least, -FAR, np.where(rises > greatest, greatest, rises - 1))
    nominal = np.round(mult * 2.0 ** (FRACTION - shift)).astype(np.int64)
    slopes = nominal[:, 0] + np.arange(-8, 9)[:, None]
    exact = codes * (2.0 ** (32 + FRACTION) / slopes[..., None])
    low, high = (exact - at).max(axis=2, initial=-FAR) + MARGIN, (exact - before).min(axis=2, initial=FAR) - MARGIN
    best = np.argsort(low - high, axis=0)[:CHOICES]
    slope, low, high = (np.take_along_axis(values, best, 0) for values in (slopes, low, high))
    if (high[0] <= low[0]).any() or (slope < 1).any() or (slope >= 1 << 31).any():
        return None
    sums = np.clip(np.concatenate([rises, rises - 1, least, greatest], axis=1), least, greatest)
    outputs = np.clip(requantize(sums + bias, mult, -shift - 1) + offset, *bounds)
    return Steps(slope, low, high, sums, outputs)


def find_rises(channels: PackedChannels, steps: np.ndarray) -> np.ndarray:
    """The first sum, without bias, whose output before the offset is `steps` or more: [channels, steps]."""
    bias, mult, shift = (values[:, None] for values in (channels.bias, channels.mult, channels.shift))
    rounded = (2 * steps - 1) << shift  # after the first rounding; halves below zero go away from it
    return -(-(((rounded + (rounded < 0)) << 31) - (1 << 30)) // mult) - bias


def _whole_in(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least whole number of each interval [low, high), and whether it has one."""
    least = np.ceil(low)
    return least.astype(np.int64), least < high


def _addends(start: int, stop: int) -> np.ndarray:
    """The numbers 0, -1, 1, -2, 2, ... from place `start` to `stop`."""
    index = np.arange(start, stop)
    return np.where(index % 2, -(index + 1) // 2, index // 2)


def once_per_view(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function(view, ...)`, whose result depends on the view alone, computed once for the views of late."""
    kept: dict[tuple, tuple[View, Any]] = {}

    @wraps(function)
    def remembered(view: View, *args: Any) -> Any:
        key = (view.node, view.rounding, *(id(tensor) for tensor in (*view.inputs, *view.outputs)))
        if key not in kept:
            if len(kept) >= VIEWS:
                del kept[next(iter(kept))]
            kept[key] = view, function(view, *args)  # the view keeps its tensors' ids from being given again
        return kept[key][1]

    return remembered
