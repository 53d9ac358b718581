"""QEMU as an engine: for cores that unicorn does not have, and to check its counts."""

from __future__ import annotations

import hashlib
import mmap
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Self

import numpy as np

from minikin.boards import Board
from minikin.errors import EngineError
from minikin.vboard.elf import Firmware
from minikin.vboard.engine import (
    MAX_INSTRUCTIONS,
    NO_MARKS,
    NOTHING,
    Batch,
    Block,
    Call,
    Marks,
    Poison,
    Trace,
    mark_addresses,
    mark_names,
    sample_count,
)
from minikin.vboard.gdb import Remote

MAX_BLOCKS = 8192
PAINT, POISON = 0xA5, 0x7F  # as in unicorn_engine.py
MAX_DEPTH = 4096  # as in qemu_plugin.c
SP, LR, PC, XPSR = 13, 14, 15, 16
THUMB = 1 << 24  # in the xpsr
STILL_SECONDS = 5.0
"""A core that executes nothing for that long waits for an interrupt."""

HEAD = struct.Struct("<Q9I4x2Q")  # struct shared in qemu_plugin.c
FLAGS = struct.Struct("<3I")  # restart, too_deep, full; behind the total
CFSR, BFAR = 0xE000ED28, 0xE000ED38
FAULTS = {  # Armv7-M ARM, B3.2.15: bits of the CFSR
    16: "executes an instruction that this core does not have",
    17: "jumps to an address without the Thumb bit",
    19: "uses a coprocessor that is off",
    24: "makes an unaligned access",
    25: "divides by zero",
    0: "executes where there is no code",
    1: "makes a forbidden access",
    8: "executes where there is no memory",
}


class QemuEngine:
    """qemu-system-arm, spoken to by GDB's protocol; a plugin counts. Raises EngineError where it is not installed."""

    def __init__(self, board: Board):
        self.board = board
        self.name = f"QEMU {_version(_find_qemu())}"
        self._firmware: Firmware | None = None
        self._marks = NO_MARKS
        self._running: _Machine | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        machine = self.__dict__.get("_running")
        if machine is not None:
            machine.close()
        self._running = None

    def load(self, firmware: Firmware, marks: Marks = NO_MARKS) -> None:
        self.close()
        self._firmware, self._marks = firmware, marks
        machine = self._running = _Machine(
            self.board, firmware, mark_addresses(firmware, marks), len(mark_names(marks))
        )
        try:
            machine.start()
        except _Fault as fault:
            raise self._fail(fault) from None

    def call(
        self,
        function: str,
        *arguments: int | str,
        sources: Mapping[str, np.ndarray] = NOTHING,
        sinks: Mapping[str, tuple[int, int]] = NOTHING,
        poison: Poison = (),
        limit: int = MAX_INSTRUCTIONS,
    ) -> Call:
        machine = self._machine(function)
        try:
            machine.paint()
            machine.clear()
            events = _Events(machine, sources, sinks, poison)
            result = machine.run(self._address(function), self._words(arguments), limit, events)
            events.end()
            return Call(
                result,
                machine.total,
                machine.stack_bytes(),
                tuple(machine.blocks((None, *mark_names(self._marks)))),
                tuple(events.traces),
                tuple(events.called),
                events.sinks,
            )
        except _Fault as fault:
            raise self._fail(fault) from None

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
        count = sample_count(inputs, sources)
        machine, words = self._machine(function), self._words(arguments)
        read: list[list[bytes]] = [[] for _ in outputs]
        taken: dict[str, list[np.ndarray]] = {name: [] for name in sinks}
        totals = []
        try:
            machine.paint()
            for index in range(count):
                if reset is not None:
                    machine.run(self._address(reset), [], limit, _Events(machine))
                for address, samples in inputs.items():
                    self.write(address, samples[index].tobytes())
                machine.clear()
                events = _Events(machine, {name: rows[index] for name, rows in sources.items()}, sinks)
                machine.run(self._address(function), words, limit, events)
                events.end()
                totals.append(machine.total)
                for rows, (address, size) in zip(read, outputs.items(), strict=True):
                    rows.append(self.read(address, size))
                for name, rows in events.sinks.items():
                    taken[name].append(rows)
                if progress is not None:
                    progress(index + 1)
            stack_bytes = machine.stack_bytes()
        except _Fault as fault:
            raise self._fail(fault) from None
        frames = [np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1) for rows in read]
        return Batch(
            tuple(frames), np.array(totals, np.uint64), stack_bytes, {n: np.stack(rows) for n, rows in taken.items()}
        )

    def read(self, address: int, size: int) -> bytes:
        data = self._machine("read").remote.read(address, size)
        if len(data) < size:
            raise self._explain(f"has no memory at {address:#010x}, or less than was asked for")
        return data

    def write(self, address: int, data: bytes) -> None:
        if not self._machine("write").remote.write(address, data):
            raise self._explain(f"has no memory at {address:#010x}, or less than was asked for")

    def _machine(self, function: str) -> _Machine:
        if self._firmware is None:
            raise EngineError(f"`{function}` cannot be called, because no firmware is loaded: call load first.")
        if self._running is None:  # what went wrong has left it in an unknown state
            self.load(self._firmware, self._marks)
        assert self._running is not None
        return self._running

    def _address(self, function: str) -> int:
        assert self._firmware is not None
        return self._firmware.symbol(function).address

    def _words(self, arguments: Sequence[int | str]) -> list[int]:
        return [self._address(a) | 1 if isinstance(a, str) else a & 0xFFFFFFFF for a in arguments]

    def _fail(self, fault: _Fault) -> EngineError:
        self.close()
        return self._explain(str(fault), fault.pc)

    def _explain(self, text: str, pc: int | None = None) -> EngineError:
        path = self._firmware.path if self._firmware else "no firmware"
        function = self._firmware.function_at(pc) if self._firmware and pc is not None else None
        place = f" in `{function}`" if function else ""
        place += f" at pc {pc:#010x}" if pc is not None else ""
        return EngineError(f"{path} on {self.board.name} {text}{place} ({self.name}).")


