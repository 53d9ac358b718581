"""How many samples a graph gets right, or how far off it is; floats by eval_float, integers by eval_int, many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from minikin.compress.quantize import dequantize_array, quantize_array
from minikin.errors import DataError, UnsupportedError
from minikin.graph import Graph
from minikin.interp import run
from minikin.ops import get_op
from minikin.passes.batch import with_batch
from minikin.passes.edit import producers

BATCH_ELEMS = 1 << 22
"""Elements of all activations that a batch may have: memory stays small, and numpy's calls are long enough."""

Progress = Callable[[str, int, int], None]


def outputs_of(graph: Graph, x: np.ndarray, progress: Progress | None = None) -> np.ndarray:
    """The first output, as real numbers, of samples x [count, ...] float32 for a graph with one input.

    Where the graph's input is int8, samples are quantized as the application would; what comes out is scaled back.
    """
    if len(graph.inputs) != 1:
        raise UnsupportedError(f"{graph.name} has {len(graph.inputs)} inputs: only networks with one are evaluated")
    tensor = graph.input_tensors[0]
    size = tensor.size // tensor.shape[0] if tensor.shape else 1
    if x.ndim == 0 or not len(x) or x[0].size != size:
        raise DataError(f"samples are {x.shape[1:]}, and {graph.name} takes {tensor.shape[1:]}: reshape them")
    made = []
    for graph_of, part in _batches(graph, x.reshape(-1, *tensor.shape)):
        entry, exit_ = graph_of.input_tensors[0], graph_of.output_tensors[0]
        codes = quantize_array(part, entry) if entry.quant else part.astype(np.float32)
        y = run(graph_of, codes.reshape(entry.shape))[exit_.name]
        made.append((dequantize_array(y, exit_) if exit_.quant else y).reshape(len(part), -1))
        if progress:
            progress(f"evaluate {graph.name}", sum(map(len, made)), len(x))
    return np.concatenate(made)


def top_k(
    graph: Graph, x: np.ndarray, y: np.ndarray, k: Sequence[int] = (1, 5), progress: Progress | None = None
) -> tuple[float, ...]:
    """For each of `k`, the fraction of samples whose label y [count] is among that many greatest outputs.

    Of equal outputs the first counts, as argmax has it. One output alone means class 1 above 0.5 where it is a
    probability, and above 0 where it is a score.
    """
    outputs = outputs_of(graph, x, progress)
    if outputs.shape[1] == 1:
        last = producers(graph)[graph.outputs[0]]
        chosen = outputs[:, 0] > (0.5 if get_op(last.op).link else 0.0)
        return (float(np.mean(chosen == (y.reshape(-1) > 0.5))),) * len(k)
    order = np.argsort(-outputs, axis=1, kind="stable")
    return tuple(float(np.mean((order[:, :n] == y.reshape(-1, 1)).any(axis=1))) for n in k)


def rmse(graph: Graph, x: np.ndarray, targets: np.ndarray) -> float:
    """Root of the mean squared difference between outputs and targets [count, ...], in the targets' unit."""
    error = outputs_of(graph, x) - targets.reshape(len(x), -1)
    return float(np.sqrt(np.mean(np.square(error, dtype=np.float64))))


def _batches(graph: Graph, x: np.ndarray) -> Iterator[tuple[Graph, np.ndarray]]:
    elements = sum(t.size for t in graph.tensors.values() if not t.is_constant)
    step = min(len(x), max(1, BATCH_ELEMS // max(1, elements)))
    whole = with_batch(graph, step)
    for lo in range(0, len(x), step):
        part = x[lo : lo + step]
        yield (whole if len(part) == step else with_batch(graph, len(part))), part
