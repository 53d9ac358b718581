"""A plan as a picture, time to the right and memory upwards: in the terminal and as SVG."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any

from minikin.plan.homes import scratch_spans
from minikin.plan.plan import Plan
from minikin.plan.prediction import predict, predict_steps

PALETTE = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#eeca3b", "#9d755d", "#ff9da6", "#6b8e23")
SYMBOLS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
WIDTH, HEIGHT = 960, 420


@dataclass(frozen=True)
class Box:
    """`bytes` at `offset` that a tensor, or a layer's scratch memory, has from time `first` to time `last`."""

    name: str
    offset: int
    bytes: int
    first: int
    last: int


def boxes(plan: Plan) -> Iterator[Box]:
    """The rows of every tensor; rows that lie one behind the other and live equally long are one box."""
    for name, slot in plan.slots.items():
        rows = range(len(slot.offsets))
        for _, run in groupby(rows, key=lambda y: (slot.lives[y], slot.offsets[y] - y * slot.row_bytes)):
            members = list(run)
            yield Box(name, slot.offsets[members[0]], len(members) * slot.row_bytes, *slot.lives[members[0]])
    for step in plan.steps:
        if step.scratch_bytes:
            for span in scratch_spans(step.layer, step.times):
                yield Box(f"{step.name} scratch", step.scratch_offset, step.scratch_bytes, *span)


def draw_text(plan: Plan, width: int = 76, height: int = 18) -> str:
    """Letters for tensors, dots for memory that nothing uses; below, who keeps how many rows where."""
    times = len(plan.live) or 1
    width = min(width, times)
    cells = [["·"] * width for _ in range(height)]
    letters: dict[str, str] = {}
    for box in sorted(boxes(plan), key=lambda b: b.first):
        letter = letters.setdefault(box.name, SYMBOLS[len(letters) % len(SYMBOLS)])
        for row in range(*_span(box.offset, box.offset + box.bytes, plan.arena_bytes, height)):
            for column in range(*_span(box.first, box.last + 1, times, width)):
                cells[row][column] = letter
    scale = plan.arena_bytes / height if height else 0
    lines = [f"{int((row + 1) * scale):>9,} {''.join(cells[row])}" for row in reversed(range(height))]
    lines.append(f"{'bytes':>9} time, in calls of kernels, to {times:,}")
    return "\n".join([*lines, "", *_legend(plan, letters), "", _verdict(plan), *_predicted(plan)])


def summary(plan: Plan) -> dict[str, Any]:
    """The plan as plain values: sizes, the peak, and every tensor's offsets and rows kept; kernels."""
    predicted = predict_steps(plan)
    return {
        "arena_bytes": plan.arena_bytes,
        "bank_bytes": plan.bank_bytes,
        "bound_bytes": plan.bound_bytes,
        "optimal": plan.optimal,
        "peak_layer": plan.peak.name if plan.peak else None,
        "calls": len(plan.live),
        "streamed": plan.streamed,
        "predicted_instructions": predict(plan),
        "layers": [
            {
                "layer": step.name,
                "kernel": step.layer.kernel.name,
                "rows": step.layer.rows,
                "predicted_instructions": predicted[step.name],
            }
            for step in plan.steps
        ],
        "tensors": [
            {"name": name, "rows": len(s.offsets), "rows_kept": s.kept, "row_bytes": s.row_bytes, "offsets": s.offsets}
            for name, s in plan.slots.items()
        ],
        "weights": [
            {"layer": step.name, "storage": step.layer.kernel.storage, "bytes": step.layer.stored_bytes}
            for step in plan.steps
            if step.layer.stored_bytes
        ],
        "scratch": [
            {"layer": step.name, "offset": step.scratch_offset, "bytes": step.scratch_bytes}
            for step in plan.steps
            if step.scratch_bytes
        ],
    }


def _predicted(plan: Plan) -> Iterator[str]:
    instructions = predict(plan)
    if instructions is not None and plan.costs is not None:
        yield f"about {instructions:,.0f} instructions, predicted from costs of {plan.costs.compiler}"


