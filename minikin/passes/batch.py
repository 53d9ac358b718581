"""with_batch: the same network for several samples at once, to evaluate it faster."""

from __future__ import annotations

from minikin.errors import UnsupportedError
from minikin.graph import Graph, View
from minikin.ops import get_op


def with_batch(graph: Graph, batches: int) -> Graph:
    """The graph for `batches` times as many samples: every activation's first axis grows by that factor.

        x [1, 28, 28, 1] -> conv -> y [1, 26, 26, 8]      =>      x [64, 28, 28, 1] -> conv -> y [64, 26, 26, 8]

    Each sample's outputs are what they were. Raises UnsupportedError where a node mixes samples, or keeps a state.
    """
    if graph.states or graph.subgraphs:
        raise UnsupportedError(f"{graph.name} has states or subgraphs: run it sample by sample")
    tensors = dict(graph.tensors)
    for name in graph.inputs:
        tensors[name] = tensors[name].replace(shape=_times(tensors[name].shape, batches))
    nodes = []
    for view in graph.views():
        op = get_op(view.node.op)
        node = view.node.replace(attrs=op.batched(view, batches))
        inputs = tuple(tensors[name] if name else None for name in node.inputs)
        shapes = op.infer(View(node, inputs, (), graph.rounding))
        for old, shape in zip(view.outputs, shapes, strict=True):
            if shape != _times(old.shape, batches):
                raise UnsupportedError(
                    f"{node.name} ({node.op}) makes {old.shape} of one sample and {shape} of {batches}: it mixes samples"
                )
            tensors[old.name] = old.replace(shape=shape)
        nodes.append(node)
    return graph.replace(nodes=tuple(nodes), tensors=tensors)


def _times(shape: tuple[int, ...], batches: int) -> tuple[int, ...]:
    return (batches * shape[0], *shape[1:]) if shape else shape
