"""The DSP kernels against the integers, where post-training quantization never goes: any zero point, bias and multiplier.

Random layers side by side in one network; on the host by the kernels' C twins under sanitizers, on the board by their
assembly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import Net, int8, quantized_cases, union

from minikin.graph import Graph, Node, Quant, Tensor, View
from minikin.interp import run
from minikin.ops import OPS
from minikin.ops.conv import Conv2dAttrs, DepthwiseConv2dAttrs
from minikin.ops.dense import DenseAttrs
from minikin.ops.elementwise import BinaryAttrs
from minikin.ops.fitting import packed_channels
from minikin.ops.opdef import Kernel, get_op
from minikin.ops.separable import SeparableConv2dAttrs
from minikin.plan import make_plan
from minikin.vboard.build import compile
from minikin.vboard.run import random_inputs
from minikin.vboard.verify import verify

ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1")
LAYERS = 48
NEAR = (1 << 23) - (1 << 18)  # a bias just inside what an odd channel's sum may reach


def pick(rng: np.random.Generator, values: tuple) -> Any:
    return values[rng.integers(len(values))]


def activation(rng: np.random.Generator, name: str, shape: tuple[int, ...], scale: float, **zero: int) -> Tensor:
    zero_point = zero.get("zero", int(pick(rng, (-128, -128, -127, -3, 0, 64, 127))))
    return Tensor(name, shape, "int8", Quant((scale,), (zero_point,)))


def weights(rng: np.random.Generator, shape: tuple[int, ...], axis: int, units: int) -> Tensor:
    """Any codes, some channels zero; one scale in all or one per channel, over two decades."""
    data = rng.integers(-127, 128, shape).astype(np.int8)
    moved = np.moveaxis(data, axis, 0)
    moved[rng.random(len(moved)) < 0.15] = 0
    per_channel = rng.random() < 0.7
    scales = tuple(float(s) for s in 0.002 * 10 ** rng.uniform(-1, 1, units if per_channel else 1))
    return Tensor("w", shape, "int8", Quant(scales, (0,) * len(scales), axis if per_channel else None), data)


def bias(rng: np.random.Generator, units: int) -> Tensor:
    """Small, near the bound of odd channels, past it, or as large as an int32."""
    limit = int(pick(rng, (1000, 1000, 20000, NEAR, 1 << 29)))
    values = rng.integers(-limit, limit + 1, units)
    if limit == NEAR:
        values = rng.choice([-NEAR, NEAR], units)
    return Tensor("b", (units,), "int32", None, values.astype(np.int32))


def layer(op: str, attrs: object, shape: tuple[int, ...], constants: list[Tensor], rng: np.random.Generator) -> Graph:
    """One int8 node whose output multipliers lie around 2^-9 .. 2^1."""
    x = activation(rng, "x", shape, 0.02)
    others = [activation(rng, "x1", shape, 0.02 * 2 ** rng.uniform(-6, 3))] if op == "add" else []
    names = ("x", *(t.name for t in (*others, *constants)))
    node = Node(op, op, attrs, names, ("y",))
    inferred = get_op(op).infer(View(node, (x, *others, *constants), ()))[0]
    ranged = getattr(attrs, "activation", "none")
    y = activation(rng, "y", inferred, 0.02 * 2 ** rng.uniform(-1, 7), **({"zero": -128} if ranged == "relu" else {}))
    tensors = {t.name: t for t in (x, *others, *constants, y)}
    return Graph(op, tensors, (node,), ("x", *(t.name for t in others)), ("y",))


def random_layer(op: str, seed: int) -> Graph:
    rng = np.random.default_rng(seed)
    act = str(pick(rng, ACTIVATIONS))

    def size(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    if op == "dense":
        units, features = size(1, 11), size(1, 40)
        constants = [weights(rng, (units, features), 0, units), bias(rng, units)]
        return layer(op, DenseAttrs(act), (size(1, 2), features), constants, rng)
    if op == "add":
        return layer(op, BinaryAttrs(act), (1, size(1, 3), size(1, 4), size(1, 5)), [], rng)
    if op == "separable_conv2d":
        return random_pair(act, rng)
    h, w, c = size(1, 6), size(1, 9), size(1, 9)
    most = 4 if op == "conv2d" else 7
    kernel = (3, 3) if rng.random() < 0.6 else (size(1, most), size(1, most))
    dilation = (1, 1) if rng.random() < 0.8 else (size(1, 2), size(1, 2))
    needed = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    pads = [size(0, 2) for _ in range(4)]
    pads[1] += max(0, needed[0] - h - pads[0] - pads[1])
    pads[3] += max(0, needed[1] - w - pads[2] - pads[3])
    if op == "conv2d" and rng.random() < 0.3:
        kernel, dilation, pads = (1, 1), (1, 1), [0, 0, 0, 0]
    values: dict[str, Any] = {
        "stride": (size(1, 3), size(1, 2)),
        "dilation": dilation,
        "padding": tuple(pads),
        "activation": act,
    }
    units, groups = size(1, 10) if op == "conv2d" else c, 1
    if op == "conv2d" and rng.random() < 0.25:
        groups = size(2, 3)
        c, units = groups * size(3, 9), groups * size(3, 9)
    if op == "depthwise_conv2d" and rng.random() < 0.2:
        values["stride"] = (values["stride"][0], w + 9)  # rows of one pixel
    shape, axis = ((units, *kernel, c // groups), 0) if op == "conv2d" else ((1, *kernel, c), 3)
    attrs = Conv2dAttrs(**values) if op == "conv2d" else DepthwiseConv2dAttrs(**values)
    return layer(op, attrs, (1, h, w, c), [weights(rng, shape, axis, units), bias(rng, units)], rng)


def random_pair(act: str, rng: np.random.Generator) -> Graph:
    """A depthwise layer, mostly one that a kernel joins to a pointwise one, with that."""
    (h, w), (c, units), stride = rng.integers(1, 11, 2), rng.integers(3, 14, 2), rng.integers(1, 3, 2)
    top, bottom, left, right = (int(pad) for pad in rng.integers(0, 2, 4))
    middle = Quant((0.02 * 2 ** rng.uniform(1, 7),), (-128,))
    activation = str(pick(rng, ("relu", "relu", "relu", "relu", act)))
    strides, padding = (int(stride[0]), int(stride[1])), (top + 2, bottom, left + 2, right)
    attrs = SeparableConv2dAttrs(
        DepthwiseConv2dAttrs(strides, padding=padding, activation=activation), Conv2dAttrs(activation=act), middle
    )
    first = [weights(rng, (1, 3, 3, int(c)), 3, int(c)), bias(rng, int(c))]
    second = [weights(rng, (int(units), 1, 1, int(c)), 0, int(units)), bias(rng, int(units))]
    constants = [*first, *(tensor.replace(name=f"{tensor.name}1") for tensor in second)]
    return layer("separable_conv2d", attrs, (1, int(h), int(w), int(c)), constants, rng)


def kernels_of(graph: Graph) -> set[str]:
    return {step.layer.kernel.name for step in make_plan(graph, "dsp").steps}


@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d", "separable_conv2d", "dense", "add"])
@pytest.mark.parametrize("optimize", ["balanced", "speed"])
def test_dsp_equals_integers(op: str, optimize: str, toolchain: str) -> None:
    graph = union(op, [random_layer(op, seed) for seed in range(LAYERS)])
    dsp = {kernel.name for kernel in get_op(op).kernels if kernel.isa == "dsp" and kernel.storage == "dense"}
    assert dsp <= kernels_of(graph)
    samples = [random_inputs(graph, seed) for seed in range(3)]
    samples += [[np.full(t.shape, end, np.int8) for t in graph.input_tensors] for end in (-128, 127)]
    result = verify(compile(graph, "nucleo-l4r5zi", optimize=optimize, toolchain=toolchain), samples)
    assert result.equal, result.first_difference
    assert result.board_equals_host


def test_every_integer_kernel_has_a_case() -> None:
    """Each int8 kernel of every instruction set is chosen for some case of its op or for some random layer here.

    Those of stored weights have cases in test_storage.py.
    """
    from networks import int8_case

    taken = {
        step.layer.kernel.name
        for op, case, dtype in quantized_cases()
        if not op.alias
        for isa in ("c", "dsp", "mve", "rv", "v6m")
        for step in make_plan(int8_case(op, case, dtype), isa).steps
    }
    for op in ("conv2d", "depthwise_conv2d", "dense", "add"):
        for seed in range(LAYERS):
            taken |= kernels_of(random_layer(op, seed))

    def in_integers(kernel: Kernel) -> bool:
        return "s8" in kernel.name.split("_") and kernel.storage == "dense"

    assert {k.name for op in OPS.values() for k in op.kernels if in_integers(k)} <= taken


def test_constant_channels_lose_their_weights() -> None:
    """A channel that is saturated whatever the input costs no precision: its weights and huge bias are replaced."""
    w = Tensor("w", (2, 4), "int8", Quant((1e-3, 1e-9), (0, 0), 0), np.full((2, 4), 9, np.int8))
    b = Tensor("b", (2,), "int32", None, np.array([5, 1 << 29], np.int32))
    tensors = [
        Tensor("x", (1, 4), "int8", Quant((0.02,), (3,))),
        w,
        b,
        Tensor("y", (1, 2), "int8", Quant((0.01,), (-128,))),
    ]
    graph = Graph(
        "g",
        {t.name: t for t in tensors},
        (Node("g", "dense", DenseAttrs("relu"), ("x", "w", "b"), ("y",)),),
        ("x",),
        ("y",),
    )
    channels = packed_channels(graph.view(graph.nodes[0]), np.asarray(w.data))
    assert channels.weights.tolist() == [[9] * 4, [0] * 4]
    assert channels.exact
    y = run(graph, [np.zeros((1, 4), np.int8)])["y"]
    assert y[0, 1] == -128 + channels.bias[1] // 64


@pytest.mark.parametrize("kernel", [(5, 2), (5, 5), (4, 3)])
@pytest.mark.parametrize("stream_input", [False, True])
def test_depthwise_calls_of_some_rows(kernel: tuple[int, int], stream_input: bool) -> None:
    """A kernel that is packed for calls of several rows: the last one makes fewer, and streamed inputs come one by one."""
    net = Net("rows", (1, 29, 2, 8), 0)
    net.depthwise(kernel, activation="none")
    build = compile(int8(net.graph()), "nucleo-l4r5zi", optimize="speed", stream_input=stream_input)
    (step,) = build.plan.steps
    assert step.layer.kernel.name == "mk_depthwise_conv2d_s8_taps_dsp"
    assert 29 % step.layer.kernel.whole_rows(step.layer.view)
    assert (step.layer.rows > 1) is not stream_input
    result = verify(build, 3)
    assert result.equal, result.first_difference
    assert result.board_equals_host
