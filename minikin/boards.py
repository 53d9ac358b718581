"""The boards that firmware is built for and emulated on, and the compiler flags of their cores."""

import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources

from minikin.errors import BoardError

COMMON_FLAGS = (
    "-std=c99",
    "-g",  # zig strips the symbols of a small build without it; link.ld leaves the rest out
    "-Wall",
    "-Wextra",
    "-Werror",
    "-ffreestanding",
    "-ffunction-sections",
    "-fdata-sections",
    "-ffp-contract=off",  # a fused multiply-add would make the board's floats differ from the host's
    "-fno-math-errno",  # __builtin_sqrtf becomes one instruction where there is an FPU
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
)
"""What both compilers take, for every core."""

ZIG_FLAGS = ("-fno-sanitize=all", "-fomit-frame-pointer", "-falign-loops=2")
"""Zig turns UBSan and frame pointers on where it isn't told otherwise."""


@dataclass(frozen=True)
class Region:
    """A contiguous range of memory addresses."""

    name: str
    origin: int
    size_bytes: int

    @property
    def end(self) -> int:
        """The first address behind the region."""
        return self.origin + self.size_bytes


@dataclass(frozen=True)
class Core:
    """A processor core: `isa` picks the kernels ("v6m", "dsp", "mve" or "rv"); `fpu` is gcc's name of it, "" for none.

    `family` is "arm" or "riscv", `gcc` the command of its gcc, `unicorn_cpu` unicorn's name of it, "" for none.
    """

    name: str
    arch: str
    isa: str
    fpu: str
    gcc_flags: tuple[str, ...]
    zig_flags: tuple[str, ...]
    unicorn_cpu: str
    family: str = "arm"
    gcc: str = "arm-none-eabi-gcc"


@dataclass(frozen=True)
class FlashWait:
    """What loads from flash cost: `cycles` of the core for each new line, until the caches hold it."""

    cycles: int
    line_bytes: int
    cache_bytes: int
    source: str


@dataclass(frozen=True)
class Power:
    """The current of a running core, from its datasheet."""

    ua_per_mhz: float
    volts: float
    source: str


@dataclass(frozen=True)
class Board:
    """A microcontroller board; `source` names the documents that its figures are from.

    Constants are read through `flash_data` where the core has another window on flash for loads. `engine` is the
    emulator that serves the board, `machine` QEMU's name of it.
    """

    name: str
    title: str
    core: Core
    clock_hz: int
    flash: Region
    ram: Region
    extra_ram: tuple[Region, ...]
    source: str
    flash_data: Region | None = None
    engine: str = "unicorn"
    machine: str = ""
    flash_wait: FlashWait | None = None
    power: Power | None = None

    @property
    def flash_bytes(self) -> int:
        return self.flash.size_bytes

    @property
    def ram_bytes(self) -> int:
        """Bytes of the main bank, which holds .data, .bss and the stack."""
        return self.ram.size_bytes


@cache
def load_boards() -> dict[str, Board]:
    """Every board of boards.toml, by name."""
    tables = tomllib.loads(resources.files("minikin").joinpath("boards.toml").read_text(encoding="utf-8"))
    cores = {name: _core(name, row) for name, row in tables["core"].items()}
    return {name: _board(name, row, cores) for name, row in tables["board"].items()}


def get_board(name: str) -> Board:
    """The board of that name. Raises BoardError, naming the nearest boards."""
    boards = load_boards()
    if name not in boards:
        near = get_close_matches(name, boards, n=3, cutoff=0.5) or sorted(boards)
        raise BoardError(f"there is no board `{name}`: use {' or '.join(near)}.")
    return boards[name]


STACK_BYTES = 512
"""What a layout leaves for the stack: the limit that generated code is held to."""

OPTIMIZE_FLAGS = {"speed": ("-O3",), "balanced": ("-Os",), "ram": ("-Os",), "flash": ("-Os", "-fno-unroll-loops")}
"""What `--optimize` takes, and what it tells the compilers."""


def cflags(core: Core, toolchain_name: str, optimize: str = "balanced") -> list[str]:
    """The flags that compile firmware for `core` by "zig" or "gcc"; a bundle's Makefile has the same."""
    if toolchain_name == "zig":
        return [*core.zig_flags, *OPTIMIZE_FLAGS[optimize], *COMMON_FLAGS, *ZIG_FLAGS]
    return [*core.gcc_flags, *OPTIMIZE_FLAGS[optimize], *COMMON_FLAGS]


def ldflags(toolchain_name: str) -> list[str]:
    """The flags that link it, after `cflags` and the sources: no libc, link.ld, the compiler's helpers."""
    helpers = {"zig": "-lcompiler_rt", "gcc": "-lgcc"}[toolchain_name]
    options = "-Wl,--gc-sections,--entry=Reset_Handler"
    return ["-nostdlib", "-T", "link.ld", options, helpers]


def _core(name: str, row: dict) -> Core:
    flags = {key: tuple(row[key]) for key in ("gcc_flags", "zig_flags")}
    return Core(name=name, **{**row, **flags})


def _board(name: str, row: dict, cores: dict[str, Core]) -> Board:
    regions = {
        "flash": Region(**row["flash"]),
        "ram": Region(**row["ram"]),
        "flash_data": Region(**row["flash_data"]) if "flash_data" in row else None,
        "flash_wait": FlashWait(**row["flash_wait"]) if "flash_wait" in row else None,
        "power": Power(**row["power"]) if "power" in row else None,
        "extra_ram": tuple(Region(**region) for region in row.get("extra_ram", ())),
    }
    return Board(name=name, **{**row, **regions, "core": cores[row["core"]]})


def _print_table() -> None:
    print(f"{'board':15}{'core':15}{'MHz':>5}{'flash KB':>10}{'RAM KB':>8}  title")
    for board in load_boards().values():
        sizes = f"{board.flash_bytes / 1024:10,.0f}{board.ram_bytes / 1024:8,.0f}"
        print(f"{board.name:15}{board.core.name:15}{board.clock_hz // 1_000_000:5}{sizes}  {board.title}")


if __name__ == "__main__":
    _print_table()
