"""float32 weights as the kernels read them: blocks of eight output channels, side by side for each input."""

from __future__ import annotations

import numpy as np

from minikin.graph import View
from minikin.ops.opdef import Field

LANES = 8
"""Output channels of a block; as MK_LANES in kernels/mk_mat_f32.h."""

F32_HEADERS = ("mk_dsp.h", "mk_mat_f32.h")


def interleaved(weights: np.ndarray) -> np.ndarray:
    """[channels, inputs] -> blocks of [inputs, 8] and then the channels left over, [inputs] each; one flat array."""
    channels, inputs = weights.shape
    whole = channels // LANES * LANES
    blocks = weights[:whole].reshape(-1, LANES, inputs).transpose(0, 2, 1)
    return np.concatenate([blocks.reshape(-1), weights[whole:].reshape(-1)])


def pack_dense_f32(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    return fields | {"weight": interleaved(np.asarray(fields["weight"]))}


def pack_conv_f32(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    """Group by group."""
    weights = np.asarray(fields["weight"])
    groups = view.x.shape[3] // weights.shape[3]
    parts = weights.reshape(groups, weights.shape[0] // groups, -1)
    return fields | {"weight": np.concatenate([interleaved(part) for part in parts])}


def pack_depthwise_f32(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    """Channel o's taps side by side; blocks where each channel reads an input channel of its own."""
    weights = np.asarray(fields["weight"])
    channels = weights.shape[3]
    by_channel = weights.reshape(-1, channels).T
    blocks = channels // LANES if channels == view.x.shape[3] else 0
    packed = interleaved(by_channel) if blocks else by_channel.reshape(-1)
    before = {name: value for name, value in fields.items() if name not in ("weight", "bias")}
    return before | {"blocks": blocks, "weight": packed, "bias": fields["bias"]}
