"""Networks that the tests make: MLPerf Tiny's four architectures with seeded random weights, and one-op graphs.

A float graph is built node by node; its int8 form comes from minikin's own post-training quantization.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minikin.compress.quantize import quantize, symmetric_quant
from minikin.graph import Graph, Node, Quant, Tensor
from minikin.ops.activation import SoftmaxAttrs
from minikin.ops.conv import Conv2dAttrs, DepthwiseConv2dAttrs
from minikin.ops.dense import DenseAttrs
from minikin.ops.elementwise import BinaryAttrs
from minikin.ops.opdef import OPS, Case, OpDef, build_graph
from minikin.ops.padding import same_padding
from minikin.ops.pool import PoolAttrs
from minikin.ops.separable import parts
from minikin.ops.shape import ReshapeAttrs
from minikin.plan.joining import joinable, joined


class Net:
    """Builds a float graph from the input on; `x` is the name of the newest tensor."""

    def __init__(self, name: str, shape: tuple[int, ...], seed: int):
        self.name, self.rng = name, np.random.default_rng(seed)
        self.tensors = {"input": Tensor("input", shape, "float32")}
        self.nodes: list[Node] = []
        self.shapes = {"input": shape}
        self.x = "input"

    def add(self, op: str, attrs: Any, *others: str, x: str | None = None) -> str:
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(Node(name, op, attrs, (x or self.x, *others), (f"{name}_out",)))
        self.x = f"{name}_out"
        self.shapes = {t: v.shape for t, v in self.graph().tensors.items()}
        return self.x

    def weight(self, shape: tuple[int, ...], fan_in: int) -> str:
        """Random weights of unit gain; some channels are zero, some of other magnitudes, as in trained networks."""
        values = self.rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
        return self.constant(values)

    def constant(self, values: np.ndarray) -> str:
        name = f"const_{len(self.tensors)}"
        self.tensors[name] = Tensor(name, values.shape, values.dtype.name, data=values)
        return name

    def bias(self, count: int) -> str:
        return self.constant(self.rng.normal(0, 0.1, count).astype(np.float32))

    def conv(
        self,
        filters: int,
        kernel: tuple[int, int],
        stride: int = 1,
        activation: str = "relu",
        x: str | None = None,
        groups: int = 1,
    ) -> str:
        h, w, c = self.shapes[x or self.x][1:]
        padding = same_padding((h, w), kernel, (stride, stride))
        weight = self.weight((filters, *kernel, c // groups), kernel[0] * kernel[1] * c // groups)
        attrs = Conv2dAttrs(stride=(stride, stride), padding=padding, activation=activation)
        return self.add("conv2d", attrs, weight, self.bias(filters), x=x)

    def depthwise(self, kernel: tuple[int, int], stride: int = 1, activation: str = "relu") -> str:
        h, w, c = self.shapes[self.x][1:]
        attrs = DepthwiseConv2dAttrs(
            stride=(stride, stride), padding=same_padding((h, w), kernel, (stride, stride)), activation=activation
        )
        return self.add("depthwise_conv2d", attrs, self.weight((1, *kernel, c), kernel[0] * kernel[1]), self.bias(c))

    def global_pool(self) -> str:
        h, w, c = self.shapes[self.x][1:]
        self.add("avg_pool2d", PoolAttrs(kernel=(h, w), stride=(h, w)))
        return self.add("reshape", ReshapeAttrs((1, c)))

    def dense(self, units: int, activation: str = "none") -> str:
        features = self.shapes[self.x][-1]
        return self.add("dense", DenseAttrs(activation), self.weight((units, features), features), self.bias(units))

    def softmax(self) -> str:
        return self.add("softmax", SoftmaxAttrs())

    def graph(self) -> Graph:
        return build_graph(self.name, self.nodes, list(self.tensors.values()), ["input"], [self.x])


def kws(seed: int = 0) -> Graph:
    """DS-CNN on 49x10 features: MLPerf Tiny's keyword spotter."""
    net = Net("kws_like", (1, 49, 10, 1), seed)
    net.conv(64, (10, 4), 2)
    for _ in range(4):
        net.depthwise((3, 3))
        net.conv(64, (1, 1))
    net.global_pool()
    net.dense(12)
    net.softmax()
    return net.graph()


def vww(seed: int = 0) -> Graph:
    """MobileNetV1 0.25 on 96x96x3: MLPerf Tiny's person detector."""
    net = Net("vww_like", (1, 96, 96, 3), seed)
    net.conv(8, (3, 3), 2)
    for filters, stride in [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]:
        net.depthwise((3, 3), stride)
        net.conv(filters, (1, 1))
    net.global_pool()
    net.dense(2)
    net.softmax()
    return net.graph()


def ic(seed: int = 0) -> Graph:
    """ResNet-8 on 32x32x3: MLPerf Tiny's image classifier."""
    net = Net("ic_like", (1, 32, 32, 3), seed)
    net.conv(16, (3, 3))
    for filters, stride in [(16, 1), (32, 2), (64, 2)]:
        skip = net.x
        net.conv(filters, (3, 3), stride)
        main = net.conv(filters, (3, 3), 1, "none")
        side = net.conv(filters, (1, 1), stride, "none", x=skip) if stride > 1 else skip
        net.add("add", BinaryAttrs("relu"), main, x=side)
    net.global_pool()
    net.dense(10)
    net.softmax()
    return net.graph()


def ad(seed: int = 0) -> Graph:
    """A dense autoencoder of 640 features: MLPerf Tiny's anomaly detector."""
    net = Net("ad_like", (1, 640), seed)
    for units in [128] * 4 + [8] + [128] * 4:
        net.dense(units, "relu")
    net.dense(640)
    return net.graph()


