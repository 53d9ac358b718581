"""Two layers as one where one kernel is faster."""

from __future__ import annotations

import math

from minikin.graph import Graph, View
from minikin.ops.opdef import get_op
from minikin.ops.separable import join
from minikin.passes.edit import absorb, reader_counts
from minikin.plan.kernels import Aim


def join_layers(graph: Graph, isa: str, aim: Aim) -> Graph:
    """In builds for speed, what is predicted to take fewer instructions: it takes more scratch memory.

    Without fitted costs nothing is joined.
    """
    if aim.fast and aim.costs and aim.storage is None:
        for first, second, both in joinable(graph):
            if _fewest(both, isa, aim) < _fewest(first, isa, aim) + _fewest(second, isa, aim) < math.inf:
                graph = joined(graph, first, second, both)
    return graph


def joinable(graph: Graph) -> list[tuple[View, View, View]]:
    """Pairs of layers, of which nothing else reads the first, with the layer that is both. No layer is in two pairs."""
    found, readers = [], reader_counts(graph)
    views = {view.x.name: view for view in graph.views() if view.inputs}
    for first in graph.views():
        second = views.get(first.y.name)
        node = join(first, second) if second and readers[first.y.name] == 1 else None
        if node and second:
            inputs = tuple(graph.tensors[name] if name else None for name in node.inputs)
            found.append((first, second, View(node, inputs, second.outputs, graph.rounding)))
    return found


def joined(graph: Graph, first: View, second: View, both: View) -> Graph:
    return absorb(graph, first.node, second.node, both.node)


def _fewest(view: View, isa: str, aim: Aim) -> float:
    """Predicted instructions of the best kernel whose costs are known."""
    assert aim.costs
    counts = [
        aim.costs.layer(kernel, view, aim.rows(kernel, view, whole=True))
        for kernel in get_op(view.node.op).choices(view, isa, fast=aim.fast)
    ]
    return min((count for count in counts if count is not None), default=math.inf)
