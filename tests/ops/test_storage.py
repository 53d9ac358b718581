"""Forms in which weights are stored: what is packed comes back, and every kernel of every form equals the integers."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Net, case_graph, int8, int8_case, union

from minikin.errors import UsageError
from minikin.graph import Graph, Quant
from minikin.ops import coded, storage
from minikin.ops.conv import conv_case, depthwise_case
from minikin.ops.conv_dsp import conv_scratch, depthwise_scratch
from minikin.ops.opdef import OPS, Kernel, get_op
from minikin.ops.shape import ReshapeAttrs
from minikin.ops.stored import GROUPED, STORAGES, coded_of, coded_scratch
from minikin.ops.stored_dsp import coded_dw3, coded_weights
from minikin.plan import Step
from minikin.vboard.build import compile
from minikin.vboard.run import random_inputs
from minikin.vboard.verify import verify


def zeros(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, np.int8)


def same(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, rng.integers(-127, 128), np.int8)


def anything(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(-127, 128, shape).astype(np.int8)


def few_codes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A codebook of 2 to 32."""
    return rng.choice(rng.integers(-127, 128, 1 << rng.integers(1, 6)), shape).astype(np.int8)


def small_codes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Four bits or fewer."""
    limit = 1 << int(rng.integers(1, 4))
    return rng.integers(-limit, limit, shape).astype(np.int8)


def sparse_few(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return (few_codes(rng, shape) * (rng.random(shape) < rng.choice([0.01, 0.1, 0.3]))).astype(np.int8)


def sparse(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return (anything(rng, shape) * (rng.random(shape) < rng.choice([0.01, 0.1, 0.3]))).astype(np.int8)


def blocks(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """At most one or two of each four are not zero."""
    w = anything(rng, shape).reshape(shape[0], -1)
    whole = w[:, : w.shape[1] // 4 * 4].reshape(shape[0], -1, 4)
    kept = np.argsort(rng.random(whole.shape), axis=2) < rng.integers(1, 3)
    w[:, : w.shape[1] // 4 * 4] = (whole * kept).reshape(shape[0], -1)
    return w.reshape(shape)


PATTERNS = (sparse_few, blocks, anything, few_codes, zeros, sparse, small_codes, same)


@st.composite
def weights(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 40)) * draw(st.sampled_from([1, 4, 40]))
    return draw(st.sampled_from(PATTERNS))(np.random.default_rng(draw(st.integers(0, 1 << 30))), shape)


@settings(max_examples=200, deadline=None)
@given(weights())
def test_packed_weights_come_back(w: np.ndarray) -> None:
    for form in storage.FORMS.values():
        if form.takes(w):
            np.testing.assert_array_equal(form.unpack(form.pack(w), w.shape), w, form.name)
    for group in (1, 2, 3):
        if storage.has_codebook(w):
            packed = storage.pack_codebook(w, group)
            np.testing.assert_array_equal(storage.unpack_codebook(packed, w.shape, group), w)


@settings(max_examples=150, deadline=None)
@given(weights(), st.sampled_from([None, 0, 1, 1000, 1 << 31]), st.integers(0, 12))
def test_coded_weights_come_back(w: np.ndarray, limit: int | None, shift: int) -> None:
    bias = None
    if limit is not None:
        values = np.random.default_rng(shift).integers(-limit, limit + 1, len(w)) << shift
        bias = np.clip(values, -(1 << 31), (1 << 31) - 1).astype(np.int32)
    again, biases = coded.decode(coded.encode(w, bias))
    np.testing.assert_array_equal(again, w)
    assert (biases is None) == (bias is None)
    if bias is not None:
        np.testing.assert_array_equal(biases, bias)


def test_coded_is_near_the_entropy() -> None:
    """Of independent weights: 95% zeros, eight codes of unequal shares."""
    rng = np.random.default_rng(0)
    shares = np.array([0.3, 0.2, 0.15, 0.1, 0.1, 0.07, 0.05, 0.03])
    w = rng.choice([-90, -60, -40, -20, 20, 40, 60, 90], (200, 500), p=shares) * (rng.random((200, 500)) < 0.05)
    p = np.unique(w, return_counts=True)[1] / w.size
    assert len(coded.encode(w.astype(np.int8)).data) <= 1.02 * -(p * np.log2(p)).sum() * w.size / 8


def test_bytes_are_what_a_form_promises() -> None:
    rng = np.random.default_rng(0)
    w = rng.choice([-64, -9, 0, 5, 7, 40, 99, 127], (30, 100)).astype(np.int8)
    others = 5 * 30 + 4 * 30
    sizes = storage.stored_bytes(w, np.zeros(30, np.int32), scales=30)
    assert sizes["dense"] == 3000 + others
    assert sizes["codebook"] == 3000 * 3 // 8 + 8 + others
    halved = blocks(rng, (30, 96))
    count = storage.places_of(halved)
    sizes = storage.stored_bytes(halved, np.zeros(30, np.int32), scales=30)
    assert sizes["nm"] == 30 * 24 * count + 30 * -(-24 * count // 4) + others
    nonzero = np.count_nonzero(halved)
    assert sizes["bitmask"] == 30 * 12 + nonzero + others
    assert sizes["sparse"] == 2 * 30 + 2 * nonzero + others


def patterned(graph: Graph, index: int) -> Graph:
    """The graph of one layer with weights of the index-th pattern, and its biases and scales as they were."""
    w = graph.tensors[graph.nodes[0].inputs[1]]
    data = PATTERNS[index % len(PATTERNS)](np.random.default_rng(index), w.shape)
    return graph.replace(tensors=dict(graph.tensors) | {w.name: w.replace(data=data)})


def layers_of(form: str) -> list[Graph]:
    """Every case of the ops that have the form (every other one, but of "codebook"), each with weights that allow it."""

    def takes(graph: Graph) -> bool:
        node = graph.nodes[0]
        return form in {kernel.storage for kernel in get_op(node.op).choices(graph.view(node))}

    ops = [op for op in OPS.values() if form in {kernel.storage for kernel in op.kernels}]
    made = []
    for op in ops:
        for number, case in enumerate(op.cases[:: 1 if form == "codebook" else 2]):
            graph = int8_case(op, case)
            able = (own for i in range(len(PATTERNS)) if takes(own := patterned(graph, number + i)))
            made += list(islice(able, 1))
    return made


@pytest.mark.parametrize("form", [form for form in STORAGES if form in (*storage.FORMS, "coded")])
def test_stored_equals_integers(form: str) -> None:
    """All cases in one firmware: on the host, under sanitizers, and on the board; inputs at both ends too."""
    graph = union(form, layers_of(form))
    build = compile(graph, "nucleo-l4r5zi", storage=form, shrink=False)
    kernels = {step.layer.kernel for step in build.plan.steps}
    assert {kernel.storage for kernel in kernels} == {form}
    kinds = {"dense", "conv2d"} | ({"grouped", "depthwise"} if form in GROUPED else set())
    assert {kernel.name.split("_")[1] for kernel in kernels} == kinds
    samples = [random_inputs(graph, seed) for seed in range(3)]
    samples += [[np.full(t.shape, end, np.int8) for t in graph.input_tensors] for end in (-128, 127)]
    result = verify(build, samples)
    assert result.equal, result.first_difference
    assert result.board_equals_host


def pruned_network(seed: int = 0, *, depthwise: bool = False) -> Graph:
    """Three convolutions and two dense layers: clustered, pruned, both, 2:4, and as it was; a depthwise one too."""
    net = Net("pruned", (1, 12, 10, 3), seed)
    net.conv(12, (3, 3))
    if depthwise:
        net.depthwise((3, 3))
    net.conv(16, (3, 3), 2)
    net.conv(20, (1, 1))
    net.add("reshape", ReshapeAttrs((1, 6 * 5 * 20)))
    net.dense(40, "relu")
    net.dense(10)
    graph = int8(net.graph())
    rng, tensors = np.random.default_rng(seed), dict(graph.tensors)
    kinds = (few_codes, *([few_codes] if depthwise else []), blocks, None, sparse_few, sparse)
    layers = [node for node in graph.nodes if node.op in ("conv2d", "depthwise_conv2d", "dense")]
    for node, kind in zip(layers, kinds, strict=True):
        if kind is not None:
            w = tensors[node.inputs[1]]
            tensors[w.name] = w.replace(data=kind(rng, w.shape))
    return graph.replace(tensors=tensors)


def check_scratch(step: Step) -> None:
    """A convolution that expands weights has room for half of its channels, or four, and for some pixels."""
    kernel, view = step.layer.kernel, step.layer.view
    if view.node.op == "depthwise_conv2d" and kernel.storage != "dense":
        coder = coded_dw3(view) if kernel.inner else coded_of(view)
        decisions = 2 * coder.decisions + 2 if kernel.storage == "coded" else 0
        own_scratch = depthwise_scratch(view, step.layer.rows) + 18 * 4 + 3 if kernel.inner else 0
        assert step.scratch_bytes - decisions <= own_scratch + 9  # a group's words, a channel's weights
    if kernel.storage not in ("codebook", "coded") or view.node.op != "conv2d":
        return
    weights = view.inputs[1]
    assert weights is not None
    channels, inputs = weights.shape[0], weights.size // weights.shape[0]
    if kernel.inner:
        own = kernel.pack(view, get_op("conv2d").emit(view))["expanded"]
        assert isinstance(own, dict)
        decisions = 2 * coded_weights(view).decisions + 2 if kernel.storage == "coded" else 0
        assert 4 * own["most"] <= channels / 2
        assert step.scratch_bytes <= decisions + 4 * own["most"] * own["words"] + conv_scratch(view, step.layer.rows)
        assert own["words"] <= inputs + 3 + 9
    else:
        decisions = coded_scratch(view, 1) if kernel.storage == "coded" else 0
        assert step.scratch_bytes - decisions <= 5 * inputs


@pytest.mark.parametrize("board", ["nucleo-l4r5zi", "pico"])
@pytest.mark.parametrize("options", [("speed", None), ("balanced", None), ("flash", None), ("balanced", "coded")])
def test_mixed_network(board: str, options: tuple[str, str | None]) -> None:
    """Each mixture gives the same bytes, and no layer's scratch memory holds a whole tensor."""
    graph = pruned_network(depthwise=True)
    build = compile(graph, board, optimize=options[0], storage=options[1])
    result = verify(build, 3)
    assert result.equal, result.first_difference
    for step in build.plan.steps:
        check_scratch(step)
    folded = sum(own.stored_bytes for own in build.stored) - build.weights_bytes
    assert 0 <= folded <= 4  # what a compiler makes instructions of


