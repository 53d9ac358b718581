"""Offsets: pack rows with known lifetimes into the least memory.

This is dynamic storage allocation, with rectangles in time x memory that may not overlap. The bound is the greatest number
of bytes alive at once; a layout that reaches it is optimal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

ALIGNMENT = 4
REPAIRS = 6
MANY_PARTS = 12_000
"""From here on one greedy order has to do."""
SOLVER_PARTS = 320
SOLVER_SECONDS = 0.2


@dataclass(frozen=True)
class Part:
    """`bytes` of memory at `offset` from the start of their item, in use from time `first` to time `last`, both included."""

    offset: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Item:
    """What lies together: the rows of a frame one behind the other, or a row alone. Times may differ by part.

    Items of one `home` (the rows of a tensor) lie in one bank.
    """

    name: str
    home: str
    parts: tuple[Part, ...]

    @cached_property
    def bytes(self) -> int:
        return max(part.offset + part.bytes for part in self.parts)

    @cached_property
    def first(self) -> int:
        return min(part.first for part in self.parts)

    @cached_property
    def last(self) -> int:
        return max(part.last for part in self.parts)


@dataclass(frozen=True)
class Layout:
    """Offsets by item. `bound_bytes` is what no layout can go below; `optimal` says that none is smaller."""

    offsets: dict[str, int]
    bytes: int
    bound_bytes: int
    optimal: bool


def pack(items: Sequence[Item], alignment: int = ALIGNMENT) -> Layout:
    """Give every item an offset, so that parts in use together never overlap and the top is as low as possible.

    Greedy in several orders, each then repaired by placing first what reached the top; if that misses the bound and the
    items are few, CP-SAT looks for a proven optimum. Deterministic. Offsets are multiples of `alignment`.
    """
    if not items:
        return Layout({}, 0, 0, True)
    bound = max(live_bytes(items))
    best: tuple[int, dict[str, int]] | None = None
    few = sum(len(item.parts) for item in items) <= MANY_PARTS
    for key in ORDERS if few else ORDERS[:1]:
        order, patience = sorted(items, key=key), REPAIRS if few else 1
        while patience > 0:
            offsets = _place(order, alignment)
            top = _top(items, offsets)
            patience -= 1
            if best is None or top < best[0]:
                best, patience = (top, offsets), REPAIRS if few else 0
            if best[0] <= _aligned(bound):
                return Layout(best[1], best[0], bound, True)
            highest = {item.name for item in items if offsets[item.name] + item.bytes == top}
            order.sort(key=lambda item: item.name not in highest)
    assert best is not None
    solved = (
        _solve(items, bound, best[0], alignment) if sum(len(item.parts) for item in items) <= SOLVER_PARTS else None
    )
    if solved is None:
        return Layout(best[1], best[0], bound, False)
    offsets, optimal = solved
    return Layout(offsets, _top(items, offsets), bound, optimal)


ORDERS: tuple[Callable[[Item], tuple], ...] = (
    lambda item: (-item.bytes, item.first, item.name),
    lambda item: (item.first, -item.last, item.name),
    lambda item: (-item.bytes * (item.last - item.first + 1), item.name),
    lambda item: (item.first - item.last, item.name),
)
"""Largest first; earliest first; largest area first; longest-lived first. None wins everywhere."""


def pack_banks(items: Sequence[Item], capacities: Sequence[int], alignment: int = ALIGNMENT) -> dict[str, int] | None:
    """A bank for each home, so that each bank's items fit into its capacity; None where no order finds one.

    Homes go, in several orders, into the first bank that holds all their items.
    """
    homes: dict[str, list[Item]] = {}
    for item in items:
        homes.setdefault(item.home, []).append(item)
    for key in ORDERS:
        banks = _fill_banks(sorted(homes.values(), key=lambda members: min(map(key, members))), capacities, alignment)
        if banks is not None:
            return banks
    return None


def _fill_banks(homes: Sequence[list[Item]], capacities: Sequence[int], alignment: int) -> dict[str, int] | None:
    placed: list[list[Item]] = [[] for _ in capacities]
    banks: dict[str, int] = {}
    for members in homes:
        for bank, capacity in enumerate(capacities):
            order = placed[bank] + members
            if _top(order, _place(order, alignment)) <= capacity:
                placed[bank] = order
                banks[members[0].home] = bank
                break
        else:
            return None
    return banks


def live_bytes(items: Sequence[Item]) -> list[int]:
    """Bytes in use at each time."""
    changes = np.zeros(max((item.last for item in items), default=-1) + 2, np.int64)
    for item in items:
        for part in item.parts:
            changes[part.first] += part.bytes
            changes[part.last + 1] -= part.bytes
    return np.cumsum(changes)[:-1].tolist()


def _top(items: Sequence[Item], offsets: dict[str, int]) -> int:
    return max(_aligned(offsets[item.name] + item.bytes) for item in items)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _place(order: Sequence[Item], alignment: int) -> dict[str, int]:
    """Each item in turn at the lowest offset where it overlaps none before it."""
    offsets: dict[str, int] = {}
    placed = np.empty((4, sum(len(item.parts) for item in order)), np.int64)  # start, end, first, last
    count = 0
    for item in order:
        offset = offsets[item.name] = _lowest_gap(item, placed[:, :count], alignment)
        for part in item.parts:
            placed[:, count] = (offset + part.offset, offset + part.offset + part.bytes, part.first, part.last)
            count += 1
    return offsets


def _lowest_gap(item: Item, placed: np.ndarray, alignment: int) -> int:
    start, end, first, last = placed
    lows, highs = [], []  # an offset in (low, high) would overlap
    for part in item.parts:
        beside = (first <= part.last) & (last >= part.first)
        lows.append(start[beside] - part.offset - part.bytes)
        highs.append(end[beside] - part.offset)
    low, high = np.concatenate(lows), np.concatenate(highs)
    order = np.argsort(low, kind="stable")
    low, high = low[order], high[order]
    reached = -(-np.maximum.accumulate(np.concatenate(([0], high))) // alignment) * alignment
    fits = np.flatnonzero(reached[:-1] <= low)
    return int(reached[fits[0]] if len(fits) else reached[-1])


def _solve(items: Sequence[Item], bound: int, upper: int, alignment: int) -> tuple[dict[str, int], bool] | None:
    """The same by CP-SAT, within some seconds of deterministic time; None without ortools or where it finds nothing."""
    try:
        from ortools.sat.python import cp_model
    except ImportError:
        return None
    model = cp_model.CpModel()
    top = model.new_int_var(bound, upper, "top")
    starts, times, spaces = {}, [], []
    for item in items:
        unit = model.new_int_var(0, max(0, upper - item.bytes) // alignment, item.name)
        starts[item.name] = unit
        model.add(unit * alignment + item.bytes <= top)
        for part in item.parts:
            times.append(model.new_fixed_size_interval_var(part.first, part.last - part.first + 1, ""))
            begin = unit * alignment + part.offset
            spaces.append(model.new_fixed_size_interval_var(begin, part.bytes, ""))
    model.add_no_overlap_2d(times, spaces)
    model.minimize(top)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    solver.parameters.catch_sigint_signal = False  # or Ctrl-C would end the process without its clean-up, ever after
    solver.parameters.max_deterministic_time = SOLVER_SECONDS
    solver.parameters.max_time_in_seconds = 100 * SOLVER_SECONDS  # a busy machine plans as an idle one does
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    return {name: solver.value(unit) * alignment for name, unit in starts.items()}, status == cp_model.OPTIMAL
