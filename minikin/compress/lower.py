"""Graph -> torch module and back, so that every technique works on every float graph, wherever it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from minikin.errors import ModelError, UnsupportedError
from minikin.graph import Graph, Tensor
from minikin.importers import identifier
from minikin.ops import get_op
from minikin.passes import optimize
from minikin.passes.batch import with_batch
from minikin.passes.edit import producers


class Layer(nn.Module):
    """The parameters of one node: `weight`, `bias`; further weights are `weight2`, `weight3`."""

    weight: torch.Tensor
    bias: torch.Tensor | None


class GraphModule(nn.Module):
    """A float32 graph as a torch module that trains: what `train.fit` takes.

    Weights and biases are Parameters of `layers[NODE]`; constants among activations stay as they are. Inputs are as the
    zoo's networks take them, [N, C, H, W] where the graph has [1, H, W, C], and else of the graph's own order. A last
    node that makes probabilities (OpDef.link) is left out: the losses take scores. `quantize_activations` puts a module
    behind activations: fake quantization.
    Raises ModelError for a quantized graph, UnsupportedError where a node mixes the samples of a batch.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        for tensor in graph.tensors.values():
            if tensor.quant is not None:
                raise ModelError(f"{tensor.name} is {tensor.dtype} already: training takes a float32 model")
        graph = optimize(graph)
        with_batch(graph, 2)  # which refuses a graph that mixes samples
        self.graph = graph
        self.layers = nn.ModuleDict()
        self.homes: dict[str, tuple[str, str]] = {}
        """Tensor of the graph -> (layer, attribute)."""
        self.quants = nn.ModuleList()
        self._quant_of: dict[str, nn.Module] = {}
        self._functions = [get_op(view.node.op).to_torch(view) for view in graph.views()]
        for view in graph.views():
            op, layer = get_op(view.node.op), Layer()
            names = {index: "weight" if n == 0 else f"weight{n + 1}" for n, index in enumerate(op.weights)}
            for index, attribute in (names | ({op.bias: "bias"} if op.bias is not None else {})).items():
                tensor = view.input(index)
                if tensor is not None and tensor.data is not None and tensor.name not in self.homes:
                    layer.register_parameter(attribute, nn.Parameter(torch.from_numpy(tensor.data.copy())))
                    self.homes[tensor.name] = (self._key(view.node.name), attribute)
            if list(layer.parameters()):
                self.layers[self._key(view.node.name)] = layer
        self._constants: dict[str, torch.Tensor] = {}
        for number, tensor in enumerate(t for t in graph.constants() if t.name not in self.homes):
            self.register_buffer(f"constant{number}", torch.from_numpy(np.array(tensor.data)), persistent=False)
            self._constants[tensor.name] = getattr(self, f"constant{number}")
        self.scores, skipped = _scores(graph)
        self._steps = [
            (node, function)
            for node, function in zip(graph.nodes, self._functions, strict=True)
            if node.name not in skipped
        ]

    @staticmethod
    def _key(node: str) -> str:
        return identifier(node)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        values: dict[str, torch.Tensor] = {}
        for name, x in zip(self.graph.inputs, inputs, strict=True):
            values[name] = self._seen(name, _as_graph_has(x, self.graph.tensors[name]))
        for node, function in self._steps:
            y = function(*(self._value(name, values) for name in node.inputs))
            results = y if isinstance(y, tuple) else (y,)
            for name, result in zip(node.outputs, results, strict=True):
                values[name] = self._seen(name, result)
        found = tuple(values[name] for name in self.scores)
        return found[0] if len(found) == 1 else found

    def quantize_activations(self, modules: Mapping[str, nn.Module]) -> None:
        """Put a module behind each of these activations; one that several share has its parameters once."""
        self.quants = nn.ModuleList(dict.fromkeys(modules.values()))
        aliases = {name for node in self.graph.nodes if get_op(node.op).alias for name in node.outputs}
        self._quant_of = {name: module for name, module in modules.items() if name not in aliases}

    def weight_of(self, tensor: str) -> torch.Tensor:
        """The present value of a parameter, as its parametrization makes it."""
        layer, attribute = self.homes[tensor]
        return getattr(self.layers[layer], attribute)

    def to_graph(self) -> Graph:
        """The graph with the parameters' present values."""
        tensors = dict(self.graph.tensors)
        with torch.no_grad():
            for name in self.homes:
                data = self.weight_of(name).detach().cpu().numpy().astype(np.float32)
                tensors[name] = tensors[name].replace(data=np.array(data))
        return self.graph.replace(tensors=tensors)

    def _seen(self, name: str, value: torch.Tensor) -> torch.Tensor:
        return self._quant_of[name](value) if name in self._quant_of else value

    def _value(self, name: str, values: Mapping[str, torch.Tensor]) -> Any:
        if not name:
            return None
        if name in values:
            return values[name]
        if name in self.homes:
            return self.weight_of(name)
        return self._seen(name, self._constants[name])


def _scores(graph: Graph) -> tuple[tuple[str, ...], set[str]]:
    """(what the loss takes for each output, nodes that are left out)."""
    made, readers, names, skipped = producers(graph), set(), [], set()
    for node in graph.nodes:
        readers.update(node.inputs)
    for name in graph.outputs:
        node = made[name]
        if get_op(node.op).link and name not in readers:
            skipped.add(node.name)
            name = node.inputs[0]
        names.append(name)
    return tuple(names), skipped


def _as_graph_has(x: torch.Tensor, tensor: Tensor) -> torch.Tensor:
    """[N, C, H, W] -> [N, H, W, C]; samples of another rank by their elements in order."""
    if x.ndim == len(tensor.shape) == 4:
        return x.permute(0, 2, 3, 1)
    return x.reshape(-1, *tensor.shape[1:])


def parameter_nodes(graph: Graph) -> dict[str, Sequence[tuple[str, int | None]]]:
    """Node -> its constant weights as (tensor, channel axis); biases are not among them."""
    found: dict[str, Sequence[tuple[str, int | None]]] = {}
    seen: set[str] = set()
    for view in graph.views():
        weights = []
        for index, axis in get_op(view.node.op).weights.items():
            tensor = view.input(index)
            if tensor is None or tensor.name in seen:
                continue
            if tensor.data is None:
                raise UnsupportedError(f"{view.node.name} ({view.node.op}) has weights {tensor.name} that are computed")
            seen.add(tensor.name)
            weights.append((tensor.name, axis))
        if weights:
            found[view.node.name] = weights
    return found
