"""What kernels of packed weights ask of the compiler: which nodes they take, and the fields of their structs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from minikin.graph import View
from minikin.ops import coded
from minikin.ops.opdef import Field, Scratch
from minikin.ops.packing import is_symmetric
from minikin.ops.requant import weights_of

REQUANT = ("out_offset", "act_min", "act_max", "per_channel", "mult", "shift")


def rows_of(view: View) -> np.ndarray:
    """[channels, inputs] of a dense layer or a convolution."""
    w = weights_of(view)
    return np.asarray(w.data).reshape(w.shape[0], -1)


def takes_stored(view: View) -> bool:
    """int8 with symmetric weights: a zero is a zero."""
    return is_symmetric(view)


def requant(fields: dict[str, Field]) -> dict[str, Field]:
    """struct mk_requant."""
    return {name: fields[name] for name in REQUANT} | {"round_once": fields.get("round_once", 0)}


@lru_cache(maxsize=256)
def _coded(weights: bytes, shape: tuple[int, int], bias: bytes | None) -> coded.Coded:
    return coded.encode(
        np.frombuffer(weights, np.int8).reshape(shape), None if bias is None else np.frombuffer(bias, np.int32)
    )


def coded_of(view: View) -> coded.Coded:
    """The layer's weights and biases, coded once for all who ask."""
    rows, bias = rows_of(view), view.input(2)
    data = None if bias is None else np.asarray(bias.data, np.int32).tobytes()
    return _coded(rows.tobytes(), rows.shape, data)


def coded_fields(view: View, at: int = 0) -> dict[str, Field]:
    """struct mk_coded; its probabilities lie in scratch memory from byte `at` on."""
    own = coded_of(view)
    return {
        "data": np.frombuffer(own.data, np.uint8),
        "bytes": len(own.data),
        "codebook": own.codebook if own.codebook.size else None,
        "bits": own.bits,
        "gap_bits": own.gap_bits,
        "bias_bits": own.bias_bits,
        "bias_shift": own.bias_shift,
        "biases": own.biases,
        "trees": own.trees,
        "decisions": own.decisions,
        "model": Scratch("uint16_t", at),
    }


def coded_scratch(view: View, rows: int) -> int:
    return 2 * coded_of(view).decisions


def pack_dense_coded(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    return dense_head(fields) | {"requant": requant(fields), "codes": coded_fields(view)}


def dense_head(fields: dict[str, Field]) -> dict[str, Field]:
    return {name: fields[name] for name in ("batch", "in_ch", "out_ch", "in_offset")}
