"""Ceilings of instructions on a Cortex-M55, at most half of what TFLite Micro with CMSIS-NN takes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from networks import ARCHITECTURES, Net, int8
from test_ceilings import FILES, instructions

import minikin as mk
from minikin.vboard.build import compile

pytestmark = pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="qemu-system-arm is not installed")
BOARD = "corstone-300"
TFLM_CMSIS_NN = {"kws": 1_787_407, "vww": 6_433_537, "ic": 4_811_040, "ad": 149_960}
"""Instructions of TFLite Micro with CMSIS-NN, gcc 12.2; vww with the channels that shrinking removes."""

MADE = {"kws": 740_000, "vww": 2_150_000, "ic": 2_040_000, "ad": 48_300}
REAL = {"kws": 740_000, "vww": 1_530_000, "ic": 2_040_000, "ad": 48_200}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_made_networks(name: str) -> None:
    build = compile(int8(ARCHITECTURES[name]()), BOARD, optimize="speed")
    assert instructions(build, MADE[name]) <= TFLM_CMSIS_NN[name] / 2


@pytest.mark.parametrize("name", FILES)
def test_real_networks(name: str, shared: Path, toolchain: str) -> None:
    graph = mk.load(shared / "models" / "mlperf_tiny" / f"{FILES[name]}.tflite")
    build = compile(graph, BOARD, optimize="speed", toolchain=toolchain)
    assert instructions(build, REAL[name]) <= TFLM_CMSIS_NN[name] / 2


def test_pointwise_alone_copies_nothing(toolchain: str) -> None:
    """Its code has a null pointer for the copies' memory, which compilers warn of in arithmetic."""
    net = Net("pointwise", (1, 6, 8, 16), 0)
    net.conv(16, (1, 1))
    net.conv(32, (1, 1))
    assert compile(int8(net.graph()), BOARD, toolchain=toolchain).verify(2).equal
