"""Networks in float32: they run on the FPU where the core has one, at a known price."""

from __future__ import annotations

import re

import numpy as np
import pytest
from networks import Net, int8, kws

from minikin.boards import STACK_BYTES, get_board
from minikin.graph import Graph
from minikin.vboard.build import Build, compile
from minikin.vboard.elf import Firmware

SOFT_FLOAT = re.compile(
    r"__aeabi_[cdf]|__(add|sub|mul|div|neg|eq|ne|lt|le|gt|ge|cmp|unord|fix|float|extend|trunc)\w*[sd]f"
)
"""The compilers' helpers that compute floats with integers (Run-time ABI for the Arm Architecture, 4.1; libgcc)."""

FPU_BOARDS = ("nucleo-l4r5zi", "nucleo-h743zi", "pico2", "corstone-300")
"""One of each core."""

TOOLCHAINS = ("zig", "gcc")
SPEED = 7_050_000


@pytest.fixture(scope="module")
def network() -> Graph:
    return kws()


@pytest.fixture(scope="module")
def small() -> tuple[Graph, np.ndarray, bytes]:
    """A network, an input, and the bytes that it gives on one board, which are the host's."""
    net = Net("small", (1, 7, 6, 3), 0)
    net.conv(12, (3, 3))
    net.depthwise((3, 3))
    net.conv(9, (1, 1), 2)
    net.global_pool()
    net.dense(10)
    net.softmax()
    graph = net.graph()
    build = compile(graph, FPU_BOARDS[0])
    result = build.verify(2)
    assert result.equal, result.first_difference
    assert result.board_equals_host
    x = np.random.default_rng(0).normal(size=(1, 7, 6, 3)).astype(np.float32)
    return graph, x, build.run(x).output.tobytes()


def soft_float(build: Build) -> list[str]:
    return [symbol for symbol in Firmware(build.elf).symbols if SOFT_FLOAT.match(symbol)]


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.parametrize("board", FPU_BOARDS)
def test_fpu_computes_floats(small: tuple[Graph, np.ndarray, bytes], board: str, toolchain: str) -> None:
    assert get_board(board).core.fpu
    graph, x, expected = small
    build = compile(graph, board, toolchain=toolchain)
    assert not soft_float(build)
    assert build.run(x).output.tobytes() == expected


@pytest.mark.parametrize("board", ["pico", "esp32-c3"])
def test_integers_compute_floats_where_there_is_no_fpu(small: tuple[Graph, np.ndarray, bytes], board: str) -> None:
    assert not get_board(board).core.fpu
    graph, x, expected = small
    build = compile(graph, board)
    assert soft_float(build)
    result = build.run(x)
    assert result.output.tobytes() == expected
    assert result.stack_bytes <= STACK_BYTES


@pytest.mark.parametrize("toolchain", TOOLCHAINS)
@pytest.mark.parametrize("optimize", ["speed", "balanced"])
def test_price_of_floats(network: Graph, toolchain: str, optimize: str) -> None:
    build = compile(network, "nucleo-l4r5zi", toolchain=toolchain, optimize=optimize)
    floats = build.run()
    integers = compile(int8(network), "nucleo-l4r5zi", toolchain=toolchain, optimize=optimize).run()
    assert floats.instructions <= min(SPEED, 3 * integers.instructions)
    assert floats.stack_bytes <= STACK_BYTES
    assert not soft_float(build)
