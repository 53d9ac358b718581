import ast
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tiny_firmware import build

import minikin.boards
from minikin.boards import get_board, load_boards
from minikin.errors import EngineError
from minikin.vboard.engine import UnicornEngine

NO_GCC = shutil.which("arm-none-eabi-gcc") is None
needs_gcc = pytest.mark.skipif(NO_GCC, reason="arm-none-eabi-gcc is not installed")
TOOLCHAINS = ["zig", pytest.param("gcc", marks=needs_gcc)]
PACKAGE = Path(minikin.boards.__file__).parent

SOURCE = r"""
#include <stddef.h>
#include <stdint.h>

#define NOINLINE __attribute__((noinline))
#define NAKED __attribute__((naked, noinline))

void *memcpy(void *to, const void *from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);

uint8_t from[64], to[64];
volatile uint32_t sink, never;

NOINLINE uint32_t sum(const uint8_t *values, uint32_t count) {
    uint32_t total = 0;
    while (count-- > 0) {
        total += *values++;
    }
    return total;
}
NOINLINE void add_one(void) {
    for (int i = 0; i < 64; ++i) {
        to[i] = (uint8_t)(from[i] + 1);
    }
}
NOINLINE void clear(void) { memset(from, 0, sizeof from); }
NOINLINE uint32_t multiply_high(uint32_t a, uint32_t b) { return (uint32_t)((uint64_t)a * b >> 32); }
NOINLINE uint32_t divide(uint32_t a, uint32_t b) { return (uint32_t)(((uint64_t)a << 20) / b); }
NOINLINE int32_t square_half(int32_t n) {
    const float half = (float)n * 0.5f;
    return (int32_t)(half * half);
}
NOINLINE void spin(void) {
    for (;;) {
        ++sink;
    }
}
NOINLINE uint32_t peek(volatile uint32_t *where) { return *where; }
NOINLINE void poke(volatile uint32_t *where) { *where = 1; }
NOINLINE void mk_trace(int layer, int row, const void *pointer, size_t bytes) {
    sink = (uint32_t)layer + (uint32_t)row + *(const uint8_t *)pointer + (uint32_t)bytes;
}
NOINLINE void traced(void) {
    to[0] = 10;
    mk_trace(1, 2, to, 1);
    to[0] = 11;
    mk_trace(3, 4, to, 2);
}

/* Adds one to every row; the callbacks do nothing with it. */
volatile int row_of;
NOINLINE void read_row(int row, uint8_t *data) { row_of = row + data[0] * 0; }
NOINLINE void write_row(int row, const uint8_t *data) { row_of = row + data[0] * 0 + 1; }
typedef void reader(int, uint8_t *);
typedef void writer(int, const uint8_t *);
NOINLINE void add_one_by_rows(reader *get, writer *put, int first, int end) {
    for (int row = first; row < end; ++row) {
        get(row, to);
        for (int i = 0; i < 8; ++i) {
            to[i] = (uint8_t)(to[i] + 1);
        }
        put(row, to);
    }
}
NOINLINE uint32_t add_six(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e, uint32_t f) {
    return a + 10 * b + 100 * c + 1000 * d + 10000 * e + 100000 * f;
}

/* Instructions that can be counted by hand: inner 3, helper 2, outer 5, tail 2, loop 2 n + 1, nest 5 n - 1. */
NAKED void inner(void) { __asm__(".syntax unified\n adds r0, #1\n adds r0, #1\n bx lr"); }
NAKED void helper(void) { __asm__(".syntax unified\n adds r0, #1\n bx lr"); }
NAKED void outer(void) {
    __asm__(".syntax unified\n push {r4, lr}\n bl inner\n bl helper\n bl inner\n pop {r4, pc}");
}
NAKED void tail(void) { __asm__(".syntax unified\n adds r0, #1\n b inner"); }
NAKED void two_tails(void) { __asm__(".syntax unified\n push {r4, lr}\n bl tail\n bl tail\n pop {r4, pc}"); }
NAKED void dispatch(void) { __asm__(".syntax unified\n push {r4, lr}\n blx r0\n pop {r4, pc}"); }
NAKED void indirect(void) {
    __asm__(".syntax unified\n push {r4, lr}\n ldr r0, =inner\n bl dispatch\n adds r0, #1\n pop {r4, pc}\n"
            ".ltorg");
}
NAKED void loop(void) { __asm__(".syntax unified\n subs r0, #1\n bne loop\n bx lr"); }
NAKED void nest(void) {
    __asm__(".syntax unified\n push {r4, lr}\n subs r0, #1\n beq 1f\n bl nest\n 1: pop {r4, pc}");
}
NAKED void straight(void) { __asm__(".rept 3000\n nop\n .endr\n bx lr"); }
NAKED void branches(void) { __asm__(".rept 2500\n b 1f\n 1:\n .endr\n bx lr"); }
#if defined(__ARM_FEATURE_DSP)
NAKED void wide(void) {
    __asm__(".syntax unified\n push.w {r4-r8, lr}\n mov.w r0, #1\n smlad r0, r0, r0, r0\n"
            "vmov s0, r0\n pop.w {r4-r8, pc}");
}
#else
NAKED void wide(void) { __asm__("bx lr"); }
#endif
NAKED void undefined(void) { __asm__(".hword 0xde00"); }
NAKED void supervisor(void) { __asm__("svc #0\n bx lr"); }
NAKED void wait(void) { __asm__("wfi\n bx lr"); }

int main(void) {
    if (never) {
        clear(), add_one(), poke(&sink), traced(), inner(), helper(), outer(), tail(), two_tails();
        loop(), dispatch(), indirect(), nest(), straight(), branches(), wide(), undefined(), supervisor(), wait();
        memcpy(to, from, never), memmove(to, from, never);
        add_one_by_rows(read_row, write_row, 0, 4), sink = add_six(sink, sink, 3, 4, 5, 6);
        sink = sum(from, 3) + multiply_high(sink, sink) + divide(sink, sink) + peek(&sink);
        sink = (uint32_t)square_half((int32_t)sink);
        spin();
    }
    return 0;
}
"""
MARKS = {name: (name,) for name in ("inner", "outer", "tail", "loop", "indirect")}


