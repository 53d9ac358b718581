"""Entropy-coded weights: one adaptive binary range coder for each layer, no tables; the C twin is kernels/mk_coded.h.

Every binary decision has a probability of its own that follows what came before (12 bits, moved by 1/32 a time), as in
LZMA's range coder (I. Pavlov, lzma-specification.txt). The decisions of a layer, channel after channel:

    gap, then for each channel its bias and, until a gap leaves the channel, a value and the next gap

A gap counts the zeros before a value, over all channels; behind the last value it counts those that are left. Gaps and biases
are Elias gamma codes (n + 1 in binary, its length in unary), a bias zigzag and without the zero bits that all of them end
in. A value is an index of the codebook, high bit first: a tree of decisions, one of three: after a zero, or after a neighbour
of the lower or the upper half of the codebook. Bits behind the fifth have one decision for each place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

ONE, START, RATE = 1 << 12, 1 << 11, 5
TREE_BITS = 5
"""Bits of an index that are decided in a tree."""
TREE = (1 << TREE_BITS) + 3
"""Decisions of one tree: nodes from 1 on, then the places behind the fifth."""
CONTEXTS = 3


class Encoder:
    """Decisions in, bytes out. Where `low` passes 32 bits the carry runs back into the bytes."""

    def __init__(self, decisions: int):
        self.model = [START] * decisions
        self.out = bytearray()
        self.low, self.range = 0, 0xFFFFFFFF

    def bit(self, at: int, bit: int) -> None:
        p = self.model[at]
        bound = (self.range >> 12) * p
        if bit:
            self.low += bound
            self.range -= bound
            self.model[at] = p - (p >> RATE)
        else:
            self.range = bound
            self.model[at] = p + ((ONE - p) >> RATE)
        while self.range < 1 << 24:
            self._shift()
            self.range <<= 8

    def _shift(self) -> None:
        if self.low >> 32:
            place = len(self.out) - 1
            while self.out[place] == 255:
                self.out[place] = 0
                place -= 1
            self.out[place] += 1
        self.out.append(self.low >> 24 & 255)
        self.low = self.low << 8 & 0xFFFFFFFF

    def number(self, at: int, longest: int, n: int) -> None:
        """`longest`: bits of the largest n + 1, less one."""
        size = (n + 1).bit_length() - 1
        for length in range(size):
            self.bit(at + length, 1)
        self.bit(at + size, 0)
        places = at + longest + 1 + size * (size - 1) // 2
        for place in reversed(range(size)):
            self.bit(places + place, n + 1 >> place & 1)

    def index(self, at: int, bits: int, index: int) -> None:
        node = 1
        for place in reversed(range(bits)):
            bit = index >> place & 1
            self.bit(at + (node if node < 1 << TREE_BITS else (1 << TREE_BITS) + place), bit)
            node = 2 * node + bit

    def finish(self) -> bytes:
        """As few bytes as tell this range from all others; a reader takes zeros behind them."""
        for zeros in (32, 24, 16, 8, 0):
            mask = (1 << zeros) - 1
            end = self.low + mask & ~mask
            if end < self.low + self.range:
                break
        self.low = end
        for _ in range(4):
            self._shift()
        return bytes(self.out).rstrip(b"\0") or b"\0"


class Decoder:
    """The twin of Encoder, decision by decision."""

    def __init__(self, data: bytes, decisions: int):
        self.model = [START] * decisions
        self.data = iter(data)
        self.range, self.code = 0xFFFFFFFF, 0
        for _ in range(4):
            self._shift()

    def _shift(self) -> None:
        self.code = self.code << 8 | next(self.data, 0)

    def bit(self, at: int) -> int:
        p = self.model[at]
        bound = (self.range >> 12) * p
        bit = int(self.code >= bound)
        if bit:
            self.code -= bound
            self.range -= bound
            self.model[at] = p - (p >> RATE)
        else:
            self.range = bound
            self.model[at] = p + ((ONE - p) >> RATE)
        while self.range < 1 << 24:
            self._shift()
            self.range <<= 8
        return bit

    def number(self, at: int, longest: int) -> int:
        size = 0
        while self.bit(at + size):
            size += 1
        n, places = 1, at + longest + 1 + size * (size - 1) // 2
        for place in reversed(range(size)):
            n = 2 * n + self.bit(places + place)
        return n - 1

    def index(self, at: int, bits: int) -> int:
        node = 1
        for place in reversed(range(bits)):
            node = 2 * node + self.bit(at + (node if node < 1 << TREE_BITS else (1 << TREE_BITS) + place))
        return node - (1 << bits)


@dataclass(frozen=True)
class Coded:
    """A layer's weights [channels, inputs] and biases, coded. `codebook` holds the nonzero codes, rising.

    An empty codebook stands for all codes of `bits` bits: index - 2**(bits - 1).
    """

    shape: tuple[int, int]
    data: bytes
    codebook: np.ndarray
    bits: int
    gap_bits: int
    bias_bits: int
    bias_shift: int

    @property
    def biases(self) -> int:
        """Where the decisions of biases begin, behind those of gaps."""
        return decisions(self.gap_bits)

    @property
    def trees(self) -> int:
        return self.biases + decisions(self.bias_bits)

    @property
    def decisions(self) -> int:
        return self.trees + CONTEXTS * TREE

    @property
    def nbytes(self) -> int:
        return len(self.data) + self.codebook.size


def decisions(longest: int) -> int:
    """Of a number: one for each length, then one for each place of each length; none where there are no numbers (-1)."""
    return (longest + 1) * (longest + 2) // 2


def encode(weights: np.ndarray, bias: np.ndarray | None = None) -> Coded:
    """Code int8 `weights` [channels, inputs] and int32 biases."""
    channels, inputs = weights.shape
    flat = weights.reshape(-1).astype(np.int64)
    at = np.flatnonzero(flat)
    gaps = np.diff(np.concatenate([[-1], at, [flat.size]])) - 1
    codebook, bits = choose_codebook(flat[at])
    index = np.searchsorted(codebook, flat[at]) if codebook.size else flat[at] + (1 << bits - 1)
    shift = common_shift(bias)
    numbers = zigzag(np.asarray(bias, np.int64) >> shift) if bias is not None else np.zeros(0, np.int64)
    coded = Coded(
        (channels, inputs),
        b"",
        codebook.astype(np.int8),
        bits,
        length_of(gaps),
        length_of(numbers) if bias is not None else -1,
        shift,
    )
    return _with_data(coded, at.tolist(), gaps.tolist(), index.tolist(), numbers.tolist())


def _with_data(coded: Coded, at: list[int], gaps: list[int], index: list[int], numbers: list[int]) -> Coded:
    (channels, inputs), bits = coded.shape, coded.bits
    out = Encoder(coded.decisions)
    biases, trees = coded.biases, coded.trees
    out.number(0, coded.gap_bits, gaps[0])
    half, last, done = 1 << bits - 1, 0, 0
    for channel in range(channels):
        if numbers:
            out.number(biases, coded.bias_bits, numbers[channel])
        while done < len(at) and at[done] < (channel + 1) * inputs:
            context = 0 if gaps[done] else 1 + (last >= half)
            last = index[done]
            out.index(trees + context * TREE, bits, last)
            done += 1
            out.number(0, coded.gap_bits, gaps[done])
    return replace(coded, data=out.finish())


def decode(coded: Coded) -> tuple[np.ndarray, np.ndarray | None]:
    """(weights int8 [channels, inputs], biases int32 or None)."""
    weights, biases = np.zeros(coded.shape, np.int8), []
    for channel, (bias, row) in enumerate(_channels(coded)):
        biases.append(bias)
        for k, code in row:
            weights[channel, k] = code
    return weights, np.array(biases, np.int32) if coded.bias_bits >= 0 else None


def _channels(coded: Coded) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    (channels, inputs), bits = coded.shape, coded.bits
    source = Decoder(coded.data, coded.decisions)
    biases, trees = coded.biases, coded.trees
    gap = source.number(0, coded.gap_bits)
    k, last, half = gap, 0, 1 << bits - 1
    for _ in range(channels):
        bias = 0
        if coded.bias_bits >= 0:
            n = source.number(biases, coded.bias_bits)
            bias = (n >> 1 ^ -(n & 1)) << coded.bias_shift
        row = []
        while k < inputs:
            last = source.index(trees + (0 if gap else 1 + (last >= half)) * TREE, bits)
            row.append((k, int(coded.codebook[last]) if coded.codebook.size else last - half))
            gap = source.number(0, coded.gap_bits)
            k += gap + 1
        k -= inputs
        yield bias, row


def choose_codebook(codes: np.ndarray) -> tuple[np.ndarray, int]:
    """(codebook or an empty one, bits of an index) of nonzero codes: a codebook where it takes fewer bits."""
    own = np.unique(codes)
    if not own.size:
        return own, 1
    listed = max(1, (own.size - 1).bit_length())
    plain = max(int(end if end >= 0 else ~end).bit_length() + 1 for end in own[[0, -1]].astype(int))
    return (own, listed) if listed < plain else (own[:0], plain)


def common_shift(bias: np.ndarray | None) -> int:
    """Zero bits that all biases end in."""
    together = int(np.bitwise_or.reduce(np.abs(np.asarray(bias, np.int64)))) if bias is not None and bias.size else 0
    return (together & -together).bit_length() - 1 if together else 0


def zigzag(values: np.ndarray) -> np.ndarray:
    return np.where(values < 0, -2 * values - 1, 2 * values)


def length_of(numbers: np.ndarray) -> int:
    return (int(numbers.max(initial=0)) + 1).bit_length() - 1
