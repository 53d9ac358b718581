"""Which kernel computes each layer, and so in which form its weights are stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from minikin.graph import View
from minikin.ops.opdef import Kernel, get_op


def choose_kernels(views: Sequence[View], isa: str, *, fast: bool = False, small: bool = False) -> dict[str, Kernel]:
    """The kernel of each node, by its name: weights dense, or with `small` in the form that takes the fewest bytes.

    A form is taken only where it saves more over all layers than its kernel's code takes. Raises UnsupportedError.
    """
    choices = {view.node.name: get_op(view.node.op).choices(view, isa, fast=fast) for view in views}
    if not small:
        return {name: kernels[0] for name, kernels in choices.items()}
    sizes = {
        view.node.name: {k: get_op(view.node.op).stored_bytes(k, view) for k in choices[view.node.name]}
        for view in views
    }
    best = {name: min(sizes[name], key=sizes[name].__getitem__) for name in sizes}
    while wasted := _wasted(best, sizes):
        for own in sizes.values():
            own.pop(wasted, None)
        best = {name: min(own, key=own.__getitem__) for name, own in sizes.items()}
    return best


def _wasted(best: dict[str, Kernel], sizes: dict[str, dict[Kernel, int]]) -> Kernel | None:
    """A chosen kernel that saves less than its code takes, if there is one: that which saves least."""
    saved: dict[Kernel, int] = defaultdict(int)
    for name, kernel in best.items():
        others = [size for other, size in sizes[name].items() if other is not kernel]
        if others:
            saved[kernel] += min(others) - sizes[name][kernel]
    poor = {kernel: size for kernel, size in saved.items() if kernel.storage != "dense" and size <= kernel.code_bytes}
    return min(poor, key=poor.__getitem__, default=None)
