"""Networks over time, a frame at a time: which rows are kept from one frame to the next, and what is computed when.

Time runs along the rows of the input. Where nothing is padded in time, a row of a tensor is the same in every window
that it is part of: row j is made when frame `stride * j + delay` has come, and serves all windows. Windows begin every
`period` frames, the least common multiple of the strides. Layers whose rows go along with time compute each row once;
the first layers that need a whole window, and all behind them, run once for each window, when its last frame has come.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from minikin.errors import DoesNotFit, UnsupportedError
from minikin.graph import Graph, Tensor
from minikin.ops.opdef import get_op
from minikin.plan.kernels import Aim
from minikin.plan.layers import Layer, make_layers
from minikin.plan.memory import ALIGNMENT, Item, Part, live_bytes, pack
from minikin.plan.plan import Plan, Slot, Step


@dataclass(frozen=True)
class Timing:
    """Row j of a tensor is made when frame stride * j + delay has come."""

    stride: int
    delay: int

    def made(self, frame: int) -> int:
        """How many rows there are when `frame` has come."""
        return (frame - self.delay) // self.stride + 1


@dataclass(frozen=True)
class Ring:
    """The newest `kept` rows of a tensor, around and around from `offset` on."""

    tensor: Tensor
    timing: Timing
    kept: int
    offset: int


@dataclass(frozen=True)
class Gather:
    """A window of a ring, copied in order to `offset`: it begins `back` rows before the next one to be made."""

    tensor: Tensor
    back: int
    offset: int


@dataclass(frozen=True, kw_only=True)
class IncrementalPlan(Plan):
    """A plan whose run is one frame in, and every `period` frames the output of the `window` frames that end there.

    `order` are the events of a run: indices of steps, and names of rings of which a window is gathered; the first
    `moving` ones go along with time, the others run once for each window. `taps` say for (step, input) how many rows
    before the next one to be made the ring's rows begin that it reads.
    """

    window: int
    period: int
    order: tuple[int | str, ...]
    moving: int
    rings: Mapping[str, Ring]
    gathers: Mapping[str, Gather]
    taps: Mapping[tuple[int, int], int]

    @property
    def last_count(self) -> int:
        """The counter of frames goes up to here and then back by `period`."""
        return self.window + self.period - 2

    @property
    def places(self) -> tuple[str, ...]:
        """The rings whose next place is kept."""
        return tuple(name for name, ring in self.rings.items() if ring.kept > 1)

    @property
    def counter_bytes(self) -> int:
        """What each counter takes."""
        largest = max(self.last_count, *(ring.kept for ring in self.rings.values()))
        return next(size for size in (1, 2, 4) if largest < 1 << 8 * size)

    @property
    def state_bytes(self) -> int:
        return self.counter_bytes * (1 + len(self.places))

    @property
    def arena_bytes(self) -> int:
        return super().arena_bytes + self.state_bytes


def as_incremental(plan: Plan) -> IncrementalPlan:
    """The same plan, which has to be incremental."""
    assert isinstance(plan, IncrementalPlan)
    return plan


def make_incremental_plan(
    graph: Graph, isa: str = "c", *, ram_bytes: int | None = None, storage: str | None = None
) -> IncrementalPlan:
    """Rings for what goes along with time, frames for the rest, offsets for both.

    `storage` is the form of weights (see choose_kernels). Raises UnsupportedError, naming the layer, where the rows of one
    window cannot serve the next, DoesNotFit where more than `ram_bytes` are needed.
    """
    plan = _Planner(graph, isa, storage).plan()
    if ram_bytes is not None and plan.arena_bytes > ram_bytes:
        raise DoesNotFit(
            f"{graph.name} needs {plan.arena_bytes:,} bytes of arena to run frame by frame, {ram_bytes:,} are allowed: "
            f"{plan.arena_bytes - ram_bytes:,} bytes short; take a shorter window or fewer channels"
        )
    return plan


@dataclass
class _Life:
    """What is placed as one piece: `bytes` from time `first` to time `last`."""

    bytes: int
    first: int
    last: int


@dataclass
class _Planner:
    """Collects timings, taps and lifetimes layer by layer. Times: 0 is the frame's arrival, then each of `order`."""

    graph: Graph
    isa: str
    storage: str | None
    layers: list[Layer] = field(default_factory=list)
    timings: dict[str, Timing] = field(default_factory=dict)
    taps: dict[tuple[int, int], int] = field(default_factory=dict)
    backs: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    passing: dict[str, bool] = field(default_factory=dict)

    def plan(self) -> IncrementalPlan:
        (x,) = self._input()
        layers, self.roots = make_layers(self.graph, self.isa, Aim(storage=self.storage))
        self.layers = [replace(layer, inputs=get_op(layer.view.node.op).pointers(layer.view)) for layer in layers]
        self.window = x.frame.rows
        self._arrive(x.name, Timing(1, 0))
        windowed = [index for index, layer in enumerate(self.layers) if not self._moves(index, layer)]
        self.moving = [index for index in range(len(self.layers)) if index not in windowed]
        self.order: list[int | str] = list(self.moving)
        for index in windowed:
            self._take_window(index)
        for name in self.graph.outputs:
            self._gather(self._root(name))
        self.period = math.lcm(*(timing.stride for timing in self.timings.values()))
        return self._lay_out()

    def _input(self) -> tuple[Tensor]:
        """The one input, if it has an axis of time."""
        tensors = self.graph.input_tensors
        if len(tensors) != 1:
            raise UnsupportedError(
                f"{self.graph.name} has {len(tensors)} inputs, and one frame at a time goes into one: "
                "join them, or compile it without incremental"
            )
        frame = tensors[0].frame
        if frame.batch != 1 or frame.rows < 2:
            raise UnsupportedError(
                f"input {tensors[0].name} of shape {list(tensors[0].shape)} is no window of frames: incremental takes "
                "[1, frames, channels] or [1, frames, width, channels]"
            )
        return (tensors[0],)

    def _root(self, name: str) -> str:
        return self.roots.get(name, name)

    def _arrive(self, name: str, timing: Timing) -> None:
        self.timings[name], self.kept[name], self.passing[name] = timing, 1, True

    def _follows(self, tensor: Tensor) -> bool:
        """Whether its rows are a ring's, not another shape over the same bytes."""
        root = self._root(tensor.name)
        return root in self.timings and self.graph.tensors[root].frame == tensor.frame

    def _moves(self, index: int, layer: Layer) -> bool:
        """Whether the output's rows go along with time; if so its timing and what it reads are noted."""
        y = layer.view.y
        if not layer.by_rows or y.frame.rows == 1 or not all(map(self._follows, layer.inputs)):
            return False
        first, last, second = (layer.window(row, row + 1) or () for row in (0, y.frame.rows - 1, 1))
        for tensor, (lo, _), (_, hi) in zip(layer.inputs, first, last, strict=True):
            _refuse_padding(layer, tensor, -lo, hi - tensor.frame.rows)
        known = [self.timings[self._root(tensor.name)] for tensor in layer.inputs]
        strides = {
            timing.stride * (after - lo) for timing, (lo, _), (after, _) in zip(known, first, second, strict=True)
        }
        if len(strides) > 1:
            return False
        delay = max(t.stride * (hi - 1) + t.delay for t, (_, hi) in zip(known, first, strict=True))
        for number, (lo, _) in enumerate(first):
            self._tap(index, number, lo, delay)
        self.layers[index] = replace(layer, rows=1)
        self._arrive(y.name, Timing(strides.pop(), delay))
        return True

    def _tap(self, index: int, number: int, lo: int, frame: int) -> None:
        """The layer reads its ring from row `lo` on when `frame` has come."""
        name = self._root(self.layers[index].inputs[number].name)
        self.taps[index, number] = self._keep(name, lo, frame)

    def _keep(self, name: str, lo: int, frame: int) -> int:
        """Let the ring hold rows from `lo` on until `frame` has come; gives how many those are."""
        timing = self.timings[name]
        back = timing.made(frame) - lo
        self.kept[name] = max(self.kept[name], back)
        self.passing[name] &= back == 1 and (frame - timing.delay) % timing.stride == 0
        return back

    def _take_window(self, index: int) -> None:
        """A layer that runs once for each window: from a ring where its kernel takes single rows, else from a copy."""
        layer = self.layers[index]
        for number, tensor in enumerate(layer.inputs):
            lo = self._first_row(layer, number)
            if lo is not None and self._follows(tensor):
                self._tap(index, number, lo, self.window - 1)
            else:
                self._gather(self._root(tensor.name))
        self.order.append(index)

    def _first_row(self, layer: Layer, number: int) -> int | None:
        """Where in its input a layer begins that can read it row by row, with nothing outside."""
        if layer.kernel.folds:
            return 0
        if not layer.by_rows or layer.view.y.frame.rows > 1:
            return None
        lo, hi = (layer.window(0, 1) or ())[number]
        return lo if lo >= 0 and hi <= layer.inputs[number].frame.rows else None

    def _gather(self, name: str) -> None:
        if name in self.timings and name not in self.backs:
            self.backs[name] = self._keep(name, 0, self.window - 1)
            self.order.append(name)

    def _lay_out(self) -> IncrementalPlan:
        lives = self._lives()
        homes = self._homes(lives)
        items = [Item(n, n, (Part(0, _aligned(life.bytes), life.first, life.last),)) for n, life in lives.items()]
        layout, live = pack(items), live_bytes(items)
        live += [0] * (len(self.order) + 2 - len(live))
        steps = tuple(
            Step(
                layer,
                scratch_offset=layout.offsets.get(_scratch_name(layer), 0),
                scratch_bank=0,
                scratch_bytes=layer.kernel.scratch(layer.view, layer.rows),
                times=(self._time(index),) * (1 if index in self.moving else layer.calls),
                live_bytes=live[self._time(index)],
            )
            for index, layer in enumerate(self.layers)
        )
        tensors = self.graph.tensors
        rings = {n: Ring(tensors[n], t, self.kept[n], layout.offsets[n]) for n, t in self.timings.items()}
        gathers = {
            name: Gather(tensors[name], back, layout.offsets[homes[_gather_name(name)]])
            for name, back in self.backs.items()
        }
        return IncrementalPlan(
            graph=self.graph,
            isa=self.isa,
            steps=steps,
            turns=(),
            slots=self._slots(layout.offsets, lives, homes),
            roots=self.roots,
            streamed=(),
            alignment=ALIGNMENT,
            bank_bytes=(layout.bytes,),
            bound_bytes=layout.bound_bytes,
            optimal=layout.optimal,
            live=tuple(live),
            window=self.window,
            period=self.period,
            order=tuple(self.order),
            moving=len(self.moving),
            rings=rings,
            gathers=gathers,
            taps=self.taps,
        )

    def _time(self, event: int | str) -> int:
        return 1 + self.order.index(event)

    def _lives(self) -> dict[str, _Life]:
        """Rings stay from step to step, unless their rows are read only in the step that makes them."""
        end = len(self.order) + 1
        lives: dict[str, _Life] = {}
        for name in self.timings:
            size = self.kept[name] * self.graph.tensors[name].row_bytes
            lives[name] = _Life(size, 0, 0 if self.passing[name] else end)
        for name in self.backs:
            lives[_gather_name(name)] = _Life(self.graph.tensors[name].nbytes, self._time(name), self._time(name))
        for index, layer in enumerate(self.layers):
            self._add_layer(lives, index, layer)
        for name in self.graph.outputs:
            if (stored := self._stored(name)) in lives:
                lives[stored].last = end
                lives[stored].first = 0 if self.period > 1 else lives[stored].first  # read until the next one is made
        return lives

    def _add_layer(self, lives: dict[str, _Life], index: int, layer: Layer) -> None:
        time = self._time(index)
        for number, tensor in enumerate(layer.inputs):
            read = self._root(tensor.name) if (index, number) in self.taps else self._stored(tensor.name)
            if read in lives:
                lives[read].last = max(lives[read].last, time)
        for tensor in layer.view.outputs:
            if tensor.name not in lives:
                lives[tensor.name] = _Life(tensor.nbytes, time, time)
            elif self.passing[tensor.name]:
                lives[tensor.name].first = lives[tensor.name].last = time
        if size := layer.kernel.scratch(layer.view, layer.rows):
            lives[_scratch_name(layer)] = _Life(size, time, time)

    def _stored(self, name: str) -> str:
        """Where a whole window of a tensor lies."""
        root = self._root(name)
        return _gather_name(root) if root in self.backs else root

    def _homes(self, lives: dict[str, _Life]) -> dict[str, str]:
        """Where each frame lies: an output takes over the memory of an input that ends there."""
        homes = {name: name for name in lives}
        for index in (event for event in self.order[len(self.moving) :] if isinstance(event, int)):
            layer, time = self.layers[index], self._time(index)
            at = get_op(layer.view.node.op).inplace(layer.view)
            if at is None or at >= len(layer.inputs) or (index, at) in self.taps:
                continue
            x, y = self._stored(layer.inputs[at].name), layer.view.y.name
            shared = [self._stored(tensor.name) for tensor in layer.inputs].count(x) > 1
            if x not in homes or shared or y not in lives or lives[y].first != time:
                continue
            home = homes[x]
            if lives[home].last == time and lives[home].bytes == lives[y].bytes:
                homes[y] = home
                lives[home].last = lives[y].last
                del lives[y]
        return homes

    def _slots(self, offsets: dict[str, int], lives: dict[str, _Life], homes: dict[str, str]) -> dict[str, Slot]:
        """Of rings and frames by tensor, and of gathered windows."""
        tensors, slots = self.graph.tensors, {}
        gathered = {_gather_name(name): tensors[name] for name in self.backs}
        for name, home in homes.items():
            tensor, life = gathered.get(name) or tensors.get(name), lives[home]
            if tensor is None:  # scratch memory
                continue
            rows = self.kept.get(name, tensor.frame.batch * tensor.frame.rows)
            places = tuple(offsets[home] + row * tensor.row_bytes for row in range(rows))
            slots[name] = Slot(places, ((life.first, life.last),) * rows, tensor.row_bytes, True)
        return slots


def _refuse_padding(layer: Layer, tensor: Tensor, above: int, below: int) -> None:
    if above > 0 or below > 0:
        raise UnsupportedError(
            f"{layer.name} ({layer.view.node.op}) reads {max(above, 0)} rows before and {max(below, 0)} after the "
            f"{tensor.frame.rows} of {tensor.name} (padding in time): its rows depend on where the window begins, so "
            "they cannot serve the next one; train it without padding in time, or compile it without incremental"
        )


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _scratch_name(layer: Layer) -> str:
    return f"scratch of {layer.name}"


def _gather_name(name: str) -> str:
    return f"window of {name}"
