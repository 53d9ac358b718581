"""Random networks, by frames and by rows: C equals the integers while all memory that the plan calls dead is overwritten.

Each network is a few random ones side by side; its seed is in the test's name, and `random_network(seed)` makes it again.
"""

from __future__ import annotations

import pytest
from networks import int8, union
from random_networks import random_network

from minikin.codegen.emit import emit_model
from minikin.codegen.layer import trace_count
from minikin.graph import Graph
from minikin.plan import Plan, make_plan, memory
from minikin.vboard.build import compile
from minikin.vboard.engine import Trace
from minikin.vboard.run import random_inputs
from minikin.vboard.verify import trace_board, verify, verify_host

HOWS = {
    "rows": {"stream": True},
    "frames": {"stream": False},
    "rows_in": {"stream": True, "stream_input": True},
    "rows_in_and_out": {"stream": True, "stream_input": True, "stream_output": True},
}
FOUND = [(6, "rows_in"), (13, "rows_in"), (40, "rows")]
"""Rows that nothing reads: all of a tensor's, the last ones of an output that takes over its input; frames of two heights."""

BOARDS = [
    (100, "rows", "nucleo-l4r5zi", "zig"),
    (101, "rows_in_and_out", "pico", "gcc"),
    (102, "rows_in", "nano33ble", "zig"),
    (103, "frames", "nucleo-l4r5zi", "gcc"),
]


@pytest.fixture(autouse=True)
def _no_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Greedy layouts do, and take no seconds."""
    monkeypatch.setattr(memory, "SOLVER_PARTS", 0)


def network(seed: int, how: str, members: int) -> Graph:
    """Networks of seeds seed * 10, seed * 10 + 1, ... side by side: int8 for even seeds, float for odd ones."""
    graphs = [random_network(seed * 10 + i, only_rows="rows_in" in how) for i in range(members)]
    return union(f"random_{seed}", graphs if seed % 2 else [int8(graph) for graph in graphs])


@pytest.mark.parametrize(("seed", "how"), [(seed, how) for seed in range(4) for how in HOWS] + FOUND)
def test_host(seed: int, how: str) -> None:
    plan = make_plan(network(seed, how, 4), **HOWS[how])
    samples = [random_inputs(plan.graph, seed + i) for i in range(2)]
    model = emit_model(plan, "fuzz", "random networks", small=seed % 4 > 1)
    difference, _ = verify_host(plan, model, samples, [])
    assert difference is None, str(difference)


@pytest.mark.parametrize(("seed", "how", "board", "toolchain"), BOARDS, indirect=["toolchain"])
def test_board(seed: int, how: str, board: str, toolchain: str) -> None:
    build = compile(network(seed, how, 3), board, toolchain=toolchain, **HOWS[how])
    result = verify(build, 2, seed=seed)
    assert result.equal, str(result.first_difference)
    assert result.board_equals_host
    check_rows(build.plan, trace_board(build, random_inputs(build.graph, seed)))


def check_rows(plan: Plan, traces: tuple[Trace, ...]) -> None:
    """Each output row is computed once, in order, where the plan says; a fold kernel is called once for each input row."""
    for index, step in enumerate(plan.steps):
        layer, mine = step.layer, [trace for trace in traces if trace.layer == index]
        if layer.by_rows:
            rows = range(0, step.rows_made, layer.rows)
            offsets = plan.slot(layer.view.y.name).offsets
            assert [trace.address - mine[0].address for trace in mine] == [offsets[y] - offsets[0] for y in rows]
        else:
            rows = range(layer.calls * trace_count(layer))
        assert [trace.row for trace in mine] == list(rows)
