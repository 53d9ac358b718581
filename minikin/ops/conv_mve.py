"""What the Helium kernels of conv2d, depthwise_conv2d and dense ask of the compiler: which nodes they take, how weights are
packed (kernels/mk_mve.h)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from minikin.graph import View
from minikin.ops.opdef import Field, Kernel, Scratch, activation_range, table
from minikin.ops.packing import PackedChannels, is_symmetric, packed_channels
from minikin.ops.requant import quant_of, weights_of
from minikin.ops.window import conv_window
from minikin.ops.work import Work, clamp_work, rows_of_calls, window_work

LANES = 16
"""Bytes of a vector."""
GROUP = 4
"""Output channels that are computed together."""
TILE = 4
"""Rows and columns of a depthwise kernel that one vector holds."""
SCRATCH_BYTES, FAST_SCRATCH_BYTES = 1024, 2048
"""What depthwise_conv2d takes for interleaved rows where more channels at a time would save instructions only."""


def filled(size: int, multiple: int) -> int:
    return size + -size % multiple


def padded_to(values: np.ndarray, multiple: int, axis: int) -> np.ndarray:
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, filled(values.shape[axis], multiple) - values.shape[axis])
    return np.pad(values, widths)


def pack_groups(channels: PackedChannels) -> np.ndarray:
    """The stream of mk_mve.h: of each four channels the biases, weights in vectors of 16, multipliers and shifts."""
    w = padded_to(padded_to(channels.weights, LANES, 1), GROUP, 0).astype(np.int8)
    vectors = w.shape[1] // LANES
    w = w.reshape(-1, GROUP, vectors, LANES).transpose(0, 2, 1, 3)  # group, vector, channel, lane
    words = np.ascontiguousarray(w.reshape(len(w), -1)).view("<i4")
    bias, mult = (padded_to(values, GROUP, 0).reshape(-1, GROUP) for values in (channels.bias, channels.mult))
    shifts = padded_to(-1 - channels.shift, GROUP, 0).astype(np.int8).reshape(-1, GROUP).view("<i4")
    return np.concatenate([bias, words, mult, shifts], axis=1).astype(np.int32).reshape(-1)


def output_fields(view: View) -> dict[str, Field]:
    """How the outputs are made of the sums."""
    lo, hi = activation_range(view, view.attrs.activation)
    offset = quant_of(view.y).zero_point
    return {
        "offset": offset,
        "is_signed": int(lo < offset),
        "act_min": lo,
        "act_max": hi,
    }


def window_weights(view: View) -> np.ndarray:
    """[channels, inputs] in the order of mk_conv2d_s8_mve: column by column, in each kernel row by kernel row."""
    w = weights_of(view)
    return np.asarray(w.data).transpose(0, 2, 1, 3).reshape(w.shape[0], -1)


def takes_conv(view: View) -> bool:
    """int8 without groups or columns left out, with output multipliers below a half."""
    if not is_symmetric(view) or weights_of(view).shape[3] != view.x.shape[3]:
        return False
    geometry = conv_window(view)
    if geometry.dilation[1] > 1 and geometry.kernel[1] > 1:
        return False
    return packed_channels(view, window_weights(view)).exact


def conv_columns(view: View) -> int:
    """Input columns that a row of outputs reads, padding included."""
    geometry = conv_window(view)
    return (view.y.shape[2] - 1) * geometry.stride[1] + geometry.kernel[1]


def conv_vectors(view: View) -> int:
    return filled(conv_window(view).taps * view.x.shape[3], LANES) // LANES


def copied_pixels(view: View) -> int | None:
    """Of a row whose windows are read in place: those that would read behind the row. None where there is no such row."""
    geometry, (_, _, in_w, in_ch), out_w = conv_window(view), view.x.shape, view.y.shape[2]
    if geometry.kernel[0] > 1 or any(geometry.padding):
        return None
    inside = in_w * in_ch - LANES * conv_vectors(view)
    return out_w - min(out_w, inside // (geometry.stride[1] * in_ch) + 1 if inside >= 0 else 0)


def conv_scratch(view: View, rows: int) -> int:
    copied = copied_pixels(view)
    if copied is not None:
        return copied * LANES * conv_vectors(view)
    geometry, in_ch = conv_window(view), view.x.shape[3]
    inputs = geometry.taps * in_ch
    return conv_columns(view) * geometry.kernel[0] * in_ch + filled(inputs, LANES) - inputs


def run_places(view: View) -> np.ndarray:
    """Where the bytes of adjacent columns go, as far as 8 bits reach; none where a column fills a vector."""
    in_ch, step = view.x.shape[3], conv_window(view).kernel[0] * view.x.shape[3]
    columns = 0 if copied_pixels(view) is not None else min(LANES // in_ch, (256 - in_ch) // step + 1)
    return (np.arange(columns)[:, None] * step + np.arange(in_ch)).reshape(-1) if columns > 1 else np.zeros(0, np.int64)


def conv_rows(view: View) -> int:
    """Enough pixels for a call, an even number of them."""
    width = view.y.shape[2]
    return max(1, LANES // width) + (width % 2 and LANES // width % 2)


def pack_conv(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    kept = ("in_w", "in_ch", "out_w", "stride_h", "stride_w", "pad_left", "dilation_h", "kernel_h", "kernel_w")
    copied, places = copied_pixels(view), run_places(view)
    return {
        **{name: fields[name] for name in kept},
        "zero": quant_of(view.x).zero_point,
        "columns": conv_columns(view),
        "copied": -1 if copied is None else copied,
        "run": len(places),
        "places": table(padded_to(places, LANES, 0).astype(np.uint8).view(np.int8)) if len(places) else None,
        "out_ch": view.y.shape[3],
        "vectors": conv_vectors(view),
        **output_fields(view),
        "stream": pack_groups(packed_channels(view, window_weights(view))),
        "buffer": Scratch() if conv_scratch(view, 1) else None,
    }


def tile_weights(view: View) -> np.ndarray:
    """[channels, tiles x 4 columns x 4 rows], zero where there is no tap; tiles by rows, then by columns."""
    w = padded_to(padded_to(np.asarray(weights_of(view).data)[0], TILE, 0), TILE, 1)
    tiles = w.reshape(w.shape[0] // TILE, TILE, w.shape[1] // TILE, TILE, -1)
    return tiles.transpose(4, 0, 2, 3, 1).reshape(w.shape[2], -1)


def takes_depthwise(view: View) -> bool:
    """int8, one output channel for each input channel, with output multipliers below a half."""
    if not is_symmetric(view) or view.x.shape[3] != view.y.shape[3]:
        return False
    return packed_channels(view, tile_weights(view)).exact


def tile_counts(view: View) -> tuple[int, int]:
    """Tiles below each other, and side by side."""
    rows, columns = conv_window(view).kernel
    return filled(rows, TILE) // TILE, filled(columns, TILE) // TILE


def depthwise_columns(view: View) -> int:
    """Input columns that a row of outputs reads, padding included."""
    geometry = conv_window(view)
    return (view.y.shape[2] - 1) * geometry.stride[1] + geometry.extent[1]


def interleaved_columns(view: View) -> int:
    """Columns in scratch memory: of each four rows those that a row of outputs reads; behind, those that tiles read besides."""
    rows, columns = tile_counts(view)
    geometry = conv_window(view)
    return rows * depthwise_columns(view) + (TILE * columns - geometry.kernel[1]) * geometry.dilation[1]


def depthwise_block(view: View, fast: bool) -> int:
    """Channels that are interleaved together: within the bytes above, at least 16."""
    most = (FAST_SCRATCH_BYTES if fast else SCRATCH_BYTES) // (4 * interleaved_columns(view)) // LANES * LANES
    return max(LANES, min(most, filled(view.x.shape[3], LANES)))


def depthwise_scratch(view: View, rows: int, *, fast: bool) -> int:
    return LANES + 4 * interleaved_columns(view) * depthwise_block(view, fast)


def tile_steps(view: View, block: int) -> np.ndarray:
    """Bytes from each tile to the next, from the last to the first of the next channels."""
    (rows, columns), width = tile_counts(view), 4 * block
    across, down = TILE * conv_window(view).dilation[1] * width, depthwise_columns(view) * width
    at = np.array([row * down + column * across for row in range(rows) for column in range(columns)] + [4 * GROUP])
    return np.diff(at).astype(np.int32)


def pack_depthwise(view: View, fields: dict[str, Field], *, fast: bool) -> dict[str, Field]:
    geometry = ("stride_h", "stride_w", "pad_left", "dilation_w", "dilation_h", "kernel_h")
    block = depthwise_block(view, fast)
    steps = tile_steps(view, block)
    return {
        "in_w": fields["in_w"],
        "channels": view.x.shape[3],
        "out_w": fields["out_w"],
        **{name: fields[name] for name in geometry},
        "columns": depthwise_columns(view),
        "block": block,
        "zero": quant_of(view.x).zero_point,
        **output_fields(view),
        "tiles": len(steps),
        "tile_steps": table(steps),
        "stream": pack_groups(packed_channels(view, tile_weights(view))),
        "buffer": Scratch("int32_t"),
    }


def pixel_work(view: View, runs: Sequence[int], channels: int, vectors: int) -> Work:
    """Of mk_mat_mve.h for runs of so many pixels: pairs and the last ones, groups of four channels, vectors, rounds of four."""
    pairs, singles = sum(run // 2 for run in runs), sum(run % 2 for run in runs)
    groups, is_signed = filled(channels, GROUP) // GROUP, output_fields(view)["is_signed"]
    return {
        "pairs": sum(run > 1 for run in runs),
        "pair": pairs,
        "pair_group": pairs * groups,
        "pair_signed": pairs * groups * int(bool(is_signed)),
        "pair_vector": pairs * groups * vectors,
        "pair_round": pairs * groups * -(-vectors // 4),
        "single": singles,
        "single_group": singles * groups,
        "single_vector": singles * groups * vectors,
        "single_round": singles * groups * -(-vectors // 4),
    }


def conv_work(view: View, rows: int, made: int, counts: Work) -> Work:
    """Columns that are copied one by one, or several at a time, or filled with padding; then pixel_work."""
    geometry, batch, (_, _, in_w, in_ch) = conv_window(view), view.y.frame.batch, view.x.shape
    out_w, channels, columns, vectors = view.y.shape[2], view.y.shape[3], conv_columns(view), conv_vectors(view)
    kernel_h, before, copied = geometry.kernel[0], min(geometry.padding[2], columns), copied_pixels(view)
    inside, pieces = min(in_w, columns - before), -(-in_ch // LANES)
    calls = rows_of_calls(rows, made)
    found: Work = {}
    if copied is None:
        _, down, _ = window_work(view, rows, made, geometry.kernel, geometry.dilation)
        lines, null, run = int(down.inside.sum()), int((kernel_h - down.inside).sum()), len(run_places(view))
        step = kernel_h * in_ch
        padding = -(-before * step // LANES) + -(-(columns - before - inside) * step // LANES)
        found |= {
            "line": lines + null,
            "null": null * pieces,
            "null_column": null * pieces * inside,
            "run": lines * (run > 0),
            "run_column": lines * (inside * in_ch // run) if run else 0,
            "copied": lines * pieces * (run == 0),
            "copied_column": lines * pieces * inside * (run == 0),
            "padding": len(calls) * padding,
        }
        runs = [out_w] * made
    else:
        adjacent = out_w * geometry.stride[1] == in_w * geometry.stride[0]  # rows of a call are one row
        together = [own * out_w for own in calls] if adjacent else [out_w] * made
        runs = [pixels - copied for pixels in together] + [copied] * (len(together) if copied else 0)
        bytes_copied = -(-geometry.kernel[1] * in_ch // LANES) * (copied > 0)
        found |= {"copied": len(together) * bytes_copied, "copied_column": len(together) * bytes_copied * copied}
    found |= pixel_work(view, runs, channels, vectors) | clamp_work(view, made * out_w * channels)
    return {"call": counts["call"], "row": counts["row"]} | {name: count * batch for name, count in found.items()}


def depthwise_work(view: View, rows: int, made: int, counts: Work, *, fast: bool) -> Work:
    """Columns that are interleaved, or padding; pairs of pixels, groups of four channels, tiles."""
    geometry, batch, channels, out_w = conv_window(view), view.y.frame.batch, view.y.shape[3], view.y.shape[2]
    block, (down, across), columns = depthwise_block(view, fast), tile_counts(view), depthwise_columns(view)
    before = min(geometry.padding[2], columns)
    inside = min(view.x.shape[2], columns - before)
    pairs, blocks = made * -(-out_w // 2), -(-channels // block)
    tiles = down * across if down * across > 1 or output_fields(view)["is_signed"] else 0
    weaves, groups = made * down * -(-channels // LANES), -(-channels // GROUP)
    found = {
        "block": made * blocks,
        "block_tile": made * blocks * down,
        "weave": weaves,
        "weave_padding": weaves * (columns - inside),
        "weave_column": weaves * inside,
        "pair": pairs * blocks,
        "pair_group": pairs * groups * (tiles == 0),
        "pair_tiled": pairs * groups * (tiles > 0),
        "pair_tile": pairs * groups * tiles,
        **clamp_work(view, made * out_w * channels),
    }
    return {"call": counts["call"], "row": counts["row"]} | {name: count * batch for name, count in found.items()}


def dense_work(view: View, rows: int, made: int, counts: Work) -> Work:
    """pixel_work of rows of inputs, each by itself where it is filled up."""
    (channels, inputs), batch = weights_of(view).shape, int(counts["batch"])
    is_filled = inputs % LANES > 0
    return {
        "batch": batch,
        "filled": batch * is_filled,
        "filled_vector": batch * -(-inputs // LANES) * is_filled,
        **pixel_work(view, [1] * batch if is_filled else [batch], channels, filled(inputs, LANES) // LANES),
        **clamp_work(view, batch * channels),
    }


CONV_MVE = Kernel(
    name="mk_conv2d_s8_mve",
    isa="mve",
    uses=("mk_dsp.h", "mk_mve.h", "mk_mat_mve.h"),
    when=takes_conv,
    pack=pack_conv,
    scratch=conv_scratch,
    whole_rows=conv_rows,
    work=conv_work,
)

DEPTHWISE_MVE = tuple(
    Kernel(
        name="mk_depthwise_conv2d_s8_mve",
        isa="mve",
        fast=fast,
        uses=("mk_dsp.h", "mk_mve.h"),
        when=takes_depthwise,
        pack=partial(pack_depthwise, fast=fast),
        scratch=partial(depthwise_scratch, fast=fast),
        whole_rows=lambda view: max(1, LANES // view.y.shape[2]),
        work=partial(depthwise_work, fast=fast),
    )
    for fast in (True, False)
)


def takes_dense(view: View) -> bool:
    """Symmetric int8 with TFLite Micro's rounding and output multipliers below a half."""
    if view.rounding != "micro" or not is_symmetric(view):
        return False
    return packed_channels(view, np.asarray(weights_of(view).data)).exact


def dense_scratch(view: View, rows: int) -> int:
    """A row of inputs filled up to whole vectors, where it is none already."""
    features = weights_of(view).shape[1]
    return filled(features, LANES) if features % LANES else 0


def pack_dense(view: View, fields: dict[str, Field]) -> dict[str, Field]:
    return {
        **{name: fields[name] for name in ("batch", "in_ch", "out_ch")},
        "vectors": filled(weights_of(view).shape[1], LANES) // LANES,
        **output_fields(view),
        "stream": pack_groups(packed_channels(view, np.asarray(weights_of(view).data))),
        "filled": Scratch() if dense_scratch(view, 1) else None,
    }


DENSE_MVE = Kernel(
    name="mk_dense_s8_mve",
    isa="mve",
    uses=("mk_dsp.h", "mk_mve.h", "mk_mat_mve.h"),
    when=takes_dense,
    pack=pack_dense,
    scratch=dense_scratch,
    work=dense_work,
)
