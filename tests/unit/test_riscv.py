"""The RISC-V core on unicorn: code that can be counted by hand, start-up, faults, a network."""

import shutil
import subprocess

import numpy as np
import pytest
from tiny_firmware import build

from minikin.boards import get_board
from minikin.errors import EngineError
from minikin.vboard.engine import UnicornEngine

NO_GCC = shutil.which("riscv64-unknown-elf-gcc") is None
needs_gcc = pytest.mark.skipif(NO_GCC, reason="riscv64-unknown-elf-gcc is not installed")
TOOLCHAINS = ["zig", pytest.param("gcc", marks=needs_gcc)]

SOURCE = r"""
#include <stddef.h>
#include <stdint.h>

#define NOINLINE __attribute__((noinline))
#define NAKED __attribute__((naked, noinline))

const uint32_t table[4] = {10, 20, 30, 40};
volatile uint32_t first = 7, second = 8, never;
uint8_t from[64], to[64];
volatile int row_of;

NOINLINE uint32_t look_up(uint32_t i) { return table[i & 3] + first + second; }
NOINLINE uint32_t divide(uint32_t a, uint32_t b) { return (uint32_t)(((uint64_t)a << 20) / b); }
NOINLINE uint32_t peek(volatile uint32_t *where) { return *where; }
NOINLINE void poke(volatile uint32_t *where) { *where = 1; }
NOINLINE uint32_t add_ten(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e, uint32_t f, uint32_t g, uint32_t h,
                          uint32_t i, uint32_t j) {
    return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h + 9 * i + 10 * j;
}
NOINLINE void mk_trace(int layer, int row, const void *pointer, size_t bytes) {
    never = (uint32_t)layer + (uint32_t)row + *(const uint8_t *)pointer + (uint32_t)bytes;
}
NOINLINE void traced(void) {
    to[0] = 10;
    mk_trace(1, 2, to, 1);
}
NOINLINE void read_row(int row, uint8_t *data) { row_of = row + data[0] * 0; }
NOINLINE void write_row(int row, const uint8_t *data) { row_of = row + data[0] * 0 + 1; }
typedef void reader(int, uint8_t *);
typedef void writer(int, const uint8_t *);
NOINLINE void add_one_by_rows(reader *get, writer *put) {
    for (int row = 0; row < 4; ++row) {
        get(row, to);
        for (int i = 0; i < 8; ++i) {
            to[i] = (uint8_t)(to[i] + 1);
        }
        put(row, to);
    }
}

/* Counted by hand: inner 3, outer 7 and two inners, nest 8 n - 1, wide 3 of 4 bytes, narrow 3 of 2 bytes. */
NAKED void inner(void) { __asm__("addi a0, a0, 1\n addi a0, a0, 1\n ret"); }
NAKED void outer(void) {
    __asm__("addi sp, sp, -16\n sw ra, 12(sp)\n jal inner\n jal inner\n lw ra, 12(sp)\n addi sp, sp, 16\n ret");
}
NAKED void nest(void) {
    __asm__("addi sp, sp, -16\n sw ra, 12(sp)\n addi a0, a0, -1\n beqz a0, 1f\n jal nest\n"
            "1: lw ra, 12(sp)\n addi sp, sp, 16\n ret");
}
NAKED void wide(void) { __asm__(".option push\n .option norvc\n addi a0, a0, 1\n mul a0, a0, a0\n ret\n .option pop"); }
NAKED void narrow(void) { __asm__("c.li a0, 1\n c.addi a0, 1\n c.jr ra"); }
NAKED void undefined(void) { __asm__(".word 0xFFFFFFFF"); }
NAKED void environment(void) { __asm__("ecall\n ret"); }

int main(void) {
    if (never) {
        never = look_up(never) + divide(never, never) + peek(&never), poke(&never);
        never = add_ten(never, 1, 2, 3, 4, 5, 6, 7, 8, 9);
        traced(), inner(), outer(), nest(), wide(), narrow(), undefined(), environment();
        add_one_by_rows(read_row, write_row);
        from[never] = to[never];
    }
    return 0;
}
"""
MARKS = {name: (name,) for name in ("inner", "outer")}


