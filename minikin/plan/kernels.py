"""Which kernel computes each layer, and so in which form its weights are stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from minikin.graph import View
from minikin.ops.opdef import Kernel, get_op
from minikin.plan.costs import Costs

SLACK = 1.05
"""By how much smaller weights may slow down a network that is not built for flash."""


@dataclass(frozen=True)
class Aim:
    """What kernels are chosen for.

    From the fewest instructions on, weights are stored in fewer bytes while all layers together take at most `slack` times the
    instructions of `reference`, and SLACK times the fewest (None: `slack` times the fewest alone). With `least_ram` kernels
    take as little scratch memory as there is instead. `fast` kernels spend flash and scratch memory for speed. `storage` is a
    form of weights, which every layer that can takes. `costs` are those fitted for the build, if any.
    """

    fast: bool = False
    least_ram: bool = False
    slack: float = SLACK
    reference: float | None = None
    storage: str | None = None
    costs: Costs | None = field(default=None, repr=False)

    def instructions(self, kernel: Kernel, view: View, rows: int) -> float:
        """Of a layer whose calls make so many rows: those predicted from fitted costs, or about so many."""
        fitted = self.costs.layer(kernel, view, rows) if self.costs else None
        return get_op(view.node.op).instructions(kernel, view) if fitted is None else fitted

    def rows(self, kernel: Kernel, view: View, *, whole: bool) -> int:
        """Of a call: one where RAM matters most; several where they take no more of it, or speed wants them."""
        if self.least_ram:
            return 1
        rows = kernel.whole_rows if whole and (self.fast or kernel.storage != "dense") else kernel.rows
        return min(rows(view), view.y.frame.rows)


ANY = Aim()


@dataclass(frozen=True)
class Cost:
    """Bytes of weights in flash, of scratch memory, and about how many instructions."""

    stored_bytes: int
    scratch_bytes: int
    instructions: float


Choices = Mapping[str, dict[Kernel, Cost]]
"""Of each kernel that may compute a node, by the node's name."""


def choose_kernels(views: Sequence[View], isa: str, aim: Aim, *, whole: bool = False) -> dict[str, Kernel]:
    """The kernel of each node, by its name; `whole`: tensors are kept whole.

    A form of weights is taken only where it saves more, over all layers, than its kernel's code takes.
    Raises UnsupportedError.
    """
    if aim.storage is not None:
        own = {view.node.name: get_op(view.node.op).choices(view, isa, fast=aim.fast) for view in views}
        return {
            name: next((k for k in kernels if k.storage == aim.storage), kernels[0]) for name, kernels in own.items()
        }
    kernels = {view.node.name: _candidates(view, isa, aim) for view in views}
    if aim.costs and any(kernel.key not in aim.costs.kernels for own in kernels.values() for kernel in own):
        slack = aim.slack if aim.reference is None else SLACK
        aim = replace(aim, costs=None, reference=None, slack=slack)  # what is fitted does not compare with what is not
    found = {view.node.name: _costs(view, kernels[view.node.name], aim, whole) for view in views}
    if aim.least_ram:
        return {
            name: min(own, key=lambda k: (own[k].scratch_bytes, own[k].instructions)) for name, own in found.items()
        }
    while wasted := _wasted(best := _best(found, aim), found):
        for own in found.values():
            own.pop(wasted, None)
    return best


def _candidates(view: View, isa: str, aim: Aim) -> list[Kernel]:
    op = get_op(view.node.op)
    return (op.candidates if aim.least_ram else op.choices)(view, isa, fast=aim.fast)


def _costs(view: View, kernels: Sequence[Kernel], aim: Aim, whole: bool) -> dict[Kernel, Cost]:
    op, found = get_op(view.node.op), {}
    for kernel in kernels:
        rows = aim.rows(kernel, view, whole=whole)
        stored = op.stored_bytes(kernel, view) if len(kernels) > 1 else 0  # else it does not matter
        found[kernel] = Cost(stored, kernel.scratch(view, rows), aim.instructions(kernel, view, rows))
    return found


def _best(costs: Choices, aim: Aim) -> dict[str, Kernel]:
    """From the fewest instructions on, the exchange that saves most bytes for an instruction, and so on."""
    best = {name: min(own, key=lambda k: own[k].instructions) for name, own in costs.items()}
    fewest = sum(costs[name][kernel].instructions for name, kernel in best.items())
    allowed = aim.slack * fewest if aim.reference is None else min(aim.slack * aim.reference, SLACK * fewest)
    left = allowed - fewest
    while True:
        exchanges = []
        for name, kernel in best.items():
            now = costs[name][kernel]
            for other, cost in costs[name].items():
                saved, more = now.stored_bytes - cost.stored_bytes, cost.instructions - now.instructions
                if saved > 0 and more <= left:
                    exchanges.append((saved / max(more, 1), name, other, more))
        if not exchanges:
            return best
        _, name, kernel, more = max(exchanges, key=lambda exchange: exchange[0])
        best[name], left = kernel, left - more


def _wasted(best: dict[str, Kernel], costs: Choices) -> Kernel | None:
    """A chosen kernel that saves fewer bytes of weights than its code takes and is chosen for nothing else, or None.

    Of several that which saves least.
    """
    saved: dict[Kernel, int] = defaultdict(int)
    for name, kernel in best.items():
        own = costs[name]
        if kernel.storage != "dense":
            dense = next(cost for other, cost in own.items() if other.storage == "dense")
            others = min(cost.stored_bytes for other, cost in own.items() if other is not kernel)
            quicker = own[kernel].instructions < dense.instructions
            saved[kernel] += dense.stored_bytes if quicker else others - own[kernel].stored_bytes
    poor = {kernel: size for kernel, size in saved.items() if size <= kernel.code_bytes}
    return min(poor, key=poor.__getitem__, default=None)
