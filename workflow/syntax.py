"""The surface of the language: its words, its quoting, and the error that points at a spot in the text.

The grammar is in `parse`. A word is what stands between white space, parentheses and quotes; it is a keyword only as a
whole, so AND/OR, ANDROID and IF-THEN-ELSE are text.
"""

import re
import unicodedata
from collections.abc import Iterator
from enum import Enum, auto
from typing import Any, NamedTuple

from goblin.errors import UsageError
from workflow.plan import On

THEN, AND, ELSE = "THEN", "AND", "ELSE"
CONDITIONS = frozenset(on.value for on in On)
KEYWORDS = CONDITIONS | {THEN, AND, ELSE}

_SHOWN = 100  # characters of a source line that an error shows

# Every alternative begins with characters of its own and gives nothing back (*+), so a scan is linear.
_TOKEN = re.compile(
    r"""(?P<OPEN>\() | (?P<CLOSE>\)) | (?P<STRING>"[^"\\]*+(?:\\.[^"\\]*+)*+") | (?P<QUOTE>") | (?P<WORD>[^\s()"]++)""",
    re.DOTALL | re.VERBOSE,
)


class Kind(Enum):
    OPEN = auto()
    CLOSE = auto()
    STRING = auto()
    QUOTE = auto()  # one that is never closed
    WORD = auto()
    KEYWORD = auto()
    END = auto()


class Token(NamedTuple):
    kind: Kind
    text: str
    start: int
    end: int


def scan(text: str) -> Iterator[Token]:
    """The tokens of a text and an END behind the last one. Nobody reads on after a QUOTE: that would cost n²."""
    end = 0
    for match in _TOKEN.finditer(text):
        word, end = match.group(), match.end()
        kind = Kind.KEYWORD if word in KEYWORDS else Kind[match.lastgroup or ""]
        yield Token(kind, word, match.start(), end)
    yield Token(Kind.END, "", end, end)


def quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def unquote(string: str) -> str:
    """What a quoted string says; a backslash before anything but a quote or a backslash is itself."""
    return re.sub(r'\\(["\\])', r"\1", string[1:-1])


class WorkflowSyntaxError(UsageError):
    """The text is not a workflow. `message` is one line without any task's text; `str()` adds the spot and the cure."""

    slug = "workflow_syntax"

    def __init__(self, message: str, *, source: str, offset: int, expected: str, suggestion: str) -> None:
        begin = source.rfind("\n", 0, offset) + 1
        end = source.find("\n", offset)
        self.line = source.count("\n", 0, offset) + 1
        self.column = offset - begin + 1
        self.pointer = _pointer(source[begin : end if end >= 0 else None].rstrip("\r"), offset - begin)
        self.expected = expected
        self.suggestion = suggestion
        spot: dict[str, Any] = {name: getattr(self, name) for name in ("line", "column", "pointer")}
        super().__init__(message, **spot, expected=expected, suggestion=suggestion)

    def __str__(self) -> str:
        spot = "\n".join(f"  {line}" for line in self.pointer.split("\n"))
        where = f"line {self.line}, column {self.column}"
        return f"{where}: {self.message}\n{spot}\nexpected: {self.expected}\nhint: {self.suggestion}"


def _pointer(line: str, column: int) -> str:
    """The line, cut to a window around the column, and below it a caret that stands under it in a terminal."""
    begin = max(0, min(column - _SHOWN // 2, len(line) - _SHOWN))
    end = begin + _SHOWN
    before = ("…" if begin else "") + _shown(line[begin:column])
    after = _shown(line[column:end]) + ("…" if end < len(line) else "")
    return f"{before}{after}\n{' ' * _columns(before)}^"


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _columns(text: str) -> int:
    """How many cells of a terminal the text takes."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)
