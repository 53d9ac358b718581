"""Runs a build on the emulated board: one inference, counted, or many."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minikin.codegen.emit import Model, Port
from minikin.display import Displayed, Table
from minikin.errors import DataError
from minikin.graph import Graph
from minikin.ops.opdef import get_op
from minikin.plan.incremental import IncrementalPlan
from minikin.vboard.build import Build
from minikin.vboard.elf import Firmware
from minikin.vboard.engine import Call, Engine, Poison
from minikin.vboard.engines import make_engine
from minikin.vboard.timing import Timing, model_run

SHOWN_VALUES = 12  # of an output, in a table

Progress = Callable[[str, int, int], None]
"""Told (what is being done, how many are done, of how many)."""


@dataclass(frozen=True)
class LayerCount:
    """Exact instructions of one layer, with the kernels that it calls."""

    name: str
    kernel: str
    macs: int
    instructions: int


@dataclass(frozen=True)
class Run(Displayed):
    """One inference on the emulated board. `instructions`: from entry to exit of NAME_run, second call.

    `timing` is modelled from the instructions executed, and None for a core without documented instruction timings.
    """

    outputs: tuple[np.ndarray, ...]
    instructions: int
    layers: tuple[LayerCount, ...]
    stack_bytes: int
    ram_bytes: int
    flash_bytes: int
    engine: str
    toolchain: str
    board: str
    timing: Timing | None = None

    @property
    def output(self) -> np.ndarray:
        return self.outputs[0]

    def to_json(self) -> dict[str, Any]:
        counted = {k: v for k, v in asdict(self).items() if k not in ("outputs", "timing")}
        modelled = self.timing.to_json() if self.timing else {}
        return counted | modelled | {"outputs": [o.tolist() for o in self.outputs]}

    def table(self) -> Table:
        values = self.output.reshape(-1)
        shown = ", ".join(f"{value:.6g}" for value in values[:SHOWN_VALUES].tolist())
        table = Table(
            *("layer", "kernel", ">MACs", ">instructions", ">/MAC", ">share"),
            title=f"{self.instructions:,} instructions on {self.board} ({self.engine}, {self.toolchain})",
            caption=f"RAM {self.ram_bytes:,} bytes, stack {self.stack_bytes:,}, flash {self.flash_bytes:,}\n"
            f"output [{shown}{', ...' if values.size > SHOWN_VALUES else ''}]"
            + (f"\n{self.timing}" if self.timing else ""),
        )
        for row in self.layers:
            per_mac = f"{row.instructions / row.macs:.2f}" if row.macs else ""
            share = f"{row.instructions / self.instructions:.1%}"
            table.add_row(row.name, row.kernel, f"{row.macs:,}", f"{row.instructions:,}", per_mac, share)
        return table


def run(build: Build, inputs: Sequence[Any] | None = None, seed: int = 0) -> Run:
    """One inference on the emulated board; seeded random input when none is given. Raises DataError, EngineError."""
    if isinstance(build.plan, IncrementalPlan):
        from minikin.vboard.incremental import run_steps

        return run_steps(build, inputs, seed)
    arrays = check_inputs(build.graph, inputs) if inputs is not None else random_inputs(build.graph, seed)
    with open_board(build) as board:
        board.call(arrays)  # finds memory as start-up left it; the second call finds it as every later one will
        outputs, call = board.call(arrays)
        return Run(
            tuple(outputs),
            call.instructions,
            layer_counts(build, call.instructions_by_mark),
            call.stack_bytes,
            build.ram_bytes,
            build.flash_bytes,
            board.engine.name,
            build.toolchain.version,
            build.board.name,
            model_run(build, call.blocks),
        )


def run_samples(
    build: Build, samples: Sequence[Sequence[np.ndarray]], progress: Progress | None = None
) -> tuple[list[list[np.ndarray]], str]:
    """(outputs of every sample on the emulated board, the engine's name), on all cores of this machine."""
    workers = min(os.cpu_count() or 1, max(1, len(samples) // 4))
    bounds = [len(samples) * i // workers for i in range(workers + 1)]
    done = [0] * workers

    def part(worker: int, board: OpenBoard) -> list[list[np.ndarray]]:
        def report(count: int) -> None:
            done[worker] = count
            if progress:
                progress("board", sum(done), len(samples))

        return board.run_batch(samples[bounds[worker] : bounds[worker + 1]], report)

    with ThreadPoolExecutor(workers) as pool, ExitStack() as stack:  # Ctrl-C ends the engines, then the threads
        boards = [stack.enter_context(open_board(build)) for _ in range(workers)]
        parts = list(pool.map(part, range(workers), boards))
        return [outputs for rows in parts for outputs in rows], boards[0].engine.name


def random_inputs(graph: Graph, seed: int) -> list[np.ndarray]:
    """One seeded sample: integers over their whole range, floats uniform in [-1, 1]."""
    rng = np.random.default_rng(seed)
    arrays = []
    for tensor in graph.input_tensors:
        if tensor.dtype.startswith("float"):
            arrays.append(rng.uniform(-1, 1, tensor.shape).astype(tensor.dtype))
        else:
            info = np.iinfo(tensor.dtype)
            arrays.append(rng.integers(info.min, info.max, tensor.shape, tensor.dtype, endpoint=True))
    return arrays


def check_inputs(graph: Graph, arrays: Sequence[Any]) -> list[np.ndarray]:
    """The arrays in the shapes and dtypes of the graph's inputs. Raises DataError, naming both."""
    if len(arrays) != len(graph.inputs):
        raise DataError(
            f"{graph.name} has {len(graph.inputs)} inputs, {len(arrays)} were given: give one array for each"
        )
    checked = []
    for tensor, value in zip(graph.input_tensors, arrays, strict=True):
        array = np.asarray(value)
        if array.size != tensor.size or array.dtype != tensor.dtype:
            quant = tensor.quant
            how = f"to round(x / {quant.scale:.6g}) + {quant.zero_point}" if quant else "or reshape it"
            raise DataError(
                f"input {tensor.name} is {tensor.dtype}{list(tensor.shape)}, but {array.dtype}{list(array.shape)} was "
                f"given: convert it {how if array.size == tensor.size else 'to that shape'}"
            )
        checked.append(np.ascontiguousarray(array).reshape(tensor.shape))
    return checked


@dataclass(frozen=True)
class OpenBoard:
    """A firmware that has run to main. `addresses` are those of the frames in RAM, by the symbol of their port."""

    model: Model
    engine: Engine
    addresses: Mapping[str, int]

    def call(self, sample: Sequence[np.ndarray], poison: Poison = ()) -> tuple[list[np.ndarray], Call]:
        """One inference: its outputs, and what it took. `poison`: see `Engine.call`."""
        sources: dict[str, np.ndarray] = {}
        for port, array in zip(self.model.inputs, sample, strict=True):
            if port.callback:
                sources[port.callback] = _by_rows(port, array)
            else:
                self.engine.write(self.addresses[port.symbol], array.tobytes())
        call = self.engine.call(self.model.run, *self._arguments, sources=sources, sinks=self._sinks, poison=poison)
        outputs = []
        for port in self.model.outputs:
            data = call.sinks[port.callback] if port.callback else self._read(port)
            outputs.append(np.frombuffer(data, port.tensor.dtype).reshape(port.tensor.shape))
        return outputs, call

    def run_batch(
        self, samples: Sequence[Sequence[np.ndarray]], report: Callable[[int], None]
    ) -> list[list[np.ndarray]]:
        """The outputs of every sample."""
        inputs, sources = {}, {}
        for index, port in enumerate(self.model.inputs):
            arrays = [sample[index] for sample in samples]
            if port.callback:
                sources[port.callback] = np.stack([_by_rows(port, array) for array in arrays])
            else:
                inputs[self.addresses[port.symbol]] = np.stack(arrays)
        sizes = {self.addresses[p.symbol]: p.tensor.nbytes for p in self.model.outputs if not p.callback}
        batch = self.engine.run_batch(
            self.model.run,
            inputs,
            sizes,
            arguments=self._arguments,
            sources=sources,
            sinks=self._sinks,
            reset=f"{self.model.name}_reset",
            progress=report,
        )
        frames = dict(zip(sizes, batch.outputs, strict=True))
        columns = []
        for port in self.model.outputs:
            data = batch.sinks[port.callback] if port.callback else frames[self.addresses[port.symbol]]
            columns.append(np.frombuffer(data, port.tensor.dtype).reshape(len(samples), *port.tensor.shape))
        return [list(row) for row in zip(*columns, strict=True)]

    @property
    def _arguments(self) -> tuple[str, ...]:
        return tuple(port.callback for port in self.model.callbacks)

    @property
    def _sinks(self) -> dict[str, tuple[int, int]]:
        ports = [port for port in self.model.outputs if port.callback]
        return {port.callback: (port.tensor.frame.rows, port.tensor.row_bytes) for port in ports}

    def _read(self, port: Port) -> bytes:
        return self.engine.read(self.addresses[port.symbol], port.tensor.nbytes)


@contextmanager
def open_board(build: Build, elf: Path | None = None) -> Iterator[OpenBoard]:
    """The build's firmware, or another one of the same network, run to main and reset."""
    with make_engine(build.board) as engine:
        engine.load(Firmware(elf or build.elf), marks=build.model.marks)
        name, model = build.model.name, build.model
        frames = [port.symbol for port in (*model.inputs, *model.outputs) if not port.callback]
        addresses = {symbol: engine.call(f"{name}_{symbol}").result for symbol in frames}
        engine.call(f"{name}_reset")
        yield OpenBoard(model, engine, addresses)


def _by_rows(port: Port, array: np.ndarray) -> np.ndarray:
    return array.reshape(port.tensor.frame.rows, -1)


def layer_counts(build: Build, counts: dict[str | None, int]) -> tuple[LayerCount, ...]:
    return tuple(
        LayerCount(s.name, s.layer.kernel.name, get_op(s.layer.view.node.op).macs(s.layer.view), counts.get(s.name, 0))
        for s in build.plan.steps
    )
