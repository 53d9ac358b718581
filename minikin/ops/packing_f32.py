"""float32 weights as the kernels read them: blocks of eight output channels, side by side for each input.

Where all of a layer's weights are float16 numbers they can be stored so (`storage` "float16"), in half the bytes: kernels
make floats of them as they go, and compute the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minikin.graph import View
from minikin.ops.opdef import PER_MAC, Field, Kernel, get_op, is_dtype
from minikin.ops.requant import weights_of

Pack = Callable[..., dict[str, Field]]

LANES = 8
"""Output channels of a block; as MK_LANES in kernels/mk_mat_f32.h."""

HEADERS = {"dense": ("mk_dsp.h", "mk_mat_f32.h"), "float16": ("mk_dsp.h", "mk_half.h", "mk_mat_f32.h")}
CODE_BYTES = {"dense": 0, "float16": 900}
"""Of a network's functions for halves, on Cortex-M4 by zig -Os: as much again as for floats."""


def float32_kernels(name: str, pack: Pack) -> tuple[Kernel, ...]:
    """The kernel for weights in four bytes, and in two."""

    def packed(storage: str) -> Pack:
        return lambda view, fields: pack(view, fields, storage)

    return tuple(
        Kernel(
            name=name,
            storage=storage,
            code_bytes=CODE_BYTES[storage],
            uses=HEADERS[storage],
            instructions=halves_read if storage == "float16" else None,
            when=takes_halves if storage == "float16" else is_dtype("float32"),
            pack=packed(storage),
        )
        for storage in HEADERS
    )


def takes_halves(view: View) -> bool:
    """Whether every weight of a float32 layer is a float16 number."""
    if not is_dtype("float32")(view) or weights_of(view).dtype != "float32":
        return False
    weights = np.asarray(weights_of(view).data)
    with np.errstate(over="ignore"):
        halves = weights.astype(np.float16)
    same = halves.astype(np.float32).view(np.uint32) == weights.view(np.uint32)
    return bool(same.all() and np.isfinite(weights).all())


def halves_read(view: View) -> float:
    """Instructions: with an FPU eight for each eight weights, which two pixels share where there are any."""
    return get_op(view.node.op).macs(view) * (PER_MAC["c"] + (0.65 if view.y.frame.rows > 1 else 1.0))


def stored(weights: np.ndarray, storage: str) -> dict[str, Field]:
    """The fields that are pointers to weights, one of them null."""
    half = storage == "float16"
    return {"weight": None if half else weights, "half": weights.astype(np.float16) if half else None}


def interleaved(weights: np.ndarray) -> np.ndarray:
    """[channels, inputs] -> blocks of [inputs, 8] and then the channels left over, [inputs] each; one flat array."""
    channels, inputs = weights.shape
    whole = channels // LANES * LANES
    blocks = weights[:whole].reshape(-1, LANES, inputs).transpose(0, 2, 1)
    return np.concatenate([blocks.reshape(-1), weights[whole:].reshape(-1)])


def pack_dense_f32(view: View, fields: dict[str, Field], storage: str) -> dict[str, Field]:
    return fields | stored(interleaved(np.asarray(fields["weight"])), storage)


def pack_conv_f32(view: View, fields: dict[str, Field], storage: str) -> dict[str, Field]:
    """Group by group."""
    weights = np.asarray(fields["weight"])
    groups = view.x.shape[3] // weights.shape[3]
    parts = weights.reshape(groups, weights.shape[0] // groups, -1)
    return fields | stored(np.concatenate([interleaved(part) for part in parts]), storage)


def pack_depthwise_f32(view: View, fields: dict[str, Field], storage: str) -> dict[str, Field]:
    """Channel o's taps side by side; blocks where each channel reads an input channel of its own."""
    weights = np.asarray(fields["weight"])
    channels = weights.shape[3]
    by_channel = weights.reshape(-1, channels).T
    blocks = channels // LANES if channels == view.x.shape[3] else 0
    packed = interleaved(by_channel) if blocks else by_channel.reshape(-1)
    before = {name: value for name, value in fields.items() if name not in ("weight", "bias")}
    return before | {"blocks": blocks, **stored(packed, storage), "bias": fields["bias"]}
