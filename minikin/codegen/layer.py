"""One layer as a C function: addresses of rows in, one kernel call, addresses of rows out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from minikin.graph import Tensor
from minikin.ops.opdef import get_op
from minikin.plan import Layer, Step

C_TYPES = {
    "int8": "int8_t",
    "uint8": "uint8_t",
    "int16": "int16_t",
    "uint16": "uint16_t",
    "int32": "int32_t",
    "float32": "float",
    "float16": "uint16_t",
}
SUFFIX = {"int8": "s8", "int32": "s32", "float32": "f32"}


@dataclass(frozen=True)
class LayerText:
    """What the template shows of one step; a step that shares a function has no `body`."""

    index: int
    name: str
    struct: str
    comment: str
    fields: list[str]
    parameters: str
    body: list[str]
    summary: str


@dataclass(frozen=True)
class Address:
    """Where a tensor's rows lie as C: `base + step * y`, or `base + step * at[y]` where a table says so.

    `step` None: the rows lie one behind the other.
    """

    tensor: Tensor
    base: str
    step: int | None = None
    at: str = ""

    @property
    def row_step(self) -> int:
        """In elements."""
        return self.tensor.frame.row_elems if self.step is None else self.step

    def row(self, y: str) -> str:
        if self.row_step == 0:
            return self.base
        if self.at:
            return f"{self.base} + {self.row_step} * {self.at}[{y}]"
        return f"{self.base} + {y} * {self.row_step}"

    def rows(self, into: str, count: int, first: str) -> str:
        """A call that fills `into` with the addresses of rows first, first + 1, ..."""
        suffix, height = SUFFIX[self.tensor.dtype], self.tensor.frame.rows
        if self.at:
            return f"mk_rows_at_{suffix}({into}, {count}, {self.base}, {self.at}, {self.row_step}, {height}, {first});"
        return f"mk_rows_{suffix}({into}, {count}, {self.base}, {self.row_step}, {height}, {first});"


def layer_function(step: Step, index: int, address: Callable[[str], Address], *, solo: bool) -> tuple[str, list[str]]:
    """(parameters, statements) of a layer's function; one that runs alone loops over its rows by itself."""
    layer = step.layer
    if layer.kernel.folds:
        return _looped(layer.calls, f"row < {layer.calls}; ++row", "row", list(_fold(layer, index, address)), solo)
    if layer.by_rows:
        step_text = "++y" if layer.rows == 1 else f"y += {layer.rows}"
        return _looped(
            len(step.times), f"y < {step.rows_made}; {step_text}", "y", list(_rows(layer, index, address)), solo
        )
    if get_op(layer.view.node.op).rows(layer.view, 0, 1) is not None:
        return "void", list(_batch(layer, index, address))
    return "void", list(_frame(layer, index, address))


def _looped(calls: int, loop: str, counter: str, body: list[str], solo: bool) -> tuple[str, list[str]]:
    if not solo:
        return f"int {counter}", body
    if calls == 1:
        return "void", [f"const int {counter} = 0;", *body]
    return "void", [f"for (int {counter} = 0; {loop}) {{", *(f"    {line}" for line in body), "}"]


def _frame(layer: Layer, index: int, address: Callable[[str], Address]) -> Iterator[str]:
    """A whole tensor by one call."""
    tensors = (*layer.inputs, *layer.view.outputs)
    yield f"{layer.kernel.name}(&{layer.name}_params, {', '.join(address(t.name).base for t in tensors)});"
    for tensor in layer.view.outputs:
        yield trace(index, "0", address(tensor.name).base, tensor.nbytes)


def _fold(layer: Layer, index: int, address: Callable[[str], Address]) -> Iterator[str]:
    """One input row."""
    (x, *_), y = operands(layer, address), address(layer.view.y.name)
    yield f"{layer.kernel.name}(&{layer.name}_params, {x.row('row')}, {y.base}, row);"
    yield trace(index, "row", y.base, f"row == {layer.calls - 1} ? {layer.view.y.nbytes} : 0")