ARCHITECTURES = {"kws": kws, "vww": vww, "ic": ic, "ad": ad}


def int8(graph: Graph, samples: int = 4, seed: int = 1) -> Graph:
    """The int8 form of a float graph, calibrated on seeded noise."""
    rng = np.random.default_rng(seed)
    shapes = [t.shape for t in graph.input_tensors]
    return quantize(graph, [tuple(rng.uniform(-1, 1, s).astype(np.float32) for s in shapes) for _ in range(samples)])


def case_graph(op: OpDef, case: Case, seed: int = 0) -> Graph:
    """The float graph of one case of an op, with seeded constants."""
    rng = np.random.default_rng(seed)
    tensors, names = [], []
    activations = iter(case.inputs)
    for index in range(len(case.inputs) + len(case.constants)):
        name = f"in{index}"
        names.append(name)
        if index not in case.constants:
            tensors.append(Tensor(name, next(activations), "float32"))
            continue
        constant = case.constants[index]
        data = constant if isinstance(constant, np.ndarray) else rng.uniform(*case.ranges, constant).astype(np.float32)
        tensors.append(Tensor(name, data.shape, data.dtype.name, data=data))
    node = Node(f"{op.name}_{case.name}", op.name, case.attrs, tuple(names), ("out",))
    return build_graph(node.name, [node], tensors, [t.name for t in tensors if not t.is_constant], ["out"])


def int8_case(op: OpDef, case: Case, dtype: str = "int8", seed: int = 0) -> Graph:
    """The quantized graph of one case: by post-training quantization, or straight from a conversion's dtypes."""
    if "->" in dtype:
        return conversion(op, case, *dtype.split("->"))
    if "+" in dtype:
        return joined_case(op, case, seed)
    graph = case_graph(op, case, seed)
    return quantize(graph, case_samples(graph, case, 8))


def joined_case(op: OpDef, case: Case, seed: int = 0) -> Graph:
    """The two layers that a case of a joined op stands for, quantized, then joined."""
    graph = case_graph(op, case, seed)
    (whole,) = graph.views()
    nodes = [view.node for view in parts(whole)]
    nodes[0] = nodes[0].replace(name=f"{whole.node.name}_first")
    constants = [t for t in graph.tensors.values() if t.is_constant or t.name in graph.inputs]
    apart = quantize(
        build_graph(graph.name, nodes, constants, graph.inputs, graph.outputs), case_samples(graph, case, 8)
    )
    ((first, second, both),) = joinable(apart)
    return joined(apart, first, second, both)


def hybrid_case(op: OpDef, case: Case, per_channel: bool, seed: int = 0) -> Graph:
    """The float graph of one case with int8 weights, quantized per channel or per tensor."""
    graph = case_graph(op, case, seed)
    tensors = dict(graph.tensors)
    for index, axis in op.weights.items():
        w = tensors[graph.nodes[0].inputs[index]]
        assert w.data is not None
        quant = symmetric_quant(w.data, axis if per_channel else None)
        shape = [len(quant.scales) if i == axis else 1 for i in range(w.data.ndim)]
        codes = np.round(w.data / np.array(quant.scales, np.float32).reshape(shape)).astype(np.int8)
        tensors[w.name] = w.replace(dtype="int8", quant=quant, data=codes)
    return graph.replace(tensors=tensors)


def conversion(op: OpDef, case: Case, source: str, target: str) -> Graph:
    """One node from a tensor of dtype `source` to one of `target`, with different scales and zero points."""
    (shape,) = case.inputs
    x = Tensor("in0", shape, source, Quant((0.0117,), (-7,)) if source == "int8" else None)
    y = Tensor("out", shape, target, Quant((0.0083,), (5,)) if target == "int8" else None)
    node = Node(f"{op.name}_{case.name}", op.name, case.attrs, ("in0",), ("out",))
    return Graph(node.name, {"in0": x, "out": y}, (node,), ("in0",), ("out",))


def case_samples(graph: Graph, case: Case, count: int, seed: int = 1) -> list[tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(seed)
    return [
        tuple(rng.uniform(*case.ranges, t.shape).astype(np.float32) for t in graph.input_tensors) for _ in range(count)
    ]


def union(name: str, graphs: list[Graph]) -> Graph:
    """Independent graphs side by side as one network: one compilation tests them all."""
    tensors: dict[str, Tensor] = {}
    nodes: list[Node] = []
    inputs: list[str] = []
    outputs: list[str] = []
    for i, graph in enumerate(graphs):
        rename = {"": ""} | {t: f"g{i}_{t}" for t in graph.tensors}
        tensors |= {rename[t]: v.replace(name=rename[t]) for t, v in graph.tensors.items()}
        nodes += [
            n.replace(
                name=f"g{i}_{n.name}",
                inputs=tuple(rename[t] for t in n.inputs),
                outputs=tuple(rename[t] for t in n.outputs),
            )
            for n in graph.nodes
        ]
        inputs += [rename[t] for t in graph.inputs]
        outputs += [rename[t] for t in graph.outputs]
    return Graph(name, tensors, tuple(nodes), tuple(inputs), tuple(outputs), rounding=graphs[0].rounding)


def quantized_cases() -> list[tuple[OpDef, Case, str]]:
    """Every op, case and dtype that computes in integers."""
    return [
        (op, case, dtype)
        for op in OPS.values()
        for case in op.cases
        for dtype in case.dtypes
        if dtype not in ("float32", "float32*int8")
    ]


def hybrid_cases() -> list[tuple[OpDef, Case, bool]]:
    """Every op and case that takes int8 weights beside float32 activations, with a scale per tensor and per channel."""
    return [
        (op, case, per_channel)
        for op in OPS.values()
        for case in op.cases
        if "float32*int8" in case.dtypes
        for per_channel in (False, True)
    ]
