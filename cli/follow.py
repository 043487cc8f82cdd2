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
            refused = step["error"].get("details", {}).get("reasons") or {}
            for reason, names in show.by_reason(refused).items():
                show.put(f"    {', '.join(names)}: {reason}")


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
    """A row for the step, and below it one for each attempt when there were several."""
    attempts, tokens = step["attempts"], step["usage"]
    durations = [one["duration_ms"] for one in attempts if one["duration_ms"] is not None]
    yield (
        step["id"],
        step["goblin"],
        f"{len(attempts)} attempts" if len(attempts) > 1 else _by(attempts[0]) if attempts else "",
        show.outcome(step["status"]),
        *((_input(tokens), tokens["output"]) if tokens else ("", "")),
        show.seconds(sum(durations) / 1000 if durations else None),
        show.dollars(step["cost_usd"]),
    )
    for one in attempts if len(attempts) > 1 else ():
        took = show.seconds(None if one["duration_ms"] is None else one["duration_ms"] / 1000)
        yield (
            "",
            "",
            f"{one['number']}. {_by(one)}",
            show.outcome(one["status"]),
            "",
            "",
            took,
            f"({show.dollars(one['cost_usd'])})",
        )


def _by(attempt: Mapping[str, Any]) -> str:
    return f"{attempt['provider']}/{attempt['model']}"


def _input(tokens: Mapping[str, int]) -> int:
    return tokens["input"] + tokens["cache_read"] + tokens["cache_write"]
