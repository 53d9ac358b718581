# SPDX-License-Identifier: MIT
"""Emulates a Cortex-M or a RISC-V core with unicorn, as a process of its own that is spoken to over stdin and stdout.

It is started by path, imports nothing but unicorn and the standard library, and takes one option: `--hook c`
(the default: unicorn_hook.c, built by zig on first use, else the Python hook) or `--hook python`.

A message is a little-endian uint32, that many bytes of JSON, then the blobs whose sizes its "blobs" lists.
The process says {"name"} first. Every request has an "op", the name of a method of Machine, and gets one reply:
the method's result, or {"error", "pc"}. Before run_batch's reply come any number of {"done": inputs finished}.
"""

import argparse
import copy
import ctypes
import hashlib
import importlib.metadata
import itertools
import json
import mmap
import os
import platform
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from unicorn import arm_const as arm
from unicorn import riscv_const as riscv
from unicorn import unicorn_const as uc_const
from unicorn.unicorn_py3 import Uc, UcError
from unicorn.unicorn_py3 import unicorn as binding

VERSION = importlib.metadata.version("unicorn")
PAGE_BYTES = 4096
RETURN_PAGE = 0x9FFF_F000  # executable by Armv7-M's default map, and no board has memory there
SYSTEM = (0xE000_0000, 0x10_0000)  # the private peripheral bus; plain memory here
PAINT = 0xA5
POISON = 0x7F  # the largest int8, and as a float larger than any activation
PROGRESS_SECONDS = 0.2
MAX_DEPTH = 4096  # of nested marked functions, as in unicorn_hook.c
NO_MARK = -1

ACCESSES = {
    uc_const.UC_MEM_READ_UNMAPPED: "makes a {size}-byte read at {address:#010x}, where there is no memory",
    uc_const.UC_MEM_WRITE_UNMAPPED: "makes a {size}-byte write at {address:#010x}, where there is no memory",
    uc_const.UC_MEM_FETCH_UNMAPPED: "jumps to {address:#010x}, where there is no memory",
    uc_const.UC_MEM_WRITE_PROT: "makes a {size}-byte write at {address:#010x}, which is flash",
}


class Family(NamedTuple):
    """What differs between the kinds of core: the emulator's names, the calling convention, code, exceptions.

    The numbers of exceptions are QEMU's: target/arm/cpu.h, target/riscv/cpu_bits.h.
    """

    arch: int
    mode: int
    cpus: str  # the prefix of their names
    constants: object
    pc: int
    sp: int
    link: int
    arguments: tuple  # registers; the first gets the result
    stack_align: int
    code_bit: int  # in the address of a function
    is_wide: object  # (bytes of an instruction) -> whether it has 4 of them
    exceptions: dict
    past: int  # of an exception, the emulator's pc lies this much behind a byte of its instruction


FAMILIES = {
    "arm": Family(
        arch=uc_const.UC_ARCH_ARM,
        mode=uc_const.UC_MODE_THUMB,
        cpus="UC_CPU_ARM_",
        constants=arm,
        pc=arm.UC_ARM_REG_PC,
        sp=arm.UC_ARM_REG_SP,
        link=arm.UC_ARM_REG_LR,
        arguments=tuple(range(arm.UC_ARM_REG_R0, arm.UC_ARM_REG_R0 + 4)),
        stack_align=8,  # AAPCS, 6.4
        code_bit=1,
        is_wide=lambda code: code[1] >> 3 >= 0x1D,
        exceptions={2: "executes SVC", 4: "makes an unaligned access or another data abort", 7: "executes BKPT"},
        past=0,
    ),
    "riscv": Family(
        arch=uc_const.UC_ARCH_RISCV,
        mode=uc_const.UC_MODE_RISCV32,
        cpus="UC_CPU_",
        constants=riscv,
        pc=riscv.UC_RISCV_REG_PC,
        sp=riscv.UC_RISCV_REG_SP,
        link=riscv.UC_RISCV_REG_RA,
        arguments=tuple(range(riscv.UC_RISCV_REG_A0, riscv.UC_RISCV_REG_A0 + 8)),
        stack_align=16,  # RISC-V ELF psABI, integer calling convention
        code_bit=0,
        is_wide=lambda code: code[0] & 3 == 3,
        exceptions={
            2: "executes an instruction that this core does not have",
            3: "executes EBREAK",
            4: "makes an unaligned read",
            6: "makes an unaligned write",
            8: "executes ECALL",
        },
        past=2,
    ),
}


