"""The plan's turns as straight calls where a layer runs alone, and as tables where layers take turns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from minikin.plan import Plan, Turn

MAX_COUNT = 255

Member = int | str
"""A step by its index, or a streamed input or output by its name."""


@dataclass(frozen=True)
class Group:
    """Members that take turns: `turns` are (index into members, how many rows) in order."""

    members: tuple[Member, ...]
    turns: tuple[tuple[int, int], ...]

    @property
    def is_solo(self) -> bool:
        """One layer and nothing between its rows: its function loops by itself."""
        return len(self.members) == 1 and isinstance(self.members[0], int)


def make_groups(plan: Plan) -> list[Group]:
    """Split the turns wherever everything that has begun has also ended."""
    last = {_member(turn): at for at, turn in enumerate(plan.turns)}
    groups, current, end = [], [], -1
    for at, turn in enumerate(plan.turns):
        current.append(turn)
        end = max(end, last[_member(turn)])
        if at == end:
            groups.append(_group(current))
            current = []
    return groups


def _group(turns: list[Turn]) -> Group:
    members = tuple(dict.fromkeys(map(_member, turns)))
    index = {member: i for i, member in enumerate(members)}
    return Group(members, tuple((index[_member(turn)], part) for turn in turns for part in _parts(turn.calls)))


def _member(turn: Turn) -> Member:
    return turn.source if turn.step is None else turn.step


def _parts(count: int) -> Iterator[int]:
    """A count as pieces that a byte holds."""
    while count > 0:
        yield min(count, MAX_COUNT)
        count -= MAX_COUNT


@dataclass(frozen=True)
class Sweep:
    """One call of each of the members first, ..., last, in this order, all of it `times` times."""

    first: int
    last: int
    times: int


def make_sweeps(plan: Plan) -> tuple[tuple[Member, ...], tuple[Sweep, ...]]:
    """The turns as sweeps over (streamed inputs, steps, streamed outputs): rows are pulled through chains of layers."""
    inputs = [name for name in plan.streamed if name in plan.graph.inputs]
    outputs = [name for name in plan.streamed if name not in inputs]
    members = (*inputs, *range(len(plan.steps)), *outputs)
    index = {member: i for i, member in enumerate(members)}
    sweeps: list[Sweep] = []
    for turn in plan.turns:
        at, last = index[_member(turn)], sweeps[-1] if sweeps else None
        if last and last.times == turn.calls == 1 and last.last + 1 == at:
            sweeps[-1] = Sweep(last.first, at, 1)
        else:
            sweeps += [Sweep(at, at, part) for part in _parts(turn.calls)]
    return members, tuple(_merged(sweeps))


def _merged(sweeps: list[Sweep]) -> Iterator[Sweep]:
    """Equal ones that follow each other as one."""
    for (first, last), run in groupby(sweeps, key=lambda sweep: (sweep.first, sweep.last)):
        yield from (Sweep(first, last, part) for part in _parts(sum(sweep.times for sweep in run)))


def step_order(plan: Plan) -> Iterator[int]:
    """The steps of one inference, call by call."""
    for turn in plan.turns:
        if turn.step is not None:
            yield from [turn.step] * turn.calls
