"""Emulators behind one interface: load a firmware, call its functions, read and write its memory."""

import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from types import MappingProxyType
from typing import Any, Literal, Protocol, Self

import numpy as np

from minikin.boards import Board, Region
from minikin.errors import EngineError
from minikin.vboard.elf import Firmware

MAX_INSTRUCTIONS = 10_000_000_000
"""A call that runs longer is taken for an endless loop."""

REPLY_SECONDS = 600
"""An engine that is silent for longer is stopped."""

NOTHING: Mapping[str, Any] = MappingProxyType({})

Poison = Sequence[Sequence[tuple[int, int]]]
"""Ranges (address, bytes) to overwrite: at the start of a call, and after each event in it."""


@dataclass(frozen=True)
class Block:
    """A basic block that ran: `instructions` is its length, `runs` how often it ran on behalf of `mark`."""

    address: int
    size: int
    mark: str | None
    instructions: int
    runs: int


@dataclass(frozen=True)
class Trace:
    """One call of `mk_trace(layer, row, pointer, bytes)`, and the bytes at `address` at that moment."""

    layer: int
    row: int
    address: int
    data: bytes


@dataclass(frozen=True)
class Call:
    """What one call gave and took: r0, the exact instructions, the high-water mark of the stack.

    `callbacks` are the rows that were handed over and taken, as (symbol, row) in order; `sinks` those taken: uint8
    [rows, bytes] for each symbol.
    """

    result: int
    instructions: int
    stack_bytes: int
    blocks: tuple[Block, ...]
    traces: tuple[Trace, ...]
    callbacks: tuple[tuple[str, int], ...] = ()
    sinks: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def instructions_by_mark(self) -> dict[str | None, int]:
        """Instructions of each marked function with its unmarked callees; None: outside of all of them."""
        counts: dict[str | None, int] = {}
        for block in self.blocks:
            counts[block.mark] = counts.get(block.mark, 0) + block.instructions * block.runs
        return counts


@dataclass(frozen=True)
class Batch:
    """What N calls gave: uint8 [N, bytes] for each output, and the exact instructions of each call [N].

    `sinks` are the rows that were taken: uint8 [N, rows, bytes] for each symbol.
    """

    outputs: tuple[np.ndarray, ...]
    instructions: np.ndarray
    stack_bytes: int
    sinks: Mapping[str, np.ndarray] = field(default_factory=dict)


Marks = Mapping[str, Sequence[str]]
"""What to count apart: a function, and the names that its calls count for, in turn, from the start of every run."""
NO_MARKS: Marks = MappingProxyType({})


class Engine(Protocol):
    """An emulator. Where the firmware goes wrong, a method raises EngineError, naming the place.

    An argument of a call is a word, or the name of a function for its address. The functions named by `sources` and
    `sinks` are callbacks `void NAME(int row, T *data)`: where one is entered, the emulator fills in the row of a source
    (an array [rows, ...]), or takes that of a sink, of which there are (rows, bytes), before the function runs. A call
    that asks for a row outside of them, or ends before a sink has had all of its rows, raises EngineError.
    """

    name: str

    def load(self, firmware: Firmware, marks: Marks = NO_MARKS) -> None:
        """Put the firmware into flash and run it from reset to main. `marks` are what to count apart.

        Of two functions with one address the first gets the counts. Calls of `mk_trace`, where there is one, are
        recorded.
        """
        ...

    def call(
        self,
        function: str,
        *arguments: int | str,
        sources: Mapping[str, np.ndarray] = NOTHING,
        sinks: Mapping[str, tuple[int, int]] = NOTHING,
        poison: Poison = (),
        limit: int = MAX_INSTRUCTIONS,
    ) -> Call:
        """Call a function from an empty stack.

        Events, after which `poison` is laid, are the calls of `mk_trace` and of the callbacks, in order. Where there is
        poison, it must be for as many as there are.
        """
        ...

    def run_batch(
        self,
        function: str,
        inputs: Mapping[int, np.ndarray],
        outputs: Mapping[int, int],
        *,
        arguments: Sequence[int | str] = (),
        sources: Mapping[str, np.ndarray] = NOTHING,
        sinks: Mapping[str, tuple[int, int]] = NOTHING,
        reset: str | None = None,
        progress: Callable[[int], None] | None = None,
        limit: int = MAX_INSTRUCTIONS,
    ) -> Batch:
        """For each of N inputs: call `reset`, write the inputs, call `function`, read the outputs.

        `inputs` gives an array [N, ...] for each address, `outputs` a number of bytes for each address, `sources` an
        array [N, rows, ...] for each callback.
        `progress` is told now and then how many are done. Only `function` is counted; `limit` is per call.
        """
        ...

    def read(self, address: int, size: int) -> bytes: ...

    def write(self, address: int, data: bytes) -> None: ...

    def close(self) -> None: ...


