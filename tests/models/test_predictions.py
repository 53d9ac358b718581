"""Predicted instructions equal the counted ones within 2%, on networks that were not fitted.

`python benchmarks/fit_costs.py` fits the costs again after kernels or the compiler have changed.
"""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path

import pytest
from networks import ARCHITECTURES, Net, int8, kws
from test_cli import cli  # noqa: F401, the fixture

import minikin as mk
from minikin.boards import OPTIMIZE_FLAGS, get_board
from minikin.errors import UnsupportedError
from minikin.graph import Graph
from minikin.ops.elementwise import BinaryAttrs
from minikin.plan.costs import Costs, costs_of
from minikin.vboard.build import compile
from minikin.vboard.prediction import compare
from minikin.vboard.toolchain import find_toolchain

ERROR = 0.02
BOARD = "nucleo-l4r5zi"
FILES = {"kws": "kws_ref_model", "vww": "vww_96_int8", "ic": "pretrainedResnet_quant", "ad": "ad01_int8"}
GOALS = ("speed", "balanced")
OTHERS = [
    *product(("corstone-300", "esp32-c3", "pico"), GOALS),
    *product((BOARD,), ("ram", "flash")),
]
"""Builds that are tried with two networks."""
NO_SIMD = {"esp32-c3": 0.08, "pico": 0.06}
"""Of networks with depthwise layers: compilers unroll their C loops where the shapes of all layers are alike, which takes up
to a third of a layer and is not counted."""


def dense() -> Graph:
    net = Net("digits", (1, 784), 0)
    net.dense(20, "relu")
    net.dense(10)
    return net.graph()


MADE = {f"{name}_int8": lambda make=make: int8(make()) for name, make in (*ARCHITECTURES.items(), ("dense", dense))}
MADE["kws_float"] = kws


def residual() -> Graph:
    """Convolutions without depthwise ones, a sum, a pool."""
    net = Net("residual", (1, 14, 14, 3), 3)
    before = net.conv(16, (3, 3))
    net.conv(16, (3, 3))
    net.conv(16, (3, 3), 1, "none")
    net.add("add", BinaryAttrs("relu"), before)
    net.conv(24, (3, 3), 2)
    net.conv(32, (1, 1))
    net.global_pool()
    net.dense(10)
    return net.graph()


def assert_predicted(
    graph: Graph, optimize: str, board: str = BOARD, toolchain: str = "zig", limit: float = ERROR
) -> None:
    result = compare(compile(graph, board, optimize=optimize, toolchain=toolchain))
    assert result.error is not None, [layer for layer in result.layers if layer.predicted is None]
    assert abs(result.error) <= limit, str(result.to_json())


@pytest.mark.parametrize("optimize", GOALS)
@pytest.mark.parametrize("name", MADE)
def test_made_networks(name: str, optimize: str) -> None:
    assert_predicted(MADE[name](), optimize)


@pytest.mark.parametrize("optimize", GOALS)
@pytest.mark.parametrize("name", FILES)
def test_real_networks(name: str, optimize: str, shared: Path) -> None:
    assert_predicted(mk.load(shared / "models" / "mlperf_tiny" / f"{FILES[name]}.tflite"), optimize)


@pytest.mark.parametrize(("board", "optimize"), OTHERS)
def test_other_builds(board: str, optimize: str, toolchain: str) -> None:
    core = get_board(board).core
    if costs_of(core, toolchain, optimize) is None:
        pytest.skip(f"no costs are fitted for {board} with {toolchain}, --optimize {optimize}: benchmarks/fit_costs.py")
    for tool in (core.gcc if toolchain == "gcc" else "", get_board(board).machine and "qemu-system-arm"):
        if tool and shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    assert_predicted(MADE["kws_int8"](), optimize, board, toolchain, NO_SIMD.get(board, ERROR))
    assert_predicted(int8(residual()), optimize, board, toolchain)


@pytest.mark.parametrize("optimize", OPTIMIZE_FLAGS)
def test_costs_belong_to_this_compiler(toolchain: str, optimize: str) -> None:
    costs = costs_of(get_board(BOARD).core, toolchain, optimize)
    if toolchain == "zig" and optimize in GOALS:
        assert costs
    if costs:
        assert costs.compiler == find_toolchain(toolchain).version, "run `python benchmarks/fit_costs.py`"


def test_what_was_not_fitted_is_said() -> None:
    costs = Costs("", {"mk_one": {"call": 10.0, "row": 2.5}})
    assert costs.instructions("mk_one", {"call": 2.0, "row": 4.0, "pixel": 100.0}) == 30.0
    assert costs.instructions("mk_other", {"call": 1.0}) is None
    build = compile(int8(dense()), "esp32-c3", optimize="flash")
    if costs_of(build.board.core, "zig", "flash") is None:
        with pytest.raises(UnsupportedError, match="no costs are fitted for esp32-c3 with zig, --optimize flash"):
            compare(build)


def test_verbs_show_predictions(cli, tmp_path: Path) -> None:  # noqa: F811
    path = mk.save(int8(dense()), tmp_path / "digits.tflite")
    found = cli("costs", path, "--board", BOARD, "--optimize", "speed", "--json")
    assert found.code == 0
    assert abs(found.json["predicted_instructions"] / found.json["instructions"] - 1) <= ERROR
    assert found.json["relative_error"] == pytest.approx(
        found.json["predicted_instructions"] / found.json["instructions"] - 1
    )
    assert [layer["counted"] > 0 for layer in found.json["layers"]] == [True, True]
    plan = cli("plan", path, "--board", BOARD, "--optimize", "speed", "--json").json
    assert plan["predicted_instructions"] == found.json["predicted_instructions"]
    assert sum(layer["predicted_instructions"] for layer in plan["layers"]) <= plan["predicted_instructions"]
    assert "instructions, predicted from costs of zig" in cli("plan", path, "--board", BOARD, "--optimize", "speed").out
    built = cli("compile", path, "--board", BOARD, "--optimize", "speed", "-o", tmp_path / "firmware")
    assert "instructions an inference, predicted" in built.out
