"""The entry point: whatever goes wrong becomes one sentence on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback

import typer

import minikin.cli.compress  # noqa: F401 - registers its verb
from minikin.cli.app import app
from minikin.errors import MinikinError

UsageMistake = typer.BadParameter.__base__ or typer.BadParameter
"""Every mistake in options and arguments: typer does not export its name."""

EXTRA_OF = {
    **dict.fromkeys(
        ("torch", "lightning_fabric", "tensorboard", "sklearn", "scipy", "soundfile", "PIL", "pooch", "pydantic"),
        "train",
    ),
    **dict.fromkeys(("unicorn", "elftools", "ziglang", "capstone"), "board"),
}
"""Which of minikin's extras brings an optional package."""


def main() -> None:
    """Exit codes: 0 done; 1 the answer is no; 2 bad usage or bad input; 130 stopped. --debug shows tracebacks."""
    debug = "--debug" in sys.argv[1:]
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = app(args=arguments, prog_name="minikin", standalone_mode=False) or 0
        if code == 130:
            raise KeyboardInterrupt  # which typer has made an exit code of
        sys.stdout.flush()
    except BaseException as error:
        if debug and not isinstance(error, SystemExit):
            traceback.print_exc()
        code = _exit_code(error)
    _leave(code)


def _stop(*_: object) -> None:
    sys.exit(143)  # by way of every `finally`, as Ctrl-C


def _exit_code(error: BaseException) -> int:
    """Say what is wrong, and give the exit code that stands for it."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, KeyboardInterrupt):
        return _fail("stopped", 130)
    if isinstance(error, BrokenPipeError):
        return 1
    if isinstance(error, UsageMistake):
        return _fail(_usage(error), 2)
    if isinstance(error, MinikinError):
        return _fail(str(error), error.exit_code)
    if isinstance(error, ImportError):
        return _fail(_missing(error), 2)
    if isinstance(error, OSError):
        return _fail(_refused(error), 2)
    if isinstance(error, MemoryError):
        return _fail("there is not enough memory on this machine for this: take a smaller model or fewer samples", 2)
    return _fail(f"{type(error).__name__}: {error}; this is a mistake of minikin: report it with what --debug shows", 2)


def _usage(error: BaseException) -> str:
    """typer's message, and the help that belongs to it; nothing but the help where no verb was given."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "minikin"
    message = getattr(error, "format_message", lambda: "")().strip().rstrip(".")
    return f"{message[:1].lower()}{message[1:]} (see `{command} --help`)" if message else f"see `{command} --help`"


def _missing(error: ImportError) -> str:
    package = (error.name or "").split(".")[0]
    if package not in EXTRA_OF:
        return f"{error}: install minikin again"
    return f"this needs {package}, which is not installed: pip install 'minikin[{EXTRA_OF[package]}]'"


def _refused(error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "free some space" if full else "check the path and its permissions"
    return f"{error.filename or 'the output'}: {error.strerror or error}; {hint}"


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"minikin: {message}\n")
    return code


def _leave(code: int) -> None:
    """Exit without the noise of a stdout that is closed or full."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
