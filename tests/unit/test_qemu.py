"""QEMU as an engine: the same results and counts as unicorn's on a Cortex-M4, faults, and the Cortex-M55."""

import shutil
from dataclasses import replace

import networks
import numpy as np
import pytest
import test_engine
from tiny_firmware import build

from minikin.boards import Board, Region, get_board, load_boards
from minikin.errors import EngineError
from minikin.vboard import qemu_engine
from minikin.vboard.build import compile
from minikin.vboard.engine import UnicornEngine
from minikin.vboard.engines import make_engine
from minikin.vboard.qemu_engine import QemuEngine
from minikin.vboard.run import run
from minikin.vboard.verify import verify

NO_QEMU = shutil.which("qemu-system-arm") is None
pytestmark = pytest.mark.skipif(NO_QEMU, reason="qemu-system-arm is not installed")
M4 = "mps2-an386"


@pytest.fixture(scope="module", autouse=True)
def cortex_m4():
    """QEMU has no machine of our Cortex-M4 boards; this one both engines can run."""
    board = replace(
        get_board("nano33ble"),
        name=M4,
        flash=Region("ssram1", 0, 0x40_0000),
        ram=Region("ssram23", 0x2000_0000, 0x4_0000),
        machine=M4,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(load_boards(), M4, board)
        yield board


@pytest.fixture(scope="module")
def firmware(cortex_m4: Board, tmp_path_factory):
    return build(tmp_path_factory.mktemp("firmware"), test_engine.SOURCE, M4)


@pytest.fixture(scope="module")
def engines(cortex_m4: Board, firmware):
    with UnicornEngine(cortex_m4) as unicorn, QemuEngine(cortex_m4) as qemu:
        unicorn.load(firmware, test_engine.MARKS)
        qemu.load(firmware, test_engine.MARKS)
        yield unicorn, qemu


@pytest.fixture(scope="module")
def qemu(engines):
    return engines[1]


@pytest.mark.parametrize(
    "call",
    [
        ("outer", 0),
        ("two_tails", 0),
        ("dispatch", "indirect"),
        ("loop", 5000),
        ("nest", 1000),
        ("straight",),
        ("branches",),
        ("wide",),
        ("divide", 99, 3),
        ("square_half", -15),
        ("sum", 0x2000_0000, 64),
        ("add_six", 1, 2, 3, 4, 5, 6),
        ("traced",),
    ],
    ids=lambda call: call[0],
)
def test_counts_are_unicorns(engines, call):
    first, second = (engine.call(*call) for engine in engines)
    assert first.result == second.result
    assert first.instructions == second.instructions
    assert first.instructions_by_mark == second.instructions_by_mark
    assert first.stack_bytes == second.stack_bytes
    assert first.traces == second.traces


def test_recursion_stays_with_its_mark(cortex_m4: Board, firmware):
    with QemuEngine(cortex_m4) as engine:
        engine.load(firmware, {"inner": ("first", "second")})
        for _ in range(2):  # every run begins with the first name
            assert engine.call("outer", 0).instructions_by_mark == {"first": 3, "second": 3, None: 7}
        engine.load(firmware, {"nest": ("nest",)})
        assert engine.call("nest", 100).instructions_by_mark == {"nest": 5 * 100 - 1}


def test_blocks_end_with_pages(qemu):
    """There QEMU looks one instruction further than it translates."""
    blocks = qemu.call("straight").blocks
    assert sum(block.size for block in blocks) == 2 * 3001
    assert len(blocks) > 1


def test_counts_of_a_network_are_unicorns(cortex_m4: Board):
    graph = networks.int8(networks.kws())
    results = [run(compile(graph, replace(cortex_m4, engine=engine))) for engine in ("unicorn", "qemu")]
    assert results[0].outputs[0].tobytes() == results[1].outputs[0].tobytes()
    assert results[0].instructions == results[1].instructions
    assert results[0].layers == results[1].layers
    assert results[0].stack_bytes == results[1].stack_bytes
    assert results[1].engine.startswith("QEMU")


def test_rows_come_and_go(engines):
    words = ("read_row", "write_row", 0, 4)
    first, second = (
        engine.call("add_one_by_rows", *words, sources=test_engine.ROWS, sinks=test_engine.SINKS) for engine in engines
    )
    np.testing.assert_array_equal(first.sinks["write_row"], second.sinks["write_row"])
    assert first.callbacks == second.callbacks
    assert first.instructions == second.instructions


def test_a_row_that_is_missing(qemu):
    with pytest.raises(EngineError, match="never writes row 2 of 4"):
        qemu.call("add_one_by_rows", "read_row", "write_row", 0, 2, sources=test_engine.ROWS, sinks=test_engine.SINKS)


def test_poison_is_laid_after_each_event(engines, firmware):
    at = firmware.symbol("to").address
    poison = [[], [(at, 2)], []]
    first, second = (engine.call("traced", poison=poison) for engine in engines)
    assert first.traces == second.traces
    assert second.traces[1].data == b"\x0b\x7f"
    with pytest.raises(EngineError, match="more rows than there is poison"):
        engines[1].call("traced", poison=[[]])


def test_batch(qemu, firmware):
    samples = np.random.default_rng(1).integers(0, 255, (5, 64), np.uint8)
    inputs, outputs = {firmware.symbol("from").address: samples}, {firmware.symbol("to").address: 64}
    said: list[int] = []
    batch = qemu.run_batch("add_one", inputs, outputs, reset="clear", progress=said.append)
    assert np.array_equal(batch.outputs[0], samples + 1)
    assert set(batch.instructions.tolist()) == {qemu.call("add_one").instructions}
    assert said == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("name", "argument", "said"),
    [
        ("peek", 0x5000_0000, "access at 0x50000000, where there is no memory in `peek`"),
        ("undefined", 0, "instruction that this core does not have in `undefined`"),
        ("supervisor", 0, "executes SVC in `supervisor`"),
    ],
)
def test_faults_name_the_place(qemu, name, argument, said):
    with pytest.raises(EngineError, match=said):
        qemu.call(name, argument)
    assert qemu.call("outer", 0).instructions == 13


def test_an_endless_loop_meets_the_limit(qemu):
    with pytest.raises(EngineError, match=r"stopped after 100,000 instructions.*`spin`"):
        qemu.call("spin", limit=100_000)


def test_waiting_for_an_interrupt(qemu, monkeypatch):
    monkeypatch.setattr(qemu_engine, "STILL_SECONDS", 0.5)
    with pytest.raises(EngineError, match="waits for an interrupt"):
        qemu.call("wait")


def test_stack_overflow(qemu):
    with pytest.raises(EngineError, match=r"nests functions more than 4096 deep|more stack than"):
        qemu.call("nest", 32 * 1024)


def test_where_it_is_not_installed(monkeypatch):
    qemu_engine._find_qemu.cache_clear()
    monkeypatch.setattr(qemu_engine.shutil, "which", lambda _: None)
    with pytest.raises(EngineError, match="qemu-system-arm is not installed"):
        make_engine(get_board("corstone-300"))
    qemu_engine._find_qemu.cache_clear()


def test_a_network_on_the_cortex_m55():
    result = verify(compile(networks.int8(networks.kws()), "corstone-300"), 2)
    assert result.equal, result.first_difference
    assert result.engine.startswith("QEMU")
