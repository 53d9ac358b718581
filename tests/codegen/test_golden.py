"""Golden C: what is generated for a small network, byte for byte, and that it builds and runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from networks import Net, int8

from minikin.codegen.emit import emit_model
from minikin.graph import Graph
from minikin.ops.elementwise import BinaryAttrs
from minikin.plan import make_plan
from minikin.vboard.build import compile
from minikin.vboard.verify import verify

GOLDEN = Path(__file__).parent / "golden"


def small() -> Graph:
    """A conv, a depthwise, a global pool and a dense layer on 6x4x2."""
    net = Net("small", (1, 6, 4, 2), 3)
    net.conv(4, (3, 3))
    net.depthwise((3, 3), 2)
    net.global_pool()
    net.dense(3)
    net.softmax()
    return int8(net.graph())


def chain() -> Graph:
    """Enough layers that one function for all of them takes less flash."""
    net = Net("chain", (1, 8, 4, 2), 3)
    x = net.conv(4, (3, 3))
    for _ in range(3):
        net.depthwise((3, 3))
        net.conv(4, (1, 1))
    net.add("add", BinaryAttrs("relu"), x)
    net.global_pool()
    net.dense(3)
    return int8(net.graph())


CASES = {"rows": {}, "whole": {"stream": False}, "streamed_input": {"stream_input": True}}
NETWORKS = {name: (small, CASES[name]) for name in CASES} | {
    "table": (chain, {}),
    "streamed_table": (chain, {"stream_input": True}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_generated_c(name: str, request: pytest.FixtureRequest) -> None:
    make, options = NETWORKS[name]
    model = emit_model(make_plan(make(), "c", **options), make.__name__, "a test", small=make is chain)
    for file in ("model.c", "model.h"):
        path = GOLDEN / name / file
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(model.files[file])
        assert model.files[file] == path.read_text(), f"{path} differs: look, then pytest --update-golden"


@pytest.mark.parametrize("name", NETWORKS)
def test_golden_c_runs(name: str, toolchain: str) -> None:
    make, options = NETWORKS[name]
    build = compile(make(), "pico", toolchain=toolchain, **options)
    assert ("run_layer" in build.model.marks) == (make is chain)
    result = verify(build, 2)
    assert result.equal, result.first_difference


def test_the_same_graph_gives_the_same_bytes() -> None:
    first, second = (emit_model(make_plan(small(), "dsp"), "small", "a test").files for _ in range(2))
    assert first == second
