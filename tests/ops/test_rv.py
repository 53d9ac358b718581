"""The kernels for RISC-V against the integers: plain C, on the host and on the board."""

from __future__ import annotations

import shutil

import pytest
from networks import union
from test_dsp import random_layer
from test_mve import samples_of, wide_layer

from minikin.ops.opdef import OPS
from minikin.vboard.build import compile
from minikin.vboard.verify import verify


@pytest.mark.parametrize("toolchain", ["zig", "gcc"])
def test_rv_equals_integers(toolchain: str) -> None:
    if toolchain == "gcc" and shutil.which("riscv64-unknown-elf-gcc") is None:
        pytest.skip("riscv64-unknown-elf-gcc is not installed")
    layers = [make(op, seed) for op in ("conv2d", "dense") for make in (random_layer, wide_layer) for seed in range(12)]
    graph = union("layers", layers)
    build = compile(graph, "esp32-c3", optimize="speed", toolchain=toolchain)
    rv = {kernel.name for op in OPS.values() for kernel in op.kernels if kernel.isa == "rv"}
    assert rv <= {step.layer.kernel.name for step in build.plan.steps}
    result = verify(build, samples_of(graph))
    assert result.equal, result.first_difference
    assert result.board_equals_host
