"""The figures of a bench as bars: instructions and RAM, each as a share of TFLite Micro's with CMSIS-NN."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import groupby

from minikin.bench.bench import Bench, BenchRow

PALETTE = ("#4878d0", "#6acc64", "#ee854a", "#956cb4", "#8c613c", "#82c6e2")
OTHER = "#b8b8b8"
LEFT, WIDTH, BAR, GAP = 110, 560, 16, 14


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    color: str


def draw_svg(bench: Bench) -> str:
    """Two panels of bars, model by model; the longest bar of a model fills the width."""
    builds = list(dict.fromkeys(row.build for row in bench.rows))
    colors = {build: PALETTE[i % len(PALETTE)] for i, build in enumerate(builds)}
    legend = [("TFLite Micro + CMSIS-NN", OTHER)] if any(row.recorded for row in bench.rows) else []
    parts, y = [], 64.0
    for i, (name, color) in enumerate([*legend, *colors.items()]):
        x = LEFT + i * 190
        parts.append(f'<rect x="{x}" y="36" width="11" height="11" fill="{color}"/>')
        parts.append(f'<text x="{x + 16}" y="46">{escape(name)}</text>')
    for title, bars_of in (("Instructions of one inference", _instructions), ("RAM and stack, bytes", _ram)):
        y += 22
        parts.append(f'<text x="{LEFT}" y="{y:.0f}" font-weight="bold">{title}</text>')
        y += 12
        for model, rows in groupby(bench.rows, key=lambda row: row.model):
            bars = list(bars_of(list(rows), colors))
            top = max(bar.value for bar in bars)
            middle = y + len(bars) * BAR / 2 + 4
            parts.append(f'<text x="{LEFT - 8}" y="{middle:.0f}" text-anchor="end">{escape(model[:16])}</text>')
            for bar in bars:
                width = WIDTH * bar.value / top
                parts.append(
                    f'<rect x="{LEFT}" y="{y:.0f}" width="{width:.1f}" height="{BAR - 3}" fill="{bar.color}">'
                    f"<title>{escape(model)}, {escape(bar.label)}: {bar.value:,.0f}</title></rect>"
                    f'<text x="{LEFT + width + 6:.1f}" y="{y + 11:.0f}">{bar.value:,.0f}</text>'
                )
                y += BAR
            y += GAP
    head = f'<text x="{LEFT}" y="22" font-size="15">minikin bench on {escape(bench.board)}</text>'
    notes = [f'<text x="{LEFT}" y="{y + 14:.0f}" fill="#555">Counted on the virtual board, not timed.</text>']
    size = f"{LEFT + WIDTH + 110} {y + 30:.0f}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif" font-size="12">',
            f'<rect width="{LEFT + WIDTH + 110}" height="{y + 30:.0f}" fill="white"/>',
            *(head, *parts, *notes, "</svg>", ""),
        ]
    )


def draw_html(bench: Bench) -> str:
    """A page with the bars and both tables."""
    style = "body{font:14px sans-serif;max-width:1200px;margin:2em auto}td,th{padding:2px 8px}div{white-space:pre-line}"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>minikin bench</title><style>{style}</style>'
        f"</head><body>\n{draw_svg(bench)}{bench._repr_html_()}</body></html>\n"
    )


def _instructions(rows: list[BenchRow], colors: dict[str, str]) -> Iterator[Bar]:
    if rows[0].recorded_instructions:
        yield Bar("TFLite Micro + CMSIS-NN", rows[0].recorded_instructions, OTHER)
    for row in rows:
        yield Bar(row.build, row.instructions, colors[row.build])


def _ram(rows: list[BenchRow], colors: dict[str, str]) -> Iterator[Bar]:
    other = rows[0].recorded
    if other and other.ram_bytes and other.stack_bytes:
        yield Bar("TFLite Micro + CMSIS-NN", other.ram_bytes + other.stack_bytes, OTHER)
    for row in rows:
        yield Bar(row.build, row.ram_bytes + row.stack_bytes, colors[row.build])
