"""What people see: lines, tables, money, outcomes. Off a terminal everything is plain and never cut short."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

NO_KEY = "no key"  # how the refusal of a provider without credentials begins
WIDE = 10_000  # columns off a terminal: a pipe wraps nothing
MARKS = {
    "succeeded": ("✔", "green"),
    "failed": ("✘", "red"),
    "abandoned": ("✘", "red"),
    "skipped": ("–", "dim"),
    "cancelled": ("■", "yellow"),
    "waiting": ("…", "yellow"),
    "running": ("▶", "cyan"),
    "pending": ("·", "dim"),
    "queued": ("·", "dim"),
}


def console(*, stderr: bool = False) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    is_terminal = stream.isatty()
    return Console(stderr=stderr, width=None if is_terminal else WIDE, highlight=False, soft_wrap=not is_terminal)


def say(line: str = "", *, style: str | None = None) -> None:
    """A line for people, on stderr: stdout is for what was asked."""
    console(stderr=True).print(Text(line, style=style or ""))


def put(line: str = "") -> None:
    """A line of what was asked."""
    console().print(Text(line))


def put_json(value: Any, *, pretty: bool = True) -> None:
    """JSON on stdout; on one line when it is one of many."""
    print(json.dumps(value, ensure_ascii=False, indent=2 if pretty else None, default=str), flush=True)  # noqa: T201


@contextmanager
def status(what: str) -> Iterator[Callable[[str], None]]:
    """Something that takes a while: a spinner on a terminal. Takes what is being done now; "" ends it."""
    shown = console(stderr=True).status(what)

    def tell(now: str) -> None:
        if now:
            shown.update(now)
        else:
            shown.stop()

    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with shown:
        yield tell


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> Table:
    """Columns whose name begins with `>` are right-aligned."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column.removeprefix(">"), justify="right" if column[0] == ">" else "left", overflow="fold")
    for row in rows:
        made.add_row(*[cell if isinstance(cell, Text) else Text("" if cell is None else str(cell)) for cell in row])
    return made


def put_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Where a terminal is too narrow for the words of a row, its lines are whole: an id that is cut is of no use."""
    made = table(columns, rows, title=title)
    wide = Console(width=WIDE, highlight=False)
    if sys.stdout.isatty() and wide.measure(made).minimum <= console().width:
        console().print(made)
        return
    for line in wide.render_lines(made, pad=False):
        sys.stdout.write("".join(segment.text for segment in line).rstrip() + "\n")


def outcome(status: str) -> Text:
    mark, style = MARKS.get(status, ("?", ""))
    return Text(f"{mark} {status}", style=style)


def dollars(usd: str) -> str:
    """All nine places: in a column they stand one below the other."""
    return f"${usd}"


def by_reason(refused: Mapping[str, str]) -> dict[str, list[str]]:
    """Who was refused, under each reason; those without a key together, whichever key it is."""
    found: dict[str, list[str]] = {}
    for name, reason in refused.items():
        found.setdefault(NO_KEY if reason.startswith(NO_KEY) else reason, []).append(name)
    return found


def seconds(duration_s: float | None) -> str:
    return "" if duration_s is None else f"{duration_s:.1f} s"


@contextmanager
def progress(total: int) -> Iterator[Callable[[str, int], None]]:
    """A bar on a terminal; off it a line for every tenth. Takes what is to be said and how much is done."""
    shown = Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console(stderr=True))
    tenths = -1

    def line(said: str, done: int) -> None:
        nonlocal tenths
        reached = 10 * done // total if total else 10
        if reached > tenths:
            tenths = reached
            say(said)

    if not sys.stderr.isatty():
        yield line
        return
    with shown:
        task = shown.add_task("", total=total)
        yield lambda said, done: shown.update(task, description=said, completed=done)
