"""Compression of networks that give values: their error instead of accuracy, and no loss of it goes unseen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import minikin as mk
from minikin.compress.accuracy import rmse
from minikin.compress.recipe import Finetune, Prune, Quantize, Recipe, Training
from minikin.compress.sweep import draw_svg, sweep
from minikin.data.dataset import Dataset
from minikin.errors import DataError, UsageError
from minikin.graph import Graph
from minikin.train.loop import fit

RNG = np.random.default_rng(5)


def values(classes: tuple[str, ...] = ()) -> Dataset:
    """Two sums of eight inputs; with classes, which of them is greater."""
    mix = RNG.normal(size=(8, 2))
    parts = []
    for count in (256, 64, 64):
        x = RNG.uniform(-1, 1, (count, 8)).astype(np.float32)
        y = (x @ mix).astype(np.float32)
        parts += [x, y.argmax(axis=1) if classes else y]
    return Dataset("values", *parts, classes=classes)


def network(data: Dataset, outputs: int, **options) -> Graph:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, outputs))
    fit(model, data, epochs=30, learning_rate=1e-2, **options)
    return mk.load(model, (torch.zeros(1, 8),))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return values()


@pytest.fixture(scope="module")
def regression(data: Dataset) -> Graph:
    return network(data, 2)


def test_rows_have_the_error_of_the_graph(data: Dataset, regression: Graph) -> None:
    result = mk.compress(regression, data, Recipe(steps=(Prune(sparsity=0.5), Quantize())))
    first, middle, last = result.rows
    assert first.test_rmse == rmse(regression, data.x_test, data.y_test)
    assert last.test_rmse == rmse(result.graph, data.x_test, data.y_test)
    assert last.validation_rmse == rmse(result.graph, data.x_validation, data.y_validation)
    assert (middle.test_rmse, first.test_accuracy, last.validation_accuracy) == (None, None, None)
    assert first.test_rmse is not None
    assert last.test_rmse is not None
    assert result.drop == pytest.approx(100 * (last.test_rmse / first.test_rmse - 1))
    assert result.drop > 10
    assert "RMSE" in result._repr_html_()


def test_a_rise_of_the_error_is_a_drop(data: Dataset, regression: Graph) -> None:
    pruned = mk.compress(regression, data, Recipe(steps=(Prune(sparsity=0.9),)))
    assert pruned.drop > 100
    assert "error rises by" in pruned.loss_text


def test_values_are_taught_by_values(data: Dataset, regression: Graph) -> None:
    """A softmax would forget their size: the teacher's values alone bring the error back."""
    steps = (Prune(sparsity=0.3), Finetune(epochs=20, learning_rate=1e-2, teacher="baseline", distill_weight=1.0))
    result = mk.compress(regression, data, Recipe(steps=steps))
    pruned = mk.compress(regression, data, Recipe(steps=steps[:1]))
    assert result.drop < 0.25 * pruned.drop


def test_a_reconstruction_is_compared_with_its_input() -> None:
    data = values(("first", "second"))
    graph = network(data, 8, loss="reconstruction")
    recipe = Recipe(training=Training(loss="reconstruction"), steps=(Quantize(),))
    result = mk.compress(graph, data, recipe)
    assert result.rows[-1].test_rmse == rmse(result.graph, data.x_test, data.x_test)
    assert result.rows[-1].test_accuracy is None


def test_a_sweep_of_values(data: Dataset, regression: Graph) -> None:
    found = sweep(regression, data, [0.0, 0.9])
    assert "RMSE" in found._repr_html_()
    assert "top-1" not in found._repr_html_()
    drawing = draw_svg(found)
    assert "RMSE" in drawing
    assert ">accuracy<" not in drawing


def test_other_data_are_refused(data: Dataset, regression: Graph) -> None:
    with pytest.raises(DataError, match=r"has 8 values a sample to compare with, and .* gives 2"):
        mk.compress(regression, data, Recipe(training=Training(loss="reconstruction"), steps=(Quantize(),)))
    with pytest.raises(UsageError, match="loss cross_entropy needs classes"):
        mk.compress(regression, data, Recipe(training=Training(loss="cross_entropy"), steps=(Quantize(),)))