@pytest.mark.parametrize(("board", "form"), [("nucleo-l4r5zi", "codebook"), ("pico", "codebook"), ("pico", "bitmask")])
def test_depthwise_takes_what_a_form_promises(board: str, form: str) -> None:
    """Of depthwise layers and one with groups; a multiplier, a dilation, channels that are no fours; the bytes stay equal."""
    cases = {
        "depthwise_conv2d": (
            depthwise_case("30_channels", (1, 6, 7, 30), (1, 3, 3, 30), padding=(1, 1, 1, 1), activation="relu"),
            depthwise_case("16_stride2", (1, 9, 7, 16), (1, 3, 3, 16), stride=(2, 2), padding=(0, 1, 1, 1)),
            depthwise_case("20_none", (1, 5, 5, 20), (1, 3, 3, 20)),
            depthwise_case("multiplier2", (1, 7, 6, 9), (1, 3, 2, 18), dilation=(2, 1), padding=(2, 1, 0, 1)),
        ),
        "conv2d": (conv_case("groups", (1, 6, 5, 12), (18, 3, 3, 4), padding=(1, 1, 1, 1)),),
    }
    rng, made, promised = np.random.default_rng(0), [], 0
    for op, own in cases.items():
        for case in own:
            graph = int8_case(OPS[op], case)
            w = graph.tensors[graph.nodes[0].inputs[1]]
            codes = rng.choice(np.arange(-60, 60, 8), w.shape).astype(np.int8)
            codes = codes if form == "codebook" else (codes * (rng.random(w.shape) < 0.1)).astype(np.int8)
            made.append(graph.replace(tensors=dict(graph.tensors) | {w.name: w.replace(data=codes)}))
            channels = graph.output_tensors[0].shape[3]
            rows = codes.reshape(-1, channels).T if op != "conv2d" else codes.reshape(channels, -1)
            promised += storage.stored_bytes(rows, np.zeros(channels, np.int32), scales=channels)[form]
    graph = union(form, made)
    build = compile(graph, board, storage=form, shrink=False)
    assert {own.storage for own in build.stored} == {form}
    assert build.weights_bytes <= promised + (2 * 14 + 6) * (
        board != "pico"
    )  # the last group of 30 overlaps: two channels
    assert build.weights_bytes < 0.85 * compile(graph, board, storage="dense", shrink=False).weights_bytes
    for step in build.plan.steps:
        check_scratch(step)
    result = verify(build, 2)
    assert result.equal, result.first_difference


