"""Ceilings of instructions on cores without SIMD: RISC-V and Cortex-M0+."""

from __future__ import annotations

import pytest
from networks import ARCHITECTURES, int8
from test_ceilings import instructions

from minikin.vboard.build import compile

MADE = {
    ("esp32-c3", "kws"): 13_000_000,
    ("esp32-c3", "ad"): 1_050_000,
    ("pico", "kws"): 20_600_000,
    ("pico", "ad"): 1_390_000,
}


@pytest.mark.parametrize(("board", "name"), MADE)
def test_made_networks(board: str, name: str) -> None:
    instructions(compile(int8(ARCHITECTURES[name]()), board, optimize="speed"), MADE[board, name])
