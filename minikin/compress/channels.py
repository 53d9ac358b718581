"""Whole channels: which hang together, and a float graph without those that are zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from minikin.compress.quantize import Scheme, tie_activations, with_ranges
from minikin.graph import Graph
from minikin.ops import get_op
from minikin.passes.bounds import value_bounds
from minikin.passes.cut import KeptChannels, find_kept, keep_channels, tie_groups

__all__ = ["ChannelGroups", "channel_groups", "cut_zero_channels", "keep_channels"]


@dataclass(frozen=True)
class ChannelGroups:
    """Channels that can only go together, through residuals, concats and depthwise layers.

    `groups`: weight tensor -> the group of each of its output channels. `fixed`: groups that have to stay, as the network's
    inputs or outputs show them.
    """

    groups: Mapping[str, np.ndarray]
    fixed: frozenset[int]


def channel_groups(graph: Graph) -> ChannelGroups:
    """Of a float32 graph."""
    groups, pinned = tie_groups(_shadow(graph))
    found = {}
    for view in graph.views():
        for index in get_op(view.node.op).weights:
            tensor = view.input(index)
            if tensor is not None:
                found[tensor.name] = groups[view.y.name]
    return ChannelGroups(found, frozenset(pinned))


def cut_zero_channels(graph: Graph) -> tuple[Graph, KeptChannels]:
    """The float32 graph without channels that are zero whatever the input is, and without those that nothing reads.

    Real numbers do not change: what goes is an exact zero, or is multiplied by one. Also gives the indices of the channels that
    stay, by tensor, for `keep_channels`.
    """
    shadow = _shadow(graph)
    zeros = {}
    for name, (lo, hi) in value_bounds(shadow).items():
        quant = shadow.tensors[name].quant
        zero = quant.zero_point if quant is not None else 0
        if lo.dtype == np.int8:  # a constant that is not zero would have to join a bias: it stays
            known = (lo == hi) & (lo == zero)
            lo, hi = np.where(known, lo, np.int8(-128)), np.where(known, hi, np.int8(127))
        zeros[name] = (lo, hi)
    kept = {name: indices for name, indices in find_kept(shadow, zeros).items() if name in graph.tensors}
    return keep_channels(graph, kept), kept


def _shadow(graph: Graph) -> Graph:
    """An int8 graph of the same zeros: every other weight and bias is 1, and every activation lies in [-1, 1]."""
    tensors = dict(graph.tensors)
    for view in graph.views():
        op = get_op(view.node.op)
        for index in (*op.weights, *([op.bias] if op.bias is not None else [])):
            tensor = view.input(index)
            if tensor is not None and tensor.data is not None:
                tensors[tensor.name] = tensor.replace(data=(tensor.data != 0).astype(np.float32))
    marked = graph.replace(tensors=tensors)
    ranges = dict.fromkeys(tie_activations(marked).roots, (-1.0, 1.0))
    return with_ranges(marked, ranges, Scheme())
