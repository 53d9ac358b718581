"""`minikin compress`, as a user meets it."""

from __future__ import annotations

import json
import re
import signal
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

import minikin as mk
from minikin.cli import main
from minikin.cli.app import app
from minikin.compress.quantize import quantize
from minikin.compress.recipe import Cluster, Distill, Prune, Quantize, Recipe
from minikin.data import digits
from minikin.train.classifier import train_classifier

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`minikin compress` with these arguments, in this process: (exit code, stdout, stderr)."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["minikin", "compress", *map(str, arguments)])
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as stop:
            main()
        signal.signal(signal.SIGTERM, before)
        return int(stop.value.code or 0), *capfd.readouterr()

    return call


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    graph = train_classifier("mlp", digits(), epochs=4, batch_size=32, learning_rate=1e-2)
    return mk.save(graph, tmp_path_factory.mktemp("models") / "mlp.tflite")


def test_options_are_a_recipe(run: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.tflite"
    steps = ("--prune", 0.5, "--cluster", 16, "--quantize", "int8", "--finetune", 2, "--learning-rate", 0.01)
    code, text, _ = run(model, "--data", "digits", *steps, "-o", out, "--json", "--max-drop", 50)
    assert code == 0
    found = json.loads(text)
    assert [row["step"] for row in found["rows"]] == ["before", "prune 50%", "cluster 16", "int8"]
    assert found["rows"][-1]["distinct"] <= 16
    assert 0.5 < found["rows"][-1]["test_accuracy"] <= 1.0
    assert [Path(path).name for path in found["files"]] == ["small.tflite", "small.recipe.toml", "small.json"]
    assert mk.load(out).input_tensors[0].dtype == "int8"
    again = tmp_path / "again.tflite"
    code, text, _ = run(model, "--data", "digits", "--recipe", tmp_path / "small.recipe.toml", "-o", again)
    assert code == 0
    assert "cluster 16" in text
    assert again.read_bytes()[100:] != b""
    assert np.array_equal(
        *(mk.load(p).tensors[w].data for p, w in zip((out, again), _weights(out, again), strict=True))
    )


def _weights(*paths: Path) -> list[str]:
    """The first weight's name in each file."""
    return [mk.load(path).nodes[0].inputs[1] for path in paths]


def test_a_board_measures_every_step(run: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.tflite"
    code, text, _ = run(model, "--data", "digits", "--quantize", "int8", "-o", out, "-b", "nano33ble", "--json")
    assert code == 0
    first, last = (row["measures"] for row in json.loads(text)["rows"])
    assert last["weights_bytes"] < first["weights_bytes"] / 3
    assert last["instructions"] < first["instructions"]
    assert first["board"] == "nano33ble"


def test_too_great_a_drop_writes_nothing(run: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.tflite"
    code, text, error = run(model, "--data", "digits", "--prune", 0.97, "-o", out, "--max-drop", 0.5)
    assert code == 1
    assert "prune 97%" in text
    assert "more than --max-drop 0.5, so nothing is written" in error
    assert list(tmp_path.iterdir()) == []


def test_a_sweep(run: Run, model: Path, tmp_path: Path) -> None:
    arguments = ("--data", "digits", "--sweep", "0,0.9", "--plot", tmp_path / "curve.svg")
    code, text, _ = run(model, *arguments, "--json")
    assert code == 0
    points = json.loads(text)["points"]
    assert [p["sparsity"] for p in points] == [0, 0.9]
    assert points[1]["nonzero"] < 0.2 * points[0]["nonzero"]
    assert (tmp_path / "curve.svg").read_text().startswith("<svg")


MISTAKES = {
    "nothing to do": (("-o", "x.tflite"), "there is nothing to do: give --recipe"),
    "no output": (("--prune", 0.5), "there is no output"),
    "output": (("--prune", 0.5, "-o", "x.onnx"), "x.onnx"),
    "range": (("--prune", 1.5, "-o", "x.tflite"), "the options, step 1 (prune): sparsity is 1.5"),
    "pattern": (("--prune", 0.5, "--pattern", "9", "-o", "x.tflite"), "pattern '9' is not known"),
    "recipe": (("--recipe", "none.toml", "-o", "x.tflite"), "none.toml: No such file"),
    "both": (("--recipe", "r.toml", "--prune", 0.5, "-o", "x.tflite"), "--recipe r.toml and --prune both say"),
    "data": (("--prune", 0.5, "-o", "x.tflite"), "nonesuch"),
    "sweep": (("--sweep", "0,half"), "--sweep 0,half is no list of fractions"),
    "sweep range": (("--sweep", "0,1"), "sparsities are 0.0, 1.0: give fractions from 0 to below 1"),
    "sweep and prune": (("--sweep", "0", "--prune", 0.5), "leave out --prune"),
    "plot": (("--sweep", "0", "--plot", "x.png"), "--plot x.png is no .svg or .html"),
    "board": (("--quantize", "int8", "-o", "x.tflite", "-b", "abacus"), "abacus"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_sentence(
    name: str, run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, words = MISTAKES[name]
    code, text, error = run(model, "--data", "nonesuch" if name == "data" else "digits", *arguments)
    assert (code, text) == (2, "")
    assert words in error
    assert error.startswith("minikin: ")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_int8_model_is_refused(run: Run, model: Path, tmp_path: Path) -> None:
    small = mk.save(quantize(mk.load(model), digits().x_train[:9]), tmp_path / "int8.tflite")
    code, _, error = run(small, "--data", "digits", "--prune", 0.5, "-o", tmp_path / "x.tflite")
    assert code == 2
    assert "is int8 already" in error


def test_the_page_on_compression_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its recipe and its Python run, on a network of fewer epochs than the page's; its options exist."""
    page = (Path(__file__).parents[2] / "docs" / "compression.md").read_text()
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    graph = train_classifier("digits_cnn", digits(), epochs=1, batch_size=32, learning_rate=5e-3)
    mk.save(graph, "demo/digits_float.tflite")
    for recipe in re.findall(r"```toml\n(.*?)```", page, re.DOTALL):
        assert Recipe.model_validate(tomllib.loads(recipe))
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "compression.md", "exec"), {"__name__": "page"})
    assert Path("small.tflite").is_file()
    named = {
        name
        for row in re.findall(r"^\| (?:all|`\w+`) \|.*$", page, re.MULTILINE)
        for name in re.findall(r"`(\w+)", row)
    }
    known = {name for step in (Prune, Cluster, Quantize, Distill) for name in step.model_fields} - {"do"}
    assert known <= named
    verbs = get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    parameters = [parameter for verb in ("compress", "compile") for parameter in verbs[verb].params]
    options = {option for parameter in parameters for option in parameter.opts} | {"--row"}  # the benchmark's
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page)) <= options


def test_the_api_has_recipes(model: Path) -> None:
    recipe = mk.Recipe.model_validate({"step": [{"do": "prune", "sparsity": 0.25}]})
    result = mk.compress(mk.load(model), digits(), recipe)
    assert result.rows[-1].sparsity > 0.24
