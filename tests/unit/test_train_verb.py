"""`minikin train`: a .pt2 that the importer reads, the same bytes after a kill, bad input in a sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minikin
from minikin.cli import main
from minikin.data import digits
from minikin.interp import run

LAST = 12


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


@pytest.fixture
def train(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["minikin", "train", *map(str, arguments)])
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as stop:
            main()
        signal.signal(signal.SIGTERM, before)
        captured = capfd.readouterr()
        return Result(int(stop.value.code or 0), captured.out, captured.err)

    return call


def test_a_classifier(train, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    result = train(
        *("-m", "dnn", "-d", "digits", "-o", path, "--epochs", 12, "--learning-rate", 1e-2, "--dropout", 0.1),
        *("--model-option", "hidden=32", "--data-option", "seed=3", "--augment", "shift=1,noise=0.1", "--json"),
    )
    assert result.code == 0
    found = result.json
    assert found["path"] == str(path)
    assert found["parameters"] == 64 * 32 + 32 + 2 * (32 * 32 + 32) + 32 * 10 + 10
    data = digits(3)
    graph = minikin.load(path)
    outputs = np.concatenate([run(graph, [x[None]])[graph.outputs[0]] for x in data.x_test])
    np.testing.assert_allclose(outputs.sum(1), 1, atol=1e-5)
    assert np.mean(outputs.argmax(1) == data.y_test) == found["test_accuracy"] > 0.8
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt2"]


def test_a_regression(train, tmp_path: Path) -> None:
    rows = [f"{i / 100},{(i * 7 % 100) / 100},{i / 50 - (i * 7 % 100) / 100}" for i in range(100)]
    (tmp_path / "plane.csv").write_text("\n".join(["a,b,value", *rows]))
    result = train(
        *("-m", "linear", "-d", tmp_path / "plane.csv", "-o", tmp_path / "net.pt2", "--epochs", 60),
        *("--optimizer", "nesterov", "--learning-rate", 0.1, "--batch-size", 16),
    )
    assert result.code == 0
    assert "linear on plane" in result.out
    assert "accuracy" not in result.out
    graph = minikin.load(tmp_path / "net.pt2")
    value = run(graph, [np.float32([[0.5, 0.25]])])[graph.outputs[0]]
    np.testing.assert_allclose(value, [[0.75]], atol=0.02)


def test_a_killed_run_goes_on(train, tmp_path: Path) -> None:
    """Killed for good while it trains; what --resume then writes has the same bytes as a run in one go."""
    options = ("-m", "digits_cnn", "-d", "digits", "--epochs", LAST, "--optimizer", "momentum", "--augment", "shift=1")
    command = [sys.executable, "-c", "from minikin.cli import main; main()", "train", *map(str, options)]
    environment = os.environ | {"PYTHONPATH": str(Path(minikin.__file__).parents[1])}
    killed = subprocess.Popen([*command, "-o", str(tmp_path / "part.pt2")], env=environment, stdout=subprocess.DEVNULL)
    checkpoint, deadline = tmp_path / "part.checkpoint" / "checkpoint.pt", time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert checkpoint.exists()
    assert not (tmp_path / "part.pt2").exists()
    assert train(*options, "-o", tmp_path / "part.pt2", "--resume").code == 0
    assert train(*options, "-o", tmp_path / "whole.pt2").code == 0
    assert (tmp_path / "part.pt2").read_bytes() == (tmp_path / "whole.pt2").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part.pt2", "whole.pt2"]


def test_a_loss_that_is_no_number_is_a_no(train, tmp_path: Path) -> None:
    """The rate grows past what float32 holds: what was kept is written, and said."""
    base = ("-m", "linear", "-d", tmp_path / "x.npz", "-o", tmp_path / "net.pt2", "--optimizer", "sgd", "--json")
    x = np.random.default_rng(0).normal(size=(64, 3))
    np.savez(tmp_path / "x.npz", x=x, y=x @ [1.0, 2.0, 3.0])
    result = train(*base, "--learning-rate", 50, "--schedule", "constant", "--epochs", 40)
    assert result.code == 1
    assert "loss became" in result.json["stopped"]
    assert "weights are kept" in result.json["stopped"]
    assert (result.json["path"] is not None) == (tmp_path / "net.pt2").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-m", "vgg", "-d", "digits", "-o", "n.pt2"), "network vgg is not in the zoo"),
        (("-m", "mlp", "-d", "digit", "-o", "n.pt2"), "data digit is neither a file nor one of"),
        (("-m", "mlp", "-d", "digits", "-o", "n.onnx"), "n.onnx must end in .pt2"),
        (("-m", "mlp", "-d", "digits", "-o", "no/n.pt2"), "folder no does not exist"),
        (("-m", "mlp", "-d", "digits", "-o", "n.pt2", "--optimizer", "lion"), "optimizer lion is not known"),
        (("-m", "mlp", "-d", "digits", "-o", "n.pt2", "--epochs", "0"), "epochs is 0: it must be above 0"),
        (("-m", "mlp", "-d", "digits", "-o", "n.pt2", "--augment", "blur=1"), "augmentation blur is not known"),
        (("-m", "mlp", "-d", "digits", "-o", "n.pt2", "--augment", "shift"), "shift has no amount above 0"),
        (("-m", "mlp", "-d", "digits", "-o", "n.pt2", "--model-option", "hidden"), "option hidden has no value"),
        (
            ("-m", "mlp", "-d", "digits", "-o", "n.pt2", "--model-option", "hidden=x"),
            "hidden is x: it must be a number",
        ),
        (("-m", "mlp", "-d", "digits", "-o", "n.pt2", "--data-option", "speed=2"), "digits has no option speed"),
        (("-m", "mlp", "-d", "digits", "-o", "n.pt2", "--loss", "binary"), "binary needs 2 classes"),
        (("-m", "ds_cnn_s", "-d", "t.csv", "-o", "n.pt2"), "ds_cnn_s takes images"),
        (("-m", "mlp", "-d", "one.csv", "-o", "n.pt2"), "one class alone"),
        (("-m", "mlp", "-d", "nan.csv", "-o", "n.pt2"), "nan has NaN or infinite"),
    ],
)
def test_bad_input(
    train, arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = range(30)
    Path("t.csv").write_text("a,b\n" + "".join(f"{i},{i % 2}\n" for i in rows))
    Path("one.csv").write_text("a,b\n" + "".join(f"{i},yes\n" for i in rows))
    Path("nan.csv").write_text("a,b\n" + "".join(f"nan,{i % 2}\n" for i in rows))
    before = sorted(tmp_path.iterdir())
    result = train(*arguments)
    assert result.code == 2
    assert words in result.err
    assert result.err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