@pytest.fixture(scope="module")
def firmware_of(tmp_path_factory):
    built = {}

    def get(board, toolchain="zig"):
        if (board, toolchain) not in built:
            built[board, toolchain] = build(tmp_path_factory.mktemp("firmware"), SOURCE, board, toolchain)
        return built[board, toolchain]

    return get


@pytest.fixture(scope="module", params=TOOLCHAINS)
def toolchain(request):
    return request.param


UNICORN_ARM = [name for name, b in load_boards().items() if b.engine == "unicorn" and b.core.family == "arm"]


@pytest.fixture(scope="module", params=UNICORN_ARM)
def board(request):
    return request.param


@pytest.fixture(scope="module")
def any_engine(board, toolchain, firmware_of):
    """Every board with every toolchain."""
    with UnicornEngine(get_board(board)) as engine:
        engine.load(firmware_of(board, toolchain), MARKS)
        yield engine


@pytest.fixture(params=["c", "python"])
def engine(request, firmware_of):
    """A Cortex-M4 with each hook."""
    with UnicornEngine(get_board("nano33ble"), request.param) as engine:
        engine.load(firmware_of("nano33ble"), MARKS)
        yield engine


def address_of(engine, firmware_of, name):
    return firmware_of(engine.board.name).symbol(name).address


# Results, on every board with both toolchains


def test_sum_of_an_array(any_engine, board, toolchain, firmware_of):
    address = firmware_of(board, toolchain).symbol("from").address
    any_engine.write(address, bytes(range(64)))
    assert any_engine.call("sum", address, 64).result == sum(range(64))


def test_64_bit_arithmetic(any_engine):
    assert any_engine.call("multiply_high", 0xDEADBEEF, 0xCAFEBABE).result == 0xDEADBEEF * 0xCAFEBABE >> 32
    assert any_engine.call("divide", 1000, 7).result == (1000 << 20) // 7


def test_floats(any_engine):
    assert any_engine.call("square_half", -15).result == 56


def test_memory_functions(any_engine, board, toolchain, firmware_of):
    address = firmware_of(board, toolchain).symbol("from").address
    start = bytes(range(64))
    for to, from_, count in [(0, 32, 16), (1, 32, 15), (3, 2, 20), (2, 3, 20), (4, 8, 21), (8, 4, 21), (5, 5, 0)]:
        any_engine.write(address, start)
        any_engine.call("memmove", address + to, address + from_, count)
        moved = bytearray(start)
        moved[to : to + count] = start[from_ : from_ + count]
        assert any_engine.read(address, 64) == moved
    for to, count in [(0, 16), (3, 9), (4, 7)]:
        any_engine.write(address, start)
        any_engine.call("memset", address + to, 0x1AB, count)
        assert any_engine.read(address, 64) == start[:to] + b"\xab" * count + start[to + count :]


