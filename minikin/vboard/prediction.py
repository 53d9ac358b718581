"""Predicted instructions beside counted ones, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from minikin.display import Displayed, Table
from minikin.errors import UnsupportedError
from minikin.plan.incremental import IncrementalPlan
from minikin.plan.prediction import predict, predict_steps
from minikin.vboard.build import Build
from minikin.vboard.run import run


@dataclass(frozen=True)
class LayerPrediction:
    """`predicted` is None where the kernel was not fitted."""

    name: str
    kernel: str
    predicted: float | None
    counted: int


@dataclass(frozen=True)
class Prediction(Displayed):
    """One inference; `predicted` is None where a layer's is. `fitted_with` is the compiler whose code was fitted."""

    layers: tuple[LayerPrediction, ...]
    predicted: float | None
    counted: int
    board: str
    toolchain: str
    fitted_with: str

    @property
    def error(self) -> float | None:
        """Of all instructions, relative to those counted."""
        return None if self.predicted is None else self.predicted / self.counted - 1

    def to_json(self) -> dict[str, Any]:
        return {
            "predicted_instructions": self.predicted,
            "instructions": self.counted,
            "relative_error": self.error,
            "layers": [vars(layer) for layer in self.layers],
            "board": self.board,
            "toolchain": self.toolchain,
            "fitted_with": self.fitted_with,
        }

    def table(self) -> Table:
        total = f"{self.counted:,} instructions on {self.board}, {_count(self.predicted)} predicted"
        table = Table(
            *("layer", "kernel", ">predicted", ">counted", ">error"),
            title=total if self.error is None else f"{total} ({self.error:+.2%})",
            caption=f"built by {self.toolchain}; predicted from costs of {self.fitted_with}",
        )
        for layer in self.layers:
            error = "" if layer.predicted is None else f"{layer.predicted / max(layer.counted, 1) - 1:+.1%}"
            table.add_row(layer.name, layer.kernel, _count(layer.predicted), f"{layer.counted:,}", error)
        return table


def compare(build: Build) -> Prediction:
    """Predict, then count on the emulated board. Raises UnsupportedError where nothing was fitted for such a build."""
    plan, core = build.plan, build.board.core
    if plan.costs is None:
        stepped = isinstance(plan, IncrementalPlan)
        what = f"{core.name} with {build.toolchain.name}, --optimize {build.optimize}"
        raise UnsupportedError(
            f"no costs are fitted for {'networks that run frame by frame' if stepped else what}: "
            "count with `minikin run`, or fit them with benchmarks/fit_costs.py"
        )
    predicted, counted = predict_steps(plan), run(build)
    return Prediction(
        tuple(LayerPrediction(c.name, c.kernel, predicted[c.name], c.instructions) for c in counted.layers),
        predict(plan),
        counted.instructions,
        build.board.name,
        build.toolchain.version,
        plan.costs.compiler,
    )


def _count(value: float | None) -> str:
    return "not fitted" if value is None else f"{value:,.0f}"