def test_optimize_saves_what_it_says() -> None:
    graph = pruned_network()
    builds = {name: compile(graph, "nucleo-l4r5zi", optimize=name) for name in ("speed", "balanced", "flash")}
    dense = compile(graph, "nucleo-l4r5zi", optimize="speed", storage="dense")
    weights = {name: build.weights_bytes for name, build in builds.items()}
    counts = {name: build.run().instructions for name, build in builds.items()}
    assert weights["flash"] <= weights["balanced"] <= weights["speed"] < dense.weights_bytes
    assert counts["speed"] < dense.run().instructions
    assert counts["balanced"] <= 1.15 * counts["speed"]
    assert weights["flash"] < 0.5 * dense.weights_bytes


def test_unknown_storage_is_refused() -> None:
    with pytest.raises(UsageError, match="storage 'zip' is not known: use dense, codebook"):
        compile(pruned_network(), "pico", storage="zip")


def test_equal_scales_are_stored_once() -> None:
    graph = int8_case(OPS["dense"], next(case for case in OPS["dense"].cases if case.name == "relu"))
    w = graph.tensors[graph.nodes[0].inputs[1]]
    assert w.quant is not None
    same = w.replace(quant=Quant((0.01,) * w.shape[0], (0,) * w.shape[0], 0))
    graph = graph.replace(tensors=dict(graph.tensors) | {w.name: same})
    build = compile(graph, "pico", storage="dense", optimize="flash")  # by a kernel that takes weights as they are
    assert build.stored_bytes == build.stored[0].stored_bytes == w.size + 2 * w.shape[0] + 5


