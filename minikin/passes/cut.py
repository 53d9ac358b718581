"""cut_channels: channels that no output depends on, or that hold one value, vanish from all layers around them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from minikin.fixedpoint import INT32_MAX
from minikin.graph import Graph, Node, Quant, Tensor, View
from minikin.ops import get_op
from minikin.ops.channels import Bounds, Channels, Kept, Mixing, channel_count
from minikin.passes.edit import reader_counts, unused_name
from minikin.passes.removal import Removal, protected

Known = Mapping[str, Bounds]
KeptChannels = Mapping[str, np.ndarray]


def cut_channels(graph: Graph, bounds: Known) -> tuple[Graph, list[Removal]]:
    """The same outputs from fewer channels.

        conv(x)[a, 0, b] -> depthwise -> conv(w0, w1, w2)      =>   conv(x)[a, b] -> depthwise -> conv(w0, w2)

    Channels tied by elementwise ops, depthwise convolutions, pools, concats and reshapes form groups, which go or stay
    whole. A group stays if the outside sees it, or if a channel that stays is a weighted sum over it, unless the weight
    is zero or the channel holds a known value that adds the same number everywhere, which then joins the bias (at a
    padded border it may not). What remains unmarked by this walk from the outputs back is cut.
    """
    ties = _Ties(graph, bounds)
    kept = _kept(ties)
    if all(len(channels) == channel_count(graph.tensors[name].shape) for name, channels in kept.items()):
        return graph, []
    return _rewrite(graph, ties.sums, kept), _explain(graph, bounds, kept)


def find_kept(graph: Graph, bounds: Known) -> KeptChannels:
    """Indices of the channels that `cut_channels` would leave, by tensor."""
    return _kept(_Ties(graph, bounds))


def keep_channels(graph: Graph, kept: KeptChannels) -> Graph:
    """The graph with these channels alone; of float32 too. What goes must be zero wherever it is read."""
    return _rewrite(graph, {}, kept)


def tie_groups(graph: Graph) -> tuple[dict[str, np.ndarray], set[int]]:
    """(by tensor, the group of each channel; groups that have to stay whatever the weights are) of an int8 graph."""
    ties = _Ties(graph, {})
    return {name: ties.groups(name) for name in ties.first}, {ties.find(number) for number in ties.pinned}


@dataclass
class _Sum:
    """A node that mixes: which input channels each output channel needs, and what those that are fixed add to it."""

    view: View
    needs: np.ndarray
    fixed: np.ndarray
    adds: np.ndarray


@dataclass
class _Ties:
    """Groups of channels by union and find; `first` is the number of a tensor's channel 0."""

    graph: Graph
    bounds: Known
    first: dict[str, int] = field(default_factory=dict)
    channels: dict[str, Channels | None] = field(default_factory=dict)
    sums: dict[str, _Sum] = field(default_factory=dict)
    pinned: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        for view in self.graph.views():
            for tensor in (*get_op(view.node.op).pointers(view), *view.outputs):
                self._number(tensor)
        for view in self.graph.views():
            for tensor in view.inputs[len(get_op(view.node.op).pointers(view)) :]:
                if tensor is not None and tensor.name in self.first:  # a weight that another node takes as an operand
                    self._pin(tensor.name)
        for name in (*self.graph.inputs, *protected(self.graph)):
            self._number(self.graph.tensors[name])
            self._pin(name)
        self.parent = np.arange(self.count)
        for view in self.graph.views():
            self._tie(view)

    @property
    def count(self) -> int:
        return sum(channel_count(self.graph.tensors[name].shape) for name in self.first)

    def _number(self, tensor: Tensor) -> None:
        if tensor.name not in self.first:
            self.first[tensor.name] = self.count
            if tensor.dtype != "int8" or (tensor.quant is not None and tensor.quant.axis is not None):
                self._pin(tensor.name)

    def _pin(self, name: str) -> None:
        self.pinned.update(self._numbers(name))

    def _numbers(self, name: str) -> range:
        start = self.first[name]
        return range(start, start + channel_count(self.graph.tensors[name].shape))

    def groups(self, name: str) -> np.ndarray:
        return np.array([self.find(number) for number in self._numbers(name)])

    def find(self, number: int) -> int:
        while self.parent[number] != number:
            self.parent[number] = self.parent[self.parent[number]]
            number = self.parent[number]
        return int(number)

    def _tie(self, view: View) -> None:
        op = get_op(view.node.op)
        pointers = op.pointers(view)
        whole = any(t.dtype != "int8" for t in (*pointers, *view.outputs)) or len(view.outputs) != 1
        found = self.channels[view.node.name] = None if whole else op.channels(view)
        labels = (None,) * len(pointers) if found is None else found.inputs
        pairs = [*zip(pointers, labels, strict=True), *((t, found and found.output) for t in view.outputs)]
        seen: dict[int, int] = {}
        for tensor, labels_of_tensor in pairs:
            if labels_of_tensor is None:
                self._pin(tensor.name)
                continue
            for number, label in zip(self._numbers(tensor.name), labels_of_tensor.tolist(), strict=True):
                if label >= 0:
                    self.parent[self.find(number)] = self.find(seen.setdefault(label, number))
        if found is not None and found.mixing is not None:
            self.sums[view.node.name] = _weigh(view, found.mixing, self.bounds.get(view.x.name))

    def live(self) -> np.ndarray:
        """Of every group's number: whether its channels stay."""
        live = np.zeros(self.count, bool)
        for number in self.pinned:
            live[self.find(number)] = True
        sums = [(s, self.groups(s.view.x.name), self.groups(s.view.y.name)) for s in reversed(self.sums.values())]
        while True:
            before = live.sum()
            for one, inputs, outputs in sums:
                live[inputs[one.needs[live[outputs]].any(axis=0)]] = True
            if live.sum() == before:
                return live


