"""The kernels for RISC-V and Cortex-M0+ against the integers, on the host and on the board."""

from __future__ import annotations

import shutil

import pytest
from networks import union
from test_dsp import random_layer
from test_mve import samples_of, wide_layer

from minikin.boards import get_board
from minikin.ops.opdef import OPS
from minikin.vboard.build import compile
from minikin.vboard.verify import verify


@pytest.mark.parametrize("board", ["esp32-c3", "pico"])
def test_x4_equals_integers(board: str, toolchain: str) -> None:
    if toolchain == "gcc" and shutil.which(get_board(board).core.gcc) is None:
        pytest.skip(f"{get_board(board).core.gcc} is not installed")
    ops = ("conv2d", "depthwise_conv2d", "dense", "add")
    layers = [make(op, seed) for op in ops for make in (random_layer, wide_layer) for seed in range(10)]
    graph = union("layers", layers)
    build = compile(graph, board, optimize="speed", toolchain=toolchain)
    own = {kernel.name for op in OPS.values() for kernel in op.kernels if kernel.isa == get_board(board).core.isa}
    assert own
    assert own <= {step.layer.kernel.name for step in build.plan.steps}
    result = verify(build, samples_of(graph))
    assert result.equal, result.first_difference
    assert result.board_equals_host