WIDE = (
    conv_case("9_of_27", (1, 7, 6, 3), (9, 3, 3, 3), padding=(1, 1, 1, 1)),
    conv_case("12_pointwise", (1, 5, 5, 8), (12, 1, 1, 8), activation="relu"),
    conv_case("14_of_20_stride2", (1, 9, 7, 5), (14, 2, 2, 5), stride=(2, 2), padding=(1, 0, 0, 1)),
    conv_case("24_dilated", (1, 9, 9, 4), (24, 3, 2, 4), dilation=(2, 3), padding=(2, 2, 0, 3)),
    conv_case("40_of_4", (1, 16, 1, 4), (40, 1, 1, 4), stride=(1, 1), activation="relu6"),
    conv_case("11_batch2", (2, 4, 5, 8), (11, 3, 1, 8), bias=False),
    conv_case("33_pointwise_stride2", (1, 7, 7, 12), (33, 1, 1, 12), stride=(2, 2)),
)
"""More than eight channels: enough that DSP kernels expand groups of four."""


@pytest.mark.parametrize(
    ("form", "optimize", "toolchain"),
    [
        ("codebook", "speed", "zig"),
        ("codebook", "balanced", "gcc"),
        ("coded", "balanced", "zig"),
        ("bitmask", "speed", "gcc"),
        ("nm", "balanced", "gcc"),
    ],
    indirect=["toolchain"],
)
def test_expanded_by_dsp(form: str, optimize: str, toolchain: str) -> None:
    """Groups that overlap, inputs that are no whole quads, borders, pixels without a partner, batches."""
    kernels = {f"mk_conv2d_s8_{form}_dsp"}
    made = []
    for number, case in enumerate(WIDE):
        graphs = [patterned(int8_case(OPS["conv2d"], case), number + i) for i in range(len(PATTERNS))]
        able = [own for own in graphs if kernels & {k.name for k in choices(own)}]
        made += able[:1]
    assert len(made) >= 5
    graph = union(form, made)
    build = compile(graph, "nucleo-l4r5zi", toolchain=toolchain, optimize=optimize, storage=form, shrink=False)
    assert {step.layer.kernel.name for step in build.plan.steps} == kernels
    samples = [random_inputs(graph, seed) for seed in range(2)]
    samples += [[np.full(t.shape, end, np.int8) for t in graph.input_tensors] for end in (-128, 127)]
    result = verify(build, samples)
    assert result.equal, result.first_difference


