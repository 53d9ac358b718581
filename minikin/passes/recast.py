"""recast: layers as another op that gives the same bytes and has faster kernels."""

from __future__ import annotations

from minikin.graph import Graph
from minikin.ops import get_op


def recast(graph: Graph) -> Graph:
    """Depthwise layers of one input channel become convolutions, and whatever else an op knows of (OpDef.recast)."""
    nodes, tensors = [], dict(graph.tensors)
    for view in graph.views():
        node, constants = get_op(view.node.op).recast(view) or (view.node, ())
        nodes.append(node)
        tensors |= {tensor.name: tensor for tensor in constants}
    return graph.replace(nodes=tuple(nodes), tensors=tensors)
