"""The four architectures of MLPerf Tiny with random weights, written by our own exporter: these tests never skip."""

from __future__ import annotations

import numpy as np
import pytest
from networks import ARCHITECTURES, int8
from oracles import tflm_many

import minikin as mk
from minikin.exporters.tflite import write_tflite
from minikin.importers.tflite import load_tflite
from minikin.ops.elementwise import BinaryAttrs
from minikin.vboard.run import random_inputs, run_samples
from minikin.vboard.verify import verify

ARENA_BYTES = {"kws": 5_120, "vww": 32_768, "ic": 13_312, "ad": 768}
STREAMED_ARENA_BYTES = {"kws": 4_608, "vww": 16_384, "ic": 12_288}
STACK_BYTES = 512


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_board_equals_tflite_micro(name: str) -> None:
    """Through a file: our exporter, our importer, the C on the board, against TFLite Micro on the same bytes."""
    data = write_tflite(int8(ARCHITECTURES[name]()))
    build = mk.compile(load_tflite(data, name), "nucleo-l4r5zi")
    samples = [random_inputs(build.graph, seed) for seed in range(4)]
    outputs, _ = run_samples(build, samples)
    for (got,), (expected,) in zip(outputs, tflm_many(data, samples), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert build.arena_bytes <= ARENA_BYTES[name]
    assert build.run(*samples[0]).stack_bytes <= STACK_BYTES


@pytest.mark.parametrize("board", ["pico", "pico2", "nucleo-h743zi", "microbit-v2"])
def test_every_board_is_equal(board: str, toolchain: str) -> None:
    result = verify(mk.compile(int8(ARCHITECTURES["kws"]()), board, toolchain=toolchain), 2)
    assert result.equal, result.first_difference


@pytest.mark.parametrize("name", STREAMED_ARENA_BYTES)
def test_streamed_input_is_equal(name: str) -> None:
    build = mk.compile(int8(ARCHITECTURES[name]()), "nucleo-l4r5zi", stream_input=True)
    result = verify(build, 2)
    assert result.equal, result.first_difference
    assert build.arena_bytes <= STREAMED_ARENA_BYTES[name]


@pytest.mark.parametrize("optimize", ["speed", "ram", "flash"])
def test_every_goal_is_equal(optimize: str, toolchain: str) -> None:
    result = verify(mk.compile(int8(ARCHITECTURES["ic"]()), "nano33ble", optimize=optimize, toolchain=toolchain), 2)
    assert result.equal, result.first_difference


def test_streaming_costs_few_instructions() -> None:
    """With the same kernels at most 5% more than whole tensors take."""
    graph = int8(ARCHITECTURES["kws"]())
    rows, whole = (mk.compile(graph, "nucleo-l4r5zi", stream=stream).run() for stream in (True, False))
    assert rows.instructions <= 1.05 * whole.instructions


def test_two_banks_of_ram(toolchain: str) -> None:
    """Two frames of 256 KB that are needed at once: more than any one bank of the board holds."""
    from networks import Net

    net = Net("wide", (1, 128, 128, 3), 0)
    skip = net.conv(16, (1, 1))
    net.conv(16, (3, 3), 1, "none")
    net.add("add", BinaryAttrs("relu"), skip, x=net.x)
    net.conv(4, (1, 1), 4)
    build = mk.compile(int8(net.graph(), samples=1), "nucleo-h743zi", stream=False, toolchain=toolchain)
    assert len(build.plan.bank_bytes) > 1
    assert build.arena_bytes > build.board.ram_bytes
    result = verify(build, 1)
    assert result.equal, result.first_difference
