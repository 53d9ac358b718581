"""train/zoo: every network learns a little, and becomes C that gives the same bytes on the board."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import minikin
from minikin.check import check
from minikin.compress.quantize import quantize_array
from minikin.data import Dataset
from minikin.errors import UsageError
from minikin.importers.torch import from_torch, to_nhwc
from minikin.interp import run
from minikin.train.evaluate import predict, to_nchw
from minikin.train.loop import fit
from minikin.train.zoo import ZOO, get_model
from minikin.vboard.run import run_samples

CASES = {
    "linear": ((7,), {}),
    "logistic": ((4, 5, 1), {}),
    "mlp": ((9, 8, 1), {}),
    "lenet300": ((8, 8, 1), {}),
    "lenet5": ((16, 17, 1), {}),
    "dnn": ((6, 4, 1), {"hidden": 12, "dropout": 0.2}),
    "digits_cnn": ((8, 8, 1), {}),
    "resnet8": ((8, 8, 3), {}),
    "ds_cnn_s": ((15, 6, 1), {"dropout": 0.1}),
    "ds_cnn_m": ((13, 7, 1), {}),
    "ds_cnn_l": ((9, 5, 1), {}),
    "mobilenet": ((16, 16, 2), {"width": 0.125}),
    "autoencoder": ((20,), {"hidden": 16, "code": 4}),
}


def noise(shape: tuple[int, ...]) -> Dataset:
    rng = np.random.default_rng(0)
    x, y = rng.random((24, *shape), np.float32), rng.integers(0, 3, 24)
    return Dataset("noise", x, y, x[:8], y[:8], x[:8], y[:8], ("a", "b", "c"))


def test_every_network_is_here() -> None:
    assert CASES.keys() == ZOO.keys()


@pytest.mark.parametrize("name", CASES)
def test_networks_run_on_the_board(name: str) -> None:
    shape, options = CASES[name]
    data = noise(shape)
    torch.manual_seed(0)
    model = get_model(name, shape, 3, **options)
    fit(model, data, epochs=2, batch_size=8, loss="reconstruction" if name == "autoencoder" else None)
    example = to_nchw(data.x_train[:1])
    graph = from_torch(model, (example,), name)
    check(graph)
    got = [run(graph, [x[None]])[graph.outputs[0]] for x in data.x_test]
    np.testing.assert_allclose(np.concatenate(got), predict(model, data.x_test), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(to_nhwc(example.numpy()), data.x_train[:1])
    small = minikin.quantize(graph, data.x_train)
    samples = [[x] for x in quantize_array(data.x_test[:2, None], small.input_tensors[0])]
    on_board, _ = run_samples(minikin.compile(small, "nucleo-h743zi"), samples)
    for sample, outputs in zip(samples, on_board, strict=True):
        np.testing.assert_array_equal(outputs[0], run(small, sample)[small.outputs[0]])


def test_published_sizes() -> None:
    def count(name: str, shape: tuple[int, ...], outputs: int, **options: float) -> int:
        return sum(p.numel() for p in get_model(name, shape, outputs, **options).parameters())

    assert count("mlp", (28, 28, 1), 10) == 15_910
    assert count("lenet300", (28, 28, 1), 10) == 266_610
    assert count("lenet5", (28, 28, 1), 10) == 431_080
    assert count("dnn", (250,), 12) == 36_144 + 2 * 20_880 + 1740
    assert count("autoencoder", (640,), 0) == 267_928
    assert 0.9 * 4.2e6 < count("mobilenet", (224, 224, 3), 1000, width=1.0) < 1.1 * 4.2e6


def test_hello_edges_shapes() -> None:
    """The first convolution of MLPerf Tiny's keyword spotter gives 25x5, the second block of M and L likewise."""
    x = torch.zeros(1, 1, 49, 10)
    assert get_model("ds_cnn_s", (49, 10, 1), 12)[:2](x).shape == (1, 64, 25, 5)
    assert get_model("ds_cnn_m", (49, 10, 1), 12)[:7](x).shape == (1, 172, 13, 5)


@pytest.mark.parametrize(
    ("name", "shape", "options", "words"),
    [
        ("resnet", (8, 8, 1), {}, r"resnet is not in the zoo.*digits_cnn"),
        ("mlp", (8, 8, 1), {"width": 2}, "mlp has no option width: it has hidden, dropout"),
        ("linear", (8,), {"dropout": 0.5}, "it has none"),
        ("dnn", (8,), {"dropout": 1.0}, r"dropout of dnn is 1: it must be in \[0, 1\)"),
        ("mobilenet", (32, 32, 3), {"width": -1}, "width of mobilenet is -1: it must be above 0"),
        ("lenet5", (15, 28, 1), {}, "at least 16x16, not 15x28"),
        ("ds_cnn_s", (490,), {}, "takes images, height x width x channels, not 490"),
    ],
)
def test_bad_choices(name: str, shape: tuple[int, ...], options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        get_model(name, shape, 10, **options)
