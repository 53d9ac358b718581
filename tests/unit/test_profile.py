"""Classes of instructions, modelled timing, profiles."""

import json
import runpy
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import networks
import pytest
from tiny_firmware import build
from typer.testing import CliRunner

import minikin
from minikin.boards import FlashWait, Power, get_board, load_boards
from minikin.cli.app import app
from minikin.errors import UsageError
from minikin.vboard.build import compile
from minikin.vboard.classes import CLASSES, Disassembler
from minikin.vboard.engine import Block
from minikin.vboard.profile import profile
from minikin.vboard.timing import CORES, model_timing

CYCLES = Path(__file__).parents[2] / "benchmarks" / "cycles.py"

ARM = r"""
void listed(void);
__attribute__((naked, used)) void listed(void) {
    __asm__(".syntax unified\n ldr r0, [r1]\n ldrb r0, [r1]\n ldrsh r0, [r1]\n strh r0, [r1]\n ldrd r2, r3, [r1]\n"
            "push {r4-r8, lr}\n ldm r0!, {r1, r2, r3}\n smlad r0, r1, r2, r3\n smuad r0, r1, r2\n mla r0, r1, r2, r3\n"
            "smlabt r0, r1, r2, r3\n smmulr r0, r1, r2\n mul r0, r1, r2\n sdiv r0, r1, r2\n sxtb16 r0, r1\n"
            "pkhbt r0, r1, r2\n ssat r0, #8, r1\n sxtb r0, r1\n adds r0, #1\n cmp r0, #2\n it eq\n moveq r0, r1\n"
            "vadd.f32 s0, s1, s2\n vfma.f32 s0, s1, s2\n vdiv.f32 s0, s1, s2\n vldr s0, [r0]\n vstr s0, [r0]\n"
            "vpush {s16-s19}\n b 1f\n 1: bl listed\n cbz r0, 2f\n blx r3\n 2: pop {r4-r8, pc}");
}
int main(void) { return listed(), 0; }
"""
RISCV = r"""
void listed(void);
__attribute__((naked, used)) void listed(void) {
    __asm__("lw a0, 0(a1)\n lbu a0, 0(a1)\n lw a0, 4(sp)\n sb a0, 0(a1)\n sw a0, 4(sp)\n mul a0, a0, a1\n"
            "mulhu a0, a0, a1\n rem a0, a0, a1\n add a0, a0, a1\n beqz a0, 1f\n 1: jal listed\n jr a0\n ret");
}
int main(void) { return listed(), 0; }
"""


def classes_of(tmp_path, source, board):
    firmware = build(tmp_path, source, board)
    symbol = firmware.symbol("listed")
    block = Block(symbol.address, symbol.size, None, 0, 1)
    return Disassembler(firmware, get_board(board).core).counts([block])


def test_arm_classes(tmp_path):
    counts = classes_of(tmp_path, ARM, "nano33ble")
    assert counts == Counter(
        load=4,
        store=2,
        multiple=5,
        words=2 + 6 + 3 + 4 + 6,
        loaded_bytes=4 + 1 + 2 + 4 + 8 + 12 + 24,
        dual_mac=2,
        mac=2,
        mul=2,
        div=1,
        dsp=3,
        alu=4,
        it=1,
        float=1,
        float_mac=1,
        float_div=1,
        branch=4,
    )


def test_riscv_classes(tmp_path):
    counts = classes_of(tmp_path, RISCV, "esp32-c3")
    assert +counts == Counter(load=3, loaded_bytes=9, store=2, mul=2, div=1, alu=1, branch=4)


def test_cycles_add_up():
    board = replace(get_board("nucleo-l4r5zi"), flash_wait=None, power=None)
    timing = model_timing({"alu": 10, "load": 5, "multiple": 1, "words": 4, "branch": 2}, board)
    assert timing is not None
    assert timing.cycles_modelled == 10 + 2 * 5 + (1 + 4) + 3 * 2
    assert timing.latency_ms_modelled == pytest.approx(31 / 120e3)
    assert timing.energy_uj_modelled is None