def _weigh(view: View, mixing: Mixing, bounds: Bounds | None) -> _Sum:
    """A fixed channel is not needed where it adds one number at all positions, and no bias leaves int32 for it."""
    needs = (mixing.weights != 0).any(axis=1)
    fixed = _fixed_channels(bounds)
    adds = np.zeros((len(needs), len(fixed)), np.int64)
    if bounds is None or not len(fixed):
        return _Sum(view, needs, fixed, adds)
    uniform = np.ones(adds.shape, bool)
    for index, (channel, places) in enumerate(zip(fixed, _places(view, mixing, bounds[0], fixed), strict=True)):
        added = places @ mixing.weights[:, :, channel].T.astype(np.int64)
        adds[:, index] = added[0]
        uniform[:, index] = (added == added[0]).all(axis=0)
    if (np.abs(_bias_of(view)) + np.abs(adds).sum(axis=1) <= INT32_MAX).all():
        needs[:, fixed] &= ~uniform
    return _Sum(view, needs, fixed, adds)


def _fixed_channels(bounds: Bounds | None) -> np.ndarray:
    """Indices of the channels that do not depend on the input; their values may differ from pixel to pixel."""
    if bounds is None:
        return np.arange(0)
    count = channel_count(bounds[0].shape)
    return np.flatnonzero((bounds[0] == bounds[1]).reshape(-1, count).all(axis=0))


def _places(view: View, mixing: Mixing, x: np.ndarray, channels: np.ndarray) -> np.ndarray:
    """[channel, place, tap]: what the taps see of fixed channels, output positions that see the same counted once."""
    assert view.x.quant is not None
    seen = mixing.unfold(x[..., channels].astype(np.int64) - view.x.quant.zero_point)
    taps = seen.shape[1]
    places = np.unique(seen.reshape(len(seen), -1), axis=0)
    return places.reshape(len(places), taps, len(channels)).transpose(2, 0, 1)


def _bias_of(view: View) -> np.ndarray:
    position = get_op(view.node.op).bias
    tensor = view.input(position) if position is not None else None
    if tensor is None or tensor.data is None:
        return np.zeros(view.y.shape[-1], np.int64)
    return tensor.data if tensor.dtype == "float32" else tensor.data.astype(np.int64)


def _kept(ties: _Ties) -> dict[str, np.ndarray]:
    while True:
        live = ties.live()
        kept = {name: np.flatnonzero(live[ties.groups(name)]) for name in ties.first}
        stuck = _emptied(ties.graph, ties, kept)
        if not stuck:
            return kept
        ties.pinned.update(stuck)


def _emptied(graph: Graph, ties: _Ties, kept: Mapping[str, np.ndarray]) -> set[int]:
    """A channel of each tensor that would lose all of them though a node that stays reads it and can't do without."""
    gone = {name for name, channels in kept.items() if len(channels) == 0}
    stuck = set()
    for node in graph.nodes:
        channels = ties.channels[node.name]
        if not gone.issuperset(node.outputs) and not (channels is not None and channels.optional):
            stuck |= {ties.first[name] for name in gone.intersection(node.inputs)}
    return stuck