class Fault(Exception):
    """What the firmware did wrong, and at which address."""

    def __init__(self, text: str, pc: int | None = None):
        super().__init__(text)
        self.pc = pc


class PythonCounter:
    """Counts by basic block and marked function, as unicorn_hook.c does, but slowly."""

    def __init__(self, uc, marks, _memories, family):
        self.uc, self.family = uc, family
        self.names_of = dict(marks)  # address -> names that its calls count for, in turn
        self.calls = dict.fromkeys(self.names_of, 0)
        self.blocks = {}  # (address, size, name) -> [runs, instructions]
        self.total = self.limit = 0
        self.frames = [(NO_MARK, None, None, NO_MARK)]  # address, return address, stack pointer, name
        self.too_deep = False
        uc.hook_add(uc_const.UC_HOOK_BLOCK, self._block)

    def clear(self):
        self.blocks.clear()
        self.total = 0

    def arm(self, instructions):
        self.limit = self.total + instructions
        del self.frames[1:]
        self.calls = dict.fromkeys(self.names_of, 0)
        self.too_deep = False

    @property
    def over(self):
        return self.total > self.limit

    def rows(self):
        values = [value for key, (runs, count) in self.blocks.items() for value in (*key, count, runs)]
        return struct.pack(f"<{len(values)}q", *values)

    def _block(self, uc, address, size, _):
        while self.frames[-1][1] == address and self.frames[-1][2] == uc.reg_read(self.family.sp):
            self.frames.pop()
        if address in self.names_of:
            self._enter(uc, address)
        key = (address, size, self.frames[-1][3])
        if key not in self.blocks:
            self.blocks[key] = [0, self._count_instructions(address, size)]
        block = self.blocks[key]
        block[0] += 1
        self.total += block[1]
        if self.total > self.limit:
            uc.emu_stop()

    def _enter(self, uc, address):
        frame = (address, uc.reg_read(self.family.link) & ~1, uc.reg_read(self.family.sp))
        if frame == self.frames[-1][:3]:
            return
        if len(self.frames) == MAX_DEPTH:
            self.too_deep = True
            uc.emu_stop()
            return
        names = self.names_of[address]
        name = names[self.calls[address] % len(names)]
        self.calls[address] += 1
        self.frames.append((*frame, name))

    def _count_instructions(self, address, size):
        code = self.uc.mem_read(address, size)
        count = at = 0
        while at < size:
            at += 4 if self.family.is_wide(code[at : at + 2]) else 2
            count += 1
        return count


