"""How weights lie in flash: dense, or packed in a form that their values allow. Found from the values, layer by layer.

Weights here are [channels, inputs] int8 with a zero point of zero. Each form says what arrays it flashes (`pack`) and gives the
weights back (`unpack`), which is what its kernels do; `docs/storage.md` has their layouts in words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minikin.ops import coded

GROUP = 4
"""Channels whose codebook indices lie side by side, and that a convolution expands together."""
BLOCK = 4
"""M of N:M: inputs that share their places."""
MAX_BITS = 5
"""Of a codebook's index."""

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Storage:
    """One form. `takes` says whether the values allow it; `pack` gives the arrays that hold them, `unpack` the weights again."""

    name: str
    takes: Callable[[np.ndarray], bool]
    pack: Callable[[np.ndarray], Arrays]
    unpack: Callable[[Arrays, tuple[int, int]], np.ndarray]


def codebook_of(weights: np.ndarray) -> tuple[np.ndarray, int]:
    """(the distinct codes, rising; bits of an index)."""
    codes = np.unique(weights)
    return codes, max(1, (codes.size - 1).bit_length())


def has_codebook(weights: np.ndarray) -> bool:
    return codebook_of(weights)[1] <= MAX_BITS


def pack_codebook(weights: np.ndarray) -> Arrays:
    """Indices in the order in which a group of channels reads them: input by input, channel by channel."""
    codes, bits = codebook_of(weights)
    index = np.searchsorted(codes, weights)
    groups = [index[start : start + GROUP].T.reshape(-1) for start in range(0, len(index), GROUP)]
    return {"codebook": codes, "indices": pack_bits(np.concatenate(groups), bits)}


def unpack_codebook(arrays: Arrays, shape: tuple[int, int]) -> np.ndarray:
    codes, (channels, inputs) = arrays["codebook"], shape
    bits = max(1, (codes.size - 1).bit_length())
    values = codes[unpack_bits(arrays["indices"], bits, channels * inputs)]
    groups = [values[start * inputs :][: GROUP * inputs] for start in range(0, channels, GROUP)]
    return np.concatenate([group.reshape(inputs, -1).T for group in groups])


def pack_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """`bits` bits of each value, the lowest first, in bytes."""
    places = (values[:, None] >> np.arange(bits)) & 1
    return np.packbits(places.astype(np.uint8).reshape(-1), bitorder="little")


