"""Which layers become one: where one kernel is predicted to take fewer instructions than two, and only in builds for speed."""

from __future__ import annotations

import pytest
from networks import Net, int8

from minikin.graph import Graph
from minikin.ops.conv import DepthwiseConv2dAttrs
from minikin.ops.opdef import get_op
from minikin.vboard.build import Build, compile
from minikin.vboard.verify import verify

BOARD = "nucleo-l4r5zi"


def pairs(*, between: bool = False) -> Graph:
    """Two depthwise layers, each with a pointwise one behind it; `between`: something else reads the first one's output."""
    net = Net("pairs", (1, 13, 10, 8), 3)
    net.depthwise((3, 3), 1, "relu")
    first = net.x
    net.conv(8, (1, 1), 1, "relu")
    if between:
        net.add("add", get_op("add").attrs("none"), first)
    net.depthwise((3, 3), 2, "relu")
    net.conv(12, (1, 1), 1, "none")
    net.global_pool()
    return int8(net.graph(), samples=2)


def kernels(build: Build) -> list[str]:
    return [step.layer.kernel.name for step in build.plan.steps]


def test_builds_for_speed_join(toolchain: str) -> None:
    graph = pairs()
    build, apart = (
        compile(graph, BOARD, optimize="speed", toolchain=toolchain),
        compile(graph, BOARD, toolchain=toolchain),
    )
    assert kernels(build).count("mk_separable_conv2d_s8_dsp") == 2
    assert not any("separable" in name for name in kernels(apart))
    assert build.run().instructions < 0.9 * apart.run().instructions
    result = verify(build, 3)
    assert result.equal, result.first_difference
    assert result.board_equals_host


def test_what_is_read_twice_stays_a_layer() -> None:
    names = kernels(compile(pairs(between=True), BOARD, optimize="speed"))
    assert names.count("mk_separable_conv2d_s8_dsp") == 1


@pytest.mark.parametrize("board", ["pico", "esp32-c3"])
def test_other_cores_keep_two_layers(board: str) -> None:
    """Their kernels have no joined form that is faster."""
    assert not any("separable" in name for name in kernels(compile(pairs(), board, optimize="speed")))


def test_packed_weights_that_are_asked_for_stay() -> None:
    build = compile(pairs(), BOARD, optimize="speed", storage="codebook")
    assert not any("separable" in name for name in kernels(build))


@pytest.mark.parametrize("board", [BOARD, "pico", "esp32-c3"])
def test_depthwise_of_one_channel_is_a_convolution(board: str) -> None:
    """As TFLite Micro's micro_speech has it: 8 outputs of one input, whose kernels are faster than a depthwise layer's."""
    net = Net("speech", (1, 49, 40, 1), 3)
    attrs = DepthwiseConv2dAttrs(stride=(2, 2), padding=(4, 5, 3, 3), activation="relu")
    net.add("depthwise_conv2d", attrs, net.weight((1, 10, 8, 8), 80), net.bias(8))
    net.dense(4)
    build = compile(int8(net.graph(), samples=2), board, optimize="speed")
    assert kernels(build)[0].startswith("mk_conv2d_s8_")
    layer = build.run().layers[0]
    assert layer.instructions < 5 * layer.macs
    result = verify(build, 2)
    assert result.equal, result.first_difference
    assert result.board_equals_host
