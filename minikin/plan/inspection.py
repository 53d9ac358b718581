"""What a network asks for, layer by layer, before anything is compiled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from minikin.boards import STACK_BYTES, Board
from minikin.display import Displayed, Table
from minikin.graph import Graph, View
from minikin.ops.opdef import get_op
from minikin.passes.removal import Removal
from minikin.passes.shrink import shrink
from minikin.plan.plan import make_plan


@dataclass(frozen=True)
class LayerRow:
    """One layer: MACs, parameters, bytes of activations alive while it runs; the smallest form of its weights in flash."""

    name: str
    op: str
    kernel: str
    shape: tuple[int, ...]
    dtype: str
    macs: int
    parameters: int
    live_bytes: int
    storage: str
    stored_bytes: int


@dataclass(frozen=True)
class Inspection(Displayed):
    """Totals and rows of the model as it is, and what is left of it after lossless shrinking, which is what `compile` takes.

    `fits` compares the shrunk model's arena, with the stack that it has to leave, and its weights with a board's RAM and
    flash; code is not counted.
    """

    name: str
    layers: tuple[LayerRow, ...]
    macs: int
    parameters: int
    weight_bytes: int
    peak_bytes: int
    peak_layer: str | None
    bound_bytes: int
    optimal: bool
    board: str | None
    ram_bytes: int | None
    flash_bytes: int | None
    fits: bool | None
    shrunk_macs: int
    shrunk_weight_bytes: int
    shrunk_peak_bytes: int
    removed: tuple[Removal, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def summary(self) -> str:
        """Totals, the peak and its layer, and the verdict for the board."""
        text = (
            f"{self.parameters:,} parameters, {self.macs:,} MACs; peak {self.peak_bytes:,} bytes of RAM at "
            f"{self.peak_layer}"
        )
        if not self.optimal:
            text += f" (no layout is known to need less; the bound is {self.bound_bytes:,})"
        if self.removed:
            text += (
                f"\nafter lossless shrinking {self.shrunk_macs:,} MACs, {self.shrunk_weight_bytes:,} bytes of weights "
                f"(of {self.weight_bytes:,}), peak {self.shrunk_peak_bytes:,} bytes:"
            )
            text += "".join(f"\n  {r.layer}: {r.count:,} {r.what} ({r.why})" for r in self.removed)
        if self.fits is None or self.ram_bytes is None or self.flash_bytes is None:
            return text
        verdict = "fits" if self.fits else "does NOT fit"
        return (
            f"{text}\n{verdict} {self.board}: RAM {self.shrunk_peak_bytes:,} of {self.ram_bytes:,} bytes, "
            f"weights {self.shrunk_weight_bytes:,} of {self.flash_bytes:,} bytes of flash (before packing, code not counted)"
        )

    def table(self) -> Table:
        table = Table(
            "layer",
            "kernel",
            "output",
            ">MACs",
            ">params",
            ">RAM",
            ">smallest form",
            title=self.name,
            caption=self.summary(),
        )
        for row in self.layers:
            shape = "x".join(map(str, row.shape[1:] if len(row.shape) > 1 and row.shape[0] == 1 else row.shape))
            form = f"{row.storage} {row.stored_bytes:,}" if row.stored_bytes else ""
            figures = (f"{row.macs:,}", f"{row.parameters:,}", f"{row.live_bytes:,}", form)
            table.add_row(row.name, row.kernel, shape, *figures)
        return table


def smallest_form(view: View, isa: str) -> tuple[str, int]:
    """(storage, bytes in flash) of the form of a layer's weights that takes the fewest bytes, its decoder not counted."""
    op = get_op(view.node.op)
    sizes = {kernel.storage: op.stored_bytes(kernel, view) for kernel in op.choices(view, isa)}
    storage = min(sizes, key=sizes.__getitem__)
    return storage, sizes[storage]


def inspect(graph: Graph, board: Board | None = None) -> Inspection:
    """Layers, shapes, parameters, MACs, memory alive at each step, the peak and its layer, whether it fits `board`."""
    isa = board.core.isa if board else "c"
    plan, result = make_plan(graph, isa), shrink(graph)
    peak = make_plan(result.graph, isa).arena_bytes
    rows = []
    for step in plan.steps:
        view, op = step.layer.view, get_op(step.layer.view.node.op)
        constants = [t for t in view.inputs if t is not None and t.is_constant]
        parameters = sum(t.size for t in constants)
        rows.append(
            LayerRow(
                step.name,
                op.name,
                step.layer.kernel.name,
                view.y.shape,
                view.y.dtype,
                op.macs(view),
                parameters,
                step.live_bytes,
                *smallest_form(view, isa),
            )
        )
    used = {name for step in plan.steps for name in step.layer.view.node.inputs if name}
    weights = sum(graph.tensors[name].nbytes for name in used if graph.tensors[name].is_constant)
    return Inspection(
        name=graph.name,
        layers=tuple(rows),
        macs=sum(row.macs for row in rows),
        parameters=graph.parameters,
        weight_bytes=weights,
        peak_bytes=plan.arena_bytes,
        peak_layer=plan.peak.name if plan.peak else None,
        bound_bytes=plan.bound_bytes,
        optimal=plan.optimal,
        board=board.name if board else None,
        ram_bytes=board.ram_bytes if board else None,
        flash_bytes=board.flash_bytes if board else None,
        fits=peak + STACK_BYTES <= board.ram_bytes and result.after.weight_bytes <= board.flash_bytes
        if board
        else None,
        shrunk_macs=result.after.macs,
        shrunk_weight_bytes=result.after.weight_bytes,
        shrunk_peak_bytes=peak,
        removed=result.removed,
    )