def unpack_bits(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    places = np.unpackbits(packed, bitorder="little")[: bits * count].reshape(count, bits)
    return (places.astype(np.int64) << np.arange(bits)).sum(1)


def values_of(weights: np.ndarray) -> tuple[np.ndarray, Arrays]:
    """The nonzero weights channel by channel, and how they lie in flash: as codes, or as indices of a codebook."""
    values = weights[weights != 0]
    codes, bits = codebook_of(values)
    if values.size and bits <= MAX_BITS and codes.size + (values.size * bits + 7) // 8 < values.size:
        return values, {"codebook": codes, "values": pack_bits(np.searchsorted(codes, values), bits)}
    return values, {"values": values}


def unpack_values(arrays: Arrays, count: int) -> np.ndarray:
    if "codebook" not in arrays:
        return arrays["values"][:count]
    bits = max(1, (arrays["codebook"].size - 1).bit_length())
    return arrays["codebook"][unpack_bits(arrays["values"], bits, count)]


def pack_bitmask(weights: np.ndarray) -> Arrays:
    """A bit for each weight, filled up to whole bytes channel by channel; then the nonzero ones."""
    mask = np.packbits(weights != 0, axis=1, bitorder="little")
    return {"mask": mask.reshape(-1), **values_of(weights)[1]}


def unpack_bitmask(arrays: Arrays, shape: tuple[int, int]) -> np.ndarray:
    mask = np.unpackbits(arrays["mask"].reshape(shape[0], -1), axis=1, bitorder="little")[:, : shape[1]].astype(bool)
    weights = np.zeros(shape, np.int8)
    weights[mask] = unpack_values(arrays, int(mask.sum()))
    return weights


def pack_gaps(weights: np.ndarray) -> Arrays:
    """For each channel the number of pairs (two bytes), then the pairs (gap, code): after `gap` inputs comes `code`.

    A gap of more than 255 zeros takes pairs (255, 0), which pass 256 inputs.
    """
    counts, pairs = [], []
    for row in weights:
        at, last, count = np.flatnonzero(row), -1, len(pairs)
        for k in at.tolist():
            gap = k - last - 1
            while gap > 255:
                pairs.append((255, 0))
                gap -= 256
            pairs.append((gap, int(row[k]) & 255))
            last = k
        counts.append(len(pairs) - count)
    return {"counts": np.array(counts, np.uint16), "pairs": np.array(pairs, np.uint8).reshape(-1)}


def unpack_gaps(arrays: Arrays, shape: tuple[int, int]) -> np.ndarray:
    weights = np.zeros(shape, np.int8)
    pairs = iter(arrays["pairs"].reshape(-1, 2).tolist())
    for channel, count in enumerate(arrays["counts"].tolist()):
        k = -1
        for _ in range(count):
            gap, code = next(pairs)
            k += gap + 1
            if code:
                weights[channel, k] = np.uint8(code).astype(np.int8)
    return weights


def places_of(weights: np.ndarray) -> int:
    """N of N:M: the most nonzero weights in a block of BLOCK inputs."""
    return int((_blocks(weights) != 0).sum(2).max(initial=0))


def _blocks(weights: np.ndarray) -> np.ndarray:
    filled = np.pad(weights, ((0, 0), (0, -weights.shape[1] % BLOCK)))
    return filled.reshape(len(weights), -1, BLOCK)


def has_blocks(weights: np.ndarray) -> bool:
    """N of 1 or 2, whole blocks."""
    return weights.shape[1] % BLOCK == 0 and 1 <= places_of(weights) <= BLOCK // 2


def pack_blocks(weights: np.ndarray) -> Arrays:
    """N places of two bits for each block, all of them in one stream, then N codes for each; unused ones are zero."""
    blocks, count = _blocks(weights), places_of(weights)
    places = np.argsort(blocks == 0, axis=2, kind="stable")[..., :count]
    codes = np.take_along_axis(blocks, places, 2)
    return {"places": pack_bits(places.reshape(-1), 2), "values": codes.reshape(-1)}


def unpack_blocks(arrays: Arrays, shape: tuple[int, int]) -> np.ndarray:
    blocks = np.zeros((shape[0], shape[1] // BLOCK, BLOCK), np.int8)
    codes = arrays["values"].reshape(*blocks.shape[:2], -1)
    places = unpack_bits(arrays["places"], 2, codes.size).reshape(codes.shape)
    for n in reversed(range(codes.shape[2])):  # unused places come last and hold zeros
        mine, code = places[..., n : n + 1], codes[..., n : n + 1]
        np.put_along_axis(blocks, mine, np.where(code != 0, code, np.take_along_axis(blocks, mine, 2)), 2)
    return blocks.reshape(shape)


FORMS = {
    form.name: form
    for form in (
        Storage("codebook", has_codebook, pack_codebook, unpack_codebook),
        Storage("bitmask", lambda weights: True, pack_bitmask, unpack_bitmask),
        Storage("sparse", lambda weights: weights.shape[1] < 1 << 16, pack_gaps, unpack_gaps),
        Storage("nm", has_blocks, pack_blocks, unpack_blocks),
    )
}


def stored_bytes(weights: np.ndarray, bias: np.ndarray | None = None, scales: int = 1) -> dict[str, int]:
    """Bytes of flash by form of a layer with these int8 weights [channels, ...] and int32 biases.

    With what every form has: a multiplier and a shift for each of `scales`, biases as int32 (in "coded" they are coded).
    """
    rows = weights.reshape(len(weights), -1)
    others = 5 * scales + (0 if bias is None else 4 * bias.size)
    sizes = {"dense": rows.size + others}
    for name, form in FORMS.items():
        if form.takes(rows):
            sizes[name] = sum(array.nbytes for array in form.pack(rows).values()) + others
    return sizes | {"coded": coded.encode(rows, bias).nbytes + 5 * scales}