class _Fault(Exception):
    """What the firmware did wrong, and at which address."""

    def __init__(self, text: str, pc: int | None = None):
        super().__init__(text)
        self.pc = pc


class _Events:
    """The rows of one call that come and go, its traces, and the poison that is laid after each."""

    def __init__(
        self,
        machine: _Machine,
        sources: Mapping[str, np.ndarray] = NOTHING,
        sinks: Mapping[str, tuple[int, int]] = NOTHING,
        poison: Poison = (),
    ):
        self.machine = machine
        self.sources = sources
        self.sinks = {name: np.zeros(size, np.uint8) for name, size in sinks.items()}
        self.traces: list[Trace] = []
        self.called: list[tuple[str, int]] = []
        self._poison = iter(poison) if poison else None
        firmware = machine.firmware
        self.names = {firmware.symbol(name).address: name for name in (*sources, *sinks)}
        if "mk_trace" in firmware.symbols:
            self.names[firmware.symbol("mk_trace").address] = "mk_trace"
        self._forget()

    def happen(self, registers: list[int]) -> None:
        """The core is at the first instruction of one of `names`."""
        name = self.names[registers[PC]]
        if name == "mk_trace":
            layer, row, pointer, size = registers[:4]
            self.traces.append(Trace(layer, row, pointer, self._read(pointer, size, registers[PC])))
        else:
            self._move(name, registers)
        self._forget(registers[PC])

    def end(self) -> None:
        for name, rows in self.sinks.items():
            missing = set(range(len(rows))) - {row for called, row in self.called if called == name}
            if missing:
                at = self.machine.firmware.symbol(name).address
                raise _Fault(f"never writes row {min(missing)} of {len(rows)}", at)
        if self._poison is not None and next(self._poison, None) is not None:
            raise _Fault("makes fewer rows than there is poison for")

    def _move(self, name: str, registers: list[int]) -> None:
        row, pointer, pc = registers[0], registers[1], registers[PC]
        count = len(self.sources[name] if name in self.sources else self.sinks[name])
        if row >= count:
            raise _Fault(f"asks for row {row - (row >> 31 << 32)}, where there are {count}", pc)
        if name in self.sources:
            data = self.sources[name][row].tobytes()
            if not self.machine.remote.write(pointer, data):
                raise _bad_row(pointer, len(data), pc)
        else:
            rows = self.sinks[name]
            rows[row] = np.frombuffer(self._read(pointer, rows.shape[1], pc), np.uint8)
        self.called.append((name, row))

    def _read(self, pointer: int, size: int, pc: int) -> bytes:
        data = self.machine.remote.read(pointer, size)
        if len(data) < size:
            raise _bad_row(pointer, size, pc)
        return data

    def _forget(self, pc: int | None = None) -> None:
        if self._poison is None:
            return
        ranges = next(self._poison, None)
        if ranges is None:
            raise _Fault("makes more rows than there is poison for", pc)
        for address, size in ranges:
            self.machine.remote.write(address, bytes([POISON]) * size)


def _bad_row(pointer: int, size: int, pc: int) -> _Fault:
    return _Fault(f"passes a row at {pointer:#010x}, where there is no memory for {size} bytes", pc)