def _verdict(plan: Plan) -> str:
    peak = plan.peak.name if plan.peak else "no layer"
    banks = f" in {len(plan.bank_bytes)} banks" if len(plan.bank_bytes) > 1 else ""
    gap = plan.arena_bytes - plan.bound_bytes
    proof = "a proven optimum of this order" if plan.optimal else f"{gap:,} above the bound of bytes in use at once"
    return f"{plan.graph.name}: {plan.arena_bytes:,} bytes of arena{banks}, peak at {peak}, {proof}"


def _legend(plan: Plan, letters: dict[str, str]) -> Iterator[str]:
    for name, letter in letters.items():
        if name not in plan.slots:
            yield f"  {letter}  {name}"
            continue
        slot = plan.slots[name]
        where = f"at {slot.offsets[0]:,}" if slot.contiguous else f"at {min(slot.offsets):,}..{max(slot.offsets):,}"
        yield f"  {letter}  {name}: keeps {slot.kept} of {len(slot.offsets)} rows of {slot.row_bytes:,} bytes, {where}"


def _span(first: int, end: int, total: int, cells: int) -> tuple[int, int]:
    """The cells that [first, end) of `total` falls into, at least one."""
    lo = min(first * cells // total, cells - 1)
    return lo, max(lo + 1, min(cells, round(end * cells / total)))


def draw_svg(plan: Plan) -> str:
    """Every box with its name, rows and bytes as a tooltip; the line above is the bound of bytes in use at each time."""
    times, top = max(len(plan.live), 1), max(plan.arena_bytes, 1)

    def x(time: float) -> float:
        return 70 + time * WIDTH / times

    def y(offset: float) -> float:
        return 40 + HEIGHT - offset * HEIGHT / top

    names = list(dict.fromkeys(box.name for box in sorted(boxes(plan), key=lambda b: b.first)))
    color = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}
    parts = [
        f'<rect x="{x(b.first):.1f}" y="{y(b.offset + b.bytes):.1f}" width="{x(b.last + 1) - x(b.first):.2f}" '
        f'height="{b.bytes * HEIGHT / top:.2f}" fill="{color[b.name]}"><title>{escape(b.name)}: {b.bytes:,} bytes at '
        f"{b.offset:,}, calls {b.first} to {b.last}</title></rect>"
        for b in boxes(plan)
    ]
    line = " ".join(f"{x(t):.1f},{y(size):.1f} {x(t + 1):.1f},{y(size):.1f}" for t, size in enumerate(plan.live))
    peak = plan.peak.name if plan.peak else ""
    title = (
        f"{plan.graph.name}: {plan.arena_bytes:,} bytes of arena, at most {plan.bound_bytes:,} in use at once ({peak})"
    )
    columns = 4
    legend = [
        f'<rect x="{70 + i % columns * 240}" y="{HEIGHT + 92 + i // columns * 18}" width="10" height="10" '
        f'fill="{color[name]}"/><text x="{84 + i % columns * 240}" y="{HEIGHT + 101 + i // columns * 18}">'
        f"{escape(name[-34:])}</text>"
        for i, name in enumerate(names)
    ]
    height = HEIGHT + 110 + -(-len(names) // columns) * 18
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 100} {height}" font-family="sans-serif" '
            'font-size="11">',
            f'<rect width="{WIDTH + 100}" height="{height}" fill="white"/>',
            f'<text x="70" y="24" font-size="15">{escape(title)}</text>',
            f'<rect x="70" y="40" width="{WIDTH}" height="{HEIGHT}" fill="#f4f4f4"/>',
            *parts,
            f'<polyline points="{line}" fill="none" stroke="black" stroke-width="1"/>',
            *(f'<text x="64" y="{y(top * i / 4) + 4:.0f}" text-anchor="end">{top * i // 4:,}</text>' for i in range(5)),
            f'<text x="70" y="{HEIGHT + 60}">time: {times:,} calls of kernels, first to last</text>',
            f'<text x="70" y="{HEIGHT + 78}">black line: bytes in use at each time</text>',
            *legend,
            "</svg>",
            "",
        ]
    )
