"""How weights lie in flash: dense, or packed in a form that their values allow. Found from the values, layer by layer.

Weights here are [channels, inputs] int8 with a zero point of zero. Each form says what arrays it flashes (`pack`) and gives the
weights back (`unpack`), which is what its kernels do; `docs/storage.md` has their layouts in words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minikin.ops import coded

GROUP = 4
"""Channels whose codebook indices lie side by side, and the most that a convolution expands together."""
BLOCK = 4
"""M of N:M: inputs that share their places."""
MAX_BITS = 5
"""Of a codebook's index."""

Packed = dict[str, Any]
"""The fields of a form's struct in C: arrays as they are flashed, numbers, or another such struct."""


@dataclass(frozen=True)
class Storage:
    """One form. `takes` says whether the values allow it; `pack` gives what holds them, `unpack` the weights again."""

    name: str
    takes: Callable[[np.ndarray], bool]
    pack: Callable[[np.ndarray], Packed]
    unpack: Callable[[Packed, tuple[int, int]], np.ndarray]


def codebook_of(weights: np.ndarray) -> tuple[np.ndarray, int]:
    """(the distinct codes, rising; bits of an index)."""
    codes = np.unique(weights)
    return codes, max(1, (codes.size - 1).bit_length())


def has_codebook(weights: np.ndarray) -> bool:
    return codebook_of(weights)[1] <= MAX_BITS


def pack_codebook(weights: np.ndarray, group: int = GROUP) -> Packed:
    """struct mk_codebook: indices in the order in which a group of channels reads them, input by input."""
    codes, bits = codebook_of(weights)
    index = np.searchsorted(codes, weights)
    groups = [index[start : start + group].T.reshape(-1) for start in range(0, len(index), group)]
    return {"indices": pack_bits(np.concatenate(groups), bits), "codebook": codes, "bits": bits}


def unpack_codebook(packed: Packed, shape: tuple[int, int], group: int = GROUP) -> np.ndarray:
    (channels, inputs), values = shape, unpack_values(packed, shape[0] * shape[1])
    groups = [values[start * inputs :][: group * inputs] for start in range(0, channels, group)]
    return np.concatenate([own.reshape(inputs, -1).T for own in groups])


def pack_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """`bits` bits of each value, the lowest first, in bytes."""
    places = (values[:, None] >> np.arange(bits)) & 1
    return np.packbits(places.astype(np.uint8).reshape(-1), bitorder="little")


