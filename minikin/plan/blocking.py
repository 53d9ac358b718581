"""How many rows a call makes and which kernels take scratch memory for speed, by what they cost: instructions against RAM."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from minikin.ops.opdef import get_op
from minikin.plan.kernels import Aim
from minikin.plan.layers import Layer

TRIALS = 8
"""Changes whose bytes are found before one of them is made: those that save most instructions."""

Peak = Callable[[Sequence[Layer]], int]
"""Bytes alive at once where a network's layers are these."""


@dataclass(frozen=True)
class Change:
    """Layer `index` in another way, which takes so many instructions fewer."""

    index: int
    layer: Layer
    saved: float

    def made(self, layers: Sequence[Layer]) -> list[Layer]:
        return [self.layer if index == self.index else layer for index, layer in enumerate(layers)]


def instructions(layers: Sequence[Layer], aim: Aim) -> float:
    return sum(aim.instructions(layer.kernel, layer.view, layer.rows) for layer in layers)


def widen_calls(layers: Sequence[Layer], aim: Aim, peak: Peak) -> list[Layer]:
    """Calls of several rows and roomy kernels, where the network is allowed fewer instructions than it takes without.

    Of the changes that save most instructions that first which saves most for a byte, until it is enough.
    """
    layers, allowed = list(layers), aim.slack * (aim.reference or 0.0)
    over = instructions(layers, aim) - allowed
    while over > 0:
        changes = sorted(_wider(layers, aim), key=lambda change: change.saved, reverse=True)[:TRIALS]
        if not changes:
            break
        now = peak(layers)
        best = max(changes, key=lambda c: min(c.saved, over) / (max(peak(c.made(layers)) - now, 0) + 1))
        layers, over = best.made(layers), over - best.saved
    return layers


def _wider(layers: Sequence[Layer], aim: Aim) -> Iterator[Change]:
    for index, layer in enumerate(layers):
        roomy = get_op(layer.view.node.op).roomy(layer.kernel, layer.view)
        if roomy:
            yield from _quicker(index, layer, replace(layer, kernel=roomy), aim)
        for rows in {2, layer.kernel.whole_rows(layer.view)} if layer.by_rows else ():
            if layer.rows < rows <= min(layer.kernel.whole_rows(layer.view), layer.view.y.frame.rows):
                yield from _quicker(index, layer, replace(layer, rows=rows), aim)


def spend_spare_ram(layers: Sequence[Layer], isa: str, aim: Aim, peak: Peak) -> list[Layer]:
    """Other kernels and calls of more rows, where fewer instructions take no more RAM: first what saves most."""
    layers, least = list(layers), peak(layers)
    settled: set[int] = set()
    for change in sorted(_others(layers, isa, aim), key=lambda change: change.saved, reverse=True):
        if change.index not in settled and peak(made := change.made(layers)) <= least:
            layers = made
            settled.add(change.index)
    return layers


def take_roomy_kernels(layers: Sequence[Layer], peak: Peak) -> list[Layer]:
    """Roomy kernels in all layers that have one, where the network needs no more RAM: one form of code is enough then."""
    forms = [get_op(layer.view.node.op).roomy(layer.kernel, layer.view) for layer in layers]
    made = [replace(layer, kernel=form or layer.kernel) for layer, form in zip(layers, forms, strict=True)]
    return made if any(forms) and peak(made) <= peak(layers) else list(layers)


def _others(layers: Sequence[Layer], isa: str, aim: Aim) -> Iterator[Change]:
    for index, layer in enumerate(layers):
        for kernel in get_op(layer.view.node.op).candidates(layer.view, isa):
            for rows in {1, kernel.rows(layer.view), kernel.whole_rows(layer.view)} if layer.by_rows else {1}:
                other = replace(layer, kernel=kernel, rows=min(rows, layer.view.y.frame.rows))
                yield from _quicker(index, layer, other, aim)


def _quicker(index: int, layer: Layer, other: Layer, aim: Aim) -> Iterator[Change]:
    saved = instructions([layer], aim) - instructions([other], aim)
    if saved > 0:
        yield Change(index, other, saved)
