"""Ceilings of instructions on RISC-V, in plain C."""

from __future__ import annotations

import pytest
from networks import ARCHITECTURES, int8
from test_ceilings import instructions

from minikin.vboard.build import compile

MADE = {"kws": 13_000_000, "ad": 1_050_000}


@pytest.mark.parametrize("name", MADE)
def test_made_networks(name: str) -> None:
    instructions(compile(int8(ARCHITECTURES[name]()), "esp32-c3", optimize="speed"), MADE[name])
