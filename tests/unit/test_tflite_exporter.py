"""write_tflite: the same network when read again, the same bytes when written again, and the runtimes run it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tflite
from networks import ARCHITECTURES, Net, case_graph, hybrid_case, hybrid_cases, int8, int8_case, quantized_cases
from oracles import litert, random_inputs, tflm

from minikin.errors import UnsupportedError, UsageError
from minikin.exporters.c_array import write_c_array
from minikin.exporters.tflite import write_tflite
from minikin.graph import Graph, Node, Quant, State, Tensor
from minikin.importers.tflite import load_tflite
from minikin.interp import run
from minikin.ops.conv import Conv2dAttrs
from minikin.ops.norm import BatchNormAttrs
from minikin.ops.opdef import OPS, Case, OpDef, build_graph
from minikin.ops.pool import PoolAttrs

REWRITTEN = {
    "reshape_unknown": "a size of -1 becomes the size that it stands for",
    "pad_value": "a fill becomes the value of its int8 code",
}
FLOAT = [
    pytest.param(op, case, id=f"{op.name}-{case.name}")
    for op in OPS.values()
    for case in op.cases
    if "float32" in case.dtypes and op.name != "batch_norm"  # of which TFLite has none
]
HYBRID = [
    pytest.param(op, case, each, id=f"{op.name}-{case.name}-{'channel' if each else 'tensor'}")
    for op, case, each in hybrid_cases()
]
QUANTIZED = [
    pytest.param(op, case, dtype, id=f"{op.name}-{case.name}-{dtype}") for op, case, dtype in quantized_cases()
]


def is_rewritten(graph: Graph) -> bool:
    """Also paddings that are neither SAME nor VALID, which become a PAD; absent biases, which become zeros; and one
    scale of weights beside float32, which becomes one per channel where LiteRT reads so many.
    """
    if any(node.name in REWRITTEN for node in graph.nodes):
        return True
    operators = tflite.Model.GetRootAs(write_tflite(graph)).Subgraphs(0).OperatorsLength()
    biased = all(view.input(2) for view in graph.views() if view.node.op in ("conv2d", "depthwise_conv2d"))
    one_scale = any(t.dtype == "int8" and t.quant.axis is None for t in graph.constants() if t.quant)
    per_channel = one_scale and graph.input_tensors[0].dtype == "float32" and graph.nodes[0].op != "dense"
    return operators != len(graph.nodes) or not biased or per_channel


def without_node_names(graph: Graph) -> Graph:
    """What the format holds: it has no place for the names of nodes."""
    nodes = tuple(node.replace(name=f"node{i}") for i, node in enumerate(graph.nodes))
    return graph.replace(name="", nodes=nodes, tensors={n: without_axis(t) for n, t in graph.tensors.items()})


def without_axis(tensor: Tensor) -> Tensor:
    """One scale is per tensor, also where there is but one channel."""
    if tensor.quant is None or len(tensor.quant.scales) > 1:
        return tensor
    return tensor.replace(quant=replace(tensor.quant, axis=None))


def read_again(graph: Graph) -> Graph:
    model = write_tflite(graph)
    assert model == write_tflite(graph)
    again = load_tflite(model, graph.name)
    assert write_tflite(again) == write_tflite(load_tflite(write_tflite(again), graph.name))
    return again


def assert_same_network(graph: Graph, again: Graph) -> None:
    """The same graph, or, where the file says it in another way (see REWRITTEN), the same outputs."""
    if not is_rewritten(graph):
        assert without_node_names(again) == without_node_names(graph)
        for name, tensor in graph.tensors.items():
            np.testing.assert_array_equal(again.tensors[name].data, tensor.data)
    inputs = random_inputs(graph.input_tensors, 3)
    outputs, outputs_again = run(graph, inputs), run(again, inputs)
    for name in graph.outputs:
        np.testing.assert_array_equal(outputs[name], outputs_again[name])


@pytest.mark.parametrize(("op", "case"), FLOAT)
def test_float_ops_survive(op: OpDef, case: Case) -> None:
    graph = case_graph(op, case)
    assert_same_network(graph, read_again(graph))


@pytest.mark.parametrize(("op", "case", "dtype"), QUANTIZED)
def test_quantized_ops_survive(op: OpDef, case: Case, dtype: str) -> None:
    graph = int8_case(op, case, dtype)
    assert_same_network(graph, read_again(graph))


@pytest.mark.parametrize(("op", "case", "per_channel"), HYBRID)
def test_hybrid_ops_survive(op: OpDef, case: Case, per_channel: bool) -> None:
    graph = hybrid_case(op, case, per_channel)
    assert_same_network(graph, read_again(graph))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_networks_survive(name: str) -> None:
    for graph in (ARCHITECTURES[name](), int8(ARCHITECTURES[name]())):
        assert_same_network(graph, read_again(graph))


def padded_network() -> Graph:
    """Paddings as torch writes them: one on each side of a stride of two, and a padded maximum."""
    net = Net("padded", (1, 8, 9, 2), 5)
    attrs = Conv2dAttrs(stride=(2, 2), padding=(1, 1, 1, 1), activation="relu")
    net.add("conv2d", attrs, net.weight((4, 3, 3, 2), 18), net.bias(4))
    net.add("max_pool2d", PoolAttrs(kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1)))
    net.add("conv2d", Conv2dAttrs(padding=(2, 0, 0, 2)), net.weight((3, 2, 2, 4), 16))
    return net.graph()


def test_explicit_padding_becomes_pad_and_runs_alike() -> None:
    graph = int8(padded_network())
    model = write_tflite(graph)
    ops = [node.op for node in load_tflite(model, "padded").nodes]
    assert ops == ["pad", "conv2d", "pad", "max_pool2d", "pad", "conv2d"]
    for seed in range(5):
        inputs = random_inputs(graph.input_tensors, seed)
        (output,) = run(graph, inputs).values()
        np.testing.assert_array_equal(output, tflm(model, inputs)[0])
        np.testing.assert_array_equal(output, litert(model, inputs)[0])


def test_padded_maximum_of_negative_floats() -> None:
    x = Tensor("x", (1, 4, 4, 2), "float32")
    pool = PoolAttrs(kernel=(2, 2), stride=(1, 1), padding=(1, 1, 1, 1))
    graph = one_node("max_pool2d", pool, [x], "x")
    inputs = [-np.abs(x) - 5 for x in random_inputs(graph.input_tensors, 1)]
    output = run(graph, inputs)["y"]
    assert output.max() < -5
    np.testing.assert_array_equal(output, litert(write_tflite(graph), inputs)[0])


def test_the_generated_schema_reads_what_is_written() -> None:
    graph = int8(padded_network())
    model = tflite.Model.GetRootAs(write_tflite(graph))
    subgraph = model.Subgraphs(0)
    conv, tensor = subgraph.Operators(1), subgraph.Tensors(subgraph.Inputs(0))
    options = tflite.Conv2DOptions()
    options.Init(conv.BuiltinOptions().Bytes, conv.BuiltinOptions().Pos)
    assert model.Version() == 3
    assert model.OperatorCodes(conv.OpcodeIndex()).BuiltinCode() == tflite.BuiltinOperator.CONV_2D
    assert (options.Padding(), options.StrideH(), options.StrideW()) == (tflite.Padding.VALID, 2, 2)
    assert tensor.ShapeAsNumpy().tolist() == [1, 8, 9, 2]
    assert tensor.Quantization().ZeroPoint(0) == graph.input_tensors[0].quant.zero_point
    assert model.Buffers(0).DataLength() == 0


def test_data_is_aligned_in_the_file() -> None:
    model = write_tflite(ARCHITECTURES["kws"]())
    root = tflite.Model.GetRootAs(model)
    for i in range(1, root.BuffersLength()):
        buffer = root.Buffers(i)
        start = buffer._tab.Vector(buffer._tab.Offset(4))
        assert start % 16 == 0


def one_node(op: str, attrs: object, tensors: list[Tensor], *inputs: str) -> Graph:
    return build_graph("one", [Node("n", op, attrs, inputs, ("y",))], tensors, ["x"], ["y"])


def test_refusals_are_one_sentence() -> None:
    x = Tensor("x", (1, 4, 4, 2), "float32")
    pool = one_node("avg_pool2d", PoolAttrs(kernel=(2, 2), stride=(1, 1), padding=(1, 1, 1, 1)), [x], "x")
    with pytest.raises(
        UnsupportedError, match=r"n: average pooling with padding \(1, 1, 1, 1\), neither SAME nor VALID"
    ):
        write_tflite(pool)
    constants = [Tensor(n, (2,), "float32", None, np.ones(2, np.float32)) for n in ("g", "b", "m", "v")]
    norm = one_node("batch_norm", BatchNormAttrs(epsilon=1e-3), [x, *constants], "x", "g", "b", "m", "v")
    with pytest.raises(UnsupportedError, match="n: op batch_norm has no TFLite form"):
        write_tflite(norm)
    state = State("x", "y", np.zeros(1, np.int8))
    with pytest.raises(UnsupportedError, match="one has states or subgraphs"):
        write_tflite(pool.replace(states=(state,)))


@pytest.mark.parametrize(
    ("op", "attrs", "constants"),
    [
        ("avg_pool2d", PoolAttrs((2, 2), unsigned=True), []),
        ("conv2d", Conv2dAttrs(unsigned=True), [Tensor("w", (1, 1, 1, 2), "float32", data=np.ones((1, 1, 1, 2), "f"))]),
    ],
)
def test_what_rounds_as_uint8_is_refused(op: str, attrs: object, constants: list[Tensor]) -> None:
    graph = one_node(op, attrs, [Tensor("x", (1, 4, 4, 2), "float32"), *constants], "x", *(t.name for t in constants))
    with pytest.raises(UnsupportedError, match=rf"^n \({op}\) rounds as in the uint8 model that it was read from"):
        write_tflite(graph)


def test_weights_with_a_zero_point_are_refused_in_convolutions() -> None:
    graph = int8(padded_network())
    weights = graph.tensors[graph.nodes[0].inputs[1]]
    assert weights.quant is not None
    quant = Quant(weights.quant.scales, (3,) * len(weights.quant.scales), weights.quant.axis)
    with pytest.raises(UnsupportedError, match="have zero point 3, but int8 convolution in TFLite takes 0 only"):
        write_tflite(graph.replace(tensors={**graph.tensors, weights.name: weights.replace(quant=quant)}))


def test_c_array_holds_the_bytes() -> None:
    data = bytes(range(256)) * 2 + b"\x01"
    text = write_c_array(data, "digits")
    assert "digits[513] = {" in text
    assert "digits_len = 513;" in text
    assert "aligned(16)" in text
    body = text[text.index("= {") : text.index("};")]
    assert bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})", body)) == data
    assert text == write_c_array(data, "digits")


@pytest.mark.parametrize("name", ["", "3d", "a-b", "int", "a b", "ä"])
def test_c_array_wants_an_identifier(name: str) -> None:
    with pytest.raises(UsageError, match="is not a C identifier"):
        write_c_array(b"x", name)


def test_c_array_wants_bytes() -> None:
    with pytest.raises(UsageError, match="no bytes"):
        write_c_array(b"", "x")


def test_c_array_compiles(tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("clang") or shutil.which("cc")
    if compiler is None:
        pytest.skip("a C compiler is not installed")
    (tmp_path / "m.h").write_text(write_c_array(b"TFL3", "m"))
    source = '#include "m.h"\nint main(void) { return ((unsigned long)m % 16u) + m[3] - 51u + m_len - 4u; }\n'
    (tmp_path / "main.c").write_text(source)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([compiler, *flags, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], check=False).returncode == 0


def int4_case(op: OpDef, case: Case) -> Graph:
    """The int8 graph of a case whose weights have codes of four bits, stored so."""
    graph = int8_case(op, case)
    w = graph.tensors[graph.nodes[0].inputs[1]]
    assert w.data is not None
    codes = np.clip(np.round(w.data / 16), -8, 7).astype(np.int8)
    return graph.replace(tensors=dict(graph.tensors) | {w.name: w.replace(data=codes, storage="int4")})


@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d", "dense"])
def test_int4_weights(name: str) -> None:
    """Two in a byte in the file, the same codes when read again, and both runtimes give our bytes.

    TFLite Micro takes INT4 weights of FULLY_CONNECTED with one scale only; these have one per channel.
    """
    for case in OPS[name].cases:
        graph = int4_case(OPS[name], case)
        again = load_tflite(data := write_tflite(graph), "again")
        (w,) = (t for t in again.constants() if t.storage == "int4")
        np.testing.assert_array_equal(w.data, graph.tensors[graph.nodes[0].inputs[1]].data)
        sample = random_inputs(graph.input_tensors, 0)
        expected = run(graph.replace(rounding="litert"), sample)[graph.outputs[0]]
        np.testing.assert_array_equal(litert(data, sample)[0], expected)
        if name != "dense":
            np.testing.assert_array_equal(tflm(data, sample)[0], run(again, sample)[again.outputs[0]])


def test_int4_codes_that_grew_are_int8() -> None:
    graph = int4_case(OPS["dense"], OPS["dense"].cases[0])
    w = graph.tensors[graph.nodes[0].inputs[1]]
    wide = graph.replace(tensors=dict(graph.tensors) | {w.name: w.replace(data=np.full(w.shape, 8, np.int8))})
    assert not [t for t in load_tflite(write_tflite(wide), "wide").constants() if t.storage == "int4"]
