"""Parameter structs as a network needs them: what is equal in all layers is a constant, the rest takes the narrowest types."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from minikin.codegen.text import fill
from minikin.ops.opdef import Field

Range = tuple[int, int]

TYPES: Mapping[str, Range] = {
    "uint8_t": (0, 0xFF),
    "int8_t": (-0x80, 0x7F),
    "uint16_t": (0, 0xFFFF),
    "int16_t": (-0x8000, 0x7FFF),
}
"""What can take an int32_t's place, narrow ones first: C computes with all of them as with an int."""
WIDTHS = {"uint8_t": 1, "int8_t": 1, "uint16_t": 2, "int16_t": 2}

DECLARATION = re.compile(r" +(int32_t |[\w ]+\*)(\w+(?:, \w+)*);( */\*.*\*/)?")
"""Of integers, or of one pointer: the type, the names, a comment."""
WORDS = re.compile(r"^ +const int32_t \*(\w+);", re.MULTILINE)


@dataclass(frozen=True)
class Struct:
    """The parameters of a kernel over all layers.

    `integers` are the least and the greatest value of each integer, of which the `constants` are equal in all layers;
    `nulls` are pointers that are null in all of them; `signed` are what the kernel compares with numbers below zero, where
    compilers warn of types without a sign. `rows` is how many rows every call makes, None where calls differ. Of the arrays
    that the header has as int32_t, `halves` fit an int16_t in all layers, and `words` do not.
    """

    name: str
    integers: Mapping[str, Range]
    constants: frozenset[str]
    nulls: frozenset[str]
    signed: frozenset[str] = frozenset()
    rows: int | None = None
    words: frozenset[str] = frozenset()
    halves: frozenset[str] = frozenset()

    def stored(self, fields: Mapping[str, Field]) -> dict[str, Field]:
        """What is left of a layer's fields in the struct."""
        kept = {name: value for name, value in fields.items() if value is not None and name not in self.constants}
        return {name: _widened(value) if name in self.words else value for name, value in kept.items()}

    def specialize(self, header: str) -> str:
        """The kernel's header with this struct: constants before it, named as it is, the widest fields first."""
        if self.rows is not None:
            header = self._use_rows(header)
        if not self.integers and not self.halves:
            return header
        head = f"struct {self.name} {{\n"
        before, rest = header.split(head)
        body, after = rest.split("};\n", 1)
        constants, fields = [], []
        for line in body.splitlines():
            own, other = self._split(line)
            constants += own
            fields += other
        fields.sort(key=_width, reverse=True)
        if constants:
            before += "\n".join(["", "/* Equal in all layers. */", "enum {", *constants, "};\n\n"])
        struct = head + "".join(f"{line}\n" for line in fields) + "};\n"
        return self._use_constants(before) + struct + self._use_constants(after)

    def _split(self, line: str) -> tuple[list[str], list[str]]:
        """A declaration as (constants, fields of one type each); its comment goes with the first."""
        found = DECLARATION.fullmatch(line)
        if not found:
            return [], [line]
        ctype, names, comment = found[1], found[2].split(", "), found[3] or ""
        if ctype.endswith("*"):
            if names[0] in self.halves:
                line = line.replace("int32_t", "int16_t", 1)
            return [], [] if names[0] in self.nulls else [line]
        constants = [f"{self._constant(name)} = {self._value(name)}" for name in names if name in self.constants]
        types: dict[str, list[str]] = {}
        for name in names:
            if name not in self.constants:
                types.setdefault(self._narrowest(name), []).append(name)
        fields = [f"    {own} {', '.join(members)};" for own, members in types.items()]
        lines = fill(constants)
        if comment:
            (lines or fields)[0] += f" {comment.strip()}"
        return lines, fields

    def _narrowest(self, field: str) -> str:
        least, most = self.integers[field]
        low = min(least, -1) if field in self.signed else least
        return next((ctype for ctype, (first, last) in TYPES.items() if first <= low and most <= last), "int32_t")

    def _constant(self, field: str) -> str:
        return f"{self.name}_{field}".upper()

    def _value(self, field: str) -> str:
        value = self.integers[field][0]
        return "INT32_MIN" if value == -(1 << 31) else str(value)

    def _use_rows(self, header: str) -> str:
        """A compiler then leaves out what other numbers of rows would need, in this function and in those that it calls."""
        head = re.compile(rf"(void {self.name}\([^)]*, )int rows\) {{\n")
        return head.sub(rf"\1MK_ARG int any) {{\n    enum {{ rows = {self.rows} }}; /* in every call */\n", header)

    def _use_constants(self, code: str) -> str:
        def replaced(found: re.Match[str]) -> str:
            name = found[1]
            return "NULL" if name in self.nulls else self._constant(name) if name in self.constants else found[0]

        functions = re.sub(r"\bp->(\w+)\b", replaced, code).split("\n}\n")
        return "\n}\n".join(map(_mark_unused, functions))


def make_struct(name: str, header: str, layers: Sequence[Mapping[str, Field]], rows: Collection[int] = ()) -> Struct:
    """`layers` are the fields of every layer that the kernel computes, whose header is given; `rows` those of its calls.

    A struct that assembly reads stays as it is.
    """
    every = next(iter(rows)) if len(rows) == 1 else None
    words = frozenset(WORDS.findall(header))
    if re.search(rf"MK_ASM[^{{]*struct {name} \*", header):
        return Struct(name, {}, frozenset(), frozenset(), rows=every, words=words)
    names = dict.fromkeys(field for layer in layers for field in layer)
    values = {field: [layer.get(field) for layer in layers] for field in names}
    integers = {field: _range(own) for field, own in values.items() if all(_is_integer(v) for v in own)}
    constants = frozenset(field for field, (least, greatest) in integers.items() if least == greatest)
    nulls = frozenset(field for field, own in values.items() if all(v is None for v in own))
    if constants and len(constants) + len(nulls) == len(values):
        constants -= {next(iter(integers))}  # C has no empty structs
    signed = frozenset(re.findall(r"p->(\w+) (?:[<>]=?|[!=]=) -", header) + re.findall(r"p->(\w+) (?:<|>=) 0", header))
    given = {field: [v for v in own if v is not None] for field, own in values.items() if field in words}
    halves = frozenset(field for field, own in given.items() if own and all(map(_is_half, own)))
    return Struct(name, integers, constants, nulls, signed, every, words - halves, halves)


def _is_half(value: Field) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.int16


def _widened(value: Field) -> Field:
    return value.astype(np.int32) if isinstance(value, np.ndarray) and _is_half(value) else value


def _mark_unused(function: str) -> str:
    """A function that reads nothing but constants does not use its parameters."""
    if len(re.findall(r"\bp\b", function)) > 1:
        return function
    return re.sub(r"const struct \w+ \*p\b", r"MK_ARG \g<0>", function)


def _is_integer(value: Field) -> bool:
    return isinstance(value, int | np.integer)


def _range(values: Sequence[Field]) -> Range:
    numbers = [int(value) for value in values if isinstance(value, int | np.integer)]
    return min(numbers), max(numbers)


def _width(declaration: str) -> int:
    """Bytes of a field."""
    return 4 if "*" in declaration.split(";")[0] else WIDTHS.get(declaration.split()[0], 4)
