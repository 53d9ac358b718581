"""What mk_depthwise_conv2d_s8_taps_dsp asks of the compiler: which inputs it widens where, and how weights are packed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import gcd

import numpy as np

from minikin.graph import View
from minikin.ops.conv_dsp import depthwise_weights
from minikin.ops.fitting import packed_channels
from minikin.ops.opdef import Field, Kernel, Scratch, activation_range, table
from minikin.ops.packing import GROUP, are_exact, exact_fields, is_symmetric
from minikin.ops.requant import quant_of
from minikin.ops.window import conv_window
from minikin.ops.work import Work, bound_work

MOST_TAPS = 8
"""Pairs of taps in a run."""
SEGMENT_BYTES = 24
SCRATCH_BYTES = 6144
"""What a call of several rows may take, where one row takes less."""
PIXELS = 96
"""After which a table costs little."""
POINTERS = 12
"""Rows of inputs that such a call may point to."""

Tap = tuple[int, int]


@dataclass(frozen=True)
class Line:
    """Widened columns from `start` on, of row `row` and its partner, where a tap of a pair and the other one are.

    A partner is `down` rows below (0: the same row) and `across` columns to the right; taps (ky, kx) of the pairs, with the
    first one's column.
    """

    row: int
    down: int
    across: int
    start: int
    columns: int
    taps: tuple[tuple[Tap, Tap, int], ...]


@dataclass(frozen=True)
class Layout:
    """Widened lines of each of several rows of outputs; how many columns all take, and from a row's lines to the next one's."""

    rows: tuple[tuple[Line, ...], ...]
    columns: int
    row_step: int


def takes_taps(view: View) -> bool:
    """int8, one output channel for each of at least four, and outputs of the exact form."""
    if not is_symmetric(view) or view.x.shape[3] != view.y.shape[3] or view.y.shape[3] < GROUP:
        return False
    return are_exact(view, packed_channels(view, depthwise_weights(view)))


def layout(view: View, rows: int) -> Layout:
    """Of each row of outputs the pairs of kernel rows, then an odd one's columns. Rows share pairs that they both read.

    A pair lies where its first input row says, so that all rows of outputs have the same way from line to line.
    """
    geometry, out_w = conv_window(view), view.y.shape[2]
    (kernel_h, kernel_w), (down, step), stride = geometry.kernel, geometry.dilation, geometry.stride
    half = -(-kernel_w // 2)
    pairs = kernel_h // 2 if kernel_w > 1 else -(-kernel_h // 2)
    unit = gcd(stride[0], 2 * down) if rows > 1 and pairs else 2 * down if pairs else stride[0]
    apart = stride[0] // unit if rows > 1 else 0
    columns, last_columns = ((out_w - 1) * stride[1] + (taps - 1) * step + 1 for taps in (kernel_w, half))
    pitch = columns if pairs else last_columns
    behind = ((rows - 1) * stride[0] + 2 * down * (pairs - 1)) // unit + 1 if pairs else 0
    found = []
    for r in range(rows):
        own = []
        for k in range(pairs):
            row = r * stride[0] + 2 * k * down
            taps = tuple(((2 * k, kx), (2 * k + 1, kx), kx * step) for kx in range(kernel_w))
            own.append(Line(row, down, 0, row // unit * pitch, columns, taps))
        if 2 * pairs < kernel_h:
            row = r * stride[0] + (kernel_h - 1) * down
            taps = tuple(((kernel_h - 1, kx), (kernel_h - 1, kx + half), kx * step) for kx in range(half))
            own.append(Line(row, 0, half * step, (behind + r * apart) * pitch, last_columns, taps))
        found.append(tuple(own))
    end = max(line.start + line.columns for own in found for line in own)
    return Layout(tuple(found), end, apart * pitch)


def segments(view: View, rows: int) -> np.ndarray:
    """[segments, 7], by place: columns whose first inputs lie in the frame, or whose second ones, or both.

    The row of outputs that reads them first; row and partner's row (-1: none), column of each; place, count.
    """
    geometry, width = conv_window(view), view.x.shape[2]
    found: list[tuple[int, ...]] = []
    made: set[int] = set()
    for r, own in enumerate(layout(view, rows).rows):
        for line in own:
            if line.start in made:
                continue
            made.add(line.start)
            first = np.arange(line.columns) - geometry.padding[2]
            second = first + line.across
            partner = line.row + line.down
            inside = ((first >= 0) & (first < width)) + 2 * ((second >= 0) & (second < width))
            edges = [0, *(np.flatnonzero(np.diff(inside)) + 1), line.columns]
            for lo, hi in pairwise(edges):
                if inside[lo]:
                    which = (line.row if inside[lo] & 1 else -1, partner if inside[lo] & 2 else -1)
                    found.append((r, *which, int(first[lo]), int(second[lo]), line.start + int(lo), int(hi - lo)))
    return np.array(sorted(found, key=lambda segment: segment[5]), np.int16)


def runs(view: View, rows: int) -> list[tuple[int, int]]:
    """Pairs of taps side by side, and columns from behind them to the next; from the last ones to the next pixel."""
    places = [line.start + at for line in layout(view, rows).rows[0] for _, _, at in line.taps]
    starts = [0]
    for i in range(1, len(places)):
        if places[i] != places[i - 1] + 1 or i - starts[-1] == MOST_TAPS:
            starts.append(i)
    ends = [*starts[1:], len(places)]
    nexts = [*(places[start] for start in starts[1:]), places[0] + view.attrs.stride[1]]
    return [(end - start, at - places[end - 1] - 1) for start, end, at in zip(starts, ends, nexts, strict=True)]


def pairs_of_taps(view: View) -> int:
    return sum(len(line.taps) for line in layout(view, 1).rows[0])


def blank_words(view: View) -> int:
    return 4 * -(-view.y.shape[3] // 16) if any(view.attrs.padding) else 0


def table_words(view: View, rows: int) -> int:
    return 14 + 2 * len(runs(view, rows)) + GROUP * pairs_of_taps(view)


def scratch_bytes(view: View, rows: int) -> int:
    words = 4 * layout(view, rows).columns + blank_words(view) + table_words(view, rows)
    return 4 * words + SEGMENT_BYTES * len(segments(view, rows))


def fast_rows(view: View) -> int:
    """Rows of one call share a table and widened inputs: enough for PIXELS, if they fit."""
    extent, stride = conv_window(view).extent[0], view.attrs.stride[0]
    most = min((POINTERS - extent) // stride + 1, -(-PIXELS // view.y.shape[2]), view.y.shape[1])
    return next((rows for rows in range(most, 1, -1) if scratch_bytes(view, rows) <= SCRATCH_BYTES), 1)


def pack_taps(view: View, fields: dict[str, Field], *, rows: Callable[[View], int]) -> dict[str, Field]:
    channels = packed_channels(view, depthwise_weights(view))
    lo, hi = activation_range(view, view.attrs.activation)
    most = rows(view)
    found, places, stream = layout(view, most), segments(view, most), taps_stream(view)
    steps = [n for count, step in runs(view, most) for n in (count, 16 * step)]
    return {
        **{name: fields[name] for name in ("out_ch", "out_w", "stride_h")},
        "window_h": conv_window(view).extent[0],
        "zero": quant_of(view.x).zero_point,
        "padded": int(any(view.attrs.padding)),
        "columns": found.columns,
        "blank_words": blank_words(view),
        "table_words": table_words(view, most),
        "segments": len(places),
        "row_step": 16 * found.row_step,
        "group_words": stream.shape[1],
        **exact_fields(view, channels),
        "act_min": lo,
        "act_max": hi,
        "places": table(places.reshape(-1)),
        "runs": table(np.array([*steps, 0], np.int32)),
        "stream": stream.reshape(-1),
        "buffer": Scratch("int32_t"),
    }


def taps_stream(view: View) -> np.ndarray:
    """[groups of four channels, words] that the kernel reads."""
    return pack_pairs(view, [(a, b) for line in layout(view, 1).rows[0] for a, b, _ in line.taps])


def pack_pairs(view: View, pairs: list[tuple[Tap, Tap]]) -> np.ndarray:
    """[groups of four channels, words] of these pairs of taps; the last group may overlap the one before."""
    kernel_h, kernel_w = conv_window(view).kernel
    channels = packed_channels(view, depthwise_weights(view))
    count = len(channels.weights)
    order = np.array([np.arange(GROUP) + start for start in [*range(0, count - GROUP, GROUP), count - GROUP]])
    w = np.pad(channels.weights.reshape(count, kernel_h, kernel_w), ((0, 0), (0, 1), (0, 1))).astype(np.int8)
    taps = np.array(pairs)  # those beyond the kernel: zero
    own = w[order][:, :, taps[..., 0], taps[..., 1]]  # group, channel, pair, tap
    halves = own.reshape(-1, 2, 2, len(taps), 2).transpose(0, 3, 1, 4, 2)
    words = np.ascontiguousarray(halves).reshape(len(own), -1).view("<i4")
    shifts = channels.shift[order].astype(np.int8).view("<i4")
    stream = np.concatenate([channels.bias[order], words, 2 * channels.mult[order], shifts], axis=1)
    return (stream.astype(np.int64) & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


def taps_work(view: View, rows: int, made: int, counts: Work) -> Work:
    """Columns widened, tables, pixels and their pairs of taps, for all groups of channels."""
    calls, groups, pixels = -(-made // rows), -(-view.y.shape[3] // GROUP), made * view.y.shape[2]
    places, found, pairs = segments(view, rows), layout(view, rows), pairs_of_taps(view)
    widened, spread = float(places[:, 6].sum()), runs(view, rows)
    parts = {
        "call": calls,
        "row": made,
        "segment": calls * len(places),
        "padding": calls * (found.columns - widened) * any(view.attrs.padding),
        "call_group": calls * groups,
        "segment_group": calls * groups * len(places),
        "column_group": calls * groups * widened,
        "table_run": calls * groups * len(spread),
        "table_pair": calls * groups * pairs,
        "row_group": made * groups,
        "pixel_group": pixels * groups,
        "pixel_run": pixels * groups * len(spread),
        "pixel_pair": pixels * groups * pairs,
    }
    bounded = bound_work(view, pixels * view.y.shape[3])
    return {key: float(value) * view.y.frame.batch for key, value in {**parts, **bounded}.items()}


def one_row(view: View) -> int:
    return 1


def packed_scratch(view: View, rows: int, *, most: Callable[[View], int]) -> int:
    """That of the rows that are packed for, however few a call makes."""
    return scratch_bytes(view, most(view))


DEPTHWISE_TAPS = tuple(
    Kernel(
        name="mk_depthwise_conv2d_s8_taps_dsp",
        isa="dsp",
        fast=fast,
        uses=("mk_dsp.h",),
        when=takes_taps,
        pack=partial(pack_taps, rows=rows),
        whole_rows=rows,
        scratch=partial(packed_scratch, most=rows),
        work=taps_work,
    )
    for fast, rows in ((True, fast_rows), (False, one_row))
)


def takes_pixel(view: View) -> bool:
    """The same where rows have one pixel."""
    return view.y.shape[2] == 1 and takes_taps(view)


def pixel_scratch(view: View, rows: int) -> int:
    """A row of padding, and twice a pointer for each pair of taps."""
    return 4 * blank_words(view) + 8 * -(-conv_window(view).taps // 2)


def pack_pixel(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    kernel_h, kernel_w = conv_window(view).kernel
    taps = [(ky, kx) for ky in range(kernel_h) for kx in range(kernel_w)]
    if len(taps) % 2:
        taps.append((kernel_h, kernel_w))
    kept = ("in_w", "out_ch", "kernel_h", "kernel_w", "stride_h", "pad_left", "dilation_h", "dilation_w")
    lo, hi = activation_range(view, view.attrs.activation)
    return {
        **{name: fields[name] for name in kept},
        "zero": quant_of(view.x).zero_point,
        "padded": int(any(view.attrs.padding)),
        "taps": kernel_h * kernel_w,
        "blank_words": blank_words(view),
        **exact_fields(view, packed_channels(view, depthwise_weights(view))),
        "act_min": lo,
        "act_max": hi,
        "stream": pack_pairs(view, list(zip(taps[::2], taps[1::2], strict=True))).reshape(-1),
        "buffer": Scratch("int32_t"),
    }


def pixel_work(view: View, rows: int, made: int, counts: Work) -> Work:
    taps, groups = conv_window(view).taps, -(-view.y.shape[3] // GROUP)
    parts = {
        "call": -(-made // rows),
        "row": made,
        "padding": -(-made // rows) * blank_words(view),
        "tap": made * taps,
        "pixel_group": made * groups,
        "pixel_pair": made * groups * -(-taps // 2),
    }
    bounded = bound_work(view, made * view.y.shape[3])
    return {key: float(value) * view.y.frame.batch for key, value in {**parts, **bounded}.items()}


DEPTHWISE_PIXEL = Kernel(
    name="mk_depthwise_conv2d_s8_pixel_dsp",
    isa="dsp",
    uses=("mk_dsp.h",),
    when=takes_pixel,
    pack=pack_pixel,
    scratch=pixel_scratch,
    work=pixel_work,
    whole_rows=lambda view: max(1, min(POINTERS - conv_window(view).extent[0], 7) // view.attrs.stride[0] + 1),
)