def _rows(layer: Layer, index: int, address: Callable[[str], Address]) -> Iterator[str]:
    """`layer.rows` output rows from row y on."""
    view = layer.view
    for number, x in enumerate(operands(layer, address)):
        first, count, stride = input_window(layer, number)
        yield f"const {C_TYPES[x.tensor.dtype]} *in{number}[{count}];"
        yield x.rows(f"in{number}", count, _affine("y", stride, first))
    height = view.y.frame.rows
    rows = f"mk_min({layer.rows}, {height} - y)" if height % layer.rows else str(layer.rows)
    yield f"{C_TYPES[view.y.dtype]} *out = {address(view.y.name).row('y')};"
    yield f"{layer.kernel.name}(&{layer.name}_params, {argument_names(layer)}, out, {rows});"
    yield trace(index, "y", "out", f"{rows} * {view.y.row_bytes}" if layer.rows > 1 else view.y.row_bytes)


def _batch(layer: Layer, index: int, address: Callable[[str], Address]) -> Iterator[str]:
    """All rows of all frames of a batch, one after the other."""
    view, frame = layer.view, layer.view.y.frame
    yield f"for (int n = 0; n < {frame.batch}; ++n)"
    yield f"for (int y = 0; y < {frame.rows}; ++y) {{"
    for number, x in enumerate(operands(layer, address)):
        first, count, stride = input_window(layer, number)
        tensor = x.tensor
        frame_base = Address(tensor, f"{x.base} + n * {tensor.frame.rows * tensor.frame.row_elems}")
        yield f"    const {C_TYPES[tensor.dtype]} *in{number}[{count}];"
        yield f"    {frame_base.rows(f'in{number}', count, _affine('y', stride, first))}"
    row = f"(n * {frame.rows} + y)"
    yield f"    {C_TYPES[view.y.dtype]} *out = {address(view.y.name).row(row)};"
    yield f"    {layer.kernel.name}(&{layer.name}_params, {argument_names(layer)}, out, 1);"
    yield f"    {trace(index, row, 'out', view.y.row_bytes)}"
    yield "}"


def operands(layer: Layer, address: Callable[[str], Address]) -> list[Address]:
    """Where the inputs lie, with the rows that the op sees there."""
    return [replace(address(x.name), tensor=seen) for x, seen in zip(layer.inputs, layer.operands, strict=True)]


def argument_names(layer: Layer) -> str:
    return ", ".join(f"in{number}" for number in range(len(layer.inputs)))


def trace(index: int, row: str, data: str, size: int | str) -> str:
    return f"mk_trace({index}, {row}, (const int8_t *)({data}), {size});"


def trace_count(layer: Layer) -> int:
    """How often `mk_trace` is called in one call of a layer."""
    if layer.kernel.folds or layer.by_rows:
        return 1
    if get_op(layer.view.node.op).rows(layer.view, 0, 1) is not None:
        return layer.view.y.frame.batch * layer.view.y.frame.rows
    return len(layer.view.outputs)


def input_window(layer: Layer, number: int) -> tuple[int, int, int]:
    """(first, count, stride): output rows from y on read input rows [stride * y + first, ... + count)."""
    rows = get_op(layer.view.node.op).rows
    window0, window1 = rows(layer.view, 0, layer.rows), rows(layer.view, 1, 1 + layer.rows)
    assert window0 is not None
    assert window1 is not None
    (lo0, hi0), (lo1, _) = window0[number], window1[number]
    return lo0, hi0 - lo0, lo1 - lo0


def _affine(y: str, stride: int, first: int) -> str:
    scaled = y if stride == 1 else f"{stride} * {y}"
    return f"{scaled} - {-first}" if first < 0 else f"{scaled} + {first}" if first else scaled
