"""train/: the zoo's networks learn, the same way each time."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from minikin.data import Dataset, digits
from minikin.errors import DataError, UsageError
from minikin.train.loop import Epoch, core_count, evaluate, fit
from minikin.train.zoo import get_model


@pytest.fixture(scope="module")
def data() -> Dataset:
    return digits()


def fresh(name: str, data: Dataset, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return get_model(name, data.sample_shape, len(data.classes))


def test_digits_cnn_reads_digits(data: Dataset) -> None:
    model = fresh("digits_cnn", data)
    seen: list[Epoch] = []
    history = fit(model, data, epochs=15, learning_rate=3e-3, progress=seen.append)
    assert evaluate(model, data.x_test, data.y_test) >= 0.97
    assert history.epochs == tuple(seen)
    assert history.best == min(range(15), key=lambda i: seen[i].validation_loss)
    assert evaluate(model, data.x_validation, data.y_validation) == history.accuracy
    assert not history.stopped
    assert not model.training
    assert sum(p.numel() for p in model.parameters()) < 5500


def test_mlp_reads_digits(data: Dataset) -> None:
    model = fresh("mlp", data)
    fit(model, data, epochs=25, learning_rate=5e-3)
    assert evaluate(model, data.x_test, data.y_test) >= 0.93


def test_the_course_network_has_784_20_10() -> None:
    model = get_model("mlp", (28, 28, 1), 10)
    assert [p.shape for p in model.parameters()] == [(20, 784), (20,), (10, 20), (10,)]


def test_the_seed_decides_everything(data: Dataset) -> None:
    def weights(seed: int, threads: int) -> np.ndarray:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        torch.manual_seed(99)
        state = torch.get_rng_state()
        model = fresh("digits_cnn", data)
        torch.set_rng_state(state)
        fit(model, data, epochs=2, seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_num_threads() == threads
        assert not torch.are_deterministic_algorithms_enabled()
        torch.set_num_threads(before)
        return nn.utils.parameters_to_vector(model.parameters()).detach().numpy()

    np.testing.assert_array_equal(weights(0, 1), weights(0, 2))
    assert not np.array_equal(weights(0, 1), weights(1, 1))


def test_sgd_and_odd_last_batches(data: Dataset) -> None:
    few = replace(data, x_train=data.x_train[:65], y_train=data.y_train[:65])
    history = fit(fresh("digits_cnn", data), few, epochs=2, optimizer="sgd", learning_rate=0.01)
    assert len(history.epochs) == 2


def test_a_loss_that_explodes_keeps_the_best_weights(data: Dataset) -> None:
    class Explodes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.calls = fresh("mlp", data), 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += self.training
            return self.inner(x) * (math.nan if self.calls > 80 else 1)

    model = Explodes()
    history = fit(model, data, epochs=10, batch_size=32)
    assert len(history.epochs) == 2
    assert history.stopped.startswith("loss became nan in epoch 3: epoch 2's weights are kept")
    model.calls = 0
    assert evaluate(model, data.x_validation, data.y_validation) == history.accuracy
    model.calls = 100
    at_once = fit(model, data, epochs=3)
    assert (at_once.epochs, at_once.best) == ((), -1)
    assert math.isnan(at_once.accuracy)
    assert "the first weights are kept" in at_once.stopped


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"batch_size": -1},
        {"learning_rate": math.nan},
        {"optimizer": "lion"},
        {"schedule": "linear"},
        {"loss": "hinge"},
        {"momentum": 1.0},
        {"weight_decay": -1e-4},
        {"accelerator": "tpu"},
        {"momentun": 0.9},
        {"augment": ("shift",)},
        {"augment": ("mirror=1",)},
    ],
)
def test_bad_options(options: dict, data: Dataset) -> None:
    with pytest.raises(UsageError, match=next(iter(options)).removesuffix("ment")):
        fit(fresh("mlp", data), data, **options)


def test_bad_data(data: Dataset) -> None:
    model = fresh("mlp", data)
    with pytest.raises(DataError, match="no validation samples"):
        fit(model, replace(data, x_validation=data.x_validation[:0], y_validation=data.y_validation[:0]))
    with pytest.raises(DataError, match="NaN"):
        fit(model, replace(data, x_train=data.x_train * np.float32(np.nan)))
    with pytest.raises(DataError, match=r"0 \.\. 9 but 3 classes"):
        fit(fresh("mlp", replace(data, classes=("a", "b", "c"))), replace(data, classes=("a", "b", "c")))
    with pytest.raises(DataError, match="one class alone"):
        fit(model, replace(data, y_train=np.zeros_like(data.y_train)))
    with pytest.raises(UsageError, match="gives 10 values and the data needs 11"):
        fit(model, replace(data, classes=(*data.classes, "10")))
    with pytest.raises(UsageError, match=r"does not take 8x4x1 samples"):
        fit(model, replace(data, x_train=data.x_train[:, :, :4]))


def test_cores_are_counted() -> None:
    assert core_count() >= 1
