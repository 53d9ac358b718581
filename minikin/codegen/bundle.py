"""A folder that builds: the generated C, a demo main, start-up code, linker script, Makefile, README."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path

from minikin.boards import Board, cflags, ldflags
from minikin.codegen.emit import ARENAS, Model
from minikin.codegen.text import render
from minikin.errors import UsageError
from minikin.plan import Plan
from minikin.version import __version__

MANIFEST = "minikin.json"
STARTUP_SYMBOLS = (
    "main",
    "Reset_Handler",
    "start",
    "Default_Handler",
    "vectors",
)
"""The demo's own functions and table of vectors, which are not the network's code."""


def bundle_files(model: Model, plan: Plan, board: Board, optimize: str = "balanced") -> dict[str, str]:
    """File name -> text of a bundle for `board`, its Makefile with the flags of `optimize`."""
    values = {
        "name": model.name,
        "board": board,
        "banks": board.extra_ram[: len(plan.bank_bytes) - 1],
        "version": __version__,
        "arena_bytes": plan.arena_bytes,
        "inputs": model.inputs,
        "outputs": model.outputs,
        "callbacks": model.callbacks,
        "run": model.run,
        "sources": ["main.c", "model.c", "startup.c"],
        "headers": sorted(name for name in model.files if name.endswith(".h")),
        "flags": {tool: " ".join(cflags(board.core, tool, optimize)) for tool in ("gcc", "zig")},
        "link_flags": {tool: " ".join(ldflags(tool)) for tool in ("gcc", "zig")},
    }
    return model.files | {
        "main.c": render(f"{model.style}main.c.jinja", **values),
        "startup.c": startup_text(board),
        "link.ld": render("link.ld.jinja", **values),
        "Makefile": render("Makefile.jinja", **values),
        "README.md": render(f"{model.style}README.md.jinja", **values),
    }


def host_files(model: Model, plan: Plan) -> dict[str, str]:
    """What the host harness needs beside the model: it reads frames from stdin and writes tensors to stdout."""
    values = {"inputs": model.inputs, "outputs": model.outputs, "callbacks": model.callbacks, "run": model.run}
    values |= {"arenas": ARENAS[: len(plan.bank_bytes)], "layers": len(plan.steps)}
    return model.files | {"host.c": render(f"{model.style}host.c.jinja", name=model.name, **values)}


def trace_files() -> dict[str, str]:
    """What a traced firmware needs beside its bundle: the function at which the emulator looks."""
    return {"trace.c": (files("minikin") / "codegen" / "templates" / "trace.c").read_text()}


def startup_text(board: Board) -> str:
    """The C of startup.c: how its kind of core starts, and what C compilers call."""
    templates = files("minikin") / "codegen" / "templates"
    return "".join((templates / name).read_text() for name in (f"startup_{board.core.family}.c", "startup_memory.c"))


def write_files(folder: Path, texts: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)


@contextmanager
def replaced_folder(target: Path) -> Iterator[Path]:
    """A new folder that becomes `target` when the block ends well, and vanishes otherwise.

    An existing `target` is replaced only if every file in it is as minikin left it. Raises UsageError if not, OSError
    that names `target` where the disk refuses.
    """
    refuse_foreign(target)
    target = target.resolve()
    made = [folder for folder in target.parents if not folder.exists()]
    fresh = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = _beside(target)
        fresh.chmod(0o755)
        yield fresh
        sums = {name: _sha256(path) for name, path in _files(fresh).items()}
        (fresh / MANIFEST).write_text(json.dumps({"minikin": __version__, "files": sums}, indent=1) + "\n")
        _swap(fresh, target)
    except OSError as error:
        if error.filename is None or fresh is None or Path(error.filename).is_relative_to(fresh):
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
    finally:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)
        for folder in made if not target.exists() else ():
            with suppress(OSError):
                folder.rmdir()


def refuse_foreign(target: Path) -> None:
    """Raise UsageError where replacing `target` would lose something that minikin did not write."""
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir():
        raise UsageError(f"{target} is a file, not a folder: give another name with -o")
    if Path.cwd().is_relative_to(target.resolve()):
        raise UsageError(f"{target} holds the folder that you are in: give the name of a new one with -o")
    found = _files(target)
    try:
        written = json.loads(found[MANIFEST].read_text())["files"]
        derived = {MANIFEST, "firmware.elf"}  # `make` may have built the firmware again
        foreign = [n for n, p in found.items() if p.name not in derived and not _is_as_written(p, written.get(n))]
    except (KeyError, ValueError, TypeError, AttributeError, OSError):
        foreign = list(found)
    if foreign:
        raise UsageError(
            f"{target} holds {foreign[0]}, which minikin did not write: remove it, or give another name with -o"
        )


def _files(folder: Path) -> dict[str, Path]:
    """Every file below a folder, by its path from there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _beside(target: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))


def _swap(fresh: Path, target: Path) -> None:
    """`fresh` takes the name of `target`, which comes back if that fails."""
    if not target.exists():
        os.rename(fresh, target)
        return
    aside = _beside(target)
    old = aside / target.name
    try:
        os.rename(target, old)
        os.rename(fresh, target)
    except BaseException:
        if old.exists():
            os.rename(old, target)
        aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _is_as_written(path: Path, sha256: str | None) -> bool:
    return sha256 is not None and path.is_file() and not path.is_symlink() and _sha256(path) == sha256


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
