"""The Helium kernels against the integers: random layers that end within, at and behind vectors of 16 bytes and groups of four
channels, for any zero point, bias and multiplier; on the host by the kernels' C twins under sanitizers, on the board by their
assembly."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from networks import int8_case, quantized_cases, union
from test_dsp import ACTIVATIONS, bias, layer, pick, random_layer, weights

from minikin.graph import Graph
from minikin.ops.conv import Conv2dAttrs, DepthwiseConv2dAttrs
from minikin.ops.dense import DenseAttrs
from minikin.ops.elementwise import BinaryAttrs
from minikin.ops.opdef import OPS, Case, get_op
from minikin.ops.pool import MeanAttrs, PoolAttrs
from minikin.vboard.build import compile
from minikin.vboard.run import random_inputs
from minikin.vboard.verify import verify, verify_host

BOARD = "corstone-300"
OPS_WITH_HELIUM = [op.name for op in OPS.values() if any(kernel.isa == "mve" for kernel in op.kernels)]
RANDOM = ("conv2d", "depthwise_conv2d", "dense", "add")
POOLS = ("avg_pool2d", "max_pool2d")
EDGES = (1, 3, 4, 5, 8, 15, 16, 17, 20, 31, 33)
"""Sizes around groups and vectors."""


def wide_layer(op: str, seed: int) -> Graph:
    """As random_layer of test_dsp, with more channels."""
    rng = np.random.default_rng(1000 + seed)
    act = str(pick(rng, ACTIVATIONS))
    channels, units = int(pick(rng, EDGES)), int(pick(rng, EDGES))
    if op == "dense":
        features = int(pick(rng, (*EDGES, 64, 80, 96, 130)))
        constants = [weights(rng, (units, features), 0, units), bias(rng, units)]
        return layer(op, DenseAttrs(act), (int(rng.integers(1, 4)), features), constants, rng)
    if op == "add":
        return layer(op, BinaryAttrs(act), (1, 2, 3, channels), [], rng)
    width, height = int(rng.integers(3, 12)), int(rng.integers(3, 7))
    kernel = tuple(int(k) for k in rng.integers(1, 4 if op == "conv2d" or seed % 3 else 7, 2))
    stride = tuple(int(s) for s in rng.integers(1, 4, 2))
    padding = tuple(int(p) for p in rng.integers(0, 3, 4)) if rng.random() < 0.6 else (0, 0, 0, 0)
    if max(kernel) > 3:
        padding = (2, 2, 2, 2)
    attrs = {"stride": stride, "padding": padding, "activation": act}
    if op == "conv2d":
        constants = [weights(rng, (units, *kernel, channels), 0, units), bias(rng, units)]
        return layer(op, Conv2dAttrs(**attrs), (1, height, width, channels), constants, rng)
    constants = [weights(rng, (1, *kernel, channels), 3, channels), bias(rng, channels)]
    return layer(op, DepthwiseConv2dAttrs(**attrs), (1, height, width, channels), constants, rng)


def wide_pool(op: str, channels: int) -> Graph:
    """Over the whole frame, or windows with padding."""
    attrs = PoolAttrs((3, 5), (1, 1)) if channels % 2 else PoolAttrs((3, 2), (2, 1), (1, 1, 0, 1), activation="relu")
    return int8_case(get_op(op), Case("wide", attrs, ((1, 3, 5, channels),), ranges=(-2.0, 7.0)), "int8")


def networks_of(narrow: int, wide: int) -> Graph:
    """Random layers of every op with Helium kernels, side by side."""
    layers = [random_layer(op, seed) for op in RANDOM for seed in range(narrow)]
    layers += [wide_layer(op, seed) for op in RANDOM for seed in range(wide)]
    pools = [wide_pool(op, channels) for op in POOLS for channels in (15, 22, 33)]
    means = Case("mean", MeanAttrs((1, 2)), ((1, 3, 5, 37),))
    return union("layers", [*layers, *pools, int8_case(get_op("mean"), means, "int8")])


def samples_of(graph: Graph) -> list[list[np.ndarray]]:
    samples = [random_inputs(graph, seed) for seed in range(2)]
    return samples + [[np.full(t.shape, end, np.int8) for t in graph.input_tensors] for end in (-128, 127)]


def test_twins_equal_integers() -> None:
    graph = networks_of(6, 20)
    build = compile(graph, BOARD, optimize="speed")
    helium = {kernel.name for op in OPS.values() for kernel in op.kernels if kernel.isa == "mve"}
    assert helium <= {step.layer.kernel.name for step in build.plan.steps}
    difference, _ = verify_host(build.plan, build.model, samples_of(graph), [], None)
    assert difference is None


@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="qemu-system-arm is not installed")
def test_mve_equals_integers(toolchain: str) -> None:
    graph = networks_of(2, 8)
    result = verify(compile(graph, BOARD, optimize="speed", toolchain=toolchain), samples_of(graph)[1:])
    assert result.equal, result.first_difference
    assert result.board_equals_host


def test_cases_on_the_host() -> None:
    """Every case of the ops, whichever kernel takes it."""
    cases = [int8_case(op, case, dtype) for op, case, dtype in quantized_cases() if op.name in OPS_WITH_HELIUM]
    graph = union("cases", cases)
    build = compile(graph, BOARD)
    difference, _ = verify_host(build.plan, build.model, samples_of(graph), [], None)
    assert difference is None