def unpack_bits(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    places = np.unpackbits(packed, bitorder="little")[: bits * count].reshape(count, bits)
    return (places.astype(np.int64) << np.arange(bits)).sum(1)


def pack_values(values: np.ndarray) -> Packed:
    """struct mk_codebook of nonzero weights one behind the other: indices, or where that takes no more bytes the codes."""
    codes, bits = codebook_of(values)
    if bits <= MAX_BITS and codes.size + (values.size * bits + 7) // 8 < values.size:
        return {"indices": pack_bits(np.searchsorted(codes, values), bits), "codebook": codes, "bits": bits}
    return {"indices": _some(values.astype(np.int8).view(np.uint8)), "codebook": None, "bits": 8}


def unpack_values(packed: Packed, count: int) -> np.ndarray:
    if packed["codebook"] is None:
        return packed["indices"][:count].view(np.int8)
    return packed["codebook"][unpack_bits(packed["indices"], packed["bits"], count)]


def _some(array: np.ndarray) -> np.ndarray:
    """C has no empty arrays."""
    return array if array.size else np.zeros(1, array.dtype)


def pack_bitmask(weights: np.ndarray) -> Packed:
    """struct mk_bitmask: a bit for each weight, filled up to whole bytes channel by channel; then the nonzero ones."""
    mask = np.packbits(weights != 0, axis=1, bitorder="little")
    return {"mask": mask.reshape(-1), "codes": pack_values(weights[weights != 0])}


def unpack_bitmask(packed: Packed, shape: tuple[int, int]) -> np.ndarray:
    mask = np.unpackbits(packed["mask"].reshape(shape[0], -1), axis=1, bitorder="little")[:, : shape[1]].astype(bool)
    weights = np.zeros(shape, np.int8)
    weights[mask] = unpack_values(packed["codes"], int(mask.sum()))
    return weights


def pack_sparse(weights: np.ndarray) -> Packed:
    """struct mk_sparse: an entry for each nonzero weight and each run of zeros too long for one; with a codebook or without."""
    codes, bits = codebook_of(np.append(weights[weights != 0], np.int8(0)))
    forms = [_sparse(weights, None, 8), *([_sparse(weights, codes, bits)] if bits <= MAX_BITS else [])]
    return min(forms, key=packed_bytes)


def _sparse(weights: np.ndarray, codebook: np.ndarray | None, bits: int) -> Packed:
    at = np.flatnonzero(weights)
    channel, k = np.divmod(at, weights.shape[1])
    zeros = k - np.where(np.diff(channel, prepend=-1) > 0, 0, np.roll(k, 1) + 1)
    longest = 255 if codebook is None else (1 << 8 - bits) - 1
    passes = zeros // (longest + 1)  # entries whose code is zero, each of which passes longest + 1 inputs
    counts = np.bincount(channel, weights=passes + 1, minlength=len(weights)).astype(np.uint16)
    ends = np.cumsum(passes + 1) - 1
    gaps, values = np.full(int(counts.sum(dtype=np.int64)), longest), np.zeros(int(counts.sum(dtype=np.int64)), np.int8)
    gaps[ends], values[ends] = zeros % (longest + 1), weights.reshape(-1)[at]
    if codebook is None:
        entries = np.stack([gaps.astype(np.uint8), values.view(np.uint8)], axis=1).reshape(-1)
    else:
        entries = (gaps << bits | np.searchsorted(codebook, values)).astype(np.uint8)
    return {"counts": counts, "entries": _some(entries), "codebook": codebook, "bits": bits}


def unpack_sparse(packed: Packed, shape: tuple[int, int]) -> np.ndarray:
    entries, codebook, bits = packed["entries"], packed["codebook"], packed["bits"]
    gaps = entries[::2] if codebook is None else entries >> bits
    codes = entries[1::2].view(np.int8) if codebook is None else codebook[entries & (1 << bits) - 1]
    weights, start = np.zeros(shape, np.int8), 0
    for row, count in zip(weights, packed["counts"].tolist(), strict=True):
        own = slice(start, start + count)
        row[np.cumsum(gaps[own].astype(np.int64) + 1) - 1] = codes[own]
        start += count
    return weights


def places_of(weights: np.ndarray) -> int:
    """N of N:M: the most nonzero weights in a block of BLOCK inputs."""
    return int((weights.reshape(len(weights), -1, BLOCK) != 0).sum(2).max(initial=0))


def has_blocks(weights: np.ndarray) -> bool:
    """Whole blocks, N of 1 or 2."""
    return weights.shape[1] % BLOCK == 0 and 1 <= places_of(weights) <= BLOCK // 2


def pack_blocks(weights: np.ndarray) -> Packed:
    """struct mk_blocks: N places of two bits for each block, whole bytes for each channel; N codes; unused ones are zero."""
    blocks, count = weights.reshape(len(weights), -1, BLOCK), places_of(weights)
    places = np.argsort(blocks == 0, axis=2, kind="stable")[..., :count]
    codes = np.take_along_axis(blocks, places, 2)
    bits = (places.reshape(len(weights), -1, 1) >> np.arange(2)) & 1
    packed = np.packbits(bits.astype(np.uint8).reshape(len(weights), -1), axis=1, bitorder="little")
    return {"places": packed.reshape(-1), "values": codes.reshape(-1), "count": count}


def unpack_blocks(packed: Packed, shape: tuple[int, int]) -> np.ndarray:
    count, blocks = packed["count"], np.zeros((shape[0], shape[1] // BLOCK, BLOCK), np.int8)
    codes = packed["values"].reshape(*blocks.shape[:2], count)
    bits = np.unpackbits(packed["places"].reshape(shape[0], -1), axis=1, bitorder="little")
    places = (bits.reshape(shape[0], -1, 2) << np.arange(2)).sum(2)[:, : blocks.shape[1] * count].reshape(codes.shape)
    for n in range(count):
        mine = places[..., n : n + 1]
        np.put_along_axis(blocks, mine, np.take_along_axis(blocks, mine, 2) + codes[..., n : n + 1], 2)
    return blocks.reshape(shape)


FORMS = {
    form.name: form
    for form in (
        Storage("codebook", has_codebook, pack_codebook, unpack_codebook),
        Storage("bitmask", lambda weights: True, pack_bitmask, unpack_bitmask),
        Storage("sparse", lambda weights: weights.shape[1] < 1 << 15, pack_sparse, unpack_sparse),
        Storage("nm", has_blocks, pack_blocks, unpack_blocks),
    )
}


def packed_bytes(packed: Any) -> int:
    """Bytes of all arrays in the fields of a struct."""
    if isinstance(packed, dict):
        return sum(map(packed_bytes, packed.values()))
    return packed.nbytes if isinstance(packed, np.ndarray) else 0


def stored_bytes(weights: np.ndarray, bias: np.ndarray | None = None, scales: int = 1) -> dict[str, int]:
    """Bytes of flash by form of a layer with these int8 weights [channels, ...] and int32 biases.

    With what every form has: a multiplier and a shift for each of `scales`, biases as int32 (in "coded" they are coded).
    """
    rows = weights.reshape(len(weights), -1)
    others = 5 * scales + (0 if bias is None else 4 * bias.size)
    sizes = {"dense": rows.size + others}
    for name, form in FORMS.items():
        if form.takes(rows):
            sizes[name] = packed_bytes(form.pack(rows)) + others
    return sizes | {"coded": coded.encode(rows, bias).nbytes + 5 * scales}
