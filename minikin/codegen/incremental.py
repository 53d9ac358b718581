"""An incremental plan -> model.c and model.h: a step takes one frame, and its layers read from rings of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from minikin.codegen.emit import MEMBERS, Model, Port, Writer, common_values, kernel_files
from minikin.codegen.layer import C_TYPES, SUFFIX, Address, argument_names, input_window, layer_function, trace
from minikin.codegen.text import c_identifier, render, shape_text
from minikin.graph import ITEM_BYTES, Tensor
from minikin.plan import Step
from minikin.plan.incremental import Gather, IncrementalPlan, Ring, as_incremental

COUNTERS = {1: "uint8_t", 2: "uint16_t", 4: "uint32_t"}


@dataclass(frozen=True)
class StepModel(Model):
    """Sources of a network that runs frame by frame; its one input is a frame."""

    style = "step_"

    @property
    def run(self) -> str:
        return f"{self.name}_step"


def emit_step_model(plan: IncrementalPlan, name: str, source: str) -> StepModel:
    """The C of an incremental plan: NAME_input, NAME_step, NAME_output, NAME_reset."""
    writer = _StepWriter(plan)
    layers = [writer.layer(index, solo=True) for index in range(len(plan.steps))]
    inputs = (writer.frame_port(),)
    outputs = writer.ports("output", plan.graph.outputs, "write")
    events = list(map(writer.event, plan.order))
    values = common_values(writer, name, source, layers, inputs, outputs) | {
        "window": plan.window,
        "period": plan.period,
        "last_count": plan.last_count,
        "counter": COUNTERS[plan.counter_bytes],
        "members": ["frames", *map(writer.member, plan.places)],
        "gathers": [writer.gather(n, g) for n, g in plan.gathers.items()],
        "arrival": list(writer.advance(plan.graph.inputs[0])),
        "moving": events[: plan.moving],
        "windowed": events[plan.moving :],
    }
    texts = {"model.c": render("step_model.c.jinja", **values), "model.h": render("step_model.h.jinja", **values)}
    texts |= kernel_files(plan, writer.structs)
    marks = {step.name: (step.name,) for step in plan.steps}
    return StepModel(name, texts, tuple(writer.weights), marks, inputs, outputs)


@dataclass(frozen=True)
class _GatherText:
    name: str
    tensor: str
    body: list[str]


class _StepWriter(Writer):
    @property
    def step_plan(self) -> IncrementalPlan:
        return as_incremental(self.plan)

    def macs(self, step: Step) -> int:
        """Of one step: a layer that goes along with time makes one row of its output."""
        y = step.layer.view.y
        return super().macs(step) // (y.frame.rows if y.name in self.step_plan.rings else 1)

    def member(self, name: str) -> str:
        """Of `state`, what says where the next row of a ring goes: after the layer that makes it."""
        return "input" if name in self.step_plan.graph.inputs else f"{self.owner(name)}_next"

    def frame_port(self) -> Port:
        """The place of the next row in the input's ring."""
        ring = self.step_plan.rings[self.step_plan.graph.inputs[0]]
        shape = ring.tensor.shape
        return Port(ring.tensor.replace(shape=(1, 1, *shape[2:])), "input", self.next_row(ring))

    def rows_of_calls(self, index: int) -> frozenset[int]:
        """A layer that reads a ring makes one row a call, a fold kernel takes one."""
        tapped = any(
            (index, number) in self.step_plan.taps for number in range(len(self.step_plan.steps[index].layer.inputs))
        )
        return frozenset({1}) if tapped else super().rows_of_calls(index)

    def event(self, event: int | str) -> str:
        """The call of a layer in the frames in which it has a row to make, or of a copy of a window."""
        if isinstance(event, str):
            return f"{self.gather_name(event)}();"
        layer = self.step_plan.steps[event].layer
        ring = self.step_plan.rings.get(layer.view.y.name)
        if ring is None:
            return f"{layer.name}();"
        stride, delay = ring.timing.stride, ring.timing.delay
        if stride == 1:
            return f"if (state.frames >= {delay}) {layer.name}();" if delay else f"{layer.name}();"
        rest = f"(state.frames - {delay}) % {stride} == 0" if delay else f"state.frames % {stride} == 0"
        return f"if ({f'state.frames >= {delay} && ' if delay else ''}{rest}) {layer.name}();"

    def function(self, step: Step, index: int, *, solo: bool) -> tuple[str, list[str]]:
        layer = step.layer
        if layer.kernel.folds and (index, 0) in self.step_plan.taps:
            return "void", list(self._fold(step, index))
        if layer.by_rows and any((index, number) in self.step_plan.taps for number in range(len(layer.inputs))):
            return "void", list(self._rows(step, index))
        return layer_function(step, index, self.address, solo=solo)

    def _rows(self, step: Step, index: int) -> Iterator[str]:
        """One output row, to a ring or as a frame of its own."""
        layer, y = step.layer, step.layer.view.y
        for number, tensor in enumerate(layer.inputs):
            first, count, _ = input_window(layer, number)
            yield f"const {C_TYPES[tensor.dtype]} *in{number}[{count}];"
            if (index, number) in self.step_plan.taps:
                ring = self.ring(tensor)
                place = self.place(ring, self.step_plan.taps[index, number])
                size = f"{tensor.frame.row_elems}, {ring.kept}"
                yield f"mk_rows_ring_{SUFFIX[tensor.dtype]}(in{number}, {count}, {self.base(ring)}, {size}, {place});"
            else:
                yield self.address(tensor.name).rows(f"in{number}", count, str(first))
        ring = self.step_plan.rings.get(y.name)
        yield f"{C_TYPES[y.dtype]} *out = {self.next_row(ring) if ring else self.address(y.name).base};"
        yield f"{layer.kernel.name}(&{layer.name}_params, {argument_names(layer)}, out, 1);"
        yield trace(index, "0", "out", y.row_bytes)
        if ring:
            yield from self.advance(y.name)

    def _fold(self, step: Step, index: int) -> Iterator[str]:
        """Each row of a window, as it lies in the ring."""
        layer, out = step.layer, self.address(step.layer.view.y.name).base
        ring = self.ring(layer.inputs[0])
        size = layer.inputs[0].frame.row_elems
        yield f"int at = {self.place(ring, self.step_plan.taps[index, 0])};"
        yield f"for (int row = 0; row < {layer.calls}; ++row, at = mk_around(at, {ring.kept})) {{"
        yield f"    {layer.kernel.name}(&{layer.name}_params, {self.base(ring)} + at * {size}, {out}, row);"
        yield "}"
        yield trace(index, "0", out, layer.view.y.nbytes)

    def gather(self, name: str, gather: Gather) -> _GatherText:
        """A copy of the rows up to the ring's end, and of those from its start on."""
        ring, tensor = self.step_plan.rings[name], gather.tensor
        size, suffix, rows = tensor.frame.row_elems, SUFFIX[tensor.dtype], tensor.frame.rows
        base = self.base(ring)
        append = f"mk_append_{suffix}"
        body = [
            f"const int at = {self.place(ring, gather.back)}, rows = mk_min({rows}, {ring.kept} - at);",
            f"{C_TYPES[tensor.dtype]} *out = {append}({self.at(tensor, gather.offset)}, {base}, at * {size}, "
            f"rows * {size});",
            f"{append}(out, {base}, 0, ({rows} - rows) * {size});",
        ]
        return _GatherText(self.gather_name(name), shape_text(tensor), body)

    def gather_name(self, name: str) -> str:
        return f"{c_identifier('input' if name in self.step_plan.graph.inputs else self.owner(name))}_window"

    def ring(self, tensor: Tensor) -> Ring:
        return self.step_plan.rings[self.step_plan.roots.get(tensor.name, tensor.name)]

    def base(self, ring: Ring) -> str:
        return self.at(ring.tensor, ring.offset)

    def at(self, tensor: Tensor, offset: int) -> str:
        items = offset // ITEM_BYTES[tensor.dtype]
        return f"arena.{MEMBERS[tensor.dtype]} + {items}" if items else f"arena.{MEMBERS[tensor.dtype]}"

    def place(self, ring: Ring, back: int) -> str:
        """Where in a ring the row lies that is `back` before the next one."""
        if ring.kept == 1:
            return "0"
        next_place = f"state.{self.member(ring.tensor.name)}"
        return next_place if back == ring.kept else f"mk_back({next_place}, {back}, {ring.kept})"

    def next_row(self, ring: Ring) -> str:
        if ring.kept == 1:
            return self.base(ring)
        return f"{self.base(ring)} + state.{self.member(ring.tensor.name)} * {ring.tensor.frame.row_elems}"

    def advance(self, name: str) -> Iterator[str]:
        """A row has been written: the next one goes behind it."""
        kept, member = self.step_plan.rings[name].kept, self.member(name)
        if kept > 1:
            yield f"state.{member} = mk_around(state.{member}, {kept});"

    def _find(self, name: str) -> Address:
        """A window of a ring, or what a plan of whole tensors has: in the shape that the op sees."""
        plan = self.step_plan
        tensor, root = plan.graph.tensors[name], plan.graph.tensors[plan.roots.get(name, name)]
        if root.name in plan.gathers:
            return Address(tensor, self.at(tensor, plan.gathers[root.name].offset))
        return replace(super()._find(root.name), tensor=tensor)
