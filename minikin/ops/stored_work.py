"""How much decoders of packed weights do in one reading, beside their op's counts (ops/work.py).

An entry of mk_sparse.h, by two bytes or one with an index; a byte of a mask (mk_bitmask.h) and its places up to the last one
that is set; a value, by itself or by an index, and the bytes of indices (mk_codebook.h); a step of four values of mk_blocks.h;
a decision, a number, a byte and a probability of mk_coded.h.
"""

from __future__ import annotations

import numpy as np

from minikin.ops.coded import TREE_BITS, Coded, zigzag
from minikin.ops.storage import BLOCK, GROUP, Packed
from minikin.ops.work import Work


def packed_work(form: str, packed: Packed, rows: np.ndarray) -> Work:
    """Of weights [channels, inputs] in a form of storage.FORMS."""
    channels, inputs = rows.shape
    if form == "sparse":
        two = packed["codebook"] is None
        count = float(packed["counts"].sum())
        return {"channel": channels, "entry": count * two, "index_entry": count * (not two)}
    if form == "bitmask":
        places = np.array([int(byte).bit_length() for byte in range(256)])
        return {
            "channel": channels,
            "mask_byte": packed["mask"].size,
            "place": float(places[packed["mask"]].sum()),
            **_index_work(packed["codes"], int(np.count_nonzero(rows))),
        }
    if form == "nm":
        step = 4 * BLOCK // packed["count"]
        return {
            "channel": channels,
            "step": channels * (inputs // step),
            "rest": channels * (inputs % step > 0),
            "rest_value": channels * (inputs % step) // BLOCK * packed["count"],
        }
    nibbles = packed["bits"] == 4
    whole = channels // GROUP * GROUP * inputs
    return {
        "group": channels // GROUP,
        "nibble": whole * nibbles,
        "rest_index": (rows.size - whole) * nibbles,
        **_index_work(packed, rows.size * (not nibbles)),
    }


def _index_work(packed: Packed, count: float) -> Work:
    """Of `count` values of struct mk_codebook."""
    indexed = packed["codebook"] is not None
    return {
        "value": count * (not indexed),
        "index": count * indexed,
        "refill": packed["indices"].size * (indexed and count > 0),
    }


def coded_work(coded: Coded, rows: np.ndarray, bias: np.ndarray | None) -> Work:
    """Of entropy-coded weights [channels, inputs]."""
    flat = rows.reshape(-1)
    at = np.flatnonzero(flat)
    gaps = np.diff(np.concatenate([[-1], at, [flat.size]])) - 1
    numbers = gaps if bias is None else np.concatenate([gaps, zigzag(np.asarray(bias, np.int64) >> coded.bias_shift)])
    lengths = np.floor(np.log2(numbers + 1.0)).astype(np.int64)
    values = flat[at].astype(np.int64)
    indices = np.searchsorted(coded.codebook, values) if coded.codebook.size else values + (1 << coded.bits >> 1)
    return {
        "channel": coded.shape[0],
        "value": at.size,
        "number": numbers.size,
        "value_decision": at.size * min(coded.bits, TREE_BITS),
        "late_decision": at.size * max(coded.bits - TREE_BITS, 0),
        "length": float(lengths.sum()),
        "one": float(_ones(indices) + lengths.sum() + _ones(numbers + 1) - numbers.size),
        "byte": len(coded.data),
        "probability": coded.decisions,
    }


def _ones(values: np.ndarray) -> int:
    """Bits that are set in all values."""
    return int(np.unpackbits(values.astype("<i8").view(np.uint8)).sum())