class _Machine:
    """A QEMU process with one firmware, and the file that its plugin shares."""

    def __init__(self, board: Board, firmware: Firmware, marks: list[tuple[int, list[int]]], names: int):
        self.board, self.firmware = board, firmware
        self._folder = tempfile.TemporaryDirectory(prefix="minikin-qemu-")
        self._row = np.dtype(
            [
                ("address", "<u4"),
                ("size", "<u4"),
                ("instructions", "<u4"),
                ("rest", "<u4", 3),
                ("runs", "<u8", names + 1),
            ]
        )
        path = Path(self._folder.name) / "shared"
        self._blocks_at = self._write_shared(path, marks, names)
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 0)
        self._stack_low = firmware.symbol("__stack_limit__").address
        self._stack_top = firmware.symbol("__stack_top__").address
        self._return = board.flash.end - 4  # nothing is there; functions return to it
        self._trap = board.flash.end - 8  # where exceptions end
        self._breakpoints: set[int] = set()
        command = [_find_qemu(), "-M", board.machine, "-display", "none", "-serial", "none", "-monitor", "none", "-S"]
        command += ["-gdb", "stdio", "-kernel", str(firmware.path)]
        command += ["-plugin", f"{_build_plugin()},share={path}"]
        pipe = subprocess.PIPE
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._stderr)
        try:
            self.remote = Remote(self._process)
        except EOFError:
            raise self._crash() from None

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._stderr.close()
        self._shared.close()
        self._folder.cleanup()

    def start(self) -> None:
        """Run from reset to main; exceptions go to a breakpoint."""
        handlers = struct.pack("<14I", *([self._trap | 1] * 14))
        self.remote.write(self.board.flash.origin + 8, handlers)
        for address in (self._return, self._trap):
            self.remote.set_breakpoint(address)
        main = self.firmware.symbol("main").address
        self.remote.set_breakpoint(main)
        if self._resume(MAX_INSTRUCTIONS, 0) == self._trap:
            raise self._exception()
        self.remote.clear_breakpoint(main)

    def run(self, function: int, words: Sequence[int], limit: int, events: _Events) -> int:
        """Run from `function` with a fresh stack until it returns; gives r0."""
        self._listen(set(events.names))
        others = words[4:]
        sp = self._stack_top - (4 * len(others) + 7) // 8 * 8
        self.remote.write(sp, struct.pack(f"<{len(others)}I", *others))
        first = dict(enumerate(words[:4]))
        for number, value in (first | {SP: sp, LR: self._return | 1, PC: function, XPSR: THUMB}).items():
            self.remote.set_register(number, value)
        FLAGS.pack_into(self._shared, 8, 1, 0, 0)  # restart
        before, at = self.total, function
        while True:
            if at in self._breakpoints or at == function:
                if at in events.names:
                    events.happen(self.remote.registers())
                at = self._resume(limit, before, step=True)  # QEMU does not run from a breakpoint
                if at in events.names:
                    continue
            if at not in (self._return, self._trap):
                at = self._resume(limit, before)
            if at == self._return:
                self._check(limit, before)
                return self.remote.registers()[0]
            if at == self._trap:
                raise self._exception()

    def _listen(self, addresses: set[int]) -> None:
        for address in addresses - self._breakpoints:
            self.remote.set_breakpoint(address)
        for address in self._breakpoints - addresses:
            self.remote.clear_breakpoint(address)
        self._breakpoints = addresses

    def _resume(self, limit: int, before: int, *, step: bool = False) -> int:
        """Run to a breakpoint, or for one instruction; gives the address. `before` is the count at the call's start."""
        moved, reason = (self.total, 0.0), ""

        def is_over(seconds: float) -> bool:
            nonlocal moved, reason
            if self.total != moved[0]:
                moved = self.total, seconds
            if self.total - before > limit:
                reason = f"was stopped after {limit:,} instructions, the limit"
            elif seconds - moved[1] > STILL_SECONDS:
                reason = "waits for an interrupt (WFI or WFE), and nothing raises one"
            return bool(reason)

        try:
            stopped = self.remote.resume(is_over, step=step)
            at = self.remote.registers()[PC]
        except EOFError:
            raise self._crash() from None
        if not stopped:
            raise _Fault(reason, at)
        return at

    def _check(self, limit: int, before: int) -> None:
        _, too_deep, full = FLAGS.unpack_from(self._shared, 8)
        if too_deep:
            raise _Fault(f"nests functions more than {MAX_DEPTH} deep")
        if full:
            raise _Fault(f"has more than {MAX_BLOCKS:,} basic blocks")
        if self.total - before > limit:
            raise _Fault(f"was stopped after {limit:,} instructions, the limit")

    def _exception(self) -> _Fault:
        """What the core's fault registers say; the frame on the stack has the address."""
        registers = self.remote.registers()
        (pc,) = struct.unpack("<I", self.remote.read(registers[SP] + 24, 4))
        status, address = struct.unpack("<I", self.remote.read(CFSR, 4))[0], self.remote.read(BFAR, 4)
        number = registers[XPSR] & 0x1FF
        if number == 11:
            return _Fault("executes SVC", pc)
        if status >> 9 & 3:  # a precise or imprecise bus error
            where = struct.unpack("<I", address)[0]
            return _Fault(f"makes an access at {where:#010x}, where there is no memory", pc)
        for bit, text in FAULTS.items():
            if status >> bit & 1:
                return _Fault(text, pc)
        return _Fault(f"raises exception {number}", pc)

    def _crash(self) -> _Fault:
        self._process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return _Fault(f"stops the emulator: {lines[0] if lines else f'exit status {self._process.returncode}'}")

    # The shared file

    @property
    def total(self) -> int:
        return int.from_bytes(self._shared[:8], "little")

    def clear(self) -> None:
        self._shared[:8] = bytes(8)
        rows = self._rows()
        rows["runs"] = 0

    def blocks(self, names: Sequence[str | None]) -> Iterator[Block]:
        rows = self._rows()
        for index, mark in zip(*np.nonzero(rows["runs"]), strict=True):
            row = rows[index]
            yield Block(
                int(row["address"]), int(row["size"]), names[mark], int(row["instructions"]), int(row["runs"][mark])
            )

    def _rows(self) -> np.ndarray:
        count = HEAD.unpack_from(self._shared)[6]
        return np.frombuffer(self._shared, self._row, count, self._blocks_at)

    def _write_shared(self, path: Path, marks: list[tuple[int, list[int]]], names: int) -> int:
        """The head, marks, names of their calls, code, and room for the blocks; gives where the blocks are."""
        code = next(s for s in self.firmware.segments if s.address == self.board.flash.origin)
        calls = [name + 1 for _, own in marks for name in own]
        ends = accumulate(len(own) for _, own in marks)
        rows = [
            word for (address, own), end in zip(marks, ends, strict=True) for word in (address, end - len(own), end)
        ]
        code_at = HEAD.size + 4 * (len(rows) + len(calls))
        blocks_at = -(-(code_at + len(code.data)) // 8) * 8
        head = HEAD.pack(0, 1, 0, 0, len(marks), names, 0, MAX_BLOCKS, code.address, len(code.data), code_at, blocks_at)
        with path.open("wb") as file:
            file.write(head + struct.pack(f"<{len(rows) + len(calls)}I", *rows, *calls) + code.data)
            file.truncate(blocks_at + MAX_BLOCKS * self._row.itemsize)
        return blocks_at

    # The stack

    def paint(self) -> None:
        self.remote.write(self._stack_low, bytes([PAINT]) * (self._stack_top - self._stack_low))

    def stack_bytes(self) -> int:
        """The high-water mark since the paint was laid, in whole words."""
        size = self._stack_top - self._stack_low
        used = len(self.remote.read(self._stack_low, size).lstrip(bytes([PAINT])))
        if used == size:
            raise _Fault(f"needs more stack than the {size:,} bytes that are left above .bss")
        return (used + 3) // 4 * 4


@cache
def _find_qemu() -> str:
    path = shutil.which("qemu-system-arm")
    if path is None:
        raise EngineError("the emulator qemu-system-arm is not installed: install it from your system's packages")
    return path


@cache
def _version(qemu: str) -> str:
    text = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+(\.\d+)+)", text)
    return found[1] if found else "of unknown version"


def _build_plugin() -> Path:
    """The compiled qemu_plugin.c, built on first use; several processes may do so at once."""
    source = Path(__file__).with_name("qemu_plugin.c")
    version = 1 if int(_version(_find_qemu()).split(".")[0]) < 9 else 2
    key = hashlib.sha256(source.read_bytes() + bytes([version])).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    library = home / "minikin" / f"qemu_plugin-{platform.system()}-{platform.machine()}-{key}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            built = Path(folder) / library.name
            flags = ["-shared", "-fPIC", "-O2", "-std=c99", "-fno-sanitize=all", f"-DPLUGIN_VERSION={version}"]
            command = [sys.executable, "-m", "ziglang", "cc", *flags, "-o", str(built), str(source)]
            subprocess.run(command, check=True, capture_output=True)
            os.replace(built, library)
    return library
