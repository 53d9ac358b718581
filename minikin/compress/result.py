"""What a compression gives: the graph, and a row of figures for every step."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minikin.compress.recipe import Recipe
from minikin.display import Displayed, Table
from minikin.exporters.tflite import write_tflite
from minikin.files import write_atomically
from minikin.graph import Graph
from minikin.ops import get_op


@dataclass(frozen=True)
class Measures:
    """A network on a board: bytes of the firmware, of all that grows with the model, exact instructions of an inference."""

    flash_bytes: int
    ram_bytes: int
    weights_bytes: int
    instructions: int
    board: str
    toolchain: str
    engine: str


@dataclass(frozen=True)
class Row:
    """The network after a step; the first row is before all of them.

    Accuracies are fractions, of floats where the graph is float, of the exact integers where it is int8. A network that
    gives values has the root of their mean squared error instead, in the targets' unit. `test` is read for the first
    and the last row only. `nonzero` counts the weights and biases that are not 0
    among `parameters`; `distinct` is the most values that a layer's weights take; `file_bytes` is the .tflite's size.
    """

    step: str
    parameters: int
    nonzero: int
    distinct: int
    file_bytes: int
    validation_accuracy: float | None
    validation_top5: float | None
    test_accuracy: float | None = None
    test_top5: float | None = None
    measures: Measures | None = None
    validation_rmse: float | None = None
    test_rmse: float | None = None

    @property
    def sparsity(self) -> float:
        return 1.0 - self.nonzero / max(1, self.parameters)


@dataclass(frozen=True)
class Result(Displayed):
    """The compressed graph, the rows, and what made it: recipe, versions, hashes."""

    graph: Graph
    rows: tuple[Row, ...]
    recipe: Recipe
    made_by: dict[str, str] = field(default_factory=dict)

    @property
    def drop(self) -> float:
        """What the test part lost (the validation part, where there is no other); negative where it gained.

        Points of accuracy; of a network that gives values, percent by which the root of their mean squared error rose.
        """
        first, last = self.rows[0], self.rows[-1]
        for before, after in (
            (first.test_accuracy, last.test_accuracy),
            (first.validation_accuracy, last.validation_accuracy),
        ):
            if before is not None and after is not None:
                return 100.0 * (before - after)
        for before, after in ((first.test_rmse, last.test_rmse), (first.validation_rmse, last.validation_rmse)):
            if before is not None and after is not None:
                return 100.0 * (after - before) / before if before else 100.0 * after
        return 0.0

    @property
    def loss_text(self) -> str:
        """The drop in words."""
        if self.rows[0].validation_rmse is not None:
            return f"the root mean squared error rises by {self.drop:.2f}%"
        return f"accuracy falls by {self.drop:.2f} points"

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.graph.name,
            "drop": self.drop,
            "rows": [asdict(row) for row in self.rows],
            "recipe": self.recipe.model_dump(exclude_defaults=True, mode="json"),
            "made_by": self.made_by,
        }

    def save(self, path: str | Path) -> list[Path]:
        """PATH (.tflite), and beside it the recipe as .recipe.toml and figures, versions and hashes as .json."""
        path = Path(path)
        model = write_tflite(self.graph)
        report = json.dumps(self.to_json(), indent=1) + "\n"
        return [
            write_atomically(path, model),
            write_atomically(path.with_suffix(".recipe.toml"), self.recipe.to_toml()),
            write_atomically(path.with_suffix(".json"), report),
        ]

    def table(self) -> Table:
        measured = next((row.measures for row in self.rows if row.measures), None)
        values = self.rows[0].validation_rmse is not None
        parts = [">validation RMSE", ">test RMSE"] if values else [">validation", ">test"]
        headings = ["step", ">nonzero", ">values", *parts]
        headings += [">flash", ">RAM", ">instructions"] if measured else [">.tflite"]
        caption = (
            f"{'error' if values else 'accuracy'} of floats before the quantization, of the exact integers after it"
        )
        if measured:
            caption += f"\non {measured.board}, built by {measured.toolchain}, run by {measured.engine}"
        table = Table(*headings, title=f"{self.graph.name}: {self.rows[0].parameters:,} parameters", caption=caption)
        for row in self.rows:
            cells = [row.step, f"{row.nonzero:,}", f"{row.distinct:,}"]
            cells += [_score(row.validation_accuracy, row.validation_rmse), _score(row.test_accuracy, row.test_rmse)]
            if not measured:
                cells.append(f"{row.file_bytes:,}")
            elif row.measures:
                cells += [
                    f"{n:,}" for n in (row.measures.flash_bytes, row.measures.ram_bytes, row.measures.instructions)
                ]
            table.add_row(*cells, *[""] * (len(headings) - len(cells)))
        return table


def _score(accuracy: float | None, rmse: float | None) -> str:
    return percent(accuracy) if rmse is None else f"{rmse:.4g}"


def percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{fraction:.2%}"


def counts(graph: Graph) -> tuple[int, int, int]:
    """(parameters, those that are not zero, the most distinct values of a layer's weights)."""
    total = nonzero = distinct = 0
    seen: set[str] = set()
    for view in graph.views():
        op = get_op(view.node.op)
        for index in (*op.weights, *([op.bias] if op.bias is not None else [])):
            tensor = view.input(index)
            if tensor is None or tensor.data is None or tensor.name in seen:
                continue
            seen.add(tensor.name)
            total += tensor.size
            nonzero += int(np.count_nonzero(tensor.data))
            if index in op.weights:
                distinct = max(distinct, len(np.unique(tensor.data)))
    return total, nonzero, distinct
