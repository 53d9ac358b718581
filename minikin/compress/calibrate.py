"""Calibration: which range of real values each activation takes on sample data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from minikin.errors import DataError
from minikin.graph import Graph, Tensor
from minikin.interp import run
from minikin.ops import get_op

Range = tuple[float, float]
Sample = tuple[np.ndarray, ...]
METHODS = ("minmax", "percentile", "mse", "entropy")
BINS = 4096
STEPS = 255  # between the 256 codes
LEAST_PROBABILITY = 1e-12  # of a value that the clipped codes never give
SHRINKS = tuple(map(float, np.linspace(1.0, 0.02, 99)))  # clipped ranges that "mse" tries, as parts of the whole one


def samples_of(graph: Graph, data: Any) -> list[Sample]:
    """Calibration data as a list of samples, each one float32 array per graph input, of the input's own shape.

    Takes one array (a graph with one input), a mapping by input name, or a sequence of tuples. The first axis of an
    array runs over samples, with or without the batch axis after it. Raises DataError, naming both shapes.
    """
    if isinstance(data, Mapping):
        missing = [name for name in graph.inputs if name not in data]
        if missing:
            raise DataError(f"calibration data has {', '.join(data) or 'nothing'}, the graph wants input {missing[0]}")
        columns = [_split(graph.tensors[name], data[name]) for name in graph.inputs]
    elif not isinstance(data, Sequence):
        if len(graph.inputs) != 1:
            raise DataError(
                f"one array calibrates one input, the graph has {len(graph.inputs)}: give arrays by input name"
            )
        columns = [_split(graph.tensors[graph.inputs[0]], data)]
    else:
        columns = _columns(graph, data)
    if len({len(column) for column in columns}) > 1:
        counts = ", ".join(f"{n}: {len(c)}" for n, c in zip(graph.inputs, columns, strict=True))
        raise DataError(f"calibration data has different numbers of samples ({counts}): give as many of each")
    samples = list(zip(*columns, strict=True))
    if not samples:
        raise DataError("calibration data is empty: give at least one sample, a hundred are usual")
    return samples


def calibrate(graph: Graph, samples: Sequence[Sample], method: str, percentile: float) -> dict[str, Range]:
    """Range of every float32 tensor that is computed, fed, or a constant among activations."""
    _require_spread(graph, samples)
    ranges: dict[str, Range] = {}
    for sample in samples:
        for name, x in _activations(graph, sample):
            lo, hi = ranges.get(name, (np.inf, -np.inf))
            # numpy's, unlike Python's, keep a NaN
            ranges[name] = (float(np.minimum(lo, x.min())), float(np.maximum(hi, x.max())))
    for name, (lo, hi) in ranges.items():
        if not np.isfinite(lo) or not np.isfinite(hi):
            raise DataError(f"tensor {name} reaches {lo:g} .. {hi:g} on the calibration data: its range must be finite")
    if method == "minmax":
        return ranges
    clips = {"percentile": lambda h, r: percentile_range(h, r, percentile), "mse": mse_range, "entropy": entropy_range}
    clip = clips[method]
    return {name: clip(counts, ranges[name]) for name, counts in _histograms(graph, samples, ranges).items()}


def percentile_range(counts: np.ndarray, span: Range, percentile: float) -> Range:
    """The range that leaves out at most (100 - percentile)% of the values on either side."""
    total = counts.sum()
    if not total:
        return span
    edges = np.linspace(*span, len(counts) + 1)
    cumulative = np.cumsum(counts)
    outside = total * (1.0 - percentile / 100.0)
    first = int(np.searchsorted(cumulative, outside, side="right"))
    last = int(np.searchsorted(cumulative, total - outside, side="left"))
    return float(edges[min(first, len(counts) - 1)]), float(edges[min(last, len(counts) - 1) + 1])


def mse_range(counts: np.ndarray, span: Range) -> Range:
    """The clipped range with the least expected squared error: rounding, scale**2 / 12, against clipping.

    Both ends shrink together first, then each alone. Exact zeros are not in `counts`: int8 holds them without error.
    """
    edges = np.linspace(*span, len(counts) + 1)
    centres = (edges[:-1] + edges[1:]) / 2

    def error(lo: float, hi: float) -> float:
        beyond = centres - np.clip(centres, lo, hi)
        inside = counts[beyond == 0].sum()
        return float(inside * ((hi - lo) / 255.0) ** 2 / 12.0 + (counts * beyond**2).sum())

    return _shrunk(min(span[0], 0.0), max(span[1], 0.0), error)


def entropy_range(counts: np.ndarray, span: Range) -> Range:
    """The clipped range whose 255 steps lose least information: least KL divergence of the values' distribution.

    Both ends shrink together first, then each alone. The clipped distribution P has all that lies outside in its outermost
    bins; Q is P's inside averaged within each step, over the bins that hold something. Source: Migacz, "8-bit inference
    with TensorRT" (2017).
    """
    lo, hi = min(span[0], 0.0), max(span[1], 0.0)
    if not counts.sum() or hi == lo:
        return span
    edges = np.linspace(*span, len(counts) + 1)
    centres = (edges[:-1] + edges[1:]) / 2

    def divergence(lo: float, hi: float) -> float:
        first, last = np.searchsorted(centres, lo), np.searchsorted(centres, hi, side="right")
        if last - first <= STEPS:
            return np.inf  # every bin is a step of its own: the histogram is too coarse to tell
        inside = counts[first:last].astype(np.float64)
        clipped = inside.copy()
        clipped[0] += counts[:first].sum()
        clipped[-1] += counts[last:].sum()
        step = np.arange(len(inside)) * STEPS // len(inside)
        filled = inside > 0
        sums, bins = np.bincount(step, inside, STEPS), np.bincount(step, filled, STEPS)
        spread = np.where(filled, (sums / np.maximum(bins, 1))[step], 0.0)
        p, q = clipped / clipped.sum(), spread / max(spread.sum(), 1.0)
        seen = p > 0
        return float((p[seen] * np.log(p[seen] / np.maximum(q[seen], LEAST_PROBABILITY))).sum())

    return _shrunk(lo, hi, divergence)


def _shrunk(lo: float, hi: float, cost: Callable[[float, float], float]) -> Range:
    """The range of least cost: both ends shrink together first, then each alone."""
    lo, hi = min(((lo * t, hi * t) for t in SHRINKS), key=lambda r: cost(*r))
    lo, hi = min(((lo, hi * t) for t in SHRINKS), key=lambda r: cost(*r))
    return min(((lo * t, hi) for t in SHRINKS), key=lambda r: cost(*r))


def _columns(graph: Graph, data: Any) -> list[list[np.ndarray]]:
    columns: list[list[np.ndarray]] = [[] for _ in graph.inputs]
    for i, sample in enumerate(data):
        arrays = (sample,) if isinstance(sample, np.ndarray) else tuple(sample)
        if len(arrays) != len(columns):
            raise DataError(f"calibration sample {i} has {len(arrays)} arrays, the graph has {len(columns)} inputs")
        for column, name, x in zip(columns, graph.inputs, arrays, strict=True):
            tensor, x = graph.tensors[name], np.asarray(x)
            if x.shape not in (tensor.shape, tensor.shape[1:]):
                raise _wrong_shape(tensor, x.shape)
            column.append(_checked(tensor, x).reshape(tensor.shape))
    return columns


def _split(tensor: Tensor, data: Any) -> list[np.ndarray]:
    x = np.asarray(data)
    batch = tensor.shape[0] if tensor.shape else 1
    if x.shape[1:] == tensor.shape[1:] and x.ndim == len(tensor.shape) and x.shape[0] % max(batch, 1) == 0:
        x = x.reshape(-1, *tensor.shape)
    if x.ndim == 0 or x.shape[1:] != tensor.shape:
        raise _wrong_shape(tensor, x.shape)
    return list(_checked(tensor, x))


def _wrong_shape(tensor: Tensor, shape: tuple[int, ...]) -> DataError:
    want = ("samples", *tensor.shape[1:])
    return DataError(
        f"calibration data for {tensor.name} has shape {shape}, the input is {tensor.shape}: "
        f"give ({', '.join(map(str, want))})"
    )


def _checked(tensor: Tensor, x: np.ndarray) -> np.ndarray:
    if x.dtype.kind not in "f":
        raise DataError(
            f"calibration data for {tensor.name} is {x.dtype}, the input is {tensor.dtype}: "
            f"convert it as the network's training data were"
        )
    x = x.astype(np.float32)
    if not np.isfinite(x).all():
        bad = int(np.count_nonzero(~np.isfinite(x)))
        raise DataError(f"calibration data for {tensor.name} has {bad} NaN or infinite values of {x.size}: remove them")
    return x


def _require_spread(graph: Graph, samples: Sequence[Sample]) -> None:
    """A constant input says nothing of the ranges inside; a tensor that is constant for other reasons is legal."""
    for i, name in enumerate(graph.inputs):
        first = samples[0][i]
        if all(np.array_equal(sample[i], first) for sample in samples) and (len(samples) > 1 or np.ptp(first) == 0):
            what = f"{first.flat[0]:g} everywhere" if np.ptp(first) == 0 else f"the same in all {len(samples)} samples"
            raise DataError(f"calibration data for {name} is {what}, so its range means nothing: give real samples")


def float_activations(graph: Graph) -> list[str]:
    """Every float32 tensor but those that nodes use as weights or biases only: what has a range."""
    names = list(graph.inputs)
    for node in graph.nodes:
        opdef = get_op(node.op)
        data = (n for i, n in enumerate(node.inputs) if n and i not in {*opdef.weights, opdef.bias})
        names += [*(n for n in data if graph.tensors[n].is_constant), *node.outputs]
    return [name for name in dict.fromkeys(names) if graph.tensors[name].dtype == "float32"]


def _activations(graph: Graph, sample: Sample) -> Iterable[tuple[str, np.ndarray]]:
    with np.errstate(over="ignore", invalid="ignore"):  # `calibrate` names the tensor
        values = run(graph, sample, keep=True)
    for name in float_activations(graph):
        data = graph.tensors[name].data
        yield name, values[name] if data is None else data


def _histograms(graph: Graph, samples: Sequence[Sample], ranges: Mapping[str, Range]) -> dict[str, np.ndarray]:
    """Counts of the values other than exact zeros, in BINS equal bins over each tensor's whole range."""
    counts = {name: np.zeros(BINS, np.int64) for name in ranges}
    for sample in samples:
        for name, x in _activations(graph, sample):
            lo, hi = ranges[name]
            if hi > lo:
                counts[name] += np.histogram(x[x != 0], BINS, (lo, hi))[0]
    return counts
