"""Schedules, lifetimes and offsets."""

from __future__ import annotations

import numpy as np
import pytest
from networks import ARCHITECTURES, Net, int8

import minikin
from minikin.errors import DoesNotFit, UnsupportedError
from minikin.ops.activation import UnaryAttrs
from minikin.ops.conv import Conv2dAttrs
from minikin.ops.elementwise import BinaryAttrs
from minikin.ops.shape import ReshapeAttrs
from minikin.plan import Plan, make_plan
from minikin.plan.blocking import instructions
from minikin.plan.costs import Costs
from minikin.plan.kernels import Aim
from minikin.plan.memory import Item, Part, live_bytes, pack, pack_banks
from minikin.plan.picture import boxes, draw_svg, draw_text


def items(*rows: tuple[int, int, int]) -> list[Item]:
    """Items of one part from (bytes, first, last)."""
    return [Item(str(i), str(i), (Part(0, *row),)) for i, row in enumerate(rows)]


def assert_disjoint(placed: list[tuple[int, int, int, int]]) -> None:
    """No two of (start, end, first, last) overlap in both memory and time."""
    for i, (start, end, first, last) in enumerate(placed):
        for other in placed[:i]:
            assert end <= other[0] or other[1] <= start or last < other[2] or other[3] < first


def test_layout_of_a_chain_reuses_memory() -> None:
    layout = pack(items((100, 0, 1), (50, 1, 2), (100, 2, 3)))
    assert layout.bytes == 152  # 150, in words of 4
    assert layout.optimal


def test_layout_finds_the_optimum_that_greedy_orders_miss() -> None:
    layout = pack(items((20, 0, 1), (12, 0, 2), (8, 2, 4), (24, 3, 5), (4, 1, 5), (16, 4, 6)))
    assert layout.bytes == layout.bound_bytes == 52


@pytest.mark.parametrize("seed", range(10))
def test_layouts_never_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = []
    for i in range(16):
        parts, offset = [], 0
        for _ in range(rng.integers(1, 4)):
            first, size = int(rng.integers(0, 40)), int(rng.integers(1, 90))
            parts.append(Part(offset, size, first, first + int(rng.integers(0, 12))))
            offset += size
        made.append(Item(str(i), str(i), tuple(parts)))
    layout = pack(made)
    placed = [
        (layout.offsets[m.name] + p.offset, layout.offsets[m.name] + p.offset + p.bytes, p.first, p.last)
        for m in made
        for p in m.parts
    ]
    by_item = [[row for m, row in zip(_owners(made), placed, strict=True) if m is item] for item in made]
    for i, rows in enumerate(by_item):
        for others in by_item[:i]:
            for row in rows:
                assert_disjoint([*others[:0], row, *others])
    assert layout.bytes >= layout.bound_bytes == max(live_bytes(made))
    assert layout.bytes <= 1.35 * layout.bound_bytes


def _owners(made: list[Item]) -> list[Item]:
    return [m for m in made for _ in m.parts]


def test_banks_hold_what_one_cannot() -> None:
    made = items((600, 0, 5), (500, 0, 5), (300, 2, 3))
    assert pack_banks(made, [1000]) is None
    banks = pack_banks(made, [1000, 512])
    assert banks is not None
    assert sorted(banks.values()) == [0, 0, 1]


def kws_plan(**options: bool) -> Plan:
    return make_plan(int8(ARCHITECTURES["kws"]()), "c", **options)


def test_streaming_keeps_few_rows() -> None:
    plan = kws_plan()
    assert plan.arena_bytes <= 3_900 < kws_plan(stream=False).arena_bytes
    slot = plan.slot("depthwise_conv2d_1_out")
    assert (slot.kept, len(slot.offsets)) == (1, 25)
    assert plan.slot("conv2d_2_out").kept == 3


