"""Weights as the DSP kernels read them (kernels/mk_mat_s8.h): one stream of words, packed and proved at compile time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minikin.fixedpoint import INT32_MAX, INT32_MIN
from minikin.graph import View
from minikin.ops.fitting import (
    FRACTION,
    PackedChannels,
    find_steps,
    once_per_view,
    packed_channels,
    reach,
)
from minikin.ops.opdef import Field, Kernel, activation_range
from minikin.ops.requant import quant_of, weights_of

GROUP = 4
"""Output channels that a matrix kernel computes together."""
FITTED, EXACT = 0, 1
"""Forms of requantization: by FittedGroups, or for any output."""
TIE_BITS = 11
"""Exact outputs take 2**31 + 2**TIE_BITS for 2**31, or more where a channel's s is larger."""


def is_symmetric(view: View) -> bool:
    """int8 all over, weights without a zero point."""
    int8 = all(tensor.dtype == "int8" for tensor in (view.x, weights_of(view), view.y))
    return int8 and not any(quant_of(weights_of(view)).zero_points)


@dataclass(frozen=True)
class FittedGroups:
    """Of groups of four channels [groups, 4]: even channels have a whole bias, odd ones a bias times 256; one addend [groups].

    y = saturate(((acc + bias) * mult >> 32) + addend >> FRACTION)
    y = saturate(((256 * acc + bias) * mult >> 32) + addend >> FRACTION + 8)      (odd channels)
    """

    bias: np.ndarray
    mult: np.ndarray
    addend: np.ndarray


