"""From an error to one line on stderr and an exit code: 2 for what the caller can mend, 130 for Ctrl-C, else 1."""

import errno
import os
import sys
import traceback
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from cli import stream
from goblin.errors import ConfigError, GoblinError, UsageError

FAILED, USAGE, INTERRUPTED = 1, 2, 130
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Commands(TyperGroup):
    """All commands, and the one place where their errors end."""

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Exits always: nobody calls the commands as functions."""
        try:
            code = super().main(*args, **{**options, "standalone_mode": False})
            sys.stdout.flush()  # here its failure can still be told
        except Exception as error:  # noqa: BLE001 - nobody is above who could do better
            code = report(error)
        raise SystemExit(code if isinstance(code, int) else 0)


def report(error: BaseException) -> int:
    """Writes the error down and returns the exit code that it deserves."""
    match error:
        case GoblinError():
            _write(_words(error))
            code = USAGE if _is_callers(error) else FAILED
        case TyperException():
            if message := error.format_message():  # none where the help itself was the answer
                _write(message)
            code = error.exit_code
        case typer.Abort() | KeyboardInterrupt():
            code = INTERRUPTED
        case BrokenPipeError():
            stream.discard()
            code = FAILED
        case OSError(strerror=str(reason)):
            _write(f"{error.filename}: {reason}" if error.filename else reason)
            if error.errno in UNWRITABLE:
                stream.discard()
            code = FAILED
        case _:
            _write(f"{type(error).__name__}: {error} (a fault of goblin's own: GOBLIN_DEBUG=1 shows where)")
            code = FAILED
    if os.environ.get("GOBLIN_DEBUG", "") not in ("", "0"):
        traceback.print_exception(error)
    return code


def _is_callers(error: GoblinError) -> bool:
    status = error.details.get("status")  # of an API's answer
    return isinstance(error, UsageError | ConfigError) or (isinstance(status, int) and 400 <= status < 500)


def _words(error: GoblinError) -> str:
    """One line; only a mistake in a workflow shows where it is."""
    details = error.details
    if "pointer" not in details:
        return error.message
    spot = "\n".join(f"  {line}" for line in str(details["pointer"]).split("\n"))
    where = f"line {details.get('line')}, column {details.get('column')}"
    return f"{where}: {error.message}\n{spot}\nexpected: {details.get('expected')}\nhint: {details.get('suggestion')}"


def _write(text: str) -> None:
    typer.echo(f"goblin: {text}", err=True)
