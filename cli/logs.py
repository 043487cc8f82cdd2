"""The logs of children, read while they are written: what a child says of itself, and its warnings for people."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SHOWN_LEVELS = ("warning", "error", "critical")
UNTOLD = ("event", "level", "timestamp", "logger", "exception", "stack", "frames")
LONGEST = 300  # characters of a warning that are shown
PIECE = 1 << 20  # bytes read at once


class Tail:
    """The lines that a file gets from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_to = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def read(self) -> Iterator[str]:
        """The whole lines since the last time."""
        if not self._path.exists():
            return
        with self._path.open("rb") as log:
            log.seek(self._read_to)
            received = log.read(PIECE)
        self._read_to += len(received)
        *lines, self._rest = (self._rest + received).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)


def value_of(line: str) -> Mapping[str, Any]:
    """A line of JSON; empty for any other."""
    try:
        value = json.loads(line) if line.startswith("{") else None
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}


def warning_in(line: str) -> str | None:
    """A warning or worse in words."""
    value = value_of(line)
    return words(line) if value.get("level") in SHOWN_LEVELS else None


def words(line: str) -> str:
    """An event with its ids and facts, as one line; what is no event is left as it is."""
    value = value_of(line)
    if "event" not in value:
        return line.strip()[:LONGEST]
    facts = " ".join(f"{key}={fact}" for key, fact in value.items() if key not in UNTOLD and fact is not None)
    return " ".join(f"{value['event']} {facts}".split())[:LONGEST]
