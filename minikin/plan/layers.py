"""What one layer reads and writes, call by call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from minikin.errors import UnsupportedError
from minikin.graph import Graph, Tensor, View
from minikin.ops.opdef import Kernel, get_op
from minikin.plan.kernels import Aim, choose_kernels

MAX_CALLS = 1 << 18
"""Of all layers in one inference; a plan holds every one of them."""

Rows = tuple[str, int, int]
"""Rows [lo, hi) of a tensor."""


@dataclass(frozen=True)
class Layer:
    """A node with its kernel, computed by `calls` calls of up to `rows` output rows each.

    A frame kernel takes one call; a fold kernel one for each input row; `inputs` are the tensors that it takes pointers to,
    where a reshape counts as the tensor that it renames.
    """

    view: View
    kernel: Kernel
    inputs: tuple[Tensor, ...]
    rows: int = 1

    @property
    def name(self) -> str:
        return self.view.node.name

    @property
    def stored_bytes(self) -> int:
        """Bytes of flash that grow with the model: weights, biases, requantization constants, as its kernel reads them."""
        return get_op(self.view.node.op).stored_bytes(self.kernel, self.view)

    @property
    def operands(self) -> tuple[Tensor, ...]:
        """The inputs in the shapes in which the op sees them."""
        return get_op(self.view.node.op).pointers(self.view)

    @property
    def by_rows(self) -> bool:
        """Whether it computes output rows from windows of input rows."""
        return not self.kernel.folds and self.window(0, 1) is not None

    @property
    def calls(self) -> int:
        if self.kernel.folds:
            return self.view.x.frame.rows
        return -(-self.view.y.frame.rows // self.rows) if self.by_rows else 1

    @property
    def rows_of_calls(self) -> frozenset[int]:
        """How many output rows its calls make: fewer in the last one where they do not divide the frame."""
        batch, rows, _ = self.view.y.frame
        if batch > 1:
            return frozenset({1})
        return frozenset({self.rows, rows % self.rows or self.rows})

    def window(self, lo: int, hi: int) -> tuple[tuple[int, int], ...] | None:
        """Input rows that output rows [lo, hi) need, for each pointer; None: all of them. A batch is computed whole."""
        if self.view.y.frame.batch > 1:
            return None
        return get_op(self.view.node.op).rows(self.view, lo, hi)

    def output_rows(self, call: int) -> tuple[int, int]:
        """The output rows that a call computes; the last call of a fold kernel writes them all."""
        if self.by_rows:
            return call * self.rows, min((call + 1) * self.rows, self.view.y.frame.rows)
        return 0, self.view.y.frame.rows if call == self.calls - 1 else 0

    def reads(self, call: int) -> Iterator[Rows]:
        windows = self.window(*self.output_rows(call)) if self.by_rows else None
        for index, (tensor, operand) in enumerate(zip(self.inputs, self.operands, strict=True)):
            if tensor.is_constant:
                continue
            lo, hi = windows[index] if windows else (0, operand.frame.rows)
            if self.kernel.folds:
                lo, hi = call, call + 1
            yield tensor.name, *_rows_of(tensor, operand, max(lo, 0), min(hi, operand.frame.rows))

    def writes(self, call: int) -> Iterator[Rows]:
        lo, hi = self.output_rows(call)
        for tensor in self.view.outputs:
            yield (tensor.name, lo, hi) if self.by_rows else (tensor.name, 0, tensor.frame.rows if hi else 0)


def _rows_of(tensor: Tensor, operand: Tensor, lo: int, hi: int) -> tuple[int, int]:
    """Rows of a tensor that hold rows [lo, hi) of the same bytes in another shape."""
    if tensor.frame == operand.frame:
        return lo, hi
    if max(tensor.frame.batch, operand.frame.batch) > 1:
        return 0, tensor.frame.rows
    size, of = operand.frame.row_elems, tensor.frame.row_elems
    return lo * size // of, -(-hi * size // of)


def make_layers(graph: Graph, isa: str, aim: Aim, *, whole: bool = False) -> tuple[list[Layer], dict[str, str]]:
    """The layers in order, and for each reshaped tensor the tensor whose bytes it is. What no output needs is left out.

    `whole`: tensors are kept whole. Raises UnsupportedError where no kernel takes a node.
    """
    roots: dict[str, str] = {}
    layers = []
    views = _needed(graph)
    kernels = choose_kernels([view for view in views if not get_op(view.node.op).alias], isa, aim, whole=whole)
    for view in views:
        op = get_op(view.node.op)
        if op.alias:
            roots[view.y.name] = roots.get(view.x.name, view.x.name)
            continue
        inputs = tuple(graph.tensors[roots.get(t.name, t.name)] for t in op.pointers(view))
        kernel = kernels[view.node.name]
        layers.append(Layer(view, kernel, inputs, aim.rows(kernel, view, whole=whole)))
    longest = max(layers, key=lambda layer: layer.calls, default=None)
    if longest and sum(layer.calls for layer in layers) > MAX_CALLS:
        raise UnsupportedError(
            f"{graph.name} takes more than {MAX_CALLS:,} calls of kernels, {longest.calls:,} of them in {longest.name}: "
            "give it fewer rows (axis 1) and wider ones"
        )
    return layers, roots


def _needed(graph: Graph) -> list[View]:
    """The nodes that an output depends on, in order."""
    wanted = set(graph.outputs)
    views = []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
            views.append(graph.view(node))
    return views[::-1]
