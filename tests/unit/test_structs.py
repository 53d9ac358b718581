"""Parameter structs as a network needs them."""

from __future__ import annotations

import re
from importlib.resources import files

import numpy as np
import pytest

from minikin.codegen.structs import make_struct
from minikin.ops import OPS
from minikin.ops.opdef import Scratch

HEADER = """/* y = x. */
struct mk_copy_s8 {
    int32_t size, step; /* elements, and from one to the next */
    int32_t zero;
    const int8_t *table;
    int8_t *filled; /* scratch */
};

static int mk_copy_s8_step(const struct mk_copy_s8 *p) {
    return p->step;
}

static void mk_copy_s8(const struct mk_copy_s8 *p, const int8_t *const *in, int8_t *out, int rows) {
    for (int i = 0; i < rows * p->size; i += mk_copy_s8_step(p)) out[i] = p->filled ? p->filled[i] : in[0][i + p->zero];
}
"""


def layer(size: int, step: int, zero: int, filled: Scratch | None = None) -> dict:
    return {"size": size, "step": step, "zero": zero, "table": np.zeros(3, np.int8), "filled": filled}


def test_what_differs_takes_the_narrowest_types() -> None:
    layers = [layer(300, 2, -3, Scratch()), layer(5, 2, 3), layer(255, 2, 0)]
    struct = make_struct("mk_copy_s8", HEADER, layers)
    text = struct.specialize(HEADER)
    assert "enum {\n    MK_COPY_S8_STEP = 2, /* elements, and from one to the next */\n};" in text
    assert "    uint16_t size;\n    int8_t zero;\n};" in text
    assert "int8_t *filled; /* scratch */" in text
    assert "rows * p->size" in text
    assert list(struct.stored(layers[1])) == ["size", "zero", "table"]


def test_what_is_equal_is_a_constant() -> None:
    struct = make_struct("mk_copy_s8", HEADER, [layer(7, 1, 0)])
    text = struct.specialize(HEADER)
    assert "    const int8_t *table;\n};" in text
    assert "i < rows * MK_COPY_S8_SIZE; i += mk_copy_s8_step(p)" in text
    assert "NULL ? NULL[i]" in text  # never read
    assert "mk_copy_s8_step(MK_ARG const struct mk_copy_s8 *p)" in text
    assert list(struct.stored(layer(7, 1, 0))) == ["table"]


def test_what_is_compared_with_negative_numbers_has_a_sign() -> None:
    header = HEADER.replace("return p->step", "return p->step > -128 ? p->size < 0 : p->zero < 1")
    text = make_struct("mk_copy_s8", header, [layer(1, 2, 3), layer(4, 200, 6)]).specialize(header)
    assert all(field in text for field in ("    int16_t step;", "    int8_t size;", "    uint8_t zero;"))


def test_a_struct_keeps_a_field() -> None:
    struct = make_struct("mk_relu_s8", "", [{"size": 4, "zero": 1}])
    assert struct.stored({"size": 4, "zero": 1}) == {"size": 4}


def test_a_struct_that_assembly_reads_stays() -> None:
    header = f"{HEADER}MK_ASM void mk_copy_quads(MK_ARG int n, MK_ARG const struct mk_copy_s8 *p) {{\n}}\n"
    struct = make_struct("mk_copy_s8", header, [layer(7, 1, 0, Scratch())])
    assert struct.specialize(header) == header
    assert list(struct.stored(layer(7, 1, 0))) == ["size", "step", "zero", "table"]


def test_rows_that_every_call_makes_are_a_constant() -> None:
    layers = [layer(7, 1, 0), layer(9, 1, 0)]
    text = make_struct("mk_copy_s8", HEADER, layers, {2}).specialize(HEADER)
    assert (
        "int8_t *out, MK_ARG int any) {\n    enum { rows = 2 }; /* in every call */\n    for (int i = 0; i < rows"
        in text
    )
    text = make_struct("mk_copy_s8", HEADER, layers, {2, 1}).specialize(HEADER)
    assert "int8_t *out, int rows) {\n    for" in text


@pytest.mark.parametrize("name", sorted({f"{kernel.name}.h" for op in OPS.values() for kernel in op.kernels}))
def test_kernels_can_be_specialized(name: str) -> None:
    """`p` is the kernel's own parameters."""
    text = (files("minikin") / "kernels" / name).read_text()
    assert set(re.findall(r"struct (\w+) \*p\b", text)) <= {name.removesuffix(".h")}


def test_arrays_of_words_are_halves_where_all_layers_fit() -> None:
    header = "struct mk_copy_s8 {\n    const int32_t *bias;\n    int32_t size;\n};\n"
    small, large = np.array([1, -2], np.int16), np.array([1, 1 << 20], np.int32)
    halves = make_struct("mk_copy_s8", header, [{"bias": small, "size": 1}, {"bias": small, "size": 2}])
    assert "const int16_t *bias;" in halves.specialize(header)
    assert halves.stored({"bias": small})["bias"].dtype == np.int16
    words = make_struct("mk_copy_s8", header, [{"bias": small, "size": 1}, {"bias": large, "size": 2}])
    assert "const int32_t *bias;" in words.specialize(header)
    assert words.stored({"bias": small})["bias"].dtype == np.int32