@once_per_view
def fit_groups(view: View, channels: PackedChannels) -> FittedGroups | None:
    """None where a group has no such numbers. `channels` are grouped_channels."""
    steps = find_steps(view, channels)
    if steps is None:
        return None
    times = np.array([1, 256, 1, 256])
    found = steps.fit(times, TRIES)
    if found is None:
        return None
    bias, mult, addend = found
    each, shared = np.tile(times, len(bias)), np.repeat(addend, GROUP)
    least, greatest = (each * end + bias.reshape(-1) for end in reach(channels.weights, np.zeros_like(channels.bias)))
    if (least < INT32_MIN).any() or (greatest > INT32_MAX).any():
        return None

    def outputs(acc: np.ndarray) -> np.ndarray:
        return ((((each * acc + bias.reshape(-1)) * mult.reshape(-1) >> 32) + shared) // each) >> FRACTION

    return FittedGroups(bias, mult, addend) if steps.proved(outputs) else None


TRIES = 1 << 20
"""Addends that a group may take: about one in 20,000 suits its two even channels at once."""


def takes_fitted(view: View, weights: np.ndarray) -> bool:
    """The proofs of mk_mat_s8.h hold for `weights` [channels, inputs], and their outputs have the fitted form."""
    channels = grouped_channels(view, weights)
    return fits_stream(channels) and fit_groups(view, channels) is not None


def takes_exact(view: View, weights: np.ndarray) -> bool:
    """The proofs of mk_mat_s8.h hold for `weights` [channels, inputs] and outputs of the exact form."""
    channels = grouped_channels(view, weights)
    return fits_stream(channels) and are_exact(view, channels)


def are_exact(view: View, channels: PackedChannels) -> bool:
    """Whether outputs of the exact form of mk_mat_s8.h are those of the layer."""
    shifts = channels.exact and bool((channels.shift >= 1).all())
    return shifts and (not _has_ties(view) or _tie_bits(channels) is not None)


def exact_fields(view: View, channels: PackedChannels) -> dict[str, Field]:
    return {
        "scale": INT32_MIN + (1 << (_tie_bits(channels) or TIE_BITS)),
        "offset": quant_of(view.y).zero_point,
    }


def _has_ties(view: View) -> bool:
    """Whether halves below the offset matter, which go away from it."""
    return activation_range(view, view.attrs.activation)[0] < quant_of(view.y).zero_point


def _tie_bits(channels: PackedChannels) -> int | None:
    """The k of a scale 2**31 + 2**k that moves all halves below zero, in reach, and no other sum; or None."""
    greatest = np.maximum(*map(abs, reach(channels.weights, channels.bias)))
    tied = greatest >= 1 << channels.shift
    bits = max(TIE_BITS, int(channels.shift.max(initial=0, where=tied)))
    saturated = channels.shift <= 22 - bits
    return bits if (~tied | saturated | (greatest < 1 << (31 - bits))).all() else None


def grouped_channels(view: View, weights: np.ndarray) -> PackedChannels:
    """In groups of four: the last one overlaps the one before, or repeats its last channel where there are under four.

    `weights` are [channels, inputs], or [groups of a convolution, channels of each, inputs].
    """
    count = weights.shape[-2]
    whole = count // GROUP * GROUP
    last = np.arange(count - GROUP, count) if count > whole else np.arange(0)
    order = np.concatenate([np.arange(whole), last]) if whole else np.minimum(np.arange(GROUP), count - 1)
    weights = weights.reshape(-1, weights.shape[-1])
    return packed_channels(view, weights).take((np.arange(0, len(weights), count)[:, None] + order).reshape(-1))


def fits_stream(channels: PackedChannels) -> bool:
    """Whether sums of odd channels stay within 2**23, and 256 * w1 + w0 within halfwords."""
    halfwords = 256 * channels.weights[1::2] + channels.weights[::2]
    greatest = np.maximum(*map(abs, reach(channels.weights, channels.bias)))
    odd = (greatest[1::2] < 1 << 23).all()
    return bool(channels.exact and odd and (halfwords >= -(1 << 15)).all() and (halfwords < 1 << 15).all())


def mat_headers(fast: bool, exact: str) -> tuple[str, ...]:
    """What a kernel that multiplies by mk_mat_s8.h includes; `exact` is the header that adds the exact form."""
    return ("mk_dsp.h", *(("mk_mat_fast.h",) if fast else ()), *((exact,) if exact else ()), "mk_mat_s8.h")


def mat_kernels(
    name: str,
    exact: str,
    *,
    takes: Callable[[View], bool],
    takes_fitted: Callable[[View], bool],
    more: tuple[str, ...] = (),
    fasts: Sequence[bool] = (True, False),
    **fields: Any,
) -> tuple[Kernel, ...]:
    """A kernel that multiplies by mk_mat_s8.h, fast and small, each without and with the header of the exact form.

    `more` are headers that it includes besides.
    """
    return tuple(
        Kernel(
            name=name,
            isa="dsp",
            fast=fast,
            uses=(*mat_headers(fast, header), *more),
            when=takes if header else takes_fitted,
            **fields,
        )
        for fast in fasts
        for header in ("", exact)
    )


def pack_stream(view: View, weights: np.ndarray) -> dict[str, Field]:
    """The fields of a kernel that multiplies by `weights`, inputs and channels filled up to fours: see grouped_channels."""
    channels = grouped_channels(view, weights)
    fitted = fit_groups(view, channels)
    w = _padded(channels.weights, 4, 1)
    groups, quads = w.shape[0] // GROUP, w.shape[1] // 4
    w = w.reshape(
        groups, 2, 2, quads, 2, 2
    )  # group, pair of channels, channel, quad, pair of inputs (high), input (low)
    halfwords = 256 * w[:, :, 1] + w[:, :, 0]
    words = (halfwords[..., 1, :] << 16) + (halfwords[..., 0, :] & 0xFFFF)  # group, pair of channels, quad, input (low)
    words = words.transpose(0, 2, 3, 1).reshape(groups, -1)

    if fitted:
        bias, mult, last = fitted.bias, fitted.mult, fitted.addend
    else:
        bias, mult, shift = (v.reshape(-1, GROUP) for v in (channels.bias, 2 * channels.mult, channels.shift))
        bias, last = bias * [1, 256, 1, 256], shift @ [1, 1 << 8, 1 << 16, 1 << 24]
    biases = np.stack([bias[:, 1] + bias[:, 0], bias[:, 0], bias[:, 3] + bias[:, 2], bias[:, 2]], axis=1)
    stream = np.concatenate([biases, words, mult, last[:, None]], axis=1).astype(np.int64)
    lo, hi = activation_range(view, view.attrs.activation)
    return {
        "out_ch": weights.size // weights.shape[-1],
        "quads": quads,
        "whole_words": weights.shape[-2] // GROUP * stream.shape[1],
        **exact_fields(view, channels),
        "form": FITTED if fitted else EXACT,
        "act_min": lo,
        "act_max": hi,
        "stream": (stream & 0xFFFFFFFF).astype(np.uint32).view(np.int32).reshape(-1),
    }


def _padded(values: np.ndarray, multiple: int, axis: int) -> np.ndarray:
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, -values.shape[axis] % multiple)
    return np.pad(values, widths)