class CCounter:
    """unicorn_hook.c, called straight from unicorn."""

    library: ctypes.CDLL

    def __init__(self, uc, marks, memories, family):
        library, self.uc = self.library, uc
        functions = (ctypes.cast(f, ctypes.c_void_p) for f in (binding.uclib.uc_reg_read, binding.uclib.uc_emu_stop))
        addresses = (ctypes.c_uint32 * len(marks))(*(address for address, _ in marks))
        ends = (ctypes.c_int32 * len(marks))(*itertools.accumulate(len(own) for _, own in marks))
        names = [name for _, own in marks for name in own]
        names = (ctypes.c_int32 * len(names))(*names)
        is_riscv = family.arch == uc_const.UC_ARCH_RISCV
        self._counter = ctypes.c_void_p(library.counter_new(*functions, addresses, ends, len(marks), names, is_riscv))
        for memory in memories:
            if not library.counter_add_memory(self._counter, memory.origin, memory.size, memory.pointer):
                raise Fault("has more memory regions than the counter takes")
        hook = ctypes.c_size_t()
        block = ctypes.cast(library.counter_block, ctypes.c_void_p)
        everywhere = (ctypes.c_uint64(1), ctypes.c_uint64(0))  # begin > end
        handle = ctypes.byref(hook)
        binding.uclib.uc_hook_add(uc._uch, handle, uc_const.UC_HOOK_BLOCK, block, self._counter, *everywhere)

    def __del__(self):
        self.library.counter_free(self._counter)

    def clear(self):
        self.library.counter_clear(self._counter)

    def arm(self, instructions):
        self.library.counter_arm(self._counter, instructions)

    @property
    def total(self):
        return self.library.counter_total(self._counter)

    @property
    def over(self):
        return self.library.counter_over(self._counter)

    @property
    def too_deep(self):
        return self.library.counter_too_deep(self._counter)

    def rows(self):
        count = self.library.counter_rows(self._counter, None)
        rows = (ctypes.c_int64 * (5 * count))()
        self.library.counter_rows(self._counter, rows)
        return bytes(rows)