def test_counts_by_hand(any_engine):
    call = any_engine.call("outer", 0)
    assert (call.result, call.instructions) == (5, 13)
    assert call.instructions_by_mark == {"outer": 7, "inner": 6}  # helper is unmarked: it counts for outer


def test_straight_code_is_counted_across_pages(any_engine):
    assert any_engine.call("straight").instructions == 3001


# Counts, with each hook


def test_tail_calls_return_from_both(engine):
    call = engine.call("two_tails", 0)
    assert call.result == 6
    assert call.instructions_by_mark == {"tail": 4, "inner": 6, None: 4}


def test_one_return_address_at_two_depths(engine, firmware_of):
    call = engine.call("dispatch", address_of(engine, firmware_of, "indirect") | 1)
    assert call.instructions_by_mark == {None: 3, "indirect": 5 + 3, "inner": 3}


def test_a_loop_to_the_first_instruction_is_no_call(engine):
    call = engine.call("loop", 5000)
    assert call.instructions_by_mark == {"loop": 2 * 5000 + 1}


@pytest.mark.parametrize("hook", ["c", "python"])
def test_calls_count_for_names_in_turn(firmware_of, hook):
    with UnicornEngine(get_board("nano33ble"), hook) as engine:
        engine.load(firmware_of("nano33ble"), {"inner": ("first", "second")})
        for _ in range(2):  # every run begins with the first name
            assert engine.call("outer", 0).instructions_by_mark == {"first": 3, "second": 3, None: 7}
            assert engine.call("inner", 0).instructions_by_mark == {"first": 3}


def test_recursion_and_the_stack(engine):
    call = engine.call("nest", 1000)
    assert call.instructions == 5 * 1000 - 1
    assert call.stack_bytes == 8 * 1000


def test_counts_repeat(engine):
    assert engine.call("nest", 10) == engine.call("nest", 10)


def test_many_blocks_add_up(engine):
    call = engine.call("branches")
    assert call.instructions == 2501
    assert sum(block.instructions * block.runs for block in call.blocks) == call.instructions


def test_wide_instructions_count_once(engine):
    call = engine.call("wide")
    assert (call.result, call.instructions) == (2, 5)


def test_both_hooks_give_the_same(firmware_of):
    calls = []
    for hook in ("c", "python"):
        with UnicornEngine(get_board("nano33ble"), hook) as engine:
            engine.load(firmware_of("nano33ble"), MARKS)
            names = [("outer", 0), ("two_tails", 0), ("divide", 99, 3), ("nest", 9), ("straight",), ("traced",)]
            calls.append([engine.call(*name) for name in names])
    for first, second in zip(*calls, strict=True):
        assert Counter(first.blocks) == Counter(second.blocks)
        assert (first.result, first.instructions, first.traces) == (
            second.result,
            second.instructions,
            second.traces,
        )


def test_marks_nested_too_deep(firmware_of):
    for hook in ("c", "python"):
        with UnicornEngine(get_board("nano33ble"), hook) as engine:
            engine.load(firmware_of("nano33ble"), {"nest": ("nest",)})
            assert engine.call("nest", 4095).instructions_by_mark == {"nest": 5 * 4095 - 1}
            with pytest.raises(EngineError, match="nests marked functions more than 4096 deep"):
                engine.call("nest", 4096)


def test_the_name_says_which_hook(engine, request):
    assert engine.name.startswith("unicorn 2.")
    assert ("Python hook" in engine.name) == ("python" in request.node.name)


