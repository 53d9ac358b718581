"""Which kernel computes each layer, and so in which form its weights are stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from minikin.graph import View
from minikin.ops.opdef import Kernel, get_op
from minikin.plan.costs import Costs

SMALLEST = "smallest"
SLACK = 1.05
"""By how much smaller weights may slow down a balanced network; its compiler's flags take the rest of the 15%."""


@dataclass(frozen=True)
class Cost:
    """Bytes of weights in flash, and about how many instructions."""

    stored_bytes: int
    instructions: float


Choices = Mapping[str, dict[Kernel, Cost]]
"""Of each kernel that may compute a node, by the node's name."""


def choose_kernels(
    views: Sequence[View],
    isa: str,
    *,
    fast: bool = False,
    storage: str | None = None,
    costs: Costs | None = None,
) -> dict[str, Kernel]:
    """The kernel of each node, by its name.

    `storage` is a form of weights, which every layer that can takes, or SMALLEST: the fewest bytes of weights. Without it the
    fewest instructions are taken (`fast`), or the fewest bytes within SLACK of the fewest instructions. Then a form is taken
    only where it saves more, over all layers, than its kernel's code takes. `costs` are those fitted for the build, if any.
    Raises UnsupportedError.
    """
    if storage not in (None, SMALLEST):
        own = {view.node.name: get_op(view.node.op).choices(view, isa, fast=fast) for view in views}
        return {name: next((k for k in kernels if k.storage == storage), kernels[0]) for name, kernels in own.items()}
    found: Choices = {}
    for view in views:
        op = get_op(view.node.op)
        choices = op.choices(view, isa, fast=fast)
        one = len(choices) == 1  # and its cost does not matter
        found[view.node.name] = {
            kernel: Cost(0, 0) if one else Cost(op.stored_bytes(kernel, view), _instructions(kernel, view, costs))
            for kernel in choices
        }
    while wasted := _wasted(best := _best(found, fast=fast, small=storage == SMALLEST), found):
        for own in found.values():
            own.pop(wasted, None)
    return best


def _instructions(kernel: Kernel, view: View, costs: Costs | None) -> float:
    """Those predicted from fitted costs, or about so many."""
    fitted = costs.layer(kernel, view, kernel.rows(view)) if costs else None
    return get_op(view.node.op).instructions(kernel, view) if fitted is None else fitted


def _best(costs: Choices, *, fast: bool, small: bool) -> dict[str, Kernel]:
    """From the fewest instructions on, the exchange that saves most bytes for an instruction, and so on."""
    if small:
        return {name: min(own, key=lambda k: own[k].stored_bytes) for name, own in costs.items()}
    best = {name: min(own, key=lambda k: own[k].instructions) for name, own in costs.items()}
    if fast:
        return best
    left = (SLACK - 1) * sum(costs[name][kernel].instructions for name, kernel in best.items())
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
