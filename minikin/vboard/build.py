"""Graph -> bundle -> firmware, with every size measured on the ELF."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from minikin.boards import OPTIMIZE_FLAGS, STACK_BYTES, Board, get_board
from minikin.check import check
from minikin.codegen.bundle import STARTUP_SYMBOLS, bundle_files, replaced_folder, write_files
from minikin.codegen.emit import Model, emit_model
from minikin.codegen.incremental import emit_step_model
from minikin.codegen.text import c_identifier, with_c_names
from minikin.display import Displayed, Table
from minikin.errors import DoesNotFit, UsageError
from minikin.graph import Graph
from minikin.ops.stored import STORAGES
from minikin.passes.recast import recast
from minikin.passes.shrink import shrink as shrink_graph
from minikin.plan import Plan, check_limit, make_plan, whole_bound
from minikin.plan.aim import make_aim
from minikin.plan.incremental import IncrementalPlan, make_incremental_plan
from minikin.plan.joining import join_layers
from minikin.plan.kernels import SLACK
from minikin.plan.prediction import predict
from minikin.vboard.elf import Firmware
from minikin.vboard.toolchain import Toolchain, build_firmware, find_toolchain


@dataclass(frozen=True)
class Stored:
    """How a layer's weights lie in flash, with biases and requantization constants, and the layer's scratch memory."""

    layer: str
    storage: str
    stored_bytes: int
    scratch_bytes: int


@dataclass(frozen=True)
class Build(Displayed):
    """A compiled network: its folder, its firmware, and what the firmware takes. `original` is the graph before shrinking.

    flash_bytes and ram_bytes are the ELF's sections; weights_bytes is what grows with the model (weights, biases,
    per-channel requantization constants); code_bytes is the rest of flash without the demo's main and startup.
    """

    original: Graph
    graph: Graph
    plan: Plan
    board: Board
    toolchain: Toolchain
    model: Model
    optimize: str
    path: Path
    ram_bytes: int
    flash_bytes: int
    weights_bytes: int
    code_bytes: int
    startup_bytes: dict[str, int]

    @property
    def elf(self) -> Path:
        return self.path / "firmware.elf"

    @property
    def arena_bytes(self) -> int:
        return self.plan.arena_bytes

    @property
    def stored(self) -> tuple[Stored, ...]:
        """The layers with weights: in which form each has them, and in how many bytes."""
        steps = [step for step in self.plan.steps if step.layer.stored_bytes]
        return tuple(Stored(s.name, s.layer.kernel.storage, s.layer.stored_bytes, s.scratch_bytes) for s in steps)

    @property
    def stored_bytes(self) -> int:
        """Every byte in flash but instructions: weights_bytes, and single constants that the compiler made instructions of."""
        return max(self.weights_bytes, sum(own.stored_bytes for own in self.stored))

    def sizes(self) -> dict[str, Any]:
        return {
            "board": self.board.name,
            "toolchain": self.toolchain.version,
            "optimize": self.optimize,
            "arena_bytes": self.arena_bytes,
            "ram_bytes": self.ram_bytes,
            "flash_bytes": self.flash_bytes,
            "weights_bytes": self.weights_bytes,
            "stored_bytes": self.stored_bytes,
            "layers": [asdict(stored) for stored in self.stored],
            "code_bytes": self.code_bytes,
            "startup_bytes": self.startup_bytes,
        }

    def run(self, *inputs: Any) -> Any:
        """Run on the emulated board: see `minikin.vboard.run.run`."""
        from minikin.vboard.run import run

        return run(self, inputs or None)

    def verify(self, samples: Any = 20) -> Any:
        """Compare reference, host C and board C: see `minikin.vboard.verify.verify`."""
        from minikin.vboard.verify import verify

        return verify(self, samples)

    def table(self) -> Table:
        ram, flash = self.board.ram_bytes, self.board.flash_bytes
        table = Table(
            "",
            ">bytes",
            "",
            title=f"{self.graph.name} on {self.board.name}, built by {self.toolchain.version}",
            caption=f"in {self.path}{self._predicted()}",
        )
        rows = {
            "RAM": (self.ram_bytes, f"{self.ram_bytes / ram:.1%} of the board's {ram:,}"),
            "  arena": (self.arena_bytes, "activations, input, output, scratch"),
            "flash": (self.flash_bytes, f"{self.flash_bytes / flash:.1%} of the board's {flash:,}"),
            "  weights": (self.weights_bytes, "with biases and requantization constants"),
            "  code": (self.code_bytes, "with tables and constants of the layers"),
            "  start-up": (sum(self.startup_bytes.values()), "the demo's main and reset code"),
        }
        for name, (value, meaning) in rows.items():
            table.add_row(name, f"{value:,}", meaning)
            if name == "  weights":
                for own in self.stored:
                    if own.storage != "dense":
                        table.add_row(f"    {own.layer}", f"{own.stored_bytes:,}", own.storage)
        return table

    def _predicted(self) -> str:
        count = None if isinstance(self.plan, IncrementalPlan) else predict(self.plan)
        return (
            ""
            if count is None
            else f"\nabout {count:,.0f} instructions an inference, predicted; `minikin run` counts them"
        )


def compile(
    graph: Graph,
    board: str | Board,
    out: str | Path | None = None,
    *,
    toolchain: str = "zig",
    optimize: str = "balanced",
    ram_bytes: int | None = None,
    stream: bool | None = None,
    stream_input: bool = False,
    stream_output: bool = False,
    shrink: bool = True,
    incremental: bool = False,
    storage: str | None = None,
    source: str = "",
) -> Build:
    """Write the C of a network for a board and build its firmware.

    `out` is the folder to make (a temporary one if None). `optimize` is "speed" (fewest instructions), "ram" or "flash"
    (fewest bytes) or "balanced"; `ram_bytes` is a limit of the arena. `stream` keeps rows instead of whole tensors: by
    default where memory counts. `shrink` first removes what no output depends on. With `stream_input` and
    `stream_output` the application hands over and takes rows; with `incremental` it hands over one frame of a window
    over time a call: see `minikin.plan.incremental`. `storage` is a form of weights (docs/storage.md) that every layer
    that can takes; by default each layer's is chosen by `optimize`.
    Raises DoesNotFit where RAM or flash is short, UsageError where `out` holds something else, ToolchainError where no
    compiler is found.
    """
    board = get_board(board) if isinstance(board, str) else board
    tool = find_toolchain(toolchain, board.core.gcc)
    check(graph)
    plan = choose_plan(
        with_c_names(shrink_graph(graph).graph if shrink else graph),
        board,
        optimize=optimize,
        ram_bytes=ram_bytes,
        stream=stream,
        stream_input=stream_input,
        stream_output=stream_output,
        incremental=incremental,
        storage=storage,
        shrink=False,
        toolchain=tool.name,
    )
    return build_plan(plan, board, tool, out, optimize=optimize, original=graph, source=source)


def build_plan(
    plan: Plan,
    board: Board,
    toolchain: Toolchain,
    out: str | Path | None = None,
    *,
    optimize: str,
    original: Graph | None = None,
    source: str = "",
) -> Build:
    """The C of a plan and its firmware. `original` is the graph before shrinking. Raises as `compile` does."""
    check_fit(plan, board)
    graph = original or plan.graph
    name, origin = c_identifier(graph.name), (source or graph.name).replace("*/", "* /")
    if isinstance(plan, IncrementalPlan):
        model = emit_step_model(plan, name, origin)
    else:
        model = emit_model(plan, name, origin, small=optimize != "speed")
    texts = bundle_files(model, plan, board, optimize)
    folder = Path(out) if out else Path(tempfile.mkdtemp(prefix="minikin-"))
    try:
        with replaced_folder(folder) as fresh:
            write_files(fresh, texts)
            build_firmware(fresh, board, toolchain, out=fresh / "firmware.elf", optimize=optimize)
    except BaseException as error:
        if out is None:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, DoesNotFit):
            raise _overflow(plan, board, str(error)) from error
        raise
    firmware = Firmware(folder / "firmware.elf")
    weights = sum(firmware.symbols[s].size for s in model.weight_symbols if s in firmware.symbols)
    startup = {s: firmware.symbols[s].size for s in STARTUP_SYMBOLS if s in firmware.symbols}
    code = firmware.flash_bytes - weights - sum(startup.values())
    build = Build(
        graph,
        plan.graph,
        plan,
        board,
        toolchain,
        model,
        optimize,
        folder,
        firmware.ram_bytes,
        firmware.flash_bytes,
        weights,
        code,
        startup,
    )
    if out is None:
        weakref.finalize(build, shutil.rmtree, folder, ignore_errors=True)
    return build


def choose_plan(
    graph: Graph,
    board: Board,
    *,
    optimize: str = "balanced",
    ram_bytes: int | None = None,
    stream: bool | None = None,
    stream_input: bool = False,
    stream_output: bool = False,
    incremental: bool = False,
    storage: str | None = None,
    shrink: bool = True,
    toolchain: str = "zig",
) -> Plan:
    """The plan that `compile` takes for these options.

    Whole tensors cost no tables and no turns, so they serve speed and flash, where they fit into the memory allowed; the
    portable kernels are the smallest code. Kernels are chosen by the costs that were fitted for `toolchain`, if any: see
    `minikin.plan.aim`.
    """
    if optimize not in OPTIMIZE_FLAGS:
        raise UsageError(f"optimize {optimize!r} is not known: use {', '.join(OPTIMIZE_FLAGS)}")
    if storage is not None and storage not in STORAGES:
        raise UsageError(f"storage {storage!r} is not known: use {', '.join(STORAGES)}")
    if shrink:
        graph = shrink_graph(graph).graph
    graph = recast(graph)
    isa = "c" if optimize == "flash" else board.core.isa
    if incremental:
        if stream is False or stream_input or stream_output:
            raise UsageError("incremental takes one frame at a time and keeps rows: leave out the options of streams")
        return make_incremental_plan(graph, isa, ram_bytes=ram_bytes, storage=storage)
    aim = make_aim(graph, board.core, toolchain=toolchain, optimize=optimize, storage=storage)
    graph = join_layers(graph, isa, aim)
    main_bank = board.ram_bytes - STACK_BYTES
    if stream is None and optimize in ("speed", "flash") and not stream_input and not stream_output:
        plan = make_plan(graph, isa, stream=False, aim=aim)
        if plan.arena_bytes <= min(ram_bytes or main_bank, main_bank):
            return plan
    choose = partial(
        make_plan,
        graph,
        isa,
        stream=stream is not False,
        stream_input=stream_input,
        stream_output=stream_output,
        aim=aim,
    )
    plan = choose()
    if plan.arena_bytes > min(ram_bytes or main_bank, main_bank) and aim.reference is not None:
        plan = choose(aim=replace(aim, reference=None, slack=SLACK))  # RAM before instructions
    if stream is None and not stream_input and not stream_output and whole_bound(graph, isa, aim) < plan.arena_bytes:
        plan = min(plan, make_plan(graph, isa, stream=False, aim=aim), key=lambda p: p.arena_bytes)
    check_limit(plan, ram_bytes)
    if plan.arena_bytes <= main_bank or not board.extra_ram:
        return plan
    return choose(banks=(main_bank, *(region.size_bytes for region in board.extra_ram)))


def check_fit(plan: Plan, board: Board) -> None:
    """Raise DoesNotFit, naming what is short, by how many bytes, at which layer."""
    short = plan.bank_bytes[0] + STACK_BYTES - board.ram_bytes
    if short > 0 and plan.peak is not None:
        raise DoesNotFit(
            f"{plan.graph.name} needs {plan.arena_bytes:,} bytes of RAM and {STACK_BYTES} of stack, {board.name} has "
            f"{board.ram_bytes:,}: {short:,} bytes short at layer {plan.peak.name}; "
            f"take a smaller input or fewer channels there"
        )
    weights, where = _weights(plan.graph)
    short = weights - board.flash_bytes
    if short > 0:
        raise DoesNotFit(
            f"{plan.graph.name} has {weights:,} bytes of weights, {board.name} has {board.flash_bytes:,} of flash: "
            f"{short:,} bytes short, most of it in {where}; take fewer units there, or quantize it"
        )


def _overflow(plan: Plan, board: Board, short: str) -> DoesNotFit:
    """What the linker found short, which is little: `check_fit` finds the rest before anything is compiled."""
    weights, where = _weights(plan.graph)
    return DoesNotFit(
        f"{plan.graph.name} has {weights:,} bytes of weights, and with its code {short} on {board.name}; "
        f"most of it is in {where}: take fewer units there, or quantize it"
    )


def _weights(graph: Graph) -> tuple[int, str]:
    """Bytes of all constants, and the layer that has most of them."""
    constants = {node.name: _constant_bytes(graph, node.inputs) for node in graph.nodes}
    layer = max(constants, key=constants.__getitem__, default="")
    return sum(constants.values()), f"layer {layer} ({constants.get(layer, 0):,})"


def _constant_bytes(graph: Graph, names: tuple[str, ...]) -> int:
    return sum(graph.tensors[n].nbytes for n in names if n and graph.tensors[n].is_constant)
