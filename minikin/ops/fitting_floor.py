"""Outputs of int8 layers in two 32-bit products, for cores without a high product of any worth (kernels/mk_out_x4.h).

y = clamp((floor((sum + bias) * mult / 2**low) + addend) >> shift). Half the bits of mult are multiplied at a time, so a sum
of n bits leaves 31 - n bits for each half: `low`. The steps of this form rise where the layer's do if addend lies in an
interval that is found by trying all of a channel's codes; the form never falls, so nothing else is to be proved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minikin.graph import View
from minikin.ops.fitting import PackedChannels, find_rises, once_per_view, reach
from minikin.ops.opdef import activation_range
from minikin.ops.requant import quant_of

MAX_LOW = 15
NEAR = np.array(sorted(range(-24, 25), key=abs))
"""Multipliers that are tried, from the nearest on."""
FAR = 1 << 60


@dataclass(frozen=True)
class FittedFloor:
    """Of each channel; `low` of all. The bias only moves sums to where they reach as far up as down."""

    low: int
    bias: np.ndarray
    mult: np.ndarray
    addend: np.ndarray
    shift: np.ndarray


@once_per_view
def fit_floor(view: View, channels: PackedChannels) -> FittedFloor | None:
    """None where a channel has no such numbers."""
    if not channels.exact:
        return None
    lo, hi = reach(channels.weights, np.zeros_like(channels.bias))
    bias = -((lo + hi) >> 1)
    greatest = np.maximum(hi + bias, -(lo + bias))
    low = min(MAX_LOW, 31 - int(greatest.max()).bit_length())
    offset, bounds = quant_of(view.y).zero_point, activation_range(view, view.attrs.activation)
    codes = np.arange(bounds[0] + 1, bounds[1] + 1)
    rises = find_rises(channels, codes - offset)
    found = [
        _fit_channel(channels, c, low, (int(lo[c]), int(hi[c])), int(bias[c]), codes, rises[c]) for c in range(len(lo))
    ]
    if any(own is None for own in found):
        return None
    mult, addend, shift = (np.array(values, np.int64) for values in zip(*(own for own in found if own), strict=True))
    return FittedFloor(low, bias, mult, addend, shift)


def _fit_channel(
    channels: PackedChannels, c: int, low: int, ends: tuple[int, int], bias: int, codes: np.ndarray, rises: np.ndarray
) -> tuple[int, int, int] | None:
    """(mult, addend, shift): the most bits of mult that 2 * low - 1 can hold."""
    real = float(channels.mult[c]) * 2.0 ** -(32 + int(channels.shift[c]))  # an output of a sum
    lo, hi = ends
    # the first sum of each code, the last before it; FAR where the channel never rises to it, or is never below it
    first = np.where(rises <= lo, lo, rises)
    codes_in, last = codes[rises <= hi], np.minimum(rises - 1, hi)
    first, before, codes_before = first[rises <= hi], last[rises > lo], codes[rises > lo]
    for shift in range(min(30, int(2 * low - 1 - low - np.log2(real))), 8, -1):
        nominal = round(real * 2.0 ** (low + shift))
        mults = nominal + NEAR
        mults = mults[(mults > 0) & (mults < 1 << (2 * low - 1))]

        def scaled(sums: np.ndarray, mults: np.ndarray = mults) -> np.ndarray:
            return (sums + bias) * mults[:, None] >> low

        least = ((codes_in << shift) - scaled(first)).max(axis=1, initial=-FAR)
        most = ((codes_before << shift) - scaled(before)).min(axis=1, initial=FAR) - 1
        fits = np.flatnonzero(least <= most)
        if not len(fits):
            return None  # with fewer bits nothing fits that does not with more
        own = fits[0]
        addend = int(min(max(0, least[own]), most[own]))
        reached = scaled(np.array([lo, hi]))[own] + addend
        if abs(reached).max() < 1 << 31 and abs(addend) < 1 << 31:
            return int(mults[own]), addend, shift
    return None
