"""compress: a float graph, data and a recipe in; the small graph and a row for every step out. A killed run goes on."""

from __future__ import annotations

import hashlib
import io
import math
import platform
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from minikin.compress.accuracy import rmse, top_k
from minikin.compress.compressor import Compressor
from minikin.compress.recipe import Recipe, Step, parse_recipe
from minikin.compress.result import Measures, Result, Row, counts
from minikin.data.dataset import Dataset
from minikin.errors import DataError, UsageError
from minikin.exporters.tflite import write_tflite
from minikin.files import write_atomically
from minikin.graph import Graph
from minikin.train.losses import LOSSES, loss_name
from minikin.version import __version__

Progress = Callable[[str, int, int], None]
Measure = Callable[[Graph], Measures | None]
Judge = Callable[[Graph, np.ndarray, np.ndarray], tuple[float | None, float | None, float | None]]


def compress(
    graph: Graph,
    dataset: Dataset,
    recipe: Recipe | Iterable[Step],
    *,
    measure: Measure | None = None,
    progress: Progress | None = None,
    checkpoint_dir: str | Path | None = None,
) -> Result:
    """Prune, cluster, quantize and train a float32 graph as the recipe says.

    Every step is evaluated on the validation part, the first and the last state on the test part too, which nothing is
    chosen by. `measure` adds what a board says of the graph after every step. With `checkpoint_dir` each finished step, and
    each epoch of training, is kept there: a run that was killed goes on, with the same result. The same graph, data, recipe
    and versions give the same bytes. Raises UsageError where a step cannot do what it says or its loss is no number (the
    finished steps stay in `checkpoint_dir`), ModelError for a quantized graph, DataError.
    """
    chosen = parse_recipe(recipe)
    report = progress or (lambda what, done, total: None)
    _require_fitting(graph, dataset, loss_name(dataset, chosen.training.loss))
    compressor = Compressor(graph, dataset, chosen)
    folder = Path(checkpoint_dir) if checkpoint_dir else None
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    hashes = _hashes(compressor.baseline, dataset, chosen)
    judge = _judge(dataset, chosen.training.loss)
    rows = [_row("before", compressor.baseline, dataset, judge, measure, test=True)]
    for number, step in enumerate(chosen.steps):
        last = number + 1 == len(chosen.steps)
        saved = folder / f"{_step_hash(hashes, chosen, number)}.pt" if folder else None
        if saved and saved.exists():
            compressor.restore(_load(saved))
        else:
            _apply(compressor, step, number, report, saved)
        report("steps", number + 1, len(chosen.steps))
        rows.append(_row(step.title, compressor.deployed(), dataset, judge, measure, test=last))
    versions = {"minikin": __version__, "torch": torch.__version__, "numpy": np.__version__}
    made_by = versions | {"python": platform.python_version()} | hashes
    return Result(compressor.deployed(), tuple(rows), chosen, made_by)


def _apply(compressor: Compressor, step: Step, number: int, report: Progress, saved: Path | None) -> None:
    title = f"{number + 1}. {step.title}"
    fitting: dict[str, Any] = {"progress": lambda epoch: report(title, epoch.number + 1, step.epochs)}
    if saved:
        fitting |= {"checkpoint_dir": saved.with_suffix(""), "resume": True}
    try:
        compressor.apply(step, **fitting)
    except UsageError as error:
        raise UsageError(f"step {number + 1} ({step.do}): {error}") from error
    if saved:
        stream = io.BytesIO()
        torch.save(compressor.state(), stream)
        write_atomically(saved, stream.getvalue())


def _load(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, weights_only=True)
    except Exception as error:
        raise DataError(
            f"{path} is no checkpoint that can be read ({error}): delete it to begin the step again"
        ) from error


def _row(step: str, graph: Graph, dataset: Dataset, judge: Judge, measure: Measure | None, test: bool) -> Row:
    parameters, nonzero, distinct = counts(graph)
    first, fifth, error = judge(graph, dataset.x_validation, dataset.y_validation)
    row = Row(step, parameters, nonzero, distinct, len(write_tflite(graph)), first, fifth, validation_rmse=error)
    if test:
        first, fifth, error = judge(graph, dataset.x_test, dataset.y_test)
        row = replace(row, test_accuracy=first, test_top5=fifth, test_rmse=error)
    return replace(row, measures=measure(graph) if measure else None)


def _judge(dataset: Dataset, loss: str | None) -> Judge:
    """Top-1, top-5 (of fewer than 6 classes it says nothing) and RMSE of samples: what there is for networks of this loss."""
    name = loss_name(dataset, loss)

    def judge(graph: Graph, x: np.ndarray, y: np.ndarray) -> tuple[float | None, float | None, float | None]:
        if not len(y):
            return None, None, None
        if LOSSES[name].correct is None:
            return None, None, rmse(graph, x, x if name == "reconstruction" else y)
        first, fifth = top_k(graph, x, y)
        return first, fifth if len(dataset.classes) > 5 else None, None

    return judge


def _require_fitting(graph: Graph, dataset: Dataset, loss: str) -> None:
    if LOSSES[loss].correct is not None and not dataset.classes:
        raise UsageError(f"loss {loss} needs classes, which {dataset.name} has none of: use mse")
    shape = graph.output_tensors[0].shape
    outputs = shape[-1] if shape else 1
    if LOSSES[loss].correct is None:
        wanted, found = LOSSES[loss].outputs(dataset), math.prod(shape[1:])
        if found != wanted:
            raise DataError(
                f"{dataset.name} has {wanted} values a sample to compare with, and {graph.name} gives {found}: "
                f"take the data that the network was trained on, and its loss"
            )
    else:
        labels = [y.max() + 1 for y in (dataset.y_train, dataset.y_validation, dataset.y_test) if len(y)]
        if labels and max(labels) > max(outputs, 2):
            raise DataError(
                f"{dataset.name} has labels up to {max(labels) - 1}, and {graph.name} gives {outputs} classes: "
                f"take the data that the network was trained on"
            )
    if not len(dataset.x_train):
        raise DataError(f"{dataset.name} has no training samples: give at least one")
    size = graph.input_tensors[0].size
    if dataset.x_train[0].size != size:
        raise DataError(
            f"{dataset.name} has samples {dataset.x_train.shape[1:]}, and {graph.name} takes "
            f"{graph.input_tensors[0].shape[1:]}: take the data that the network was trained on"
        )


def _hashes(graph: Graph, dataset: Dataset, recipe: Recipe) -> dict[str, str]:
    """SHA-256 of the model as .tflite, of the data that it is trained and chosen on, and of the recipe."""
    data = hashlib.sha256()
    for part in ("x_train", "y_train", "x_validation", "y_validation"):
        data.update(np.ascontiguousarray(getattr(dataset, part)).tobytes())
    return {
        "model_sha256": hashlib.sha256(write_tflite(graph)).hexdigest(),
        "data_sha256": data.hexdigest(),
        "recipe_sha256": hashlib.sha256(recipe.to_toml().encode()).hexdigest(),
    }


def _step_hash(hashes: dict[str, str], recipe: Recipe, number: int) -> str:
    """Of everything that a step's state depends on: a later step may change, and the earlier ones still count.

    The quantization does, wherever it comes: clusters are made in its scales.
    """
    first = recipe.model_copy(update={"steps": recipe.steps[: number + 1]})
    plan = recipe.quantize.model_dump_json(exclude={"epochs"}) if recipe.quantize else ""
    text = "".join(
        [hashes["model_sha256"], hashes["data_sha256"], first.to_toml(), plan, __version__, torch.__version__]
    )
    return f"step{number + 1}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
