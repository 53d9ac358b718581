"""Predicted instructions: counts of a kernel's loops (ops/work.py) times what each costs, fitted on the virtual board.

costs.json holds what was fitted: for each kind of core, compiler and flags, kernel -> count -> instructions, and the version of
the compiler. `python benchmarks/fit_costs.py` makes it again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from minikin.boards import Core
from minikin.graph import View
from minikin.ops.opdef import Kernel, get_op
from minikin.ops.work import Work, element_work

BUILDS = {"speed": "speed", "balanced": "balanced", "ram": "balanced", "flash": "flash"}
"""Which fit serves a goal: ram has the code of balanced."""


@dataclass(frozen=True)
class Costs:
    """Instructions of each count of each kernel, by `Kernel.key`, for one core, compiler and goal."""

    compiler: str
    kernels: Mapping[str, Mapping[str, float]]

    def instructions(self, key: str, work: Work) -> float | None:
        """The sum of count x cost; None for a kernel that was not fitted."""
        own = self.kernels.get(key)
        return None if own is None else sum(cost * work.get(count, 0.0) for count, cost in own.items())

    def layer(self, kernel: Kernel, view: View, rows: int) -> float | None:
        """All calls of a kernel for a node, `rows` output rows each, as if its tensors lay in one piece."""
        return self.instructions(kernel.key, layer_work(kernel, view, rows, view.y.frame.rows))


def costs_of(core: Core, toolchain: str, optimize: str) -> Costs | None:
    """None where nothing was fitted for such a core. Cores of one instruction set share their costs."""
    row = _load().get(f"{fitted_core(core)} {toolchain} {BUILDS[optimize]}")
    return None if row is None else Costs(row["compiler"], row["kernels"])


def fitted_core(core: Core) -> str:
    """The core whose counts stand for this one's: those of one instruction set run nearly the same code."""
    return f"{core.family} {core.isa}"


def layer_work(kernel: Kernel, view: View, rows: int, made: int) -> Work:
    """The counts of a layer of which `made` rows are made, `rows` in a call."""
    rule = get_op(view.node.op).work or element_work
    rows, made = max(min(rows, made), 1), max(made, 1)
    work = rule(view, rows, made)
    if kernel.work:
        work = kernel.work(view, rows, made, work)
    exact = {f"exact_{name}": count for name, count in work.items() if name.endswith("output") and "plain" not in name}
    return work | exact if kernel.is_exact else work


@cache
def _load() -> dict[str, dict]:
    path = resources.files("minikin") / "plan" / "costs.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
