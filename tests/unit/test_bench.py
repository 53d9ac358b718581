"""minikin bench: figures counted here beside recorded ones."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from networks import Net, int8
from test_cli import cli  # noqa: F401, the fixture

from minikin import api
from minikin.bench import Bench, bench
from minikin.bench.bench import two_dense_layers
from minikin.bench.plot import draw_html, draw_svg
from minikin.bench.recorded import load_recorded
from minikin.errors import UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network under every recorded file's name."""
    net = Net("small", (1, 12), 0)
    net.dense(6, "relu")
    net.dense(4)
    folder, graph = tmp_path_factory.mktemp("models"), int8(net.graph())
    for figures in load_recorded()[0].values():
        if figures.file:
            api.save(graph, folder / figures.file)
    return folder


@pytest.fixture(scope="module")
def result(folder: Path) -> Bench:
    return bench(folder=folder, optimize=("speed",), samples=1)


def test_one_row_for_each_model(result: Bench) -> None:
    assert [row.model for row in result.rows] == list(load_recorded()[0])
    made = result.rows[-1]
    build = api.compile(two_dense_layers(), "nucleo-l4r5zi", optimize="speed")
    assert made.instructions == build.run().instructions
    assert (made.code_bytes, made.arena_bytes, made.macs) == (build.code_bytes, build.arena_bytes, 15_880)
    assert made.recorded_instructions == 32_209
    assert made.times_fewer == pytest.approx(32_209 / made.instructions)
    assert made.to_json()["instructions_per_mac"] == made.instructions / 15_880
    assert result.equal


def test_recorded_figures_belong_to_a_core(folder: Path) -> None:
    path = folder / "kws_ref_model.tflite"
    row = bench([path], "pico", optimize=("flash",), samples=1).rows[0]
    assert row.recorded
    assert row.recorded_instructions is None
    assert row.times_fewer is None


def test_plot_is_well_formed(result: Bench) -> None:
    texts = [node.text for node in ElementTree.fromstring(draw_svg(result)).iter() if node.text]
    for row in result.rows:
        assert f"{row.instructions:,}" in texts
        assert f"{row.recorded_instructions:,}" in texts
    page = draw_html(result)
    assert page.count("<table>") == len(result.tables()) == 3


def test_missing_models_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"kws_ref_model\.tflite does not exist: give --models the folder"):
        bench(folder=tmp_path)
    monkeypatch.setenv("MINIKIN_TEST_DATA", str(tmp_path))
    with pytest.raises(UsageError, match="mlperf_tiny"):
        bench()
    with pytest.raises(UsageError, match="optimize 'fast' is not known"):
        bench(optimize=("fast",))


def test_verb(cli, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    models = [folder / "ad01_int8.tflite"]
    plot = tmp_path / "bench.html"
    found = cli("bench", *models, "--optimize", "speed", "-n", 1, "--plot", plot, "--json")
    assert found.code == 0
    (row,) = found.json["rows"]
    assert (row["model"], row["optimize"], row["toolchain"], row["equal"]) == ("ad01_int8", "speed", "zig", True)
    assert row["recorded"]["tflm_cmsis_nn"]["cortex-m4"] == 573_000
    assert "<svg" in plot.read_text()
    for wrong in (("--plot", tmp_path / "bench.pdf"), ("--models", folder), ("--board", "nano")):
        refused = cli("bench", *models, *wrong)
        assert refused.code == 2
        assert refused.out == ""
        assert len(refused.err.splitlines()) == 1