def _rewrite(graph: Graph, sums: Mapping[str, _Sum], kept: KeptChannels) -> Graph:
    nodes, tensors = [], dict(graph.tensors)
    readers = reader_counts(graph)
    for name, channels in kept.items():
        if len(channels):
            tensors[name] = _sliced(graph.tensors[name], channels)
    for view in graph.views():
        if any(len(kept[tensor.name]) for tensor in view.outputs):
            node, constants = _cut_node(view, sums, kept)
            for index, tensor in constants.items():
                name = tensor.name if readers[tensor.name] <= 1 else unused_name(tensors, f"{node.name}_{index}")
                tensors[name] = tensor.replace(name=name)
                node = node.replace(inputs=tuple(name if i == index else n for i, n in enumerate(node.inputs)))
            nodes.append(node)
    return graph.replace(nodes=tuple(nodes), tensors=tensors)


def _sliced(tensor: Tensor, channels: np.ndarray) -> Tensor:
    if len(channels) == channel_count(tensor.shape):
        return tensor
    data = None if tensor.data is None else tensor.data[..., channels].copy()
    return tensor.replace(shape=(*tensor.shape[:-1], len(channels)), data=data)


def _cut_node(view: View, sums: Mapping[str, _Sum], kept: KeptChannels) -> tuple[Node, dict[int, Tensor]]:
    """The node and its new constants by input index; a node that loses no channel stays as it is."""
    op, node = get_op(view.node.op), view.node
    pointers = op.pointers(view)
    stay = Kept(tuple(kept[tensor.name] for tensor in pointers), kept[view.y.name])
    counts = [channel_count(tensor.shape) for tensor in (*pointers, view.y)]
    if [len(channels) for channels in (*stay.inputs, stay.output)] == counts:
        return node, {}
    attrs, arrays = op.cut(view, stay)
    constants = {index: _cut_constant(view, index, data, stay) for index, data in arrays.items()}
    bias = _cut_bias(view, sums.get(node.name), stay)
    inputs = [name for name in node.inputs if name not in kept or len(kept[name])]
    if bias is not None:
        assert op.bias is not None
        inputs += [""] * (op.bias + 1 - len(inputs))
        inputs[op.bias] = bias.name
        constants[op.bias] = bias
    return node.replace(attrs=attrs, inputs=tuple(inputs)), constants


def _cut_constant(view: View, index: int, data: np.ndarray, stay: Kept) -> Tensor:
    tensor = view.inputs[index]
    assert tensor is not None
    return tensor.replace(
        shape=data.shape, data=np.ascontiguousarray(data), quant=_cut_quant(tensor.quant, stay.output)
    )


def _cut_quant(quant: Quant | None, channels: np.ndarray) -> Quant | None:
    """Constants are quantized along their output channels."""
    if quant is None or quant.axis is None:
        return quant
    scales, zero_points = (tuple(values[i] for i in channels) for values in (quant.scales, quant.zero_points))
    return Quant(scales, zero_points, quant.axis)


def _cut_bias(view: View, total: _Sum | None, stay: Kept) -> Tensor | None:
    """The bias of the outputs that stay, with what the input channels that go have added to them."""
    position = get_op(view.node.op).bias
    if position is None:
        return None
    tensor = view.input(position)
    values = _bias_of(view)
    if total is not None:
        values = values + total.adds[:, ~np.isin(total.fixed, stay.inputs[0])].sum(axis=1)
    data = values[stay.output].astype("int32" if tensor is None else tensor.dtype)
    if tensor is not None:
        return tensor.replace(shape=data.shape, data=data, quant=_cut_quant(tensor.quant, stay.output))
    return Tensor(f"{view.node.name}_bias", data.shape, "int32", data=data) if data.any() else None


def _explain(graph: Graph, bounds: Known, kept: Mapping[str, np.ndarray]) -> list[Removal]:
    return [removal for view in graph.views() for removal in _explain_node(view, bounds, kept[view.y.name])]


def _explain_node(view: View, bounds: Known, kept: np.ndarray) -> Iterator[Removal]:
    count = channel_count(view.y.shape)
    gone = np.setdiff1d(np.arange(count), kept)
    constant = len(np.intersect1d(gone, _fixed_channels(bounds.get(view.y.name))))
    if constant:
        why = "their least and greatest possible values are one code, which is in the biases of what reads them"
        yield Removal(view.node.name, "constant channels", constant, why)
    if len(gone) > constant:
        why = "every weight that reads them is zero or in a channel that went too"
        yield Removal(view.node.name, "unread channels", len(gone) - constant, why)