@pytest.fixture(scope="module", params=TOOLCHAINS)
def firmware(request, tmp_path_factory):
    return build(tmp_path_factory.mktemp("firmware"), SOURCE, "esp32-c3", request.param)


@pytest.fixture(params=["c", "python"])
def engine(request, firmware):
    with UnicornEngine(get_board("esp32-c3"), request.param) as engine:
        engine.load(firmware, MARKS)
        yield engine


def test_start_up_fills_variables_and_constants_are_read_through_the_other_window(engine, firmware):
    assert firmware.symbol("table").address >> 24 == 0x3C
    assert firmware.symbol("look_up").address >> 24 == 0x42
    assert engine.call("look_up", 2).result == 30 + 7 + 8


def test_the_image_starts_as_the_boot_rom_wants_it(engine, firmware):
    origin = get_board("esp32-c3").flash.origin
    assert engine.read(origin, 8) == bytes.fromhex("1d04dbae1d04dbae")
    assert firmware.symbol("Reset_Handler").address == origin + 8


@needs_gcc
def test_objcopy_makes_the_flash_image(firmware, tmp_path):
    out = tmp_path / "flash.bin"
    subprocess.run(["riscv64-unknown-elf-objcopy", "-O", "binary", firmware.path, out], check=True)
    image, origin = out.read_bytes(), get_board("esp32-c3").flash.origin
    assert len(image) <= firmware.flash_bytes + 16
    for segment in firmware.segments:
        at = segment.address - origin
        assert image[at : at + len(segment.data)] == segment.data


def test_words_in_registers_and_on_the_stack(engine):
    assert engine.call("add_ten", *range(1, 11)).result == sum(n * n for n in range(1, 11))
    assert engine.call("divide", 1000, 7).result == (1000 << 20) // 7


def test_counts_by_hand(engine):
    call = engine.call("outer", 0)
    assert (call.result, call.instructions, call.stack_bytes) == (4, 13, 4)
    assert call.instructions_by_mark == {"outer": 7, "inner": 6}


def test_both_lengths_count_once(engine):
    assert (engine.call("wide", 2).result, engine.call("wide", 2).instructions) == (9, 3)
    assert (engine.call("narrow").result, engine.call("narrow").instructions) == (2, 3)


def test_recursion_and_the_stack(engine):
    call = engine.call("nest", 100)
    assert (call.instructions, call.stack_bytes) == (8 * 100 - 1, 16 * 99 + 4)  # of the last frame one word is written


def test_traces(engine, firmware):
    (trace,) = engine.call("traced").traces
    assert (trace.layer, trace.row, trace.address, trace.data) == (1, 2, firmware.symbol("to").address, b"\x0a")


def test_rows_come_and_go(engine):
    rows = {"read_row": np.arange(32, dtype=np.uint8).reshape(4, 8)}
    call = engine.call("add_one_by_rows", "read_row", "write_row", sources=rows, sinks={"write_row": (4, 8)})
    np.testing.assert_array_equal(call.sinks["write_row"], rows["read_row"] + 1)


@pytest.mark.parametrize(
    ("name", "argument", "said"),
    [
        ("peek", 0x5000_0000, "4-byte read at 0x50000000, where there is no memory in `peek`"),
        ("poke", 0x3C00_0000, "4-byte write at 0x3c000000, which is flash in `poke`"),
        ("undefined", 0, "instruction that this core does not have in `undefined`"),
        ("environment", 0, "executes ECALL in `environment`"),
    ],
)
def test_faults_name_the_place(engine, name, argument, said):
    with pytest.raises(EngineError, match=said):
        engine.call(name, argument)
