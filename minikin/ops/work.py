"""How much a kernel does for a layer: counts of loops, from which instructions are predicted (plan/costs.py).

A count is a product of shapes that some kernel loops over: calls, rows, blocks of pixels and channels, products. Nothing here
says what one of them costs; that is fitted for each kernel, and a kernel that does not loop so gets a cost of 0 for it. What
begins with "plain" is of portable int8 kernels alone (portable_work).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minikin.graph import View
from minikin.ops.opdef import FLOAT_RANGES, activation_range
from minikin.ops.requant import quant_of
from minikin.ops.window import needs_patch

Work = dict[str, float]


def element_work(view: View, rows: int, made: int) -> Work:
    """Of an op that goes along its elements."""
    x, y = view.x.frame, view.y.frame
    elements, calls = made * y.row_elems, -(-made // rows)
    return {
        "call": calls,
        "row": made,
        "element": elements,
        "vector": elements / max(view.y.shape[-1] if view.y.shape else 1, 1),
        "input_row": x.rows,
        "input": view.x.size,
        "channel": view.x.shape[-1] if view.x.shape else 1,
        "operand": sum(t.size for t in view.inputs[1:] if t is not None),
        **bound_work(view, elements),
    }


def bound_work(view: View, outputs: float) -> Work:
    """Outputs whose activation has a lower bound, an upper one, any; and those that may lie below the zero point."""
    activation = getattr(view.attrs, "activation", "none")
    if view.y.dtype != "int8" or activation not in FLOAT_RANGES:
        return {"low": outputs * (activation != "none"), "high": outputs * (activation in ("relu6", "relu_n1_to_1"))}
    lo, hi = activation_range(view, activation)
    below = lo < quant_of(view.y).zero_point
    return {
        "low": outputs * (lo > -128),
        "high": outputs * (hi < 127),
        "bounded": outputs * (lo > -128 or hi < 127),
        "below": outputs * below,
    }


def clamp_work(view: View, outputs: float) -> Work:
    """Outputs that go by a loop of their own where an activation's range is narrower than int8."""
    return {"clamped": outputs * (activation_range(view, view.attrs.activation) != (-128, 127))}