def mark_names(marks: Marks) -> tuple[str, ...]:
    """Each name once."""
    return tuple(dict.fromkeys(name for names in marks.values() for name in names))


def mark_addresses(firmware: Firmware, marks: Marks) -> list[tuple[int, list[int]]]:
    """(address, names of its calls by their index in `mark_names`) of each function; of two with one address the first."""
    index = {name: i for i, name in enumerate(mark_names(marks))}
    addresses: dict[int, list[int]] = {}
    for function, names in marks.items():
        addresses.setdefault(firmware.symbol(function).address, [index[name] for name in names])
    return list(addresses.items())


def sample_count(inputs: Mapping[int, np.ndarray], sources: Mapping[str, np.ndarray]) -> int:
    """How many samples a batch has. Raises EngineError where its inputs disagree, or there are none."""
    counts = {len(array) for array in (*inputs.values(), *sources.values())}
    if len(counts) != 1:
        raise EngineError(f"the inputs hold {sorted(counts)} samples: give at least one input, all of one length")
    return counts.pop()


class UnicornEngine:
    """unicorn, in a process of its own (it is GPL-2.0). `hook="python"` needs no compiler, but is slow."""

    def __init__(self, board: Board, hook: Literal["c", "python"] = "c"):
        self.board = board
        self._firmware: Firmware | None = None
        self._marks: tuple[str, ...] = ()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it
        script = Path(__file__).with_name("unicorn_engine.py")
        command = [sys.executable, "-P", str(script), "--hook", hook]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._stderr)
        self.name: str = self._receive()[0]["name"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            self.close()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._stderr.close()

    def load(self, firmware: Firmware, marks: Marks = NO_MARKS) -> None:
        self._firmware = firmware
        self._marks = mark_names(marks)
        trace = firmware.symbols.get("mk_trace")
        core, window = self.board.core, self.board.flash_data
        request = {
            "family": core.family,
            "cpu": core.unicorn_cpu,
            "regions": [(r.origin, r.size_bytes, r is self.board.flash) for r in _regions(self.board)],
            "segments": [segment.address for segment in firmware.segments],
            "windows": [(self.board.flash.origin, window.origin)] if window else [],
            "vectors": self.board.flash.origin if core.family == "arm" else None,
            "entry": firmware.symbol("Reset_Handler").address,
            "stack_top": firmware.symbol("__stack_top__").address,
            "stop": firmware.symbol("main").address,
            "stack_low": firmware.symbol("__stack_limit__").address,
            "marks": mark_addresses(firmware, marks),
            "trace": trace.address if trace else None,
            "limit": MAX_INSTRUCTIONS,
        }
        self._ask("load", request, [segment.data for segment in firmware.segments])

    def call(
        self,
        function: str,
        *arguments: int | str,
        sources: Mapping[str, np.ndarray] = NOTHING,
        sinks: Mapping[str, tuple[int, int]] = NOTHING,
        poison: Poison = (),
        limit: int = MAX_INSTRUCTIONS,
    ) -> Call:
        request = {
            "function": self._address(function),
            "arguments": self._words(arguments),
            "sources": [(self._address(name), len(rows)) for name, rows in sources.items()],
            "sinks": [(self._address(name), *size) for name, size in sinks.items()],
            "poison": [list(ranges) for ranges in poison],
            "limit": limit,
        }
        reply, (blocks, *rest) = self._ask("call", request, [rows.tobytes() for rows in sources.values()])
        taken, traced = rest[: len(sinks)], rest[len(sinks) :]
        names = [*sources, *sinks]
        return Call(
            reply["result"],
            reply["instructions"],
            reply["stack_bytes"],
            self._blocks(blocks),
            tuple(
                Trace(where[0], where[1], where[2], data) for where, data in zip(reply["traces"], traced, strict=True)
            ),
            tuple((names[index], row) for index, row in reply["callbacks"]),
            {name: _rows(data, *sinks[name]) for name, data in zip(sinks, taken, strict=True)},
        )

    def run_batch(
        self,
        function: str,
        inputs: Mapping[int, np.ndarray],
        outputs: Mapping[int, int],
        *,
        arguments: Sequence[int | str] = (),
        sources: Mapping[str, np.ndarray] = NOTHING,
        sinks: Mapping[str, tuple[int, int]] = NOTHING,
        reset: str | None = None,
        progress: Callable[[int], None] | None = None,
        limit: int = MAX_INSTRUCTIONS,
    ) -> Batch:
        arrays = [*inputs.values(), *sources.values()]
        request = {
            "function": self._address(function),
            "arguments": self._words(arguments),
            "reset": self._address(reset) if reset else None,
            "count": sample_count(inputs, sources),
            "inputs": list(inputs),
            "outputs": list(outputs.items()),
            "sources": [(self._address(name), rows.shape[1]) for name, rows in sources.items()],
            "sinks": [(self._address(name), *size) for name, size in sinks.items()],
            "limit": limit,
        }
        reply, (totals, *rest) = self._ask("run_batch", request, [array.tobytes() for array in arrays], progress)
        read, taken = rest[: len(outputs)], rest[len(outputs) :]
        return Batch(
            tuple(_rows(data, -1, size) for data, size in zip(read, outputs.values(), strict=True)),
            np.frombuffer(totals, np.uint64),
            reply["stack_bytes"],
            {name: _rows(data, -1, *sinks[name]) for name, data in zip(sinks, taken, strict=True)},
        )

    def read(self, address: int, size: int) -> bytes:
        return self._ask("read", {"address": address, "size": size})[1][0]

    def write(self, address: int, data: bytes) -> None:
        self._ask("write", {"address": address}, [data])

    def _address(self, function: str) -> int:
        if self._firmware is None:
            raise EngineError(f"`{function}` cannot be called, because no firmware is loaded: call load first.")
        return self._firmware.symbol(function).address

    def _words(self, arguments: Sequence[int | str]) -> list[int]:
        """Words as registers hold them; a function's address has the Thumb bit on an Arm core."""
        code_bit = self.board.core.family == "arm"
        return [self._address(a) | code_bit if isinstance(a, str) else a & 0xFFFFFFFF for a in arguments]

    def _blocks(self, rows: bytes) -> tuple[Block, ...]:
        names = (*self._marks, None)  # -1: outside of all marked functions
        values = np.frombuffer(rows, np.int64).reshape(-1, 5).tolist()
        return tuple(Block(address, size, names[mark], length, runs) for address, size, mark, length, runs in values)

    def _ask(
        self,
        op: str,
        request: dict[str, Any],
        blobs: Sequence[bytes] = (),
        progress: Callable[[int], None] | None = None,
    ) -> tuple[dict[str, Any], list[bytes]]:
        self._send({"op": op, **request}, blobs)
        reply, data = self._receive()
        while "done" in reply:
            if progress is not None:
                progress(reply["done"])
            reply, data = self._receive()
        if "error" in reply:
            raise EngineError(self._explain(reply["error"], reply["pc"]))
        return reply, data

    def _explain(self, error: str, pc: int | None) -> str:
        path = self._firmware.path if self._firmware else "no firmware"
        place = ""
        if pc is not None:
            function = self._firmware.function_at(pc) if self._firmware else None
            place = f" in `{function}` at pc {pc:#010x}" if function else f" at pc {pc:#010x}"
        return f"{path} on {self.board.name} {error}{place} ({self.name})."

    def _send(self, request: dict[str, Any], blobs: Sequence[bytes]) -> None:
        assert self._process.stdin is not None
        text = json.dumps({**request, "blobs": [len(blob) for blob in blobs]}).encode()
        try:
            self._process.stdin.write(b"".join([struct.pack("<I", len(text)), text, *blobs]))
            self._process.stdin.flush()
        except (OSError, ValueError):
            raise self._crash() from None

    def _receive(self) -> tuple[dict[str, Any], list[bytes]]:
        """The next message. The process is killed where it stays silent for too long, which ends the read."""
        timer = Timer(REPLY_SECONDS, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            message = json.loads(self._read_bytes(struct.unpack("<I", self._read_bytes(4))[0]))
            return message, [self._read_bytes(size) for size in message["blobs"]]
        finally:
            timer.cancel()

    def _read_bytes(self, size: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if len(data) < size:
            raise self._crash()
        return data

    def _crash(self) -> EngineError:
        """The error for a process that is gone, with the last line that it said."""
        status = self._process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        said = lines[-1] if lines else f"exit status {status}"
        if "No module named" in said:
            return EngineError("the emulator unicorn is not installed: pip install 'minikin[board]'")
        return EngineError(f"the emulator stopped ({said}): run again, or reinstall it: pip install 'minikin[board]'")


def _rows(data: bytes, *shape: int) -> np.ndarray:
    return np.frombuffer(data, np.uint8).reshape(shape)


def _regions(board: Board) -> tuple[Region, ...]:
    return (board.flash, board.ram, *board.extra_ram)
