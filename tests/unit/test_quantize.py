"""compress/quantize.py and calibrate.py: TFLite's scheme, and what cannot calibrate."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from minikin.check import check
from minikin.compress.calibrate import mse_range, percentile_range
from minikin.compress.quantize import (
    BIAS_LIMIT,
    asymmetric_quant,
    dequantize_array,
    error_table,
    layer_errors,
    quantize,
    quantize_array,
    symmetric_quant,
)
from minikin.errors import DataError, MinikinError, ModelError, UsageError
from minikin.graph import Graph, Node, Quant, Tensor
from minikin.interp import run
from minikin.ops import OPS
from minikin.ops.activation import SoftmaxAttrs, UnaryAttrs
from minikin.ops.conv import Conv2dAttrs
from minikin.ops.dense import DenseAttrs
from minikin.ops.elementwise import BinaryAttrs
from minikin.ops.norm import BatchNormAttrs
from minikin.ops.opdef import build_graph
from minikin.ops.pool import PoolAttrs
from minikin.ops.shape import ConcatAttrs, PadAttrs

RNG = np.random.default_rng(3)


def uniform(*shape: int, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    return RNG.uniform(low, high, shape).astype(np.float32)


def const(name: str, data: Any) -> Tensor:
    data = np.array(data, np.float32)
    return Tensor(name, data.shape, "float32", data=data)


def x_of(*shape: int, name: str = "x") -> Tensor:
    return Tensor(name, shape, "float32")


def conv_net() -> Graph:
    """conv (relu) -> max pool -> dense -> softmax."""
    nodes = [
        Node("conv", "conv2d", Conv2dAttrs(activation="relu"), ("x", "w", "b"), ("h",)),
        Node("pool", "max_pool2d", PoolAttrs((2, 2), (2, 2)), ("h",), ("p",)),
        Node("fc", "dense", DenseAttrs(), ("p", "v", "c"), ("z",)),
        Node("soft", "softmax", SoftmaxAttrs(), ("z",), ("y",)),
    ]
    scales = np.array([0.01, 1, 0.3, 2], np.float32).reshape(4, 1, 1, 1)
    constants = [
        const("w", uniform(4, 3, 3, 2) * scales),
        const("b", uniform(4)),
        const("v", uniform(3, 16)),
        const("c", uniform(3)),
    ]
    return build_graph("net", nodes, [x_of(1, 6, 6, 2), *constants], ["x"], ["y"])


def dense_net(w: Any, b: Any, activation: str = "none") -> Graph:
    w = np.array(w, np.float32)
    nodes = [Node("fc", "dense", DenseAttrs(activation), ("x", "w", "b"), ("y",))]
    return build_graph("net", nodes, [x_of(1, w.shape[1]), const("w", w), const("b", b)], ["x"], ["y"])


def real(graph: Graph, name: str, values: np.ndarray) -> np.ndarray:
    return dequantize_array(values, graph.tensors[name])


def quant_of(graph: Graph, name: str) -> Quant:
    quant = graph.tensors[name].quant
    assert quant is not None
    return quant


# The scheme


def test_weights_biases_and_activations_follow_tflite() -> None:
    graph, data = conv_net(), uniform(20, 6, 6, 2)
    small = quantize(graph, data)
    check(small)
    w, b = small.tensors["w"], small.tensors["b"]
    assert w.data is not None
    assert b.data is not None
    assert w.dtype == "int8"
    assert quant_of(small, "w").axis == 0
    assert set(quant_of(small, "w").zero_points) == {0}
    assert np.abs(w.data.astype(int)).max(axis=(1, 2, 3)).tolist() == [127] * 4
    source = graph.tensors["w"].data
    assert source is not None
    expected = np.abs(source).max(axis=(1, 2, 3)) / 127
    np.testing.assert_allclose(quant_of(small, "w").scales, expected, rtol=1e-6)
    assert b.dtype == "int32"
    products = np.array(quant_of(small, "w").scales) * quant_of(small, "x").scale
    np.testing.assert_allclose(quant_of(small, "b").scales, products, rtol=1e-6)
    np.testing.assert_allclose(b.data * products, graph.tensors["b"].data, atol=products.max() / 2 + 1e-9)  # type: ignore[arg-type]
    lo, hi = data.min(), data.max()
    assert quant_of(small, "x").scale == pytest.approx((hi - lo) / 255, rel=1e-6)
    assert quant_of(small, "h").zero_point == -128  # a fused relu narrows the range
    assert quant_of(small, "p") == quant_of(small, "h")
    assert quant_of(small, "y") == Quant((1 / 256,), (-128,))


def test_per_tensor_weights() -> None:
    small = quantize(conv_net(), uniform(4, 6, 6, 2), per_channel=False)
    check(small)
    assert [len(quant_of(small, name).scales) for name in ("w", "b", "v", "c")] == [1, 1, 1, 1]


def test_the_network_means_the_same() -> None:
    graph, data = conv_net(), uniform(30, 6, 6, 2)
    for method in ("minmax", "percentile", "mse", "entropy"):
        errors = layer_errors(graph, quantize(graph, data, method=method), data)
        assert [e.name for e in errors] == ["conv", "pool", "fc", "soft"]
        assert min(e.sqnr_db for e in errors) > 30
        assert max(e.saturated for e in errors) < 0.01


def test_zero_is_exact_and_ranges_include_it() -> None:
    for lo, hi in [(2.0, 5.0), (-5.0, -2.0), (-1.0, 3.0), (0.0, 0.0), (-1e-30, 1e-30), (-3e30, 1e30)]:
        quant = asymmetric_quant(lo, hi)
        tensor = Tensor("t", (1,), "int8", quant)
        assert dequantize_array(quantize_array(np.zeros(1), tensor), tensor)[0] == 0
        assert float(np.float32(quant.scale)) == quant.scale > 0
        ends = dequantize_array(quantize_array(np.array([lo, hi]), tensor), tensor)
        assert (np.abs(ends - np.array([lo, hi])) <= quant.scale * 0.5001 + 1e-30).all()


def test_values_round_half_away_and_saturate() -> None:
    tensor = Tensor("t", (6,), "int8", Quant((0.5,), (3,)))
    assert quantize_array(np.array([0.25, -0.25, 0.24, 100, -100, 0]), tensor).tolist() == [4, 2, 3, 127, -128, 3]


def test_tied_tensors_share_one_quantization() -> None:
    nodes = [
        Node("a", "tanh", UnaryAttrs(), ("x",), ("t",)),
        Node("m", "mul", BinaryAttrs(), ("x", "k"), ("big",)),
        Node("n", "mul", BinaryAttrs(), ("x", "l"), ("small",)),
        Node("pad", "pad", PadAttrs(((0, 0), (1, 0)), 3.0), ("big",), ("padded",)),
        Node("cat", "concat", ConcatAttrs(1), ("padded", "small", "t", "t"), ("y",)),
    ]
    tensors = [x_of(1, 4), const("k", [5.0]), const("l", [0.1])]
    graph = build_graph("net", nodes, tensors, ["x"], ["y"])
    data = uniform(50, 4)
    small = quantize(graph, data)
    check(small)
    assert len({quant_of(small, name) for name in ("big", "padded", "small", "y")}) == 1
    assert quant_of(small, "t") == Quant((1 / 128,), (0,))
    cat = small.nodes[-1]
    assert cat.inputs == ("padded", "small", "t_for_cat", "t_for_cat")
    assert [node.op for node in small.nodes].count("quantize") == 1
    assert quant_of(small, "t_for_cat") == quant_of(small, "y")
    assert layer_errors(graph, small, data)[-1].max_abs <= quant_of(small, "y").scale * 1.5


def test_inputs_with_equal_fixed_quantization_need_nothing() -> None:
    nodes = [
        Node("a", "tanh", UnaryAttrs(), ("x",), ("t",)),
        Node("b", "tanh", UnaryAttrs(), ("t",), ("u",)),
        Node("cat", "concat", ConcatAttrs(1), ("t", "u"), ("y",)),
    ]
    small = quantize(build_graph("net", nodes, [x_of(1, 4)], ["x"], ["y"]), uniform(9, 4))
    check(small)
    assert len(small.nodes) == 3
    assert quant_of(small, "y") == Quant((1 / 128,), (0,))


def test_constants_shared_by_layers_with_other_scales() -> None:
    nodes = [
        Node("one", "dense", DenseAttrs(), ("x", "w", "b"), ("h",)),
        Node("two", "dense", DenseAttrs(), ("h", "w", "b"), ("i",)),
        Node("sum", "add", BinaryAttrs(), ("i", "b"), ("y",)),
    ]
    tensors = [x_of(1, 4), const("w", uniform(4, 4) * 3), const("b", uniform(4))]
    graph, data = build_graph("net", nodes, tensors, ["x"], ["y"]), uniform(20, 4)
    small = quantize(graph, data)
    check(small)
    inputs = [node.inputs for node in small.nodes]
    assert inputs[0][1] == inputs[1][1]
    assert len({inputs[0][2], inputs[1][2], inputs[2][1]}) == 3
    assert layer_errors(graph, small, data)[-1].sqnr_db > 30


@pytest.mark.parametrize("per_channel", [True, False])
def test_dead_and_tiny_channels_keep_their_bias(per_channel: bool) -> None:
    w = uniform(5, 8)
    w[1], w[2], w[3] = 0, 1e-30, 1e-9
    graph, data = dense_net(w, [0.5, 1.5, -0.7, 0.9, 0.1]), uniform(20, 8)
    small = quantize(graph, data, per_channel=per_channel)
    check(small)
    bias = small.tensors["b"].data
    assert bias is not None
    assert np.abs(bias.astype(np.int64)).max() <= BIAS_LIMIT * (1 + 1e-6)  # scales are float32
    assert layer_errors(graph, small, data)[0].max_abs <= quant_of(small, "y").scale * (1.5 if per_channel else 3)


def test_a_layer_of_zeros_and_a_dead_tensor() -> None:
    nodes = [
        Node("fc", "dense", DenseAttrs("relu"), ("x", "w", "b"), ("h",)),
        Node("out", "dense", DenseAttrs(), ("h", "v", "c"), ("y",)),
    ]
    tensors = [
        x_of(1, 3),
        const("w", np.zeros((2, 3))),
        const("b", [-1, -2]),
        const("v", uniform(2, 2)),
        const("c", [1, 2]),
    ]
    graph = build_graph("net", nodes, tensors, ["x"], ["y"])
    small = quantize(graph, uniform(20, 3))
    check(small)
    y = run(small, quantize_array(uniform(1, 3), small.tensors["x"]))["y"]
    np.testing.assert_allclose(real(small, "y", y), [[1, 2]], atol=0.01)


def test_symmetric_scales_have_a_floor() -> None:
    assert symmetric_quant(np.zeros((2, 3)), 0).scales == (np.float32(1 / 127),) * 2
    assert symmetric_quant(np.array([[1.0], [0.0]]), 0).scales == (np.float32(1 / 127),) * 2
    assert symmetric_quant(np.array([[1.0], [0.5]]), 0, np.array([0.0, 7.0])).scales[1] == 7.0


def test_float_inputs_and_outputs() -> None:
    graph, data = conv_net(), uniform(20, 6, 6, 2)
    whole, wrapped = quantize(graph, data), quantize(graph, data, io_dtype="float32")
    check(wrapped)
    assert (wrapped.inputs, wrapped.outputs) == (graph.inputs, graph.outputs)
    x = data[:1]
    inside = run(whole, quantize_array(x, whole.tensors["x"]))["y"]
    np.testing.assert_array_equal(run(wrapped, x)["y"], real(whole, "y", inside))
    assert layer_errors(graph, wrapped, data)


def test_batch_norm_is_folded_first() -> None:
    nodes = [Node("n", "batch_norm", BatchNormAttrs(), ("x", "g", "b", "m", "v"), ("y",))]
    tensors = [x_of(1, 2, 2, 3), *(const(n, uniform(3)) for n in "gbm"), const("v", [1, 2, 3])]
    graph = build_graph("net", nodes, tensors, ["x"], ["y"])
    small = quantize(graph, uniform(9, 2, 2, 3))
    check(small)
    assert [node.op for node in small.nodes] == ["mul", "add"]


def test_every_case_of_every_op_quantizes() -> None:
    from networks import case_graph, case_samples

    for op in OPS.values():
        for case in op.cases:
            if "int8" in case.dtypes and op.name not in ("quantize", "dequantize"):
                graph = case_graph(op, case)
                for method in ("minmax", "percentile", "mse", "entropy"):
                    check(quantize(graph, case_samples(graph, case, 4), method=method))


# Ranges


def outliers() -> np.ndarray:
    data = RNG.normal(0, 1, (200, 50)).astype(np.float32)
    data[3, 7], data[5, 5] = 400, -300
    return data


def test_percentile_leaves_outliers_out() -> None:
    graph, data = dense_net(uniform(3, 50), [0, 0, 0]), outliers()
    scales = {m: quant_of(quantize(graph, data, method=m), "x").scale for m in ("minmax", "percentile")}
    assert scales["minmax"] == pytest.approx(700 / 255, rel=1e-3)
    assert scales["percentile"] < scales["minmax"] / 10


def test_percentile_of_a_known_histogram() -> None:
    counts = np.zeros(100, int)
    counts[[0, 50, 99]] = [1, 9998, 1]
    assert percentile_range(counts, (0.0, 100.0), 99.99) == (50.0, 51.0)
    assert percentile_range(counts, (0.0, 100.0), 100.0) == (0.0, 100.0)
    assert percentile_range(np.zeros(4, int), (-1.0, 2.0), 99.0) == (-1.0, 2.0)


def test_mse_clips_where_the_many_gain_more_than_the_few_lose() -> None:
    edges = np.linspace(-1, 20, 4097)
    counts = np.where(edges[1:] <= 1, 2500, 0)
    assert mse_range(counts, (-1.0, 20.0))[1] < 1.4
    counts[-1] = 1
    assert 3 < mse_range(counts, (-1.0, 20.0))[1] < 19
    counts[-1] = 1000
    assert mse_range(counts, (-1.0, 20.0)) == pytest.approx((-1.0, 20.0), rel=0.05)


def test_mse_is_no_worse_than_min_max() -> None:
    for data in (
        RNG.normal(0, 1, 20000),
        RNG.laplace(0, 1, 20000),
        RNG.uniform(0, 1, 20000),
        RNG.exponential(1, 20000),
    ):
        span = (float(data.min()), float(data.max()))
        clipped = mse_range(np.histogram(data, 4096, span)[0], span)

        def squared(limits: tuple[float, float], data: np.ndarray = data) -> float:
            tensor = Tensor("t", data.shape, "int8", asymmetric_quant(*limits))
            return float(np.square(dequantize_array(quantize_array(data, tensor), tensor) - data).mean())

        assert squared(clipped) <= squared(span) * 1.02


def test_an_error_free_layer_has_json() -> None:
    graph = build_graph("n", [Node("r", "relu", UnaryAttrs(), ("x",), ("y",))], [x_of(1, 2)], ["x"], ["y"])
    data = np.array([[[-255, 255]], [[0, 255]]], np.float32)
    errors = layer_errors(graph, quantize(graph, data), np.array([[[-255, 254]]], np.float32))
    assert json.loads(json.dumps([e.to_json() for e in errors], allow_nan=False))[0]["name"] == "r"
    assert len(error_table(errors).rows) == 1


# What cannot calibrate

GOOD = uniform(4, 6, 6, 2)


def spoiled(value: float) -> np.ndarray:
    data = GOOD.copy()
    data[1, 2, 3, 1] = value
    return data


BAD_DATA: dict[str, tuple[Any, str]] = {
    "nan": (spoiled(np.nan), "x has 1 NaN or infinite values of"),
    "infinite": (spoiled(-np.inf), "x has 1 NaN"),
    "huge": (spoiled(3e38).astype(np.float64) * 10, "x has"),
    "empty": (GOOD[:0], "empty"),
    "no samples": ([], "empty"),
    "shape": (uniform(4, 6, 5, 2), r"\(4, 6, 5, 2\).*\(1, 6, 6, 2\)"),
    "rank": (uniform(4, 72), r"\(4, 72\)"),
    "scalar": (np.float32(3), r"\(\)"),
    "dtype": (np.zeros((4, 6, 6, 2), np.uint8), "uint8.*float32"),
    "text": (np.full((4, 6, 6, 2), "a"), "<U1"),
    "zeros": (np.zeros((4, 6, 6, 2), np.float32), "x is 0 everywhere"),
    "constant": (np.full((1, 6, 6, 2), 0.5, np.float32), "x is 0.5 everywhere"),
    "one sample again": (np.repeat(GOOD[:1], 5, axis=0), "the same in all 5 samples"),
    "two arrays": ([(GOOD[:1], GOOD[:1])], "2 arrays.*1 input"),
    "another name": ({"z": GOOD}, "z.*x"),
    "ragged": ([(GOOD[:1],), (uniform(1, 6, 6, 3),)], r"\(1, 6, 6, 3\)"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_one_sentence(name: str) -> None:
    data, words = BAD_DATA[name]
    with np.errstate(over="ignore"), pytest.raises(DataError, match=words) as raised:
        quantize(conv_net(), data)
    assert "\n" not in str(raised.value)


def test_data_in_every_form() -> None:
    graph = conv_net()
    forms: list[Any] = [
        GOOD,
        GOOD[:, None],
        {"x": GOOD},
        [(x[None],) for x in GOOD],
        list(GOOD),
        GOOD.astype(np.float64),
    ]
    quants = {quant_of(quantize(graph, form), "h") for form in forms}
    assert len(quants) == 1


def test_two_inputs() -> None:
    nodes = [Node("s", "add", BinaryAttrs(), ("a", "b"), ("y",))]
    graph = build_graph("net", nodes, [x_of(2, 3, name="a"), x_of(2, 3, name="b")], ["a", "b"], ["y"])
    check(quantize(graph, {"a": uniform(8, 3), "b": uniform(8, 3)}))  # four batches of two
    with pytest.raises(DataError, match="a: 4, b: 3"):
        quantize(graph, {"a": uniform(8, 3), "b": uniform(6, 3)})
    with pytest.raises(DataError, match="2: give arrays by input name"):
        quantize(graph, uniform(8, 3))


@pytest.mark.parametrize("value", [3e38, -3e38])
def test_a_tensor_that_overflows_is_named(value: float) -> None:
    nodes = [Node("m", "mul", BinaryAttrs(), ("x", "k"), ("h",)), Node("a", "add", BinaryAttrs(), ("h", "h"), ("y",))]
    graph = build_graph("net", nodes, [x_of(1, 3), const("k", [value])], ["x"], ["y"])
    with pytest.raises(DataError, match=r"tensor [hy] reaches"):
        quantize(graph, uniform(9, 3, low=5, high=9))


@pytest.mark.parametrize(
    ("options", "error"),
    [({"method": "best"}, UsageError), ({"percentile": 40}, UsageError), ({"io_dtype": "uint8"}, UsageError)],
)
def test_bad_options(options: dict[str, Any], error: type[MinikinError]) -> None:
    with pytest.raises(error, match=str(next(iter(options.values())))):
        quantize(conv_net(), GOOD, **options)


def test_a_quantized_graph_is_refused() -> None:
    with pytest.raises(ModelError, match="int8 already"):
        quantize(quantize(conv_net(), GOOD), GOOD)


def test_it_needs_no_torch() -> None:
    code = "import sys, minikin.compress.quantize, minikin.passes, minikin.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_input_takes_the_quantization_that_its_data_come_in() -> None:
    quant = Quant((0.5,), (83,))
    graph, samples = conv_net(), uniform(4, *conv_net().input_tensors[0].shape[1:])
    given = quantize(graph, samples, input_quant=quant)
    found = quantize(graph, samples)
    assert given.input_tensors[0].quant == quant != found.input_tensors[0].quant
    assert given.tensors["h"].quant == found.tensors["h"].quant


def test_a_given_input_quantization_holds_for_what_shares_it() -> None:
    quant = Quant((0.5,), (83,))
    pad = Node("pad", "pad", PadAttrs(((0, 0), (1, 1))), ("x",), ("p",))
    join = Node("join", "concat", ConcatAttrs(1), ("p", "z"), ("y",))
    graph = build_graph("g", [pad, join], [x_of(1, 4), x_of(1, 3, name="z")], ["x", "z"], ["y"])
    given = quantize(graph, [(uniform(1, 4), uniform(1, 3))], input_quant=quant)
    assert {name: t.quant for name, t in given.tensors.items()} == dict.fromkeys("xpzy", quant)
