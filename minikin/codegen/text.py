"""Pieces of C text: literals, identifiers, filled lines, templates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files

import jinja2
import numpy as np

from minikin.graph import Graph, Tensor

LINE = 116

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(str(files("minikin") / "codegen" / "templates")),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_templates.filters["filled"] = lambda items: fill(list(items))


def render(template: str, **values: object) -> str:
    return _templates.get_template(template).render(**values)


def c_identifier(text: str) -> str:
    """A C identifier like `text`: other characters become underscores, a leading digit gets a letter in front."""
    cleaned = re.sub(r"\W", "_", text, flags=re.ASCII) or "model"
    return f"m_{cleaned}" if not cleaned[0].isalpha() else cleaned


def with_c_names(graph: Graph) -> Graph:
    """The graph with node names that can be C functions: identifiers that end in _ and a number, each of them once.

    Nothing else that is generated ends so: no keyword, no function of a library, no array or struct of another layer.
    """
    taken: set[str] = set()
    nodes = []
    for index, node in enumerate(graph.nodes):
        name = (
            node.name if re.fullmatch(r"[A-Za-z]\w*_\d+", node.name, re.ASCII) else f"{c_identifier(node.name)}_{index}"
        )
        while name in taken:
            name = f"{name}_{index}"
        taken.add(name)
        nodes.append(node.replace(name=name))
    return graph.replace(nodes=tuple(nodes))


def literal(value: float | np.floating) -> str:
    """A float32 constant that reads back as the same bits."""
    x = np.float32(value)
    if np.isinf(x):
        return "-MK_INF" if x < 0 else "MK_INF"
    return f"{np.format_float_scientific(x, unique=True, trim='0')}f"


def literals(values: np.ndarray) -> list[str]:
    flat = values.reshape(-1)
    if values.dtype.kind == "f":
        return [literal(v) for v in flat]
    return ["INT32_MIN" if v == -(1 << 31) else str(v) for v in flat.tolist()]


def fill(items: Sequence[str], indent: int = 4) -> list[str]:
    """Items, each with a comma behind it, in lines of at most LINE characters."""
    lines, current = [], " " * indent
    for item in items:
        if len(current) + len(item) + 1 > LINE and current.strip():
            lines.append(current.rstrip())
            current = " " * indent
        current += f"{item}, "
    return [*lines, current.rstrip()] if current.strip() else lines


def shape_text(tensor: Tensor) -> str:
    """25x5x64; a batch of one goes unsaid."""
    shape = tensor.shape[1:] if len(tensor.shape) > 1 and tensor.shape[0] == 1 else tensor.shape
    return "x".join(map(str, shape)) or "1"
