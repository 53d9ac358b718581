"""Plan -> model.c and model.h: one small function per layer, one const struct per layer, one static arena."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from minikin.codegen.layer import C_TYPES, Address, LayerText, layer_function
from minikin.codegen.order import Group, make_groups, make_sweeps, step_order
from minikin.codegen.structs import Struct, make_struct
from minikin.codegen.table import MAX_HALF, LayerTable, own_call, tabled_steps
from minikin.codegen.text import c_identifier, fill, literal, literals, render, shape_text
from minikin.graph import Tensor
from minikin.ops.opdef import Field, Scratch, Table, get_op, table
from minikin.plan import Plan, Step
from minikin.version import __version__

ARENAS = ("arena", *(f"arena{bank}" for bank in range(1, 16)))
DRIVER = "run_layer"
"""The function that serves the layers of a table."""
MEMBERS = {"int8": "s8", "int16": "s16", "int32": "s32", "float32": "f32"}


@dataclass(frozen=True)
class Port:
    """An input or output of the network as model.h declares it. A streamed one is passed row by row to `callback`."""

    tensor: Tensor
    symbol: str
    address: str
    callback: str = ""

    @property
    def ctype(self) -> str:
        return C_TYPES[self.tensor.dtype]

    @property
    def size(self) -> int:
        """Elements of the frame."""
        return self.tensor.size

    @property
    def size_symbol(self) -> str:
        return f"{self.symbol}_size"

    @property
    def row_elems(self) -> int:
        return self.tensor.frame.row_elems

    @property
    def parameter(self) -> str:
        """The callback as a parameter: one that reads gets a row to fill, one that writes gets a row to take."""
        const = "const " if self.callback.startswith("write") else ""
        return f"void (*{self.callback})(int row, {const}{self.ctype} *data)"

    @property
    def comment(self) -> str:
        quant = f", {self.tensor.quant}" if self.tensor.quant else ""
        rows = f", by rows of {self.row_elems} through {self.callback}" if self.callback else ""
        return f"{self.tensor.dtype}[{','.join(map(str, self.tensor.shape))}]{quant}{rows}"


@dataclass(frozen=True)
class Model:
    """Generated sources: file name -> text. `weight_symbols` are the arrays that grow with the model.

    `marks`: for each function that computes layers, those of its calls in one inference, in order. `style` is what the
    names of the templates around it begin with.
    """

    style: ClassVar[str] = ""

    name: str
    files: dict[str, str]
    weight_symbols: tuple[str, ...]
    marks: Mapping[str, tuple[str, ...]]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def callbacks(self) -> tuple[Port, ...]:
        return tuple(port for port in (*self.inputs, *self.outputs) if port.callback)

    @property
    def run(self) -> str:
        """The function that runs one inference."""
        return f"{self.name}_run_rows" if self.callbacks else f"{self.name}_run"


def emit_model(plan: Plan, name: str, source: str, *, small: bool = False) -> Model:
    """The C of a plan. `name` is the C prefix, `source` says in the header comment what it was made from.

    `small`: one function serves all layers, where that takes less flash.
    """
    writer = Writer(plan)
    inputs = writer.ports("input", plan.graph.inputs, "read")
    outputs = writer.ports("output", plan.graph.outputs, "write")
    callbacks = tuple(port for port in (*inputs, *outputs) if port.callback)
    steps = tabled_steps(plan) if small else {}
    if steps:
        table = LayerTable(plan, steps, writer.address, writer.owner)
        layers = [writer.layer(index, solo=False, tabled=index in steps) for index in range(len(plan.steps))]
        order = writer.sweeps(table, callbacks) | {"table": table, "params": table.params(layers)}
    else:
        groups = make_groups(plan)
        layers = [layer for group in groups for layer in writer.layers(group)]
        order = {
            "table": None,
            "groups": [writer.group(number, group, callbacks) for number, group in enumerate(groups)],
        }
    values = (
        common_values(writer, name, source, layers, inputs, outputs)
        | order
        | {
            "callbacks": callbacks,
            "parameters": ", ".join(port.parameter for port in callbacks) or "void",
        }
    )
    texts = {"model.c": render("model.c.jinja", **values), "model.h": render("model.h.jinja", **values)}
    texts |= kernel_files(plan, writer.structs)
    names = tuple(step.name for step in plan.steps)
    marks = {DRIVER: tuple(names[step] for step in step_order(plan))} if steps else {name: (name,) for name in names}
    return Model(name, texts, tuple(writer.weights), marks, inputs, outputs)


def common_values(
    writer: Writer,
    name: str,
    source: str,
    layers: Sequence[LayerText],
    inputs: tuple[Port, ...],
    outputs: tuple[Port, ...],
) -> dict[str, Any]:
    """What every template of a model shows. The arrays are those that the writer has collected until it is rendered."""
    plan = writer.plan
    return {
        "name": name,
        "version": __version__,
        "guard": f"{name.upper()}_H",
        "source": source,
        "arena_bytes": plan.arena_bytes,
        "arenas": [(ARENAS[bank], size, bank) for bank, size in enumerate(plan.bank_bytes) if size or bank == 0],
        "macs": sum(map(writer.macs, plan.steps)),
        "inputs": inputs,
        "outputs": outputs,
        "callbacks": [],
        "kernels": kernel_headers(plan),
        "layers": sorted(layers, key=lambda layer: layer.index),
        "groups": [],
        "table": None,
        "driver": DRIVER,
        "arrays": writer.text,
    }


def kernel_headers(plan: Plan) -> list[str]:
    """Those that kernels share, each behind what any kernel wants before it, then one for each kernel."""
    kernels = sorted({step.layer.kernel for step in plan.steps}, key=lambda kernel: (kernel.name, kernel.uses))
    places = {header: 0 for kernel in kernels for header in kernel.uses}
    for _ in places:
        for kernel in kernels:
            for before, header in pairwise(kernel.uses):
                places[header] = max(places[header], places[before] + 1)
    shared = sorted(places, key=lambda header: places[header])
    return list(dict.fromkeys([*shared, *(f"{kernel.name}.h" for kernel in kernels)]))


def kernel_text(header: str) -> str:
    return (files("minikin") / "kernels" / header).read_text()


def kernel_files(plan: Plan, structs: Mapping[str, Struct]) -> dict[str, str]:
    """The headers that model.c includes, by name."""
    texts = {header: kernel_text(header) for header in ("mk.h", *kernel_headers(plan))}
    return texts | {f"{name}.h": struct.specialize(texts[f"{name}.h"]) for name, struct in structs.items()}


@dataclass(frozen=True)
class _GroupText:
    """Layers that take turns: the table of turns and the cases of the switch; or the one call of a layer alone."""

    call: str
    name: str
    parameters: str
    turns: list[str]
    counter: str
    members: int
    cases: list[str]


@dataclass
class Writer:
    """Collects the constant arrays of the model, each written once, in order of first use."""

    plan: Plan
    text: list[str] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)
    addresses: dict[str, Address] = field(default_factory=dict)
    row_tables: dict[bytes, str] = field(default_factory=dict)

    @cached_property
    def fields(self) -> list[dict[str, Field]]:
        """The parameters of each step."""
        views = [(step.layer.kernel, step.layer.view) for step in self.plan.steps]
        return [kernel.pack(view, get_op(view.node.op).emit(view)) for kernel, view in views]

    @cached_property
    def structs(self) -> dict[str, Struct]:
        """The parameter struct of each kernel."""
        own: dict[str, list[dict[str, Field]]] = defaultdict(list)
        rows: dict[str, set[int]] = defaultdict(set)
        for index, step in enumerate(self.plan.steps):
            own[step.layer.kernel.struct].append(self.fields[index])
            rows[step.layer.kernel.struct] |= self.rows_of_calls(index)
            for inner, struct in step.layer.kernel.inner.items():
                own[struct].append(self.fields[index][inner])  # type: ignore[arg-type]
        return {name: make_struct(name, kernel_text(f"{name}.h"), layers, rows[name]) for name, layers in own.items()}

    def rows_of_calls(self, index: int) -> frozenset[int]:
        return self.plan.steps[index].layer.rows_of_calls

    def array(self, name: str, values: np.ndarray, comment: str) -> str:
        """Write a constant array; a Table is code, anything else weights. Halves are written as their bits, read by words."""
        ctype, aligned = C_TYPES[values.dtype.name], ""
        if values.dtype == np.float16:
            values, aligned = values.view(np.uint16), " __attribute__((aligned(4)))"
        head = f"static const {ctype} {name}[{values.size}]{aligned} = {{ /* {comment} */"
        self.text.append("\n".join([head, *fill(literals(values)), "};"]))
        if not isinstance(values, Table):
            self.weights.append(name)
        return name

    def address(self, name: str) -> Address:
        """Where a tensor lies: in the arena, by rows or in one piece, or in an array of constants."""
        if name not in self.addresses:
            self.addresses[name] = self._find(name)
        return self.addresses[name]

    def constant(self, tensor: Tensor, values: np.ndarray) -> str:
        return self.array(f"{c_identifier(tensor.name)}_data", values, shape_text(tensor))

    def _find(self, name: str) -> Address:
        tensor = self.plan.graph.tensors[name]
        if tensor.data is not None:
            return Address(tensor, self.constant(tensor, tensor.data))
        slot = self.plan.slot(name)
        member = f"{ARENAS[slot.bank]}.{MEMBERS[tensor.dtype]}"
        item_bytes = np.dtype(tensor.dtype).itemsize
        if slot.contiguous:
            items = slot.offsets[0] // item_bytes
            return Address(tensor, f"{member} + {items}" if items else member)
        made = slot.offsets[: max(len(slot.lives), 1)]
        steps = {(after - before) // item_bytes for before, after in pairwise(made)} or {0}
        if len(steps) == 1 and 0 <= min(steps) <= MAX_HALF:
            items = made[0] // item_bytes
            return Address(tensor, f"{member} + {items}" if items else member, steps.pop())
        offsets = np.array(slot.offsets, np.int64) // self.plan.alignment
        at = self.rows_at(name, table(offsets.astype(np.uint16)))
        return Address(tensor, member, self.plan.alignment // item_bytes, at)

    def rows_at(self, name: str, offsets: np.ndarray) -> str:
        """The table of a tensor's rows, one for all tensors whose rows lie alike."""
        key = offsets.tobytes()
        if key not in self.row_tables:
            comment = f"where its rows lie, in {self.plan.alignment} bytes"
            self.row_tables[key] = self.array(f"{self.owner(name)}_at", offsets, comment)
        return self.row_tables[key]

    def owner(self, name: str) -> str:
        """What a table of rows is named after: the layer that makes them, or the input."""
        for step in self.plan.steps:
            if name in step.layer.view.node.outputs:
                return step.name
        return c_identifier(name)

    def layers(self, group: Group) -> list[LayerText]:
        return [self.layer(member, solo=group.is_solo) for member in group.members if isinstance(member, int)]

    def layer(self, index: int, *, solo: bool, tabled: bool = False) -> LayerText:
        step = self.plan.steps[index]
        view, op = step.layer.view, get_op(step.layer.view.node.op)
        fields = self.structs[step.layer.kernel.struct].stored(self.fields[index])
        for inner, struct in step.layer.kernel.inner.items():
            fields[inner] = self.structs[struct].stored(fields[inner])  # type: ignore[arg-type]
        parameters, body = ("", []) if tabled else self.function(step, index, solo=solo)
        kept = self.plan.slot(view.y.name).kept
        return LayerText(
            index=index,
            name=step.name,
            struct=step.layer.kernel.struct,
            comment=f"{index}. {step.name}: {op.name} {shape_text(view.x)} -> {shape_text(view.y)}",
            fields=fill(self._fields(step, fields)),
            parameters=parameters,
            body=body,
            summary=f"{index:3}  {step.name:<22} {step.layer.kernel.name:<26} {shape_text(view.y):<12}"
            f" {kept:>5} {self.macs(step):>12,}",
        )

    def macs(self, step: Step) -> int:
        return get_op(step.layer.view.node.op).macs(step.layer.view)

    def function(self, step: Step, index: int, *, solo: bool) -> tuple[str, list[str]]:
        return layer_function(step, index, self.address, solo=solo)

    def _fields(self, step: Step, fields: Mapping[str, Field], within: str = "") -> list[str]:
        """Designated initializers, of a struct within another after its name; null pointers go unsaid."""
        items = []
        for name, value in fields.items():
            if isinstance(value, Mapping):
                inner = self._fields(step, value, f"{within}{name}_")
                inner[0] = f".{name} = {{{inner[0]}"
                inner[-1] += "}"
                items += inner
            elif value is not None:
                items.append(f".{name} = {self._field(step, within + name, value)}")
        return items

    def _field(self, step: Step, name: str, value: Field) -> str:
        if isinstance(value, np.ndarray):
            return self.array(f"{step.name}_{name}", value, "x".join(map(str, value.shape)))
        if isinstance(value, Scratch):
            return f"({value.ctype} *)({ARENAS[step.scratch_bank]}.s8 + {step.scratch_offset + value.at})"
        return literal(value) if isinstance(value, float | np.floating) else str(int(value))  # type: ignore[arg-type]

    def ports(self, kind: str, names: Sequence[str], verb: str) -> tuple[Port, ...]:
        """input, or input0, input1, ... where there are several."""
        ports = []
        for index, name in enumerate(names):
            symbol = f"{kind}{index}" if len(names) > 1 else kind
            callback = f"{verb}_{symbol}" if name in self.plan.streamed else ""
            ports.append(Port(self.plan.graph.tensors[name], symbol, self.address(name).base, callback))
        return tuple(ports)

    def group(self, number: int, group: Group, callbacks: Sequence[Port]) -> _GroupText:
        if group.is_solo:
            step = self.plan.steps[int(group.members[0])]
            return _GroupText(f"{step.name}();", "", "", [], "", 1, [])
        longest = max(sum(n for i, n in group.turns if i == index) for index in range(len(group.members)))
        used = [port for port in callbacks if port.tensor.name in group.members]
        return _GroupText(
            call=f"rows{number}({', '.join(port.callback for port in used)});",
            name=f"rows{number}",
            parameters=", ".join(port.parameter for port in used) or "void",
            turns=fill([f"{{{member}, {count}}}" for member, count in group.turns]),
            counter="uint8_t" if longest < 256 else "uint16_t",
            members=len(group.members),
            cases=[f"case {i}: {self._case(member, callbacks)}; break;" for i, member in enumerate(group.members)],
        )

    def _case(self, member: int | str, callbacks: Sequence[Port]) -> str:
        if isinstance(member, str):
            port = next(port for port in callbacks if port.tensor.name == member)
            return f"{port.callback}(n, {self.address(member).row('n')})"
        return own_call(self.plan.steps[member].layer)

    def sweeps(self, table: LayerTable, callbacks: Sequence[Port]) -> dict[str, Any]:
        """The table of sweeps over the layers, and what else than a layer has its turn in them."""
        members, sweeps = make_sweeps(self.plan)
        ports = {port.tensor.name: port for port in callbacks}
        calls = [(i, ports[member]) for i, member in enumerate(members) if isinstance(member, str)]
        counts = Counter[int]()
        for sweep in sweeps:
            counts.update(dict.fromkeys(range(sweep.first, sweep.last + 1), sweep.times))
        distinct = {sweep: number for number, sweep in enumerate(dict.fromkeys(sweeps))}
        return {
            "sweeps": fill([f"{{{sweep.first}, {sweep.last}, {sweep.times}}}" for sweep in distinct]),
            "order": fill([str(distinct[sweep]) for sweep in sweeps]),
            "sweep_number": "uint8_t" if len(distinct) < 256 else "uint16_t",
            "number": "uint8_t" if len(members) < 256 else "uint16_t",
            "counter": "uint8_t" if max(counts.values(), default=0) < 256 else "uint32_t",
            "members": len(members),
            "before": members.index(0),
            "turns": [f"case {i}: {p.callback}(n, {table.row_of(p.tensor.name, 'n')}); break;" for i, p in calls],
        }
