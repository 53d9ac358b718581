"""benchmarks/compression.py on the digits: from training to the figures of a row; the same seed gives the same bytes."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from minikin.compress.recipe import Prune, Quantize, Recipe, Training
from minikin.data import Dataset, digits

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RECIPE = Recipe(
    training=Training(teacher="baseline", learning_rate=3e-3),
    steps=(
        Prune(sparsity=0.8, scope="global", score="lamp", epochs=8),
        Quantize(weights="int3", scales="least_error", per_channel=False, bias_bits=6, epochs=3),
    ),
)


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compression_benchmark", BENCHMARKS / "compression.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data() -> Dataset:
    whole = digits()
    return replace(whole, x_test=whole.x_test[:40], y_test=whole.y_test[:40])


def test_row(benchmark: ModuleType, data: Dataset, tmp_path: Path) -> None:
    row = benchmark.Row(
        network="lenet300", data="digits", baseline={"epochs": 6}, recipe="", baseline_error=20, ratio=20
    )
    ticks: list[str] = []

    def run(folder: str) -> dict[str, Any]:
        job = benchmark.Job(
            name="tiny",
            row=row,
            data=data,
            recipe=RECIPE,
            seed=1,
            board="nucleo-l4r5zi",
            work=tmp_path / folder,
            report=lambda what, *_: ticks.append(what),
        )
        return benchmark.run_row(job) | {"seconds": 0}

    entry = run("a")
    assert any("prune" in tick for tick in ticks)
    assert entry["host_equal"]
    assert entry["board_equal"]
    assert entry["host_samples"] == entry["board_samples"] == 40
    assert entry["dense_bytes"] == 4 * (64 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10)
    assert entry["dense_bytes"] / entry["stored_bytes"] > 20
    assert entry["stored_bytes"] < entry["firmware_flash_bytes"]
    assert entry["error"] < 30
    assert run("b") == entry
    ticks.clear()
    assert run("b") == entry
    assert not any("epoch" in tick or "train" in tick for tick in ticks)  # all of it was there


def test_results_are_merged_with_medians(benchmark: ModuleType, tmp_path: Path) -> None:
    def entry(seed: int, error: float, ratio: float) -> dict[str, object]:
        same = {"baseline_error": 1.5, "stored_bytes": 9000, "firmware_flash_bytes": 20_000, "dense_bytes": 1_066_440}
        return {"name": "lenet300", "seed": seed, "error": error, "ratio": ratio, "host_equal": True} | same

    path = tmp_path / "results.json"
    for seed, error, ratio in ((0, 1.4, 110.0), (1, 1.9, 120.0), (2, 1.5, 99.0)):
        benchmark.merge(path, [entry(seed, error, ratio) | {"board_equal": True}])
    rows = json.loads(path.read_text())["rows"]
    assert [row["seed"] for row in rows] == [0, 1, 2, "median of 0, 1, 2"]
    assert (rows[-1]["error"], rows[-1]["ratio"], rows[-1]["met"]) == (1.5, 110.0, True)
    rows = benchmark.merge(path, [entry(1, 1.9, 120.0) | {"board_equal": False}])
    assert len(rows) == 4
    assert not rows[-1]["met"]


def test_every_row_has_a_recipe(benchmark: ModuleType) -> None:
    for row in benchmark.ROWS.values():
        recipe = benchmark.recipe_of(row)
        fewer = benchmark.quick(row, recipe)[1]
        assert [step.do for step in fewer.steps] == [step.do for step in recipe.steps]
        assert sum(step.epochs for step in fewer.steps) <= max(
            len(recipe.steps), 0.2 * sum(s.epochs for s in recipe.steps)
        )


def test_drops_are_means_of_the_seeds(benchmark: ModuleType) -> None:
    row = benchmark.ROWS["kws_clustered"]
    same = {"name": "kws_clustered", "dense_bytes": 90_416, "host_equal": True, "board_equal": True, "ratio": 4.5}
    same |= {"stored_bytes": 20_000, "firmware_flash_bytes": 23_000}
    entries = [same | {"seed": n, "baseline_error": 9.0, "error": error} for n, error in enumerate((8.0, 9.0, 10.0))]
    assert benchmark.summarize(entries, row)["met"]
    summary = benchmark.summarize([*entries[:2], entries[2] | {"error": 10.3}], row)
    assert (summary["error"], summary["met"], summary["seed"]) == (9.1, False, "mean of 0, 1, 2")
    assert not benchmark.summarize([entry | {"stored_bytes": 22_700} for entry in entries], row)["met"]  # 3.98x
    assert benchmark.recipe_of(benchmark.ROWS["mobilenet_90"]).steps[0].sparsity == 0.9
