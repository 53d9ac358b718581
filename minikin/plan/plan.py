"""The plan: which kernel computes each layer, in what order rows are made, and where each row lies in one arena."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, groupby

from minikin.errors import DoesNotFit, UnsupportedError
from minikin.graph import Graph
from minikin.plan.blocking import spend_spare_ram, take_roomy_kernels, widen_calls
from minikin.plan.costs import Costs
from minikin.plan.homes import Homes, items_to_place, scratch_name
from minikin.plan.kernels import ANY, Aim
from minikin.plan.layers import Layer, make_layers
from minikin.plan.memory import live_bytes, pack, pack_banks
from minikin.plan.schedule import Schedule, make_schedule

SEARCH_CALLS = 120_000
"""How many calls the search for tensors to finish may schedule in all: a few seconds."""


@dataclass(frozen=True)
class Slot:
    """Where the rows of a tensor lie and between which times (calls, both included) they are in use.

    The last rows of a tensor may never be made, where nothing reads them: they have no lifetime. A batch is one row.
    """

    offsets: tuple[int, ...]
    lives: tuple[tuple[int, int], ...]
    row_bytes: int
    contiguous: bool
    bank: int = 0

    @property
    def kept(self) -> int:
        """The most rows that are in use at one time."""
        changes = sorted([(first, 1) for first, _ in self.lives] + [(last + 1, -1) for _, last in self.lives])
        return max(accumulate(change for _, change in changes))


@dataclass(frozen=True)
class Step:
    """One layer, when it is called, where its scratch memory lies, and the most bytes in use while it runs."""

    layer: Layer
    scratch_offset: int
    scratch_bank: int
    scratch_bytes: int
    times: tuple[int, ...]
    live_bytes: int

    @property
    def name(self) -> str:
        return self.layer.name

    @property
    def rows_made(self) -> int:
        """Output rows: fewer than the frame has where nothing reads the last ones."""
        height = self.layer.view.y.frame.rows
        return min(len(self.times) * self.layer.rows, height) if self.layer.by_rows else height


@dataclass(frozen=True)
class Turn:
    """`calls` calls of a step in a row, or of the application for rows of a streamed tensor (step is None)."""

    step: int | None
    calls: int
    source: str = ""


@dataclass(frozen=True)
class Plan:
    """`bank_bytes` is the size of the arena in each bank of RAM; no layout of this order takes less than `bound_bytes`.

    `live` has the bytes in use at each call, in order; rows lie at multiples of `alignment`.
    `costs` are those that kernels were chosen by, if any.
    """

    graph: Graph
    isa: str
    steps: tuple[Step, ...]
    turns: tuple[Turn, ...]
    slots: Mapping[str, Slot]
    roots: Mapping[str, str]
    streamed: tuple[str, ...]
    alignment: int
    bank_bytes: tuple[int, ...]
    bound_bytes: int
    optimal: bool
    live: tuple[int, ...]
    costs: Costs | None = field(default=None, repr=False)

    @property
    def arena_bytes(self) -> int:
        """Everything in RAM that the network needs, in all banks."""
        return sum(self.bank_bytes)

    @property
    def peak(self) -> Step | None:
        """The step with the most bytes in use."""
        return max(self.steps, key=lambda step: step.live_bytes, default=None)

    def slot(self, name: str) -> Slot:
        return self.slots[self.roots.get(name, name)]


def make_plan(
    graph: Graph,
    isa: str = "c",
    *,
    stream: bool = True,
    stream_input: bool = False,
    stream_output: bool = False,
    banks: Sequence[int] = (),
    aim: Aim = ANY,
) -> Plan:
    """Choose kernels, the order of rows and their offsets, for the least memory.

    `stream` makes rows as they are needed and forgets them; without it every tensor is finished before the next and kept
    whole. `stream_input`: the application hands over the inputs' rows one by one; `stream_output`: it takes those of the
    outputs so. `banks` are the capacities of several banks of RAM, where one is not enough. `aim` says what kernels
    are chosen for. Raises UnsupportedError where no kernel takes a node.
    """
    layers, roots = make_layers(graph, isa, aim, whole=not stream)
    streamed = _streamed_inputs(graph, layers) if stream_input else ()
    streamed += _streamed_outputs(graph, layers) if stream_output else ()
    everything = frozenset(t.name for layer in layers for t in layer.view.outputs)

    def lay_out(layers: Sequence[Layer], whole: frozenset[str]) -> Plan:
        schedule = make_schedule(graph, layers, roots, whole=whole, streamed=streamed)
        return _lay_out(graph, isa, layers, roots, schedule, streamed, banks, keep_frames=not stream)

    def search(layers: Sequence[Layer]) -> frozenset[str]:
        return _search(graph, layers, roots, streamed) if stream else everything

    def peak(layers: Sequence[Layer]) -> int:
        schedule = make_schedule(graph, layers, roots, whole=whole, streamed=streamed)
        items = items_to_place(graph, layers, schedule, Homes(graph, layers, roots, schedule, keep_frames=not stream))
        return max(live_bytes(items), default=0)

    whole = search(layers)
    if aim.least_ram:
        plans = [lay_out(spend_spare_ram(layers, isa, aim, peak), whole), lay_out(layers, whole)]
        plan = min(plans, key=lambda plan: plan.arena_bytes)
    else:
        if aim.reference is not None and not streamed:  # whoever streams the input wants RAM before instructions
            wider = widen_calls(layers, aim, peak)
            layers, whole = wider, whole if wider == layers else search(wider)
        plan = lay_out(layers, whole)
        roomy = take_roomy_kernels(layers, peak)
        if roomy != layers:
            plan = min(lay_out(roomy, whole), plan, key=lambda plan: plan.arena_bytes)
    return replace(plan, costs=aim.costs)


def check_limit(plan: Plan, ram_bytes: int | None) -> None:
    """Raise DoesNotFit where the arena takes more than `ram_bytes`, naming the layer at the peak."""
    if ram_bytes is not None and plan.arena_bytes > ram_bytes:
        raise DoesNotFit(
            f"{plan.graph.name} needs {plan.arena_bytes:,} bytes of arena, {ram_bytes:,} are allowed: "
            f"{plan.arena_bytes - ram_bytes:,} bytes short at layer {plan.peak.name if plan.peak else 'none'}; "
            f"take a smaller input or fewer channels there"
        )


def whole_bound(graph: Graph, isa: str, aim: Aim) -> int:
    """What no plan of whole tensors can go below: the bytes alive at once, layer by layer."""
    layers, roots = make_layers(graph, isa, aim, whole=True)
    schedule = make_schedule(graph, layers, roots, whole={t.name for layer in layers for t in layer.view.outputs})
    homes = Homes(graph, layers, roots, schedule, keep_frames=True)
    return max(live_bytes(items_to_place(graph, layers, schedule, homes)), default=0)


def _streamed_inputs(graph: Graph, layers: Sequence[Layer]) -> tuple[str, ...]:
    """Every input, if a row at a time serves all its readers."""
    for tensor in graph.input_tensors:
        for layer in layers:
            if tensor.name in {t.name for t in layer.inputs} and not (layer.by_rows or layer.kernel.folds):
                raise UnsupportedError(
                    f"input {tensor.name} cannot be streamed: {layer.name} ({layer.view.node.op}) needs all of it at once; "
                    "leave its frame in RAM"
                )
    return graph.inputs


def _streamed_outputs(graph: Graph, layers: Sequence[Layer]) -> tuple[str, ...]:
    """Every output, if it is made row by row and nothing else reads it as a frame."""
    makers = {t.name: layer for layer in layers for t in layer.view.outputs}
    for name in graph.outputs:
        if name not in makers or not makers[name].by_rows or graph.outputs.count(name) > 1:
            raise UnsupportedError(
                f"output {name} cannot be streamed: it is not made row by row; leave its frame in RAM"
            )
    return graph.outputs


def _search(graph: Graph, layers: Sequence[Layer], roots: dict[str, str], streamed: tuple[str, ...]) -> frozenset[str]:
    """The tensors that are better finished before anything reads them: hill climbing on the bytes alive at once.

    Finishing a small tensor lets all the rows before it go, where streaming through it would keep them.
    """

    def peak(whole: frozenset[str]) -> tuple[int, int]:
        schedule = make_schedule(graph, layers, roots, whole=whole, streamed=streamed)
        items = items_to_place(graph, layers, schedule, Homes(graph, layers, roots, schedule, keep_frames=False))
        return max(live_bytes(items), default=0), len(schedule.calls)

    whole: frozenset[str] = frozenset()
    best, calls = peak(whole)
    names = [t.name for layer in layers for t in layer.view.outputs]
    budget, improved = SEARCH_CALLS, True
    while improved and budget > 0:
        improved = False
        for name in names:
            budget -= calls
            if budget > 0 and (found := peak(whole ^ {name})[0]) < best:
                best, whole, improved = found, whole ^ {name}, True
    return whole


def _lay_out(
    graph: Graph,
    isa: str,
    layers: Sequence[Layer],
    roots: dict[str, str],
    schedule: Schedule,
    streamed: tuple[str, ...],
    banks: Sequence[int],
    *,
    keep_frames: bool,
) -> Plan:
    homes = Homes(graph, layers, roots, schedule, keep_frames=keep_frames)
    items = items_to_place(graph, layers, schedule, homes)
    layout = pack(items)
    while layout.bytes > 0xFFFF * homes.alignment and not keep_frames:  # more than a 16-bit table of rows can count
        homes = Homes(graph, layers, roots, schedule, keep_frames=keep_frames, alignment=2 * homes.alignment)
        items = items_to_place(graph, layers, schedule, homes)
        layout = pack(items, homes.alignment)
    bank_of = (pack_banks(items, banks, homes.alignment) if len(banks) > 1 else None) or {}
    layouts = [layout]
    if bank_of:
        used = range(max(bank_of.values()) + 1)
        parts = [[item for item in items if bank_of[item.home] == bank] for bank in used]
        layouts = [pack(part, homes.alignment) for part in parts]
    offsets = {name: offset for part in layouts for name, offset in part.offsets.items()}
    live = live_bytes(items)
    peaks = Counter[int]()
    for call, size in zip(schedule.calls, live, strict=False):
        if call.layer is not None:
            peaks[call.layer] = max(peaks[call.layer], size)
    steps = tuple(
        Step(
            layer,
            offsets.get(scratch_name(layer), 0),
            bank_of.get(scratch_name(layer), 0),
            layer.kernel.scratch(layer.view, layer.rows),
            tuple(schedule.times(index)),
            peaks[index],
        )
        for index, layer in enumerate(layers)
    )
    return Plan(
        graph,
        isa,
        steps,
        _turns(schedule),
        _slots(graph, schedule, homes, offsets, bank_of),
        roots,
        streamed,
        homes.alignment,
        tuple(part.bytes for part in layouts),
        layout.bound_bytes,
        layout.optimal and not bank_of,
        tuple(live),
    )


def _slots(
    graph: Graph, schedule: Schedule, homes: Homes, offsets: dict[str, int], bank_of: dict[str, int]
) -> dict[str, Slot]:
    lives: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for (name, _), life in sorted(schedule.lives.items()):
        lives[name].append(life)
    slots = {}
    for name, times in lives.items():
        home, tensor = homes.home[name], graph.tensors[name]
        framed, bank = home in homes.framed, bank_of.get(home, 0)
        if tensor.frame.batch > 1:  # one piece: nothing of it is forgotten before all of it is
            life = min(first for first, _ in times), max(last for _, last in times)
            slots[name] = Slot((offsets[home],), (life,), tensor.nbytes, framed, bank)
            continue
        size = tensor.frame.rows if framed else homes.block.get(home, 1)
        starts = [offsets[home] if framed else offsets[f"{home}[{y // size}]"] for y in range(len(times))]
        places = [start + y % size * tensor.row_bytes for y, start in enumerate(starts)]
        places += [places[-1]] * (tensor.frame.rows - len(times))
        slots[name] = Slot(tuple(places), tuple(times), tensor.row_bytes, framed, bank)
    return slots


def _turns(schedule: Schedule) -> tuple[Turn, ...]:
    groups = groupby(schedule.calls, key=lambda call: (call.layer, call.source))
    return tuple(Turn(layer, len(list(calls)), source) for (layer, source), calls in groups)