def test_first_uses_at_once_build_one_hook(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with ThreadPoolExecutor(2) as pool:
        engines = list(pool.map(UnicornEngine, [get_board("pico")] * 2))
    for engine in engines:
        engine.close()
    assert not any("Python hook" in engine.name for engine in engines)
    assert len(list((tmp_path / "minikin").iterdir())) == 1


def test_without_a_cache_folder_the_python_hook_counts(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with UnicornEngine(get_board("pico")) as engine:
        assert "Python hook" in engine.name


# What goes wrong


def test_an_endless_loop_meets_the_limit(engine):
    with pytest.raises(EngineError, match=r"stopped after 100,000 instructions.*`spin`"):
        engine.call("spin", limit=100_000)
    assert engine.call("outer", 0).instructions == 13


@pytest.mark.parametrize(
    ("name", "argument", "said"),
    [
        ("peek", 0x5000_0000, "4-byte read at 0x50000000, where there is no memory in `peek`"),
        ("poke", 0x5000_0000, "4-byte write at 0x50000000, where there is no memory in `poke`"),
        ("poke", 0x0000_0100, "4-byte write at 0x00000100, which is flash in `poke`"),
        ("undefined", 0, "instruction that this core does not have in `undefined`"),
        ("supervisor", 0, "executes SVC"),
        ("wait", 0, "waits for an interrupt"),
    ],
)
def test_faults_name_the_place(engine, name, argument, said):
    with pytest.raises(EngineError, match=said):
        engine.call(name, argument)


def test_null_is_no_memory_where_flash_is_elsewhere(firmware_of):
    with UnicornEngine(get_board("nucleo-l4r5zi")) as engine:
        engine.load(firmware_of("nucleo-l4r5zi"))
        with pytest.raises(EngineError, match="read at 0x00000000"):
            engine.call("peek", 0)


def test_unaligned_words_fault_on_armv6m(firmware_of):
    with UnicornEngine(get_board("pico")) as engine:
        engine.load(firmware_of("pico"))
        with pytest.raises(EngineError, match=r"unaligned access.*`peek`"):
            engine.call("peek", address_of(engine, firmware_of, "from") + 1)


def test_stack_overflow(engine):
    with pytest.raises(EngineError, match="more stack than"):
        engine.call("nest", 32 * 1024)


def test_reading_where_nothing_is(engine):
    with pytest.raises(EngineError, match="no memory at 0x50000000"):
        engine.read(0x5000_0000, 4)


def test_unknown_function(engine):
    with pytest.raises(EngineError, match="no symbol `absent`"):
        engine.call("absent")


def test_calling_before_loading():
    with (
        UnicornEngine(get_board("pico")) as engine,
        pytest.raises(EngineError, match="no firmware is loaded"),
    ):
        engine.call("main")


def test_a_dead_process_is_one_sentence(firmware_of):
    with UnicornEngine(get_board("pico")) as engine:
        engine._process.kill()
        with pytest.raises(EngineError, match="the emulator stopped"):
            engine.load(firmware_of("pico"))


# Batches and traces


def test_batch(engine, firmware_of):
    rng = np.random.default_rng(1)
    samples = rng.integers(0, 255, (50, 64), np.uint8)
    inputs = {address_of(engine, firmware_of, "from"): samples}
    outputs = {address_of(engine, firmware_of, "to"): 64}
    batch = engine.run_batch("add_one", inputs, outputs, reset="clear")
    assert np.array_equal(batch.outputs[0], samples + 1)
    one = engine.call("add_one")
    assert set(batch.instructions.tolist()) == {one.instructions}
    assert batch.stack_bytes >= one.stack_bytes


def test_batch_reports_progress(firmware_of):
    with UnicornEngine(get_board("nano33ble")) as engine:
        engine.load(firmware_of("nano33ble"))
        samples = np.zeros((20_000, 64), np.uint8)
        inputs = {address_of(engine, firmware_of, "from"): samples}
        said = []
        engine.run_batch("add_one", inputs, {}, progress=said.append)
        assert said == sorted(said)
        assert 0 < said[0] <= 20_000


def test_batch_of_unequal_inputs(engine):
    with pytest.raises(EngineError, match=r"hold \[1, 2\] samples"):
        engine.run_batch("add_one", {0: np.zeros((1, 1)), 4: np.zeros((2, 1))}, {})


# Rows through callbacks

ROWS = {"read_row": np.arange(32, dtype=np.uint8).reshape(4, 8)}
SINKS = {"write_row": (4, 8)}


def test_rows_come_and_go(any_engine):
    call = any_engine.call("add_one_by_rows", "read_row", "write_row", 0, 4, sources=ROWS, sinks=SINKS)
    np.testing.assert_array_equal(call.sinks["write_row"], ROWS["read_row"] + 1)
    assert call.callbacks == tuple((name, row) for row in range(4) for name in ("read_row", "write_row"))


def test_rows_cost_no_instructions(engine):
    arguments = ("add_one_by_rows", "read_row", "write_row", 0, 4)
    plain = engine.call(*arguments)
    served = engine.call(*arguments, sources=ROWS, sinks=SINKS)
    again = engine.call(*arguments)
    assert plain.instructions == served.instructions == again.instructions
    assert Counter(plain.blocks) == Counter(served.blocks)
    assert (plain.callbacks, plain.sinks) == ((), {})
    assert (again.callbacks, again.sinks) == ((), {})


def test_batch_of_rows(engine, firmware_of):
    samples = np.random.default_rng(2).integers(0, 255, (7, 4, 8), np.uint8)
    sources, arguments = {"read_row": samples}, ["read_row", "write_row", 0, 4]
    batch = engine.run_batch("add_one_by_rows", {}, {}, arguments=arguments, sources=sources, sinks=SINKS)
    np.testing.assert_array_equal(batch.sinks["write_row"], samples + 1)
    assert set(batch.instructions.tolist()) == {engine.call("add_one_by_rows", *arguments).instructions}
    inputs = {address_of(engine, firmware_of, "from"): np.zeros((7, 64), np.uint8)}
    both = engine.run_batch("add_one_by_rows", inputs, {}, arguments=arguments, sources=sources, sinks=SINKS)
    np.testing.assert_array_equal(both.sinks["write_row"], samples + 1)


@pytest.mark.parametrize(
    ("first", "end", "sinks", "said"),
    [
        (0, 5, {"write_row": (5, 8)}, "asks for row 4, where there are 4 in `read_row`"),
        (-1, 4, SINKS, "asks for row -1, where there are 4 in `read_row`"),
        (0, 4, {"write_row": (3, 8)}, "asks for row 3, where there are 3 in `write_row`"),
        (1, 4, SINKS, "never writes row 0 of 4 in `write_row`"),
    ],
)
def test_rows_outside(engine, first, end, sinks, said):
    with pytest.raises(EngineError, match=said):
        engine.call("add_one_by_rows", "read_row", "write_row", first, end, sources=ROWS, sinks=sinks)


def test_a_row_where_there_is_no_memory(engine):
    with pytest.raises(
        EngineError, match="passes a row at 0x50000000, where there is no memory for 8 bytes in `read_row`"
    ):
        engine.call("read_row", 0, 0x5000_0000, sources=ROWS)


def test_more_arguments_than_registers(any_engine):
    assert any_engine.call("add_six", 1, 2, 3, 4, 5, 6).result == 654321


def test_poison(engine, firmware_of):
    address = address_of(engine, firmware_of, "to")
    engine.write(address, bytes(64))
    first, second = engine.call("traced", poison=[[(address, 4)], [(address + 8, 1), (address + 1, 1)], []]).traces
    assert (first.data, second.data) == (b"\x0a", b"\x0b\x7f")
    assert engine.read(address, 10) == b"\x0b\x7f\x7f\x7f" + bytes(4) + b"\x7f\x00"
    with pytest.raises(EngineError, match="makes more rows than there is poison for"):
        engine.call("traced", poison=[[], []])
    with pytest.raises(EngineError, match="makes fewer rows than there is poison for"):
        engine.call("traced", poison=[[]] * 4)
    rows = [[(address, 8)] if event % 2 else [] for event in range(9)]  # after each source: all of them read 0x7f
    call = engine.call("add_one_by_rows", "read_row", "write_row", 0, 4, sources=ROWS, sinks=SINKS, poison=rows)
    assert set(call.sinks["write_row"].ravel().tolist()) == {0x80}


def test_trace(engine, firmware_of):
    address = address_of(engine, firmware_of, "to")
    first, second = engine.call("traced").traces
    assert (first.layer, first.row, first.address, first.data) == (1, 2, address, b"\x0a")
    assert (second.layer, second.row, second.data) == (3, 4, b"\x0b\x00")
    assert engine.call("outer", 0).traces == ()


# The licence boundary


def imported_by(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." if node.level else (node.module or "").split(".")[0]


def test_the_emulator_process_imports_nothing_of_ours():
    script = PACKAGE / "vboard" / "unicorn_engine.py"
    assert not {"minikin", "."} & set(imported_by(script))
    for path in (script, script.with_name("unicorn_hook.c")):
        assert "SPDX-License-Identifier: MIT" in path.read_text()


def test_nothing_else_imports_unicorn():
    importers = {path.name for path in PACKAGE.rglob("*.py") if "unicorn" in imported_by(path)}
    assert importers == {"unicorn_engine.py"}
