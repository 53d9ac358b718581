"""Ceilings of instructions and code on cores without SIMD: RISC-V and Cortex-M0+."""

from __future__ import annotations

from pathlib import Path

import pytest
from networks import ARCHITECTURES, int8
from test_ceilings import CODE_BYTES, FILES, instructions

import minikin as mk
from minikin.vboard.build import compile

MADE = {
    ("esp32-c3", "kws"): 9_700_000,
    ("esp32-c3", "ad"): 1_020_000,
    ("pico", "kws"): 12_200_000,
    ("pico", "ad"): 1_150_000,
}
SPEED = {
    ("esp32-c3", "kws"): 9_200_000,
    ("esp32-c3", "vww"): 16_800_000,
    ("esp32-c3", "ic"): 35_000_000,
    ("esp32-c3", "ad"): 1_015_000,
    ("pico", "kws"): 11_600_000,
    ("pico", "vww"): 21_500_000,
    ("pico", "ic"): 39_600_000,
    ("pico", "ad"): 1_145_000,
}


@pytest.mark.parametrize(("board", "name"), MADE)
def test_made_networks(board: str, name: str) -> None:
    instructions(compile(int8(ARCHITECTURES[name]()), board, optimize="speed"), MADE[board, name])


@pytest.mark.parametrize(("board", "name"), SPEED)
def test_real_networks(board: str, name: str, shared: Path) -> None:
    graph = mk.load(shared / "models" / "mlperf_tiny" / f"{FILES[name]}.tflite")
    instructions(compile(graph, board, optimize="speed"), SPEED[board, name])
    assert compile(graph, board).code_bytes <= CODE_BYTES
