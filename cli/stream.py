"""The standard streams as a caller may leave them: closed, or in an encoding that lacks what we write."""

import os
import sys
from io import TextIOWrapper


def mend() -> None:
    """A closed one leads nowhere, else the next file opened were in its place. What cannot be encoded is a `?`."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - it stays open
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def discard() -> None:
    """What stdout still holds has no taker: nobody is told so once more when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
