import subprocess
import sys
from itertools import pairwise

import pytest

from minikin.boards import cflags, get_board, ldflags, load_boards
from minikin.errors import BoardError

BOARDS = load_boards()
FIGURES = {  # core, MHz, flash KB, RAM KB
    "nano33ble": ("cortex-m4", 64, 1024, 256),
    "microbit-v2": ("cortex-m4", 64, 512, 128),
    "nucleo-l4r5zi": ("cortex-m4", 120, 2048, 640),
    "nucleo-h743zi": ("cortex-m7", 480, 2048, 512),
    "pico": ("cortex-m0plus", 125, 2048 - 0.25, 264),
    "pico2": ("cortex-m33", 150, 4096, 520),
    "corstone-300": ("cortex-m55", 32, 512, 512),
    "esp32-c3": ("esp32-c3", 160, 4096, 320),
}


def test_figures():
    rows = {
        name: (b.core.name, b.clock_hz / 1e6, b.flash_bytes / 1024, b.ram_bytes / 1024) for name, b in BOARDS.items()
    }
    assert rows == FIGURES


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_regions_do_not_overlap(board):
    regions = sorted([board.flash, board.ram, *board.extra_ram], key=lambda region: region.origin)
    for low, high in pairwise(regions):
        assert low.end <= high.origin, f"{low} reaches into {high}"


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_every_board_names_its_source(board):
    assert board.source
    assert board.core.isa in ("v6m", "dsp", "mve", "rv")


def test_unknown_board_names_the_nearest():
    with pytest.raises(BoardError, match=r"no board `nano33`.*nano33ble"):
        get_board("nano33")


def test_nothing_near_names_all():
    with pytest.raises(BoardError, match="microbit-v2 or nano33ble or nucleo-h743zi"):
        get_board("0000")


def test_hard_float_only_where_there_is_an_fpu():
    for board in BOARDS.values():
        has_fpu = bool(board.core.fpu)
        assert ("-mfloat-abi=hard" in cflags(board.core, "gcc")) == has_fpu
        assert ("thumb-freestanding-eabihf" in cflags(board.core, "zig")) == has_fpu


def test_each_toolchain_links_its_own_helpers():
    assert "-lgcc" in ldflags("gcc")
    assert "-lcompiler_rt" in ldflags("zig")


def test_module_prints_the_table():
    command = [sys.executable, "-m", "minikin.boards"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 1 + len(BOARDS)
    assert lines[1].startswith("nano33ble")
