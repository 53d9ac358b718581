"""Layers as rows of a table that one function serves: less flash than a function for each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from minikin.codegen.layer import C_TYPES, SUFFIX, Address, LayerText, input_window, trace_count
from minikin.codegen.text import fill
from minikin.graph import Tensor
from minikin.plan import Layer, Plan

MAX_BYTE, MAX_HALF = 0xFF, 0xFFFF
"""What the fields of struct mk_layer and struct mk_tensor_s8 hold."""
SAVED_BY_ROWS, SAVED_WHOLE, SPENT = 46, 12, 260
"""Bytes of flash, about: what a layer saves in the table, computed row by row or at once; what the function takes."""


@dataclass(frozen=True)
class Calls:
    """What call n of a layer makes and reads: fields of struct mk_layer."""

    rows: int
    count: int
    step: int
    first: int

    @property
    def fits(self) -> bool:
        return max(self.rows, self.count, self.step) <= MAX_BYTE and -128 <= self.first <= 127


def layer_calls(layer: Layer) -> Calls | None:
    """The calls of a layer, where struct mk_layer can tell them."""
    tensors = (*layer.operands, *layer.view.outputs)
    if len(tensors) > 3 or len(layer.view.outputs) > 1 or trace_count(layer) > 1:
        return None
    if any(t.dtype != layer.view.y.dtype or t.dtype not in SUFFIX or not _fits(t) for t in tensors):
        return None
    if layer.kernel.folds:
        return Calls(0, 1, 1, 0)
    if not layer.by_rows:
        return Calls(0, 1, 0, 0)
    windows = {input_window(layer, number) for number in range(len(layer.inputs))}
    if len(windows) > 1:
        return None
    first, count, stride = windows.pop()
    calls = Calls(layer.rows, count, stride * layer.rows, first)
    return calls if calls.fits else None


def _fits(tensor: Tensor) -> bool:
    batch, rows, row_elems = tensor.frame
    return batch == 1 and (rows == 1 or max(rows, row_elems) <= MAX_HALF)


def tabled_steps(plan: Plan) -> dict[int, Calls]:
    """The steps that one function had better serve: those of the dtype that saves most, none where that is too little."""
    found: dict[str, dict[int, Calls]] = defaultdict(dict)
    for index, step in enumerate(plan.steps):
        calls, steps = layer_calls(step.layer), found[step.layer.view.y.dtype]
        if calls and 3 * len(steps) < MAX_BYTE:  # each has three tensors at most
            steps[index] = calls

    def saved(steps: Mapping[int, Calls]) -> int:
        return sum(SAVED_BY_ROWS if calls.rows else SAVED_WHOLE for calls in steps.values()) - SPENT

    best = max(found.values(), key=saved, default={})
    return best if saved(best) > 0 else {}


@dataclass(frozen=True)
class ParamsText:
    """The parameters of all layers that one kernel computes: (comment, lines of fields) of each."""

    struct: str
    name: str
    rows: list[tuple[str, list[str]]]


class LayerTable:
    """The rows of the table, the tensors and parameters that they number, and the function that serves them.

    A step that is not in the table keeps a function of its own, which is a case of the same switch.
    """

    def __init__(
        self, plan: Plan, steps: Mapping[int, Calls], address: Callable[[str], Address], owner: Callable[[str], str]
    ):
        self._plan, self.steps, self._address, self._owner = plan, steps, address, owner
        self.dtype = plan.steps[min(steps)].layer.view.y.dtype
        self.suffix, self.ctype = SUFFIX[self.dtype], C_TYPES[self.dtype]
        self._tensors: dict[str, str] = {}  # initializer -> name
        self.rows = [self._row(index) for index in range(len(plan.steps))]

    def params(self, layers: Sequence[LayerText]) -> list[ParamsText]:
        texts = []
        for kernel in self._kernels:
            own = [layer for layer in layers if layer.index in self.steps and layer.struct == kernel]
            texts.append(ParamsText(kernel, _params(kernel), [(layer.name, layer.fields) for layer in own]))
        return texts

    @property
    def _kernels(self) -> list[str]:
        return list(dict.fromkeys(self._layer(index).kernel.name for index in self.steps))

    @property
    def cases(self) -> list[str]:
        """The constants by which the switch goes."""
        return [_case(name) for name in (*self._kernels, *self._own)]

    @property
    def _own(self) -> list[str]:
        return [step.name for index, step in enumerate(self._plan.steps) if index not in self.steps]

    @property
    def tensor_names(self) -> list[str]:
        return list(self._tensors.values())

    @property
    def tensors(self) -> list[str]:
        """Their initializers."""
        return [f"[{name}] = {place}," for place, name in self._tensors.items()]

    @property
    def row_bytes(self) -> list[str]:
        return [str(step.layer.view.y.row_bytes) for step in self._plan.steps]

    def _layer(self, index: int) -> Layer:
        return self._plan.steps[index].layer

    def _row(self, index: int) -> list[str]:
        """A layer's row in the table."""
        layer = self._layer(index)
        if index not in self.steps:
            return fill([f".kernel = {_case(layer.name)}"], 8)
        peers = [other for other in self.steps if self._layer(other).kernel.name == layer.kernel.name]
        ins = [self.tensor(t, seen) for t, seen in zip(layer.inputs, layer.operands, strict=True)]
        calls = self.steps[index]
        numbers = {"rows": calls.rows, "count": calls.count, "step": calls.step, "first": calls.first}
        fields = {"kernel": _case(layer.kernel.name), "params": peers.index(index)}
        fields |= dict(zip(("in", "in1"), ins, strict=False)) | {"out": self.tensor(layer.view.y, layer.view.y)}
        return fill([f".{name} = {value}" for name, value in (fields | numbers).items()], 8)

    def tensor(self, tensor: Tensor, seen: Tensor) -> str:
        """The constant that numbers where a tensor's rows lie, in the shape in which an op sees them."""
        place = replace(self._address(tensor.name), tensor=seen)
        base = f"({self.ctype} *){place.base}" if tensor.is_constant else place.base
        fields = {
            "base": base,
            "at": place.at,
            "step": place.row_step if seen.frame.rows > 1 else 0,
            "rows": seen.frame.rows,
        }
        text = f"{{{', '.join(f'.{name} = {value}' for name, value in fields.items() if value)}}}"
        if text not in self._tensors:
            name = f"rows_of_{self._owner(tensor.name)}"
            shape = f"{name}_as_{seen.frame.rows}x{seen.frame.row_elems}"
            self._tensors[text] = name if name not in self._tensors.values() else shape
        return self._tensors[text]

    def row_of(self, name: str, row: str) -> str:
        """The address of a row of a whole tensor."""
        tensor = self._plan.graph.tensors[name]
        if tensor.dtype == self.dtype and _fits(tensor):
            return f"mk_row_of_{self.suffix}(&tensors[{self.tensor(tensor, tensor)}], {row})"
        return self._address(name).row(row)

    @property
    def driver(self) -> list[str]:
        """The statements of `run_layer(which, n)`."""
        return list(self._driver())

    def _driver(self) -> Iterator[str]:
        most = max(calls.count for calls in self.steps.values())
        ragged = any(c.rows and self._layer(i).view.y.frame.rows % c.rows for i, c in self.steps.items())
        pairs = [calls.count for index, calls in self.steps.items() if len(self._layer(index).inputs) > 1]
        yield "const struct mk_layer *layer = &layers[which];"
        yield f"const struct mk_tensor_{self.suffix} *x = &tensors[layer->in], *y = &tensors[layer->out];"
        yield "const int row = n * layer->rows, first = n * layer->step + layer->first;"
        yield f"{self.ctype} *out = mk_row_of_{self.suffix}(y, row);"
        yield f"const {self.ctype} *in[{most}]{f', *in1[{max(pairs)}]' if pairs else ''};"
        yield f"int rows = {'mk_min(layer->rows, y->rows - row)' if ragged else 'layer->rows'};"
        yield f"mk_rows_of_{self.suffix}(in, layer->count, x, first);"
        yield "switch (layer->kernel) {"
        for kernel in self._kernels:
            yield f"case {_case(kernel)}:"
            layer = next(self._layer(index) for index in self.steps if self._layer(index).kernel.name == kernel)
            yield from (f"    {line}" for line in self._call(layer))
            yield "    break;"
        for step in self._plan.steps:
            if step.name in self._own:
                yield f"case {_case(step.name)}: {own_call(step.layer)}; return;"
        yield "}"
        yield "mk_trace(which, layer->rows ? row : n, (const int8_t *)out, rows * row_bytes[which]);"

    def _call(self, layer: Layer) -> Iterator[str]:
        params = f"{layer.kernel.name}(&{_params(layer.kernel.name)}[layer->params], "
        pair = len(layer.inputs) > 1
        if pair:
            yield f"mk_rows_of_{self.suffix}(in1, layer->count, &tensors[layer->in1], first);"
        if layer.by_rows:
            yield f"{params}in, {'in1, ' if pair else ''}out, rows);"
        elif layer.kernel.folds:
            yield f"{params}in[0], out, n);"
            yield "rows = n + 1 < x->rows ? 0 : y->rows;"
        else:
            yield f"{params}in[0], {'in1[0], ' if pair else ''}out);"
            yield "rows = y->rows;"


def own_call(layer: Layer) -> str:
    """Call n of a layer that has a function of its own."""
    if layer.by_rows:
        return f"{layer.name}(n)" if layer.rows == 1 else f"{layer.name}({layer.rows} * n)"
    return f"{layer.name}(n)" if layer.kernel.folds else f"{layer.name}()"


def _params(kernel: str) -> str:
    return f"{kernel.removeprefix('mk_')}_params"


def _case(name: str) -> str:
    return f"run_{name.removeprefix('mk_')}"
