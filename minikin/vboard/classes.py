"""What kinds of instruction a run executed: its basic blocks, disassembled and added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import capstone

from minikin.boards import Core
from minikin.vboard.elf import Firmware
from minikin.vboard.engine import Block

CLASSES = (
    *("alu", "load", "store", "multiple", "dual_mac", "mac", "mul", "div", "dsp", "branch", "it"),
    *("float", "float_mac", "float_div", "vector"),
)
"""`multiple`: LDRD, STRD, LDM, STM, PUSH, POP. `dual_mac`: two 16-bit products at once. `dsp`: other SIMD and saturating
instructions. `branch`: calls and returns too. `vector`: Helium, which the disassembler does not know."""

_LOADS = {"ldr", "ldrb", "ldrh", "ldrsb", "ldrsh", "vldr", "lb", "lh", "lw", "lbu", "lhu", "lwsp"}
_STORES = {"str", "strb", "strh", "vstr", "sb", "sh", "sw", "swsp"}
_MULTIPLES = {"ldrd", "strd", "push", "pop", "vpush", "vpop"}
_DUAL = {"smlad", "smladx", "smlsd", "smlsdx", "smuad", "smuadx", "smusd", "smusdx", "smlald", "smlaldx", "smlsld"}
_MACS = {"mla", "mls", "smlal", "umlal", "umaal", "smmla", "smmlar", "smmls", "smmlsr", "smlawb", "smlawt"}
_MACS |= {f"smla{x}{y}" for x in "bt" for y in "bt"}
_MULS = {"mul", "smull", "umull", "smmul", "smmulr", "smulwb", "smulwt", "mulh", "mulhu", "mulhsu"}
_MULS |= {f"smul{x}{y}" for x in "bt" for y in "bt"}
_DIVS = {"sdiv", "udiv", "div", "divu", "rem", "remu"}
_DSP = {"sxtb16", "uxtb16", "sxtab16", "uxtab16", "pkhbt", "pkhtb", "ssat", "usat", "ssat16", "usat16", "sel"}
_DSP |= {f"{kind}{op}" for kind in ("s", "u", "q", "uq", "sh", "uh") for op in ("add8", "add16", "sub8", "sub16")}
_DSP |= {"qadd", "qsub", "qdadd", "qdsub", "usad8", "usada8", "sasx", "ssax", "qasx", "qsax"}
_BRANCHES = {"b", "bl", "blx", "bx", "cbz", "cbnz", "tbb", "tbh", "beq", "bne", "blt", "bge", "bltu", "bgeu"}
_BRANCHES |= {"beqz", "bnez", "j", "jr", "jal", "jalr", "ret"}
_FLOAT_MACS = {"vmla", "vmls", "vfma", "vfms", "vnmla", "vnmls", "vfnma", "vfnms"}
_FLOAT_DIVS = {"vdiv", "vsqrt"}

_TABLE = {
    "load": _LOADS,
    "store": _STORES,
    "multiple": _MULTIPLES,
    "dual_mac": _DUAL,
    "mac": _MACS,
    "mul": _MULS,
    "div": _DIVS,
    "dsp": _DSP,
    "branch": _BRANCHES,
    "it": {"it"},
    "float_mac": _FLOAT_MACS,
    "float_div": _FLOAT_DIVS,
}
_CLASS_OF = {name: kind for kind, names in _TABLE.items() for name in names}


@dataclass(frozen=True)
class Instruction:
    """`words` are those that a `multiple` moves, `loaded_bytes` what any instruction loads."""

    address: int
    text: str
    kind: str
    words: int = 0
    loaded_bytes: int = 0


class Disassembler:
    """The instructions of a firmware, by the addresses of its blocks."""

    def __init__(self, firmware: Firmware, core: Core):
        self._segments = firmware.segments
        self._has_helium = core.isa == "mve"
        self._is_riscv = core.family == "riscv"
        if self._is_riscv:
            self._capstone = capstone.Cs(capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV32 | capstone.CS_MODE_RISCVC)
        else:
            mode = capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS
            mode |= capstone.CS_MODE_V8 if core.arch.startswith("armv8") else 0
            self._capstone = capstone.Cs(capstone.CS_ARCH_ARM, mode)
        self._known: dict[tuple[int, int], tuple[Instruction, ...]] = {}

    def block(self, address: int, size: int) -> tuple[Instruction, ...]:
        if (address, size) not in self._known:
            self._known[address, size] = tuple(self._decode(address, size))
        return self._known[address, size]

    def counts(self, blocks: Iterable[Block]) -> Counter[str]:
        """Executed instructions by class; "words" is what all `multiple` moved, "loaded_bytes" what all loaded."""
        counts: Counter[str] = Counter()
        for block in blocks:
            for instruction in self.block(block.address, block.size):
                counts[instruction.kind] += block.runs
                counts["words"] += block.runs * instruction.words
                counts["loaded_bytes"] += block.runs * instruction.loaded_bytes
        return counts

    def _decode(self, address: int, size: int) -> Iterator[Instruction]:
        code, at = self._bytes(address, size), 0
        while at < size:
            length = self._length(code[at : at + 2])
            own = code[at : at + length]
            found = next(self._capstone.disasm(own, address + at, 1), None)
            if found is None or (self._has_helium and _is_helium(own)):
                kind = "branch" if _is_loop(own) else "vector"
                yield Instruction(address + at, f".inst 0x{own[::-1].hex()}", kind)
            else:
                yield self._instruction(found)
            at += length

    def _instruction(self, found: Any) -> Instruction:
        name = (self._capstone.insn_name(found.id) or found.mnemonic).removeprefix("c.").split(".")[0]
        kind = _CLASS_OF.get(name)
        if kind is None and name.startswith(("ldm", "stm", "vldm", "vstm")):
            kind = "multiple"
        if kind is None:
            kind = "float" if name.startswith("v") else "alu"
        if kind == "alu" and "pc" in found.op_str.split(",")[0]:
            kind = "branch"
        words = 0
        if kind == "multiple":
            words = 2 if name.endswith("rd") else _list_length(found.op_str)
        loaded = _load_bytes(name) if kind == "load" else 4 * words * (name.startswith(("ldm", "ldrd", "pop")))
        return Instruction(found.address, f"{found.mnemonic} {found.op_str}".strip(), kind, words, loaded)

    def _bytes(self, address: int, size: int) -> bytes:
        for segment in self._segments:
            start = address - segment.address
            if 0 <= start < len(segment.data):
                return segment.data[start : start + size]
        return bytes(size)

    def _length(self, code: bytes) -> int:
        if self._is_riscv:
            return 4 if code[0] & 3 == 3 else 2
        return 4 if code[1] >> 3 >= 0x1D else 2


def _is_helium(code: bytes) -> bool:
    """Whether these bytes are in Helium's encodings, some of which are old coprocessor instructions to the disassembler.

    Armv8.1-M ARM, C2.3.7: 111x 11xx with 14 or 15 in place of a coprocessor, or 111x 1111.
    """
    if len(code) == 2 or code[1] & 0xEC != 0xEC:
        return False
    return code[1] & 0x0F == 0x0F or code[3] & 0x0E == 0x0E


def _is_loop(code: bytes) -> bool:
    """DLS, WLS, LE and their tail-predicated forms: Armv8.1-M ARM, C2.3.3. VCTP lies among them."""
    halves = int.from_bytes(code[:2], "little"), int.from_bytes(code[2:], "little")
    return halves[0] & 0xFF80 == 0xF000 and (halves[1] >> 12 == 0xC or halves[1] == 0xE001)


def _load_bytes(name: str) -> int:
    size = name.removeprefix("ldr").removeprefix("l").removeprefix("s").removesuffix("u")
    return {"b": 1, "h": 2}.get(size, 4)


def _list_length(operands: str) -> int:
    """How many registers "r0!, {r4, r5-r7, pc}" lists."""
    inside = operands[operands.find("{") + 1 : operands.find("}")]
    total = 0
    for part in inside.split(","):
        first, _, last = part.strip().partition("-")
        total += int(last[1:]) - int(first[1:]) + 1 if last else 1
    return total