def test_every_row_is_made_once() -> None:
    for options in ({}, {"stream": False}, {"stream_input": True}):
        plan = kws_plan(**options)
        calls = {step.name: len(step.times) for step in plan.steps}
        made = {step.name: step.layer.calls for step in plan.steps}
        assert calls == made
        assert sum(turn.calls for turn in plan.turns if turn.step is not None) == sum(calls.values())


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("stream", [True, False])
def test_boxes_never_overlap_unless_taken_over(name: str, stream: bool) -> None:
    """Rows that are alive together lie apart; only an output that takes over its input shares a call with it."""
    plan = make_plan(int8(ARCHITECTURES[name](), samples=1), "c", stream=stream)
    found = list(boxes(plan))
    for i, a in enumerate(found):
        assert a.offset >= 0
        assert a.offset + a.bytes <= plan.arena_bytes
        for b in found[:i]:
            apart = a.offset + a.bytes <= b.offset or b.offset + b.bytes <= a.offset
            at_different_times = a.last < b.first or b.last < a.first
            taken_over = a.offset == b.offset and (a.first == b.last or b.first == a.last)
            assert apart or at_different_times or taken_over, (a, b)


def test_a_limit_names_what_is_short() -> None:
    with pytest.raises(
        DoesNotFit, match=r"needs 4,(\d+) bytes of arena, 1,000 are allowed: 3,\1 bytes short at layer \w+"
    ):
        minikin.make_plan(int8(ARCHITECTURES["kws"]()), "pico", ram_bytes=1000)


def test_ram_is_spent_for_speed_only_where_it_is_there() -> None:
    """A balanced build keeps near the instructions of one for speed, and to the bytes that are allowed before that."""
    graph = int8(ARCHITECTURES["kws"]())
    free = minikin.make_plan(graph, "pico").arena_bytes
    assert minikin.make_plan(graph, "pico", ram_bytes=free - 1).arena_bytes < free


def test_an_input_that_is_read_whole_cannot_be_streamed() -> None:
    with pytest.raises(UnsupportedError, match=r"input input cannot be streamed: dense_0 \(dense\) needs all of it"):
        make_plan(int8(ARCHITECTURES["ad"]()), "c", stream_input=True)


def test_what_no_output_needs_takes_no_memory() -> None:
    net = Net("dead", (1, 8, 8, 4), 0)
    kept = net.conv(4, (1, 1))
    net.conv(64, (1, 1))
    graph = int8(net.graph().replace(outputs=(kept,)))
    plan = make_plan(graph, "c")
    assert [step.name for step in plan.steps] == ["conv2d_0"]


def test_pictures_show_every_tensor() -> None:
    plan = kws_plan()
    text, svg = draw_text(plan), draw_svg(plan)
    for name, slot in plan.slots.items():
        assert f"{name}: keeps {slot.kept} of {len(slot.offsets)} rows" in text
        assert name[-34:] in svg
    assert svg.count("<title>") == len(list(boxes(plan)))


def test_a_frame_of_a_million_rows_is_refused() -> None:
    net = Net("high", (1, 1 << 20, 1, 1), 0)
    net.add("relu", UnaryAttrs())
    with pytest.raises(UnsupportedError, match=r"more than 262,144 calls of kernels, 1,048,576 of them in relu_0"):
        make_plan(net.graph(), "c")


def test_streaming_never_takes_more_than_whole_tensors() -> None:
    """A chain of two small 1D convolutions, where whole tensors happen to pack better than rows."""
    net = Net("short", (1, 40, 1, 3), 0)
    net.add("conv2d", Conv2dAttrs(stride=(2, 1), activation="relu"), net.weight((7, 5, 1, 3), 15), net.bias(7))
    attrs = Conv2dAttrs(dilation=(2, 1), padding=(2, 2, 0, 0))
    net.add("conv2d", attrs, net.weight((5, 3, 1, 7), 21), net.bias(5))
    graph = int8(net.graph())
    for optimize in ("balanced", "ram"):
        chosen = minikin.make_plan(graph, "pico", optimize=optimize)
        assert chosen.arena_bytes <= minikin.make_plan(graph, "pico", stream=False).arena_bytes


def test_a_streamed_input_that_is_an_output_too_stays() -> None:
    net = Net("kept", (1, 12, 1, 8), 0)
    renamed = net.add("reshape", ReshapeAttrs((1, 96)))
    made = net.conv(6, (3, 1), 2, x="input")
    graph = int8(net.graph().replace(outputs=(renamed, made)))
    plan = make_plan(graph, "c", stream_input=True)
    assert {last for _, last in plan.slot("input").lives} == {len(plan.live) - 1}