class Memory:
    """A page-aligned range of the emulated address space; `bytes` is what the core sees."""

    def __init__(self, origin, size):
        self.origin = origin // PAGE_BYTES * PAGE_BYTES
        self.size = (origin + size - self.origin + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES
        self.bytes = mmap.mmap(-1, self.size)
        self.pointer = ctypes.addressof(ctypes.c_char.from_buffer(self.bytes))

    def seen_at(self, origin):
        """The same bytes at another address."""
        window = copy.copy(self)
        window.origin = origin
        return window


class Callback:
    """A function of the firmware that gives or takes the rows of one frame; `data` has them one behind the other."""

    def __init__(self, index, rows, data, is_sink):
        self.index = index  # in the request: the sources, then the sinks
        self.rows = rows
        self.data = data
        self.row_bytes = len(data) // rows if rows else 0
        self.is_sink = is_sink
        self.called = set()

    def move(self, uc, row, pointer):
        place = slice(row * self.row_bytes, (row + 1) * self.row_bytes)
        if self.is_sink:
            self.data[place] = uc.mem_read(pointer, self.row_bytes)
        else:
            uc.mem_write(pointer, bytes(self.data[place]))
        self.called.add(row)


class Machine:
    """One core, its memories, one firmware. Public methods are the requests; each returns (reply, blobs)."""

    def __init__(self, counter_class, report):
        self._counter_class = counter_class
        self._report = report

    def load(self, request, blobs):
        """Map the regions, write the segments, run from reset to the function at "stop"."""
        self._family = family = FAMILIES[request["family"]]
        self._uc = Uc(family.arch, family.mode)
        self._uc.ctl_set_cpu_model(getattr(family.constants, family.cpus + request["cpu"]))
        self._memories = []
        for origin, size, is_flash in [
            *request["regions"],
            [*SYSTEM, False],
            [RETURN_PAGE, PAGE_BYTES, True],
        ]:
            self._map(Memory(origin, size), is_flash)
        for origin, window in request["windows"]:  # the same bytes at another address
            self._map(self._find_memory(origin).seen_at(window), True)
        for address, data in zip(request["segments"], blobs, strict=True):
            self.write({"address": address}, [data])
        self._counter = self._counter_class(self._uc, request["marks"], self._memories, family)
        self._uc.hook_add(uc_const.UC_HOOK_MEM_INVALID, self._on_access)
        self._uc.hook_add(uc_const.UC_HOOK_INTR, self._on_exception)
        if request["trace"] is not None:
            where = (request["trace"], request["trace"])
            self._uc.hook_add(uc_const.UC_HOOK_CODE, self._on_trace, None, *where)
        self._traces = []
        self._callbacks = {}  # address -> Callback, in this run
        self._called = []  # (index, row) of callbacks
        self._poison = None  # ranges to overwrite, for the start and each event that is to come
        self._hooked = set()
        self._stack_low = request["stack_low"]
        self._stack_top, entry = request["stack_top"], request["entry"]
        if request["vectors"] is not None:
            self._stack_top, entry = struct.unpack("<2I", self._uc.mem_read(request["vectors"], 8))
        self._run(entry, [], request["limit"], until=request["stop"])
        self._uc.ctl_flush_tb()  # what was translated stops at the old address
        return {}, []

    def call(self, request, blobs):
        """Call a function; give back r0, the counts, what the sinks took, and what the trace was shown."""
        self._start_measuring()
        self._serve(request, blobs)
        if request["poison"]:
            self._poison = iter(request["poison"])
            self._forget()
        result = self._run(request["function"], request["arguments"], request["limit"])
        self._check_rows()
        if self._poison is not None and next(self._poison, None) is not None:
            raise Fault("makes fewer rows than there is poison for")
        reply = {
            "result": result,
            "instructions": self._counter.total,
            "stack_bytes": self._stack_bytes(),
            "traces": [registers for registers, _ in self._traces],
            "callbacks": self._called,
        }
        return reply, [self._counter.rows(), *self._taken(), *(data for _, data in self._traces)]

    def run_batch(self, request, blobs):
        """For every input: call "reset", write the input, call "function" (counted), read the outputs."""
        self._start_measuring()
        count, reset, limit = request["count"], request["reset"], request["limit"]
        samples = [
            [memoryview(blob)[i * len(blob) // count :][: len(blob) // count] for blob in blobs] for i in range(count)
        ]
        outputs = [bytearray() for _ in (*request["outputs"], *request["sinks"])]
        totals, reported = [], time.monotonic()
        for index, sample in enumerate(samples):
            self._serve(request, sample[len(request["inputs"]) :])
            if reset is not None:
                self._run(reset, [], limit)
            for address, data in zip(request["inputs"], sample, strict=False):
                self._uc.mem_write(address, bytes(data))
            before = self._counter.total
            self._run(request["function"], request["arguments"], limit)
            totals.append(self._counter.total - before)
            self._check_rows()
            read = [self._uc.mem_read(address, size) for address, size in request["outputs"]]
            for output, data in zip(outputs, [*read, *self._taken()], strict=True):
                output += data
            if time.monotonic() - reported > PROGRESS_SECONDS:
                reported = time.monotonic()
                self._report(index + 1)
        return {"stack_bytes": self._stack_bytes()}, [struct.pack(f"<{count}Q", *totals), *outputs]

    def read(self, request, blobs):
        return {}, [self._access(self._uc.mem_read, request["address"], request["size"])]

    def write(self, request, blobs):
        self._access(self._uc.mem_write, request["address"], blobs[0])
        return {}, []

    def _map(self, memory, is_flash):
        protection = uc_const.UC_PROT_READ | uc_const.UC_PROT_EXEC if is_flash else uc_const.UC_PROT_ALL
        self._uc.mem_map_ptr(memory.origin, memory.size, protection, memory.pointer)
        self._memories.append(memory)

    def _find_memory(self, address):
        return next(memory for memory in self._memories if 0 <= address - memory.origin < memory.size)

    def _access(self, function, address, argument):
        try:
            return bytes(function(address, argument) or b"")
        except UcError:
            raise Fault(f"has no memory at {address:#010x}, or less than was asked for") from None

    def _start_measuring(self):
        self._counter.clear()
        self._traces.clear()
        paint = bytes([PAINT]) * (self._stack_top - self._stack_low)
        self._uc.mem_write(self._stack_low, paint)

    def _stack_bytes(self):
        """The high-water mark since the paint was laid, in whole words."""
        stack = bytes(self._uc.mem_read(self._stack_low, self._stack_top - self._stack_low))
        used = len(stack.lstrip(bytes([PAINT])))
        if used == len(stack):
            raise Fault(f"needs more stack than the {used:,} bytes that are left above .bss")
        return (used + 3) // 4 * 4

    def _serve(self, request, blobs):
        """Let these callbacks, and no others, give and take rows from now on. The hooks of earlier ones idle."""
        given = [(*source, blob, False) for source, blob in zip(request["sources"], blobs, strict=True)]
        given += [(address, rows, bytearray(rows * size), True) for address, rows, size in request["sinks"]]
        self._callbacks = {address: Callback(i, *rest) for i, (address, *rest) in enumerate(given)}
        self._called, self._poison = [], None
        new = set(self._callbacks) - self._hooked
        for address in new:
            self._uc.hook_add(uc_const.UC_HOOK_CODE, self._on_callback, None, address, address)
        if new:
            self._hooked |= new
            self._uc.ctl_flush_tb()  # what is translated knows nothing of the hooks

    def _check_rows(self):
        """Every row of every sink has come."""
        for address, callback in self._callbacks.items():
            missing = set(range(callback.rows)) - callback.called if callback.is_sink else None
            if missing:
                raise Fault(f"never writes row {min(missing)} of {callback.rows}", address)

    def _taken(self):
        return [bytes(callback.data) for callback in self._callbacks.values() if callback.is_sink]

    def _run(self, function, arguments, limit, until=RETURN_PAGE):
        """Run from `function` with a fresh stack until the core is at `until`; gives r0."""
        self._fault = None
        self._pass(arguments)
        self._uc.reg_write(self._family.link, RETURN_PAGE | self._family.code_bit)
        self._counter.arm(limit)
        try:
            self._uc.emu_start(function | self._family.code_bit, until)
        except UcError as error:
            self._fault = self._fault or Fault(self._describe(error), self._pc() - self._family.past)
        self._check_end(limit, until)
        return self._uc.reg_read(self._family.arguments[0])

    def _pass(self, arguments):
        """The first words in registers and the others on the stack, which stays aligned."""
        registers, align = self._family.arguments, self._family.stack_align
        for register, value in zip(registers, arguments, strict=False):
            self._uc.reg_write(register, value)
        others = arguments[len(registers) :]
        sp = self._stack_top - -(-4 * len(others) // align) * align
        self._uc.mem_write(sp, struct.pack(f"<{len(others)}I", *others))
        self._uc.reg_write(self._family.sp, sp)

    def _check_end(self, limit, until):
        if self._counter.too_deep:
            raise Fault(f"nests marked functions more than {MAX_DEPTH} deep", self._pc())
        if self._counter.over:
            raise Fault(f"was stopped after {limit:,} instructions, the limit", self._pc())
        if self._fault is not None:
            raise self._fault
        if self._pc() != until:
            raise Fault("waits for an interrupt (WFI or WFE), and nothing raises one", self._pc())

    def _describe(self, error):
        if error.errno == uc_const.UC_ERR_INSN_INVALID:
            return "executes an instruction that this core does not have"
        return f"stops the emulator: {error}"

    def _pc(self):
        return self._uc.reg_read(self._family.pc)

    def _on_access(self, uc, access, address, size, value, _):
        text = ACCESSES.get(access, "makes a forbidden access at {address:#010x}")
        self._fault = Fault(text.format(size=size, address=address), self._pc())
        return False

    def _on_exception(self, uc, number, _):
        text = self._family.exceptions.get(number, f"raises exception {number}")
        self._fault = Fault(text, self._pc() - self._family.past)
        uc.emu_stop()

    def _on_trace(self, uc, address, size, _):
        """void mk_trace(int layer, int row, const void *pointer, size_t bytes)"""
        layer, row, pointer, count = (uc.reg_read(register) for register in self._family.arguments[:4])
        self._traces.append(((layer, row, pointer), bytes(uc.mem_read(pointer, count))))
        self._forget()

    def _on_callback(self, uc, address, size, _):
        """void NAME(int row, T *data)"""
        callback = self._callbacks.get(address)
        if callback is None:
            return
        row, pointer = (uc.reg_read(register) for register in self._family.arguments[:2])
        try:
            if row >= callback.rows:
                raise Fault(f"asks for row {row - (row >> 31 << 32)}, where there are {callback.rows}", address)
            callback.move(uc, row, pointer)
        except (UcError, Fault) as error:
            at = f"passes a row at {pointer:#010x}, where there is no memory for {callback.row_bytes} bytes"
            self._fault = error if isinstance(error, Fault) else Fault(at, address)
            uc.emu_stop()
            return
        self._called.append((callback.index, row))
        self._forget()

    def _forget(self):
        """Overwrite what the request calls dead after this event."""
        if self._poison is None:
            return
        ranges = next(self._poison, None)
        if ranges is None:
            self._fault = Fault("makes more rows than there is poison for", self._pc())
            self._uc.emu_stop()
            return
        for address, size in ranges:
            self._uc.mem_write(address, bytes([POISON]) * size)


def cache_folder():
    """Where the user's caches are, with this program's own folder."""
    home = Path.home()
    places = {"Windows": ("LOCALAPPDATA", home / "AppData/Local"), "Darwin": (None, home / "Library/Caches")}
    variable, default = places.get(platform.system(), ("XDG_CACHE_HOME", home / ".cache"))
    return Path(os.environ.get(variable or "", "") or default) / "minikin"


def build_hook():
    """The path of the compiled unicorn_hook.c, built on first use; several processes may do so at once."""
    source = Path(__file__).with_name("unicorn_hook.c")
    key = hashlib.sha256(source.read_bytes() + VERSION.encode()).hexdigest()[:16]
    library = cache_folder() / f"unicorn_hook-{platform.system()}-{platform.machine()}-{key}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            built = Path(folder) / library.name
            include = Path(arm.__file__).parent / "include"
            flags = ["-shared", "-fPIC", "-O2", "-std=c99", "-fno-sanitize=all", "-I", str(include)]
            command = [sys.executable, "-m", "ziglang", "cc", *flags, "-o", str(built), str(source)]
            subprocess.run(command, check=True, capture_output=True)
            os.replace(built, library)
    return library


def load_hook():
    """CCounter with its library, or None where zig or unicorn's headers are missing."""
    try:
        library = ctypes.CDLL(str(build_hook()))
    except (OSError, subprocess.CalledProcessError):
        return None
    library.counter_new.restype = ctypes.c_void_p
    library.counter_arm.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    library.counter_add_memory.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p]
    library.counter_total.restype = ctypes.c_uint64
    for name in ("counter_add_memory", "counter_over", "counter_too_deep"):
        getattr(library, name).restype = ctypes.c_bool
    CCounter.library = library
    return CCounter


def receive(stream):
    """The next request and its blobs, or None at the end of the stream."""
    header = stream.read(4)
    if len(header) < 4:
        return None
    request = json.loads(stream.read(struct.unpack("<I", header)[0]))
    return request, [stream.read(size) for size in request["blobs"]]


def send(stream, reply, blobs=()):
    text = json.dumps({**reply, "blobs": [len(blob) for blob in blobs]}).encode()
    stream.write(b"".join([struct.pack("<I", len(text)), text, *blobs]))
    stream.flush()


def answer(machine, request, blobs):
    try:
        return getattr(machine, request["op"])(request, blobs)
    except Fault as fault:
        return {"error": str(fault), "pc": fault.pc}, []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hook", choices=["c", "python"], default="c")
    c_counter = load_hook() if parser.parse_args().hook == "c" else None
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other end decides when to stop
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    send(stdout, {"name": f"unicorn {VERSION}{'' if c_counter else ' (Python hook, slower)'}"})
    machine = Machine(c_counter or PythonCounter, lambda done: send(stdout, {"done": done}))
    while (message := receive(stdin)) is not None:
        send(stdout, *answer(machine, *message))


if __name__ == "__main__":
    main()
