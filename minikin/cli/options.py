"""The options that every verb that compiles has, in one place."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from typing import Annotated, Any

import typer

from minikin.errors import UsageError

UNITS = {"": 1, "K": 1024, "M": 1024 * 1024}


class ToolchainName(StrEnum):
    zig = "zig"
    gcc = "gcc"


class Storage(StrEnum):
    dense = "dense"
    codebook = "codebook"
    bitmask = "bitmask"
    sparse = "sparse"
    nm = "nm"
    coded = "coded"


class Optimize(StrEnum):
    balanced = "balanced"
    speed = "speed"
    ram = "ram"
    flash = "flash"


def compile_options(
    toolchain: Annotated[ToolchainName, typer.Option("--toolchain", help="The C compiler.")] = ToolchainName.zig,
    optimize: Annotated[
        Optimize, typer.Option("--optimize", help="What to save: instructions, RAM, flash, or some of each.")
    ] = Optimize.balanced,
    storage: Annotated[
        Storage | None,
        typer.Option("--storage", help="Store weights so wherever they allow it; default: as --optimize says."),
    ] = None,
    ram: Annotated[str | None, typer.Option("--ram", help="At most so much arena: 16K, 20000.")] = None,
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Keep whole tensors instead of rows.")] = False,
    stream_input: Annotated[bool, typer.Option("--stream-input", help="Take the input row by row.")] = False,
    stream_output: Annotated[bool, typer.Option("--stream-output", help="Give the output row by row.")] = False,
    incremental: Annotated[
        bool, typer.Option("--incremental", help="Run along windows over time, one new frame a call.")
    ] = False,
    no_shrink: Annotated[bool, typer.Option("--no-shrink", help="Keep dead channels and the like.")] = False,
) -> dict[str, Any]:
    """The keyword arguments of `minikin.api.compile` and `minikin.api.make_plan`."""
    return {
        "toolchain": toolchain.value,
        "optimize": optimize.value,
        "storage": storage.value if storage else None,
        "ram_bytes": parse_bytes(ram) if ram else None,
        "stream": False if no_stream else None,
        "stream_input": stream_input,
        "stream_output": stream_output,
        "incremental": incremental,
        "shrink": not no_shrink,
    }


def parse_bytes(text: str) -> int:
    """20000, 16K or 1M. Raises UsageError."""
    found = re.fullmatch(r"(\d+)([KM]?)B?", text.strip().upper())
    if not found or not int(found[1]):
        raise UsageError(f"--ram {text} is no size: write bytes as 20000, 16K or 1M")
    return int(found[1]) * UNITS[found[2]]


def compiles(command: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options above; it receives them as one dict, `options`."""
    own = inspect.signature(command, eval_str=True).parameters
    shared = inspect.signature(compile_options, eval_str=True).parameters

    @wraps(command)
    def verb(**given: Any) -> None:
        command(options=compile_options(**{name: given.pop(name) for name in shared}), **given)

    parameters = [p for name, p in own.items() if name != "options"] + list(shared.values())
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    verb.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    verb.__annotations__ = {p.name: p.annotation for p in parameters}
    return verb