def test_a_hundred_layers_pack_tightly() -> None:
    """33 residual blocks: the search ends, and the layout lies within 5% of the bytes that are alive at once."""
    net = Net("deep", (1, 64, 64, 3), 0)
    net.conv(8, (3, 3), 2)
    for _ in range(33):
        skip = net.x
        net.depthwise((3, 3))
        main = net.conv(8, (1, 1), 1, "none")
        net.add("add", BinaryAttrs(), main, x=skip)
    plan = make_plan(int8(net.graph(), samples=1), "c")
    assert len(plan.steps) == 100
    assert plan.bound_bytes <= plan.arena_bytes <= 1.05 * plan.bound_bytes


def test_ram_takes_the_kernels_of_least_scratch_memory() -> None:
    """And faster ones where memory is left: at the small end of a network whose peak is elsewhere."""
    net = Net("pyramid", (1, 32, 32, 3), 0)
    net.conv(16, (3, 3), 2)
    net.depthwise((3, 3), 2)
    net.conv(32, (1, 1), 2)
    net.conv(32, (1, 1))
    net.dense(10)
    graph = int8(net.graph())
    plans = {goal: minikin.make_plan(graph, "nucleo-l4r5zi", optimize=goal) for goal in ("ram", "balanced", "speed")}
    assert plans["ram"].arena_bytes < plans["balanced"].arena_bytes < plans["speed"].arena_bytes
    isas = [step.layer.kernel.isa for step in plans["ram"].steps]
    assert "c" in isas
    assert "dsp" in isas
    assert (
        plans["ram"].arena_bytes <= minikin.make_plan(graph, "nucleo-l4r5zi", optimize="flash", stream=True).arena_bytes
    )


def test_calls_make_several_rows_where_one_takes_too_many_instructions() -> None:
    graph = int8(ARCHITECTURES["kws"](), samples=1)
    key = make_plan(graph, "dsp").steps[1].layer.kernel.key
    costs = Costs("", {key: {"call": 100.0, "constant": 10.0}})

    def rows(reference: float) -> list[int]:
        plan = make_plan(graph, "dsp", aim=Aim(slack=1.0, reference=reference, costs=costs))
        return [step.layer.rows for step in plan.steps]

    others = make_plan(graph, "dsp", aim=Aim(slack=1.0, reference=1e12, costs=costs))
    assert {step.layer.rows for step in others.steps} == {1}
    least = instructions([step.layer for step in others.steps], Aim(costs=costs))
    assert set(rows(least)) == {1}
    assert sorted(rows(least - 1))[-2:] == [1, 2]  # one layer, and no more rows than it takes
    assert sorted(rows(least - 1500))[-2:] == [2, 2]
    assert sorted(rows(0))[-4:] == [8] * 4


def test_kernels_take_scratch_memory_where_the_network_needs_no_more() -> None:
    """Dense layers behind a convolution; a network of dense layers takes it where it is too slow otherwise, layer by layer."""
    net = Net("behind", (1, 16, 16, 8), 0)
    net.conv(16, (3, 3), 2)
    net.global_pool()
    net.dense(10)
    behind = make_plan(int8(net.graph(), samples=1), "dsp")
    assert behind.steps[-1].layer.kernel.roomy
    assert behind.steps[-1].live_bytes < behind.arena_bytes

    graph = int8(ARCHITECTURES["ad"](), samples=1)
    plain = make_plan(graph, "dsp")
    assert not any(step.layer.kernel.roomy for step in plain.steps)
    key = plain.steps[0].layer.kernel.key
    aim = Aim(slack=1.0, reference=1.0, costs=Costs("", {key: {"block_mac": 13.0, "narrow_mac": 3.0}}))
    least = instructions([step.layer for step in plain.steps], aim)
    within = make_plan(graph, "dsp", aim=Aim(slack=1.0, reference=least - 3 * 128 * 32, costs=aim.costs))
    assert within.arena_bytes == plain.arena_bytes
    assert 1 < sum(step.layer.kernel.roomy for step in within.steps) < len(within.steps)
