"""The sparsity table: how many weights can go, and what each share costs in accuracy and saves on the board."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from minikin.compress.recipe import Finetune, Prune, Quantize, Recipe, Training
from minikin.compress.result import Row, percent
from minikin.compress.run import Measure, Progress, compress
from minikin.data.dataset import Dataset
from minikin.display import Displayed, Table
from minikin.errors import UsageError
from minikin.files import write_atomically
from minikin.graph import Graph

WIDTH, HEIGHT = 720, 300
PAD_LEFT, PAD_RIGHT, PAD_TOP, PAD_BOTTOM = 70, 20, 40, 45
GAP = 90
COLOURS = ("#4c78a8", "#f58518", "#54a24b")
STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


@dataclass(frozen=True)
class Point:
    """A sparsity that was asked for, and the row of the network that it gave."""

    sparsity: float
    row: Row


@dataclass(frozen=True)
class Sweep(Displayed):
    """The points in the order asked for. Accuracies are those of the test part, or of validation where there is none."""

    name: str
    points: tuple[Point, ...]
    weights: str

    def to_json(self) -> dict[str, Any]:
        points = [{"sparsity": p.sparsity, **asdict(p.row)} for p in self.points]
        return {"name": self.name, "weights": self.weights, "points": points}

    def table(self) -> Table:
        measured = next((p.row.measures for p in self.points if p.row.measures), None)
        values = any(rmse_of(p.row) is not None for p in self.points)
        headings = ["sparsity", ">nonzero", *([">RMSE"] if values else [">top-1", ">top-5"])]
        headings += [">flash", ">weights", ">instructions"] if measured else [">.tflite"]
        integers = f"{'error' if values else 'accuracy'} of the exact integers"
        caption = integers if self.weights.startswith("int") else f"weights {self.weights}"
        if measured:
            caption += f"; on {measured.board}, built by {measured.toolchain}, run by {measured.engine}"
        table = Table(*headings, title=f"{self.name}, {self.weights}", caption=caption)
        for point in self.points:
            row, board = point.row, point.row.measures
            cells = [f"{point.sparsity:.1%}", f"{row.nonzero:,}"]
            cells += [f"{rmse_of(row):.4g}"] if values else [percent(top1(row)), percent(top5(row))]
            if board:
                cells += [f"{n:,}" for n in (board.flash_bytes, board.weights_bytes, board.instructions)]
            elif not measured:
                cells.append(f"{row.file_bytes:,}")
            table.add_row(*cells, *[""] * (len(headings) - len(cells)))
        return table

    def save_plot(self, path: str | Path) -> Path:
        """The curves as .svg, or as .html around it."""
        path = Path(path)
        drawing = draw_svg(self)
        if path.suffix == ".html":
            title = escape(self.name)
            drawing = f'<!doctype html><meta charset="utf-8"><title>{title}</title><body>{drawing}</body>\n'
        return write_atomically(path, drawing)


def sweep(
    graph: Graph,
    dataset: Dataset,
    sparsities: Sequence[float],
    *,
    prune: Prune | None = None,
    quantize: Quantize | None = None,
    training: Training | None = None,
    seed: int = 0,
    measure: Measure | None = None,
    progress: Progress | None = None,
    checkpoint_dir: str | Path | None = None,
) -> Sweep:
    """Prune the float graph to each of `sparsities`, always from the same weights, and quantize it.

    `prune` has everything else of the pruning (its own sparsity is not used); sparsity 0 trains as long without pruning.
    """
    pruning, quantization = prune or Prune(sparsity=0.0), quantize or Quantize()
    if not sparsities or not all(0 <= s < 1 for s in sparsities):
        raise UsageError(
            f"sparsities are {', '.join(map(str, sparsities)) or 'missing'}: give fractions from 0 to below 1"
        )
    report = progress or (lambda what, done, total: None)
    points = []
    for number, sparsity in enumerate(sparsities):
        steps: list[Any] = [pruning.model_copy(update={"sparsity": sparsity})]
        if not sparsity:
            shared = pruning.model_dump(include={*Training.model_fields}, exclude_none=True)
            steps = [Finetune(epochs=pruning.epochs, **shared)] if pruning.epochs else []
        recipe = Recipe(seed=seed, training=training or Training(), steps=(*steps, quantization))
        result = compress(
            graph,
            dataset,
            recipe,
            measure=None,
            progress=lambda what, done, total, s=sparsity: report(f"{s:.1%}: {what}", done, total),
            checkpoint_dir=checkpoint_dir,
        )
        row = result.rows[-1]
        measures = measure(result.graph) if measure else None
        points.append(Point(sparsity, Row(**{**vars(row), "measures": measures})))
        report("sparsities", number + 1, len(sparsities))
    return Sweep(graph.name, tuple(points), quantization.weights)


def top1(row: Row) -> float | None:
    return row.validation_accuracy if row.test_accuracy is None else row.test_accuracy


def top5(row: Row) -> float | None:
    return row.validation_top5 if row.test_accuracy is None else row.test_top5


def rmse_of(row: Row) -> float | None:
    return row.validation_rmse if row.test_rmse is None else row.test_rmse


# The plot


def draw_svg(sweep: Sweep) -> str:
    """Two charts over the sparsity: accuracy, and the bytes and instructions as shares of the densest point's.

    Where the network gives values their error is among the shares.
    """
    ordered = sorted(sweep.points, key=lambda p: p.sparsity)
    x = [p.sparsity for p in ordered]
    accuracy = {name: [get(p.row) for p in ordered] for name, get in (("top-1", top1), ("top-5", top5))}
    errors = [e for p in ordered if (e := rmse_of(p.row)) is not None]
    charts = [] if errors else [("accuracy", accuracy, False)]
    columns = {"RMSE": errors} if errors and errors[0] else {}
    if all(p.row.measures for p in ordered):
        sizes = [p.row.measures for p in ordered if p.row.measures]
        columns |= {"flash": [m.flash_bytes for m in sizes], "instructions": [m.instructions for m in sizes]}
    if columns:
        charts.append(("against the densest", {n: [v / c[0] for v in c] for n, c in columns.items()}, True))
    height = len(charts) * HEIGHT + (len(charts) - 1) * (GAP - PAD_BOTTOM)
    body = "".join(_chart(n * (HEIGHT + GAP - PAD_BOTTOM), *chart, x) for n, chart in enumerate(charts))
    title = f'<text x="{PAD_LEFT}" y="16" font-weight="bold">{escape(sweep.name)}, {escape(sweep.weights)}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>{title}{body}</svg>\n'
    )


def _ticks(lo: float, hi: float) -> list[float]:
    """At most seven round numbers that enclose the values."""
    step = next((s for s in STEPS if math.ceil(hi / s) - math.floor(lo / s) <= 6), STEPS[-1])
    first, last = math.floor(lo / step + 1e-9), math.ceil(hi / step - 1e-9)
    return [step * n for n in range(first, max(last, first + 1) + 1)]


def _chart(top: int, title: str, lines: dict[str, list[Any]], from_zero: bool, x: list[float]) -> str:
    """One chart: a grid, a line with dots for each named list; lists with gaps are left out."""
    lines = {name: values for name, values in lines.items() if all(v is not None for v in values)}
    values = [v for line in lines.values() for v in line]
    if not values:
        return ""
    ticks = _ticks(0.0 if from_zero else min(values), max(values))
    lo, hi = ticks[0], ticks[-1]

    def at(sparsity: float, value: float) -> tuple[float, float]:
        right = PAD_LEFT + (WIDTH - PAD_LEFT - PAD_RIGHT) * (sparsity - x[0]) / ((x[-1] - x[0]) or 1.0)
        return right, top + PAD_TOP + (HEIGHT - PAD_TOP - PAD_BOTTOM) * (hi - value) / (hi - lo)

    floor, parts = top + HEIGHT - PAD_BOTTOM, []
    digits = 0 if ticks[1] - ticks[0] > 0.009 else 1
    for value in ticks:
        _, y = at(x[0], value)
        parts.append(f'<line x1="{PAD_LEFT}" x2="{WIDTH - PAD_RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{PAD_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.{digits}%}</text>')
    last = -WIDTH
    for sparsity in x:
        place, _ = at(sparsity, lo)
        parts.append(f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{floor}" y2="{floor + 4}" stroke="#888"/>')
        if place - last > 40:  # labels that would lie on each other are left out
            parts.append(f'<text x="{place:.1f}" y="{floor + 18}" text-anchor="middle">{sparsity:.0%}</text>')
            last = place
    parts.append(f'<text x="{(PAD_LEFT + WIDTH) / 2}" y="{floor + 36}" text-anchor="middle">sparsity asked for</text>')
    parts.append(f'<text x="{PAD_LEFT}" y="{top + PAD_TOP - 8}">{title}</text>')
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [at(s, v) for s, v in zip(x, line, strict=True)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{colour}"/>' for a, b in places]
        legend = WIDTH - PAD_RIGHT - 110 * (len(lines) - number)
        parts.append(f'<circle cx="{legend}" cy="{top + PAD_TOP - 12}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{legend + 8}" y="{top + PAD_TOP - 8}">{name}</text>')
    return "".join(parts)
