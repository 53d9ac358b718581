"""What other stacks need for the same models: recorded.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Recorded:
    """Figures of one model; instructions by the core's name, milliseconds by the stack's. `file` is empty for a made model."""

    name: str
    macs: int
    file: str = ""
    tflm_cmsis_nn: Mapping[str, int] = field(default_factory=dict)
    tflm_reference: Mapping[str, int] = field(default_factory=dict)
    ram_bytes: int | None = None
    stack_bytes: int | None = None
    flash_bytes: int | None = None
    model_bytes: int | None = None
    silicon_ms: Mapping[str, float] = field(default_factory=dict)


@cache
def load_recorded() -> tuple[dict[str, Recorded], dict[str, str]]:
    """The models by name, and where their figures come from."""
    tables = tomllib.loads((resources.files("minikin") / "bench" / "recorded.toml").read_text(encoding="utf-8"))
    return {name: Recorded(name=name, **row) for name, row in tables["model"].items()}, tables["sources"]