def choices(graph: Graph) -> list[Kernel]:
    """Of the only layer, on DSP instructions."""
    node = graph.nodes[0]
    return get_op(node.op).choices(graph.view(node), "dsp")


def with_halves(graph: Graph, seed: int) -> Graph:
    """Every weight a float16 number: many are subnormal, and some zero below zero."""
    rng, tensors = np.random.default_rng(seed), dict(graph.tensors)
    for node in graph.nodes:
        w = tensors[node.inputs[1]]
        bits = rng.integers(0, 1 << 16, w.shape) & np.where(rng.random(w.shape) < 0.3, 0x83FF, 0xBFFF)
        halves = np.where(rng.random(w.shape) < 0.1, -0.0, bits.astype(np.uint16).view(np.float16))
        tensors[w.name] = w.replace(data=halves.astype(np.float32))
    return graph.replace(tensors=tensors)


def float_cases() -> Graph:
    names = ("3x3_same", "grouped", "12_channels_relu6", "groups_of_10", "batch2_no_bias", "19_units", "relu", "10x3")
    names += ("17_channels_relu6", "multiplier2", "8_channels_no_bias", "relu6_batch", "keywords")
    ops = [OPS[name] for name in ("conv2d", "depthwise_conv2d", "dense")]
    return union("halves", [case_graph(op, case) for op in ops for case in op.cases if case.name in names])


@pytest.mark.parametrize(("board", "toolchain"), [("nucleo-l4r5zi", "gcc"), ("pico", "zig")], indirect=["toolchain"])
def test_halves_are_the_same_floats(board: str, toolchain: str) -> None:
    """Weights that are float16 numbers take two bytes, and give the bytes that floats give: with an FPU and without."""
    graph = with_halves(float_cases(), 0)
    builds = [compile(graph, board, toolchain=toolchain, storage=form) for form in ("dense", "float16")]
    sizes = [build.weights_bytes for build in builds]
    count = sum(graph.tensors[node.inputs[1]].size for node in graph.nodes)
    assert {own.storage for own in builds[1].stored} == {"float16"}
    assert sizes[0] - sizes[1] == 2 * count
    result = verify(builds[1], 2)
    assert result.equal, result.first_difference
    assert result.board_equals_host
    samples = random_inputs(graph, 5)
    outputs = [build.run(*samples).outputs for build in builds]
    for dense, half in zip(*outputs, strict=True):
        np.testing.assert_array_equal(dense.view(np.uint32), half.view(np.uint32))


def test_only_exact_halves_are_stored_so() -> None:
    """A layer with one weight that is no float16 number keeps four bytes; flash takes the smaller form by itself."""
    net = Net("floats", (1, 8, 8, 3), 0)
    net.conv(16, (3, 3))
    net.conv(32, (3, 3))
    net.conv(32, (3, 3))
    graph = with_halves(net.graph(), 1)
    w = graph.tensors[graph.nodes[1].inputs[1]]
    data = np.array(w.data)
    data[3, 1, 2, 5] = 1 / 3
    graph = graph.replace(tensors=dict(graph.tensors) | {w.name: w.replace(data=data)})
    build = compile(graph, "nucleo-l4r5zi", optimize="flash")
    assert [own.storage for own in build.stored] == ["float16", "dense", "float16"]
    dense = compile(graph, "nucleo-l4r5zi", optimize="flash", storage="dense")
    sample = random_inputs(graph, 5)
    assert build.run(*sample).outputs[0].tobytes() == dense.run(*sample).outputs[0].tobytes()
    assert {own.storage for own in compile(graph, "nucleo-l4r5zi", optimize="speed").stored} == {"dense"}