def rows_of_calls(rows: int, made: int) -> list[int]:
    """How many rows each call makes: `rows`, and the last one what is left."""
    return [rows] * (made // rows) + [made % rows] * (made % rows > 0)


def dense_work(view: View, rows: int, made: int) -> Work:
    weights = view.inputs[1]
    assert weights is not None
    units, features = weights.shape
    batch = view.x.size // features
    work = _product_work(batch, units, features, view.x.dtype == "float32")
    return {"call": 1.0, "batch": batch, **work, **bound_work(view, batch * units)}


def _product_work(pixels: float, channels: int, inputs: int, is_float: bool) -> Work:
    """Of `channels` sums of `inputs` products for each pixel, channels and inputs in blocks."""
    lanes = 8 if is_float else 4
    blocks, rest, quads = channels // lanes, channels % lanes, -(-inputs // (1 if is_float else 4))
    return {
        "gather": pixels * inputs,
        "fill": pixels * inputs * (inputs % 4 > 0),
        "output": pixels * channels,
        "block": pixels * blocks,
        "block_mac": pixels * blocks * quads,
        "rest_block": pixels * (rest > 0),
        "rest_block_mac": pixels * (rest > 0) * quads,
        "rest": pixels * rest,
        "rest_mac": pixels * rest * inputs,
        "group": pixels * (blocks + (rest > 0)),
        "group_input": pixels * (blocks + (rest > 0)) * inputs,
        "group_odd": pixels * (blocks + (rest > 0)) * (inputs % 2),
        "group_left": pixels * (blocks + (rest > 0)) * (inputs % 4),
    }


@dataclass(frozen=True)
class Taps:
    """The taps of a window's outputs along one axis."""

    kernel: int
    inside: np.ndarray

    @property
    def full(self) -> np.ndarray:
        return self.inside == self.kernel


def _taps(view: View, axis: int, kernel: tuple[int, int], dilation: tuple[int, int], outputs: int) -> Taps:
    attrs, before = view.attrs, view.attrs.padding[0 if axis == 0 else 2]
    first = np.arange(outputs)[:, None] * attrs.stride[axis] - before
    at = first + np.arange(kernel[axis]) * dilation[axis]
    return Taps(kernel[axis], ((at >= 0) & (at < view.x.shape[1 + axis])).sum(axis=1))


def window_work(
    view: View, rows: int, made: int, kernel: tuple[int, int], dilation: tuple[int, int]
) -> tuple[Work, Taps, Taps]:
    """What all windowed ops share, and the taps along both axes."""
    down = _taps(view, 0, kernel, dilation, made)
    across = _taps(view, 1, kernel, dilation, view.y.shape[2])
    calls, batch = -(-made // rows), view.y.frame.batch
    reads = ((rows - 1) * view.attrs.stride[0] + (kernel[0] - 1) * dilation[0] + 1) * calls
    work = {
        "call": calls * batch,
        "row": made * batch,
        "pixel": made * view.y.shape[2] * batch,
        "pointer": reads * batch,
    }
    return work, down, across


def pool_work(view: View, rows: int, made: int) -> Work:
    work, down, across = window_work(view, rows, made, view.attrs.kernel, (1, 1))
    channels, batch = view.x.shape[3], view.y.frame.batch
    return work | {
        "output": work["pixel"] * channels,
        "output_row": float(down.inside.sum() * len(across.inside) * channels * batch),
        "input": float(down.inside.sum() * across.inside.sum() * channels * batch),
        "input_row": view.x.shape[1] * batch,
        "channel": view.x.shape[1] * channels * batch,
        "channel_quad": view.x.shape[1] * channels * (view.x.shape[2] // 4) * batch,
        "mean": channels * batch,
    }


def conv_work(view: View, rows: int, made: int) -> Work:
    """Pixels in pairs within a call, inputs and channels in blocks of four; floats as kernels/mk_mat_f32.h has them."""
    weights, attrs = view.inputs[1], view.attrs
    assert weights is not None
    channels, kernel_h, kernel_w, depth = weights.shape
    work, down, across = window_work(view, rows, made, (kernel_h, kernel_w), attrs.dilation)
    groups, batch, out_w = view.x.shape[3] // depth, view.y.frame.batch, view.y.shape[2]
    channels, inputs = channels // groups, kernel_h * kernel_w * depth
    if view.x.dtype == "float32":
        return work | _float_conv_work(view, down, across, channels, depth, groups * batch)
    span = (kernel_w if attrs.dilation[1] == 1 else 1) * depth
    spans, quads = inputs // span, -(-inputs // 4)
    border = ~(down.full[:, None] & across.full[None]).reshape(-1)
    pairs = border_pairs = singles = border_singles = 0
    for start in range(0, made * out_w, rows * out_w):
        own = border[start : start + rows * out_w]
        halves = np.asarray(own[: len(own) // 2 * 2].reshape(-1, 2).any(axis=1))
        pairs, border_pairs = pairs + len(halves), border_pairs + int(halves.sum())
        singles, border_singles = singles + len(own) % 2, border_singles + int(own[len(own) // 2 * 2 :].sum())
    inner = pairs - border_pairs
    missing = float(made * out_w * kernel_h * kernel_w - down.inside.sum() * across.inside.sum())
    direct = spans == 1 and not any(attrs.padding) and span % 4 == 0  # a pixel's inputs lie side by side
    parts = {
        "direct": pairs * direct,
        "direct_quad": pairs * direct * quads,
        "direct_single": singles * direct,
        "missing": missing,
        "missing_input": missing * depth,
        "single_span": singles * spans * (not direct),
        "single_quad": singles * spans * (span // 4),
        "single_tail": singles * (inputs - spans * (span // 4) * 4),
        "border_single": border_singles * spans,
    }
    for name, count in (("inner", 0 if direct else inner), ("border", border_pairs)):
        left = inputs - spans * (span // 4) * 4
        parts |= {
            name: count,
            f"{name}_span": count * spans,
            f"{name}_quad": count * spans * (span // 4),
            f"{name}_rest": count * spans * (span % 4 > 0),
            f"{name}_tail": count * left,
        }
    for name, pixels in (("pair", pairs), ("single", singles)):
        product = _product_work(pixels, channels, inputs, False)
        parts |= {f"{name}_{key}": value for key, value in product.items() if key not in ("gather", "fill")}
    copied = kernel_h > 1 or any(attrs.padding)  # columns of all kernel rows, side by side
    columns = (out_w - 1) * attrs.stride[1] + (kernel_w - 1) * attrs.dilation[1] + 1
    inside = min(columns - attrs.padding[2], view.x.shape[2]) * float(down.inside.sum())
    split = (pairs - made * (out_w // 2)) * copied * -(-channels // 4)  # pairs of pixels of two rows
    parts |= {
        "copied_line": made * kernel_h * copied,
        "copied_column": made * kernel_h * columns * copied,
        "copied_inside": inside * copied,
        "copied_input": made * kernel_h * columns * depth * copied,
        "copied_inside_input": inside * depth * copied,
        "split_group": split,
        "split_group_input": split * inputs,
        **_plain_conv_work(made * out_w, channels, inputs),
        **_plain_gather_work(
            view, made * out_w, float(down.inside.sum() * across.inside.sum()), kernel_h, depth, missing
        ),
    }
    return work | {key: float(value) * groups * batch for key, value in parts.items()}


def _plain_conv_work(pixels: float, channels: int, inputs: int) -> Work:
    """Of the portable int8 kernel: four channels at a time, the last few one by one."""
    return {
        "plain_output": pixels * channels,
        "plain_group": pixels,
        "plain_block": pixels * (channels // 4),
        "plain_rest": pixels * (channels % 4),
        "plain_mac": pixels * (channels // 4 + channels % 4) * inputs,
    }


def _plain_gather_work(view: View, pixels: float, inside: float, kernel_h: int, depth: int, missing: float) -> Work:
    """Of the same: inputs that do not lie side by side in one row; `inside` and `missing` taps of all pixels."""
    if not needs_patch(view):
        return {}
    return {
        "plain_gather_row": pixels * kernel_h,
        "plain_tap": inside,
        "plain_input": inside * depth,
        "plain_missing": missing,
        "plain_missing_input": missing * depth,
    }


def portable_work(view: View, rows: int, made: int, counts: Work) -> Work:
    """Of a portable int8 kernel: what its plain loops do, nothing of the blocks of others."""
    kept = {name: counts[name] for name in ("call", "row", "pixel")}
    plain = {name.removeprefix("plain_"): value for name, value in counts.items() if name.startswith("plain_")}
    return kept | plain


def patch_work(view: View, made: int) -> Work:
    """Of gathering each pixel's inputs once (mk_patch.h): bytes four at a time, in runs of a kernel row or of a tap."""
    weights, attrs = view.inputs[1], view.attrs
    assert weights is not None
    _, kernel_h, kernel_w, depth = weights.shape
    work, down, across = window_work(view, made, made, (kernel_h, kernel_w), attrs.dilation)
    rows, null = float(down.inside.sum()), float((down.kernel - down.inside).sum())
    whole = across.full & (attrs.dilation[1] == 1)
    inside, taps = float(across.inside[~whole].sum()), kernel_w * float((~whole).sum())
    run = kernel_w * depth
    return {
        "patch": work["pixel"],
        "patch_run": rows * float(whole.sum()),
        "patch_tap": rows * inside,
        "patch_missing": rows * (taps - inside),
        "patch_null": null * len(whole),
        "patch_word": rows * (float(whole.sum()) * (run // 4) + inside * (depth // 4)),
        "patch_byte": rows * (float(whole.sum()) * (run % 4) + inside * (depth % 4)),
        "patch_zero": rows * (taps - inside) * depth + null * len(whole) * run,
    }


def _float_conv_work(view: View, down: Taps, across: Taps, channels: int, depth: int, times: int) -> Work:
    pairs, singles, j = 0, [], 0
    while j < len(across.inside):
        pair = j + 1 < len(across.inside) and across.full[j] and across.full[j + 1]
        pairs += pair
        if not pair:
            singles.append(j)
        j += 1 + int(pair)
    rows, inside = len(down.inside), float(down.inside.sum())
    single_taps = float(across.inside[singles].sum())
    blocks, rest = channels // 8, channels % 8
    is_run = view.attrs.dilation[1] == 1 and depth == view.x.shape[3]
    runs = inside * (len(singles) if is_run else single_taps)
    pair_runs = inside * pairs * (1 if is_run else across.kernel)
    parts = {
        "missing": float((down.kernel * rows - inside) * (pairs + len(singles)) * (blocks + rest)),
        "pair": rows * pairs,
        "pair_block": rows * pairs * blocks,
        "pair_row": inside * pairs * blocks,
        "pair_run": pair_runs * blocks,
        "pair_mac": inside * pairs * across.kernel * depth * blocks,
        "single": rows * len(singles),
        "single_block": rows * len(singles) * blocks,
        "single_row": inside * len(singles) * blocks,
        "single_run": runs * blocks,
        "single_mac": inside * single_taps * depth * blocks,
        "rest": rows * len(across.inside) * rest,
        "rest_row": inside * len(across.inside) * rest,
        "rest_run": (runs + 2 * pair_runs) * rest,
        "rest_mac": inside * float(across.inside.sum()) * depth * rest,
    }
    return {key: float(value) * times for key, value in parts.items()}


def depthwise_work(view: View, rows: int, made: int) -> Work:
    """Channels in blocks of four, or of eight floats; rows in pairs within a call."""
    weights, attrs = view.inputs[1], view.attrs
    assert weights is not None
    _, kernel_h, kernel_w, channels = weights.shape
    work, down, across = window_work(view, rows, made, (kernel_h, kernel_w), attrs.dilation)
    batch, out_w = view.y.frame.batch, view.y.shape[2]
    lanes = 8 if view.x.dtype == "float32" else 4
    blocks = channels // lanes if lanes == 8 else -(-channels // lanes)
    rest = channels - blocks * lanes if lanes == 8 else 0
    if channels != view.x.shape[3]:
        blocks, rest = 0, channels
    fours = channels // 4 if channels == view.x.shape[3] else 0
    columns = (out_w - 1) * attrs.stride[1] + kernel_w
    pairs = border_pairs = lines = border_lines = 0
    for start in range(0, made, rows):
        full = down.full[start : start + rows]
        halves = np.asarray(full[: len(full) // 2 * 2].reshape(-1, 2).all(axis=1))
        pairs, border_pairs = pairs + len(halves), border_pairs + int((~halves).sum())
        lines, border_lines = lines + len(full) % 2, border_lines + int((~full[len(full) // 2 * 2 :]).sum())
    border_rows = float((~down.full).sum())
    inside, taps = float(down.inside.sum()), float(down.inside.sum() * across.inside.sum())
    parts = {
        "column": work["call"] / batch * columns,
        "call_block": work["call"] / batch * blocks,
        "call_column": work["call"] / batch * blocks * columns,
        "row_block": made * blocks,
        "row_column": made * blocks * columns,
        "row_output": made * blocks * out_w,
        "border_row": border_rows * blocks,
        "border_row_column": border_rows * blocks * columns,
        "pair_block": pairs * blocks,
        "pair_column": pairs * blocks * columns,
        "pair_double": pairs * blocks * (out_w // 2),
        "pair_odd": pairs * blocks * (out_w % 2),
        "border_pair": border_pairs * blocks,
        "border_pair_column": border_pairs * blocks * columns,
        "line_block": lines * blocks,
        "line_column": lines * blocks * columns,
        "line_output": lines * blocks * out_w,
        "border_line": border_lines * blocks,
        "border_line_column": border_lines * blocks * columns,
        "plain_output": made * out_w * channels,
        "plain_edge": made * float((across.kernel - across.inside).sum()),
        **_plain_depthwise_work(made * out_w, inside * out_w, taps, fours, channels - 4 * fours),
        "plain_null": float(made * kernel_h - down.inside.sum()) * out_w * (fours + channels - 4 * fours),
        "pixel_block": made * out_w * blocks,
        "pixel_block_row": inside * out_w * blocks,
        "pixel_block_mac": taps * blocks,
        "missing": (made * down.kernel - inside) * out_w * blocks,
        "rest": made * out_w * rest,
        "rest_row": inside * out_w * rest,
        "rest_mac": taps * rest,
    }
    return work | {key: float(value) * batch for key, value in parts.items()}


def _plain_depthwise_work(pixels: float, rows: float, taps: float, fours: int, ones: int) -> Work:
    """Of the portable int8 kernel: channels by fours, then one by one; `rows` and `taps` that lie in the frame."""
    return {
        "plain_block": pixels * fours,
        "plain_block_row": rows * fours,
        "plain_block_mac": taps * fours,
        "plain_one": pixels * ones,
        "plain_one_row": rows * ones,
        "plain_one_mac": taps * ones,
    }
