"""minikin's figures beside those of other stacks: one row for each model and build, all counted on the virtual board."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minikin import api
from minikin.bench.recorded import Recorded, load_recorded
from minikin.boards import OPTIMIZE_FLAGS, get_board
from minikin.display import Displayed, Table
from minikin.errors import UsageError
from minikin.graph import Graph, Node, Tensor
from minikin.ops.dense import DenseAttrs
from minikin.ops.opdef import build_graph, get_op
from minikin.vboard.toolchain import find_toolchain

Progress = Callable[[str, int, int], None]
CLOSED_DIVISION_BOARD = "nucleo-l4r5zi"
"""The board that the milliseconds of silicon were taken on."""


@dataclass(frozen=True)
class BenchRow:
    """A build of a model: what was counted, what the emulated stack and the ELF say, and what others need, where known.

    `macs` are those of the model before shrinking; `flash_bytes` includes the weights; `latency_ms_modelled` is a model.
    """

    model: str
    toolchain: str
    optimize: str
    macs: int
    instructions: int
    arena_bytes: int
    ram_bytes: int
    stack_bytes: int
    flash_bytes: int
    code_bytes: int
    weights_bytes: int
    latency_ms_modelled: float | None
    equal: bool
    samples: int
    engine: str
    compiler: str
    recorded: Recorded | None
    recorded_instructions: int | None

    @property
    def times_fewer(self) -> float | None:
        """Instructions of TFLite Micro with CMSIS-NN over ours."""
        return self.recorded_instructions / self.instructions if self.recorded_instructions else None

    @property
    def build(self) -> str:
        return f"{self.optimize}, {self.toolchain}"

    def to_json(self) -> dict[str, Any]:
        more = {"instructions_per_mac": self.instructions / max(self.macs, 1), "times_fewer": self.times_fewer}
        return asdict(self) | more


@dataclass(frozen=True)
class Bench(Displayed):
    """All rows; `sources` say where the recorded figures come from."""

    board: str
    rows: tuple[BenchRow, ...]
    sources: dict[str, str]

    @property
    def equal(self) -> bool:
        return all(row.equal for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        return {"board": self.board, "rows": [row.to_json() for row in self.rows], "sources": self.sources}

    def table(self) -> Table:
        """Instructions and time; `memory_table` has the bytes."""
        table = Table(
            *("model", "build", ">instructions", ">/MAC", ">TFLM + CMSIS-NN", ">times fewer", ">ms, modelled"),
            title=f"Instructions of one inference on {self.board}",
            caption="\n".join(self._built_by()),
        )
        for row in self.rows:
            table.add_row(
                *(row.model, row.build, f"{row.instructions:,}", f"{row.instructions / max(row.macs, 1):.2f}"),
                *(_count(row.recorded_instructions), f"{row.times_fewer:.2f}" if row.times_fewer else ""),
                f"{row.latency_ms_modelled:.2f}" if row.latency_ms_modelled is not None else "",
            )
        return table

    def silicon_table(self) -> Table | None:
        """Milliseconds that others measured on this very board, beside the best that is modelled here."""
        rows = {row.model: row.recorded for row in self.rows if row.recorded and row.recorded.silicon_ms}
        if not rows or self.board != CLOSED_DIVISION_BOARD:
            return None
        stacks = list(dict.fromkeys(stack for figures in rows.values() for stack in figures.silicon_ms))
        table = Table(
            *("model", ">minikin, modelled", *(f">{stack}" for stack in stacks)),
            title="Milliseconds: ours modelled, the others' measured on silicon",
            caption=self.sources["silicon_ms"],
        )
        for name, figures in rows.items():
            ours = [row.latency_ms_modelled for row in self.rows if row.model == name]
            best = min((ms for ms in ours if ms is not None), default=None)
            others = (f"{figures.silicon_ms[s]:.1f}" if s in figures.silicon_ms else "" for s in stacks)
            table.add_row(name, f"{best:.1f}" if best is not None else "", *others)
        return table

    def memory_table(self) -> Table:
        table = Table(
            *("model", "build", ">arena", ">RAM", ">stack", ">TFLM RAM", ">stack", ">flash", ">code", ">weights"),
            *(">TFLM flash + model", "outputs"),
            title=f"Bytes on {self.board}, and whether outputs are the reference's",
            caption=self.sources.get("tflm", ""),
        )
        for row in self.rows:
            other = row.recorded or Recorded("", 0)
            flash = f"{_count(other.flash_bytes)} + {_count(other.model_bytes)}" if other.model_bytes else ""
            table.add_row(
                *(row.model, row.build, f"{row.arena_bytes:,}", f"{row.ram_bytes:,}", f"{row.stack_bytes:,}"),
                *(_count(other.ram_bytes), _count(other.stack_bytes)),
                *(f"{row.flash_bytes:,}", f"{row.code_bytes:,}", f"{row.weights_bytes:,}"),
                flash or _count(other.flash_bytes),
                f"equal on {row.samples}" if row.equal else "DIFFERENT",
            )
        return table

    def tables(self) -> list[Table]:
        return [table for table in (self.table(), self.silicon_table(), self.memory_table()) if table]

    def _built_by(self) -> list[str]:
        return list(dict.fromkeys(f"{row.toolchain}: {row.compiler}, run by {row.engine}" for row in self.rows))

    def __rich__(self) -> Any:
        from rich.console import Group

        return Group(*(part for table in self.tables() for part in (table, "")))

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self.tables())


def bench(
    models: Sequence[Path] = (),
    board: str = CLOSED_DIVISION_BOARD,
    *,
    folder: Path | None = None,
    toolchains: Sequence[str] = ("zig",),
    optimize: Sequence[str] = ("speed", "balanced"),
    samples: int = 3,
    progress: Progress | None = None,
) -> Bench:
    """Compile, run and verify each model in each build.

    Without `models` those of MLPerf Tiny are read from `folder` (default: MINIKIN_TEST_DATA's), and a dense 784-20-10 is
    made. Raises UsageError, naming the file that is missing, before anything is compiled.
    """
    core, (recorded, sources) = get_board(board).core, load_recorded()
    for name in optimize:
        if name not in OPTIMIZE_FLAGS:
            raise UsageError(f"optimize {name!r} is not known: use {', '.join(OPTIMIZE_FLAGS)}")
    for name in toolchains:
        find_toolchain(name, core.gcc)
    chosen = _named(models, recorded) if models else _standard(recorded, folder)
    graphs = [(name, make(), figures) for name, make, figures in chosen]
    rows: list[BenchRow] = []
    total = len(graphs) * len(toolchains) * len(optimize)
    for name, graph, figures in graphs:
        for toolchain in toolchains:
            for goal in optimize:
                row = _measure(name, graph, board, toolchain, goal, samples, figures, core.name)
                rows.append(row)
                if progress:
                    progress("bench", len(rows), total)
    return Bench(board, tuple(rows), sources if any(row.recorded for row in rows) else {})


def _measure(
    name: str,
    graph: Graph,
    board: str,
    toolchain: str,
    optimize: str,
    samples: int,
    figures: Recorded | None,
    core: str,
) -> BenchRow:
    build = api.compile(graph, board, toolchain=toolchain, optimize=optimize)
    run, verified = build.run(), build.verify(samples)
    return BenchRow(
        model=name,
        toolchain=toolchain,
        optimize=optimize,
        macs=sum(get_op(node.op).macs(graph.view(node)) for node in graph.nodes),
        instructions=run.instructions,
        arena_bytes=build.arena_bytes,
        ram_bytes=build.ram_bytes,
        stack_bytes=run.stack_bytes,
        flash_bytes=build.flash_bytes,
        code_bytes=build.code_bytes,
        weights_bytes=build.weights_bytes,
        latency_ms_modelled=run.timing.latency_ms_modelled if run.timing else None,
        equal=verified.equal and verified.board_equals_host,
        samples=samples,
        engine=run.engine,
        compiler=build.toolchain.version,
        recorded=figures,
        recorded_instructions=figures.tflm_cmsis_nn.get(core) if figures else None,
    )


Choice = tuple[str, Callable[[], Graph], Recorded | None]


def _named(models: Sequence[Path], recorded: dict[str, Recorded]) -> list[Choice]:
    """Files that a user names; one with the name of a recorded file has its figures beside it."""
    by_file = {figures.file: figures for figures in recorded.values() if figures.file}
    return [(path.stem, lambda path=path: api.load(path), by_file.get(path.name)) for path in models]


def _standard(recorded: dict[str, Recorded], folder: Path | None) -> list[Choice]:
    root = folder or Path(os.environ.get("MINIKIN_TEST_DATA", ".")) / "models" / "mlperf_tiny"
    choices: list[Choice] = []
    for name, figures in recorded.items():
        path = root / figures.file
        if figures.file and not path.is_file():
            raise UsageError(
                f"{path} does not exist: give --models the folder of MLPerf Tiny's .tflite files, "
                "or name the models to measure"
            )
        choices.append((name, (lambda path=path: api.load(path)) if figures.file else two_dense_layers, figures))
    return choices


def two_dense_layers(seed: int = 0) -> Graph:
    """784-20-10 in int8, ReLU between, seeded random weights, no softmax."""
    rng = np.random.default_rng(seed)
    tensors, nodes, x = [Tensor("input", (1, 784), "float32")], [], "input"
    for features, units, activation in ((784, 20, "relu"), (20, 10, "none")):
        values = {
            f"weights{units}": rng.normal(0, np.sqrt(2 / features), (units, features)).astype(np.float32),
            f"bias{units}": rng.normal(0, 0.1, units).astype(np.float32),
        }
        tensors += [Tensor(name, data.shape, "float32", data=data) for name, data in values.items()]
        nodes.append(Node(f"dense{units}", "dense", DenseAttrs(activation), (x, *values), (f"y{units}",)))
        x = f"y{units}"
    samples = [(rng.uniform(-1, 1, (1, 784)).astype(np.float32),) for _ in range(4)]
    return api.quantize(build_graph("dense_784_20_10", nodes, tensors, ["input"], [x]), samples)


def _count(value: int | None) -> str:
    return f"{value:,}" if value is not None else ""