def test_flash_waits():
    board = replace(get_board("nucleo-l4r5zi"), flash_wait=FlashWait(5, 8, 256, "here"), power=Power(100, 3.0, "there"))
    counts = {"load": 300, "loaded_bytes": 1200}
    missing = model_timing(counts, board, weights_bytes=4000, largest_weights_bytes=257)
    cached = model_timing(counts, board, weights_bytes=4000, largest_weights_bytes=256)
    assert missing is not None
    assert cached is not None
    assert missing.flash_wait_cycles == pytest.approx(1200 / 3 / 8 * 5)
    assert cached.flash_wait_cycles == 4000 / 8 * 5
    seconds = missing.cycles_modelled / 120e6
    assert missing.energy_uj_modelled == pytest.approx(100e-6 * 120 * 3.0 * seconds * 1e6)
    assert "here" in missing.source
    assert "there" in missing.source


def test_every_class_of_a_modelled_core_has_cycles():
    for name, core in CORES.items():
        needed = {*CLASSES, "word"} - {"vector"}
        if name == "cortex-m0plus":
            needed = {"alu", "load", "store", "multiple", "word", "mul", "branch"}
        assert needed == set(core.cycles)
        assert core.source


def test_cores_without_documented_timings_are_not_modelled():
    assert model_timing({"alu": 1}, get_board("corstone-300")) is None
    assert model_timing({"alu": 1}, get_board("esp32-c3")) is None


def test_every_figure_of_a_board_names_its_source():
    for board in load_boards().values():
        for figures in (board.flash_wait, board.power):
            assert figures is None or figures.source


def test_the_model_is_within_a_quarter_of_silicon():
    rows = runpy.run_path(str(CYCLES))["rows"]()
    assert {row["model"] for row in rows} == {"vww", "ic", "kws", "ad"}
    for row in rows:
        assert abs(row["error"]) <= 0.25, row


@pytest.mark.parametrize("board", ["nano33ble", "pico", "pico2", "nucleo-h743zi", "esp32-c3"])
def test_profile_counts_each_instruction_once(board):
    found = profile(compile(networks.int8(networks.kws()), board), hot=3)
    assert sum(found.classes.values()) == found.instructions
    assert "vector" not in found.classes
    for layer in found.layers:
        assert sum(layer.classes.values()) == layer.instructions
    assert len(found.hot) == 3
    assert len({block.address for block in found.hot}) == 3
    assert found.hot[0].instructions >= found.hot[1].instructions
    assert found.hot[0].instructions == found.hot[0].runs * len(found.hot[0].code)
    assert (found.timing is None) == (board == "esp32-c3")
    assert ("modelled: " in found.table().caption) == (board != "esp32-c3")


def test_a_build_that_runs_frame_by_frame_is_refused(monkeypatch):
    built = compile(networks.int8(networks.ad()), "nano33ble")
    monkeypatch.setitem(profile.__globals__, "IncrementalPlan", type(built.plan))
    with pytest.raises(UsageError, match="frame by frame"):
        profile(built)


def test_the_verb(tmp_path):
    path = minikin.save(networks.int8(networks.ad()), tmp_path / "ad.tflite")
    arguments = ["profile", str(path), "--board", "nucleo-l4r5zi"]
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json", "--hot", "1"]).stdout)
    assert found["instructions"] == sum(found["classes"].values())
    assert found["timing"]["latency_ms_modelled"] > 0
    assert len(found["hot"]) == 1


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("1201 eef0", "vector"),  # VMLADAVA.S8: these are old coprocessor instructions to the disassembler
        ("1e01 fdbc", "vector"),  # VLDRW.U32 q0, [q6, #4]!
        ("0f04 ec10", "vector"),  # VMOV of two lanes
        ("0540 ef26", "vector"),  # VRSHL.S32
        ("e801 f009", "vector"),  # VCTP.8 r9
        ("c803 f00f", "branch"),  # LE
        ("e001 f043", "branch"),  # DLS
        ("0055 e895", "multiple"),  # LDM
        ("8b10 ed2d", "multiple"),  # VPUSH
    ],
)
def test_helium_has_a_class(words, kind):
    code = b"".join(int(half, 16).to_bytes(2, "little") for half in reversed(words.split()))
    firmware = SimpleNamespace(segments=[SimpleNamespace(address=0, data=code)])
    (instruction,) = Disassembler(firmware, get_board("corstone-300").core).block(0, 4)  # type: ignore[arg-type]
    assert instruction.kind == kind
