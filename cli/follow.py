"""Watching one run to its end, in the way that fits the place (a tree, lines, JSON), and the table of what it took."""

import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from cli import show
from cli.client import Api
from cli.events import events
from cli.live import LiveTree
from cli.plain import PlainLines
from cli.progress import Progress


def follow(api: Api, run: str, *, as_json: bool = False) -> dict[str, Any]:
    """Shows the run until it has ended; returns it as the API shows it then."""
    if as_json:
        return _as_lines_of_json(api, run)
    progress = Progress.of_run(api.run(run))
    console = show.console()
    with LiveTree(progress, console) if console.is_terminal else PlainLines(progress) as display:
        for event in events(api, run):
            progress.apply(event, time.monotonic())
            display.hear(event)
    return api.run(run)


def put_summary(run: Mapping[str, Any]) -> None:
    """The table of steps and attempts, then the total."""
    show.put()
    columns = ("step", "goblin", "provider / model", "outcome", ">in", ">out", ">time", ">cost")
    show.put_table(columns, [row for step in run["steps"] for row in _rows(step)])
    show.put()
    style = show.MARKS.get(run["status"], ("", ""))[1]
    total = f"run {run['id']} {run['status']}, {show.dollars(run['cost_usd'])} in all"
    show.console().print(Text(total, style=style))
    for step in run["steps"]:
        if step["error"] and step["status"] == "failed":
            show.put(f"  {step['id']} ({step['goblin']}): {step['error'].get('message')}")
            for candidate, reason in (step["error"].get("details", {}).get("reasons") or {}).items():
                show.put(f"    {candidate}: {reason}")


def put_text(run: Mapping[str, Any]) -> None:
    """What the run produced; on a terminal, where only its last lines were seen."""
    if sys.stdout.isatty() and run.get("output"):
        show.console().rule(style="dim")
        show.put(run["output"])


def _as_lines_of_json(api: Api, run: str) -> dict[str, Any]:
    for event in events(api, run):
        show.put_json({"id": event.id, "event": event.type, "data": event.data}, pretty=False)
    ended = api.run(run)
    show.put_json(ended, pretty=False)
    return ended


def _rows(step: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    """One row for a step that took one attempt; else one for each attempt, the step's name on the first."""
    name, tokens = (step["id"], step["goblin"]), step["usage"] or {}
    attempts = step["attempts"]
    counts = (_input(tokens), tokens.get("output", "")) if tokens else ("", "")
    if not attempts:
        yield (*name, "", show.outcome(step["status"]), *counts, "", "")
        return
    for attempt in attempts:
        is_last = attempt is attempts[-1]
        yield (
            *(name if attempt is attempts[0] else ("", "")),
            f"{attempt['provider']}/{attempt['model']}",
            show.outcome(step["status"] if is_last else attempt["status"]),
            *(counts if is_last else ("", "")),
            show.seconds(None if attempt["duration_ms"] is None else attempt["duration_ms"] / 1000),
            show.dollars(attempt["cost_usd"]),
        )


def _input(tokens: Mapping[str, int]) -> int:
    return tokens["input"] + tokens["cache_read"] + tokens["cache_write"]
