"""Ceilings that later changes must not pass: instructions, RAM, code and stack, of MLPerf Tiny's four networks and their like.

Instructions are exact for one compiler, so the margin is small: it is for other versions of that compiler.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from networks import ARCHITECTURES, Net, int8

import minikin as mk
from minikin.graph import Graph
from minikin.vboard.build import Build, compile

STACK_BYTES = 512
TFLM_CMSIS_NN = {"kws": 7_420_000, "vww": 23_430_000, "ic": 28_620_000, "ad": 573_000}
"""Instructions of TFLite Micro with CMSIS-NN on a Cortex-M4F; vww with the channels that shrinking removes."""

MADE_SPEED = {"kws": 2_730_000, "vww": 7_920_000, "ic": 11_420_000, "ad": 248_000}
MADE_BALANCED = {"kws": 3_080_000, "vww": 8_660_000, "ic": 11_610_000, "ad": 282_000}
ARENA_BYTES = {"kws": 5_120, "vww": 32_768, "ic": 13_312, "ad": 768}
CODE_BYTES, STREAMED_CODE_BYTES = 8_192, 8_600
REAL_SPEED = {"kws": 2_710_000, "vww": 4_630_000, "ic": 11_400_000, "ad": 249_000}
FILES = {"kws": "kws_ref_model", "vww": "vww_96_int8", "ic": "pretrainedResnet_quant", "ad": "ad01_int8"}


def instructions(build: Build, ceiling: int) -> int:
    """Of one inference, which must be under the ceiling and keep within the stack."""
    result = build.run()
    assert result.stack_bytes <= STACK_BYTES
    assert result.instructions <= ceiling
    return result.instructions


@pytest.fixture(scope="module", params=ARCHITECTURES)
def made(request: pytest.FixtureRequest) -> tuple[str, Graph]:
    return request.param, int8(ARCHITECTURES[request.param]())


def test_made_networks(made: tuple[str, Graph]) -> None:
    name, graph = made
    speed = instructions(compile(graph, "nucleo-l4r5zi", optimize="speed"), MADE_SPEED[name])
    build = compile(graph, "nucleo-l4r5zi", optimize="balanced")
    assert instructions(build, MADE_BALANCED[name]) <= 1.15 * speed
    assert speed < TFLM_CMSIS_NN[name] / 1.9
    assert build.arena_bytes <= ARENA_BYTES[name]
    assert build.code_bytes <= CODE_BYTES


def test_code_of_made_networks(made: tuple[str, Graph], toolchain: str) -> None:
    """With a streamed input too, whose order of calls takes more; no build takes less flash than one for flash."""
    name, graph = made
    streams = name != "ad"  # which reads all at once
    balanced = compile(graph, "nucleo-l4r5zi", toolchain=toolchain, stream_input=streams)
    assert balanced.code_bytes <= STREAMED_CODE_BYTES
    assert compile(graph, "nucleo-l4r5zi", toolchain=toolchain, optimize="flash").flash_bytes < balanced.flash_bytes


@pytest.mark.parametrize("name", FILES)
def test_real_networks(name: str, shared: Path, toolchain: str) -> None:
    graph = mk.load(shared / "models" / "mlperf_tiny" / f"{FILES[name]}.tflite")
    speed = instructions(compile(graph, "nucleo-l4r5zi", optimize="speed", toolchain=toolchain), REAL_SPEED[name])
    balanced = compile(graph, "nucleo-l4r5zi", toolchain=toolchain)
    assert instructions(balanced, int(1.15 * speed))
    assert balanced.code_bytes <= CODE_BYTES
    assert balanced.arena_bytes <= ARENA_BYTES[name]


def blocks_5x5(net: Net) -> None:
    """5x5 as MobileNetV3 has them, with and without an activation."""
    for filters, stride, activation in ((24, 1, "relu"), (32, 2, "none"), (48, 1, "relu")):
        net.depthwise((5, 5), stride, activation)
        net.conv(filters, (1, 1))


def blocks_3x3(net: Net) -> None:
    """Separable convolutions as Keras makes them: no activation between."""
    for filters in (24, 32):
        net.depthwise((3, 3), 1, "none")
        net.conv(filters, (1, 1))


def blocks_1d(net: Net) -> None:
    """Over time, along rows."""
    for filters, kernel in ((32, 5), (32, 9), (48, 13)):
        net.depthwise((1, kernel))
        net.conv(filters, (1, 1))


def blocks_time(net: Net) -> None:
    """The same where each moment is a row of one pixel."""
    for filters, kernel in ((32, 5), (32, 9), (48, 13)):
        net.depthwise((kernel, 1))
        net.conv(filters, (1, 1))


def blocks_grouped(net: Net) -> None:
    for filters, stride in ((32, 1), (64, 2)):
        net.conv(filters, (3, 3), stride, groups=4)
        net.conv(filters, (1, 1), groups=2)


MADE_BLOCKS = {
    "3x3": (blocks_3x3, (1, 24, 24, 16), "mk_depthwise_conv2d_s8_dsp", 1.93, 2.65),
    "5x5": (blocks_5x5, (1, 24, 24, 16), "mk_depthwise_conv2d_s8_taps_dsp", 1.56, 1.75),
    "1d": (blocks_1d, (1, 1, 128, 16), "mk_depthwise_conv2d_s8_taps_dsp", 1.88, 1.88),
    "time": (blocks_time, (1, 128, 1, 16), "mk_depthwise_conv2d_s8_pixel_dsp", 4.45, 4.80),
    "grouped": (blocks_grouped, (1, 16, 16, 16), "mk_conv2d_s8_groups_dsp", 1.19, 1.20),
}
"""Layers, input, their kernel, instructions for a MAC of it in builds for speed and balanced ones."""


@pytest.mark.parametrize("name", MADE_BLOCKS)
def test_made_blocks(name: str) -> None:
    layers, shape, kernel, *ceilings = MADE_BLOCKS[name]
    net = Net(name, shape, 0)
    layers(net)
    graph = int8(net.graph())
    for optimize, ceiling in zip(("speed", "balanced"), ceilings, strict=True):
        result = compile(graph, "nucleo-l4r5zi", optimize=optimize).run()
        own = [layer for layer in result.layers if layer.kernel == kernel]
        assert own
        assert result.stack_bytes <= STACK_BYTES
        assert sum(layer.instructions for layer in own) <= ceiling * sum(layer.macs for layer in own)


def test_two_dense_layers() -> None:
    """784-20-10: no more than its weights, its activations and a loop."""
    net = Net("digits", (1, 784), 0)
    net.dense(20, "relu")
    net.dense(10)
    graph = int8(net.graph())
    instructions(compile(graph, "nucleo-l4r5zi", optimize="speed"), 15_500)
    build = compile(graph, "nucleo-l4r5zi")
    instructions(build, 17_000)
    assert build.arena_bytes <= 804
