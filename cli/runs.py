"""Commands about runs that are there: `goblin runs`, `watch`, `cancel`, `explain`, `costs`."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.complain import FAILED
from goblin.errors import UsageError

if TYPE_CHECKING:
    from cli.client import Api

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The id of a run.")]
AsJson = Annotated[bool, typer.Option("--json", help="As the API answers.")]
GROUPS = ("provider", "model", "goblin", "key", "day")
UNAVAILABLE = 503
SHOWN = 60  # characters of a workflow in a list


def runs(
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    status: Annotated[str | None, typer.Option(help="queued, running, succeeded, failed or cancelled.")] = None,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    from cli import reach, show

    with reach.api() as api:
        found = api.runs(limit=limit, status=status)
    if as_json:
        show.put_json(found)
        return
    rows = [
        (one["id"], show.outcome(one["status"]), one["created_at"][:19], show.dollars(one["cost_usd"]), _short(one))
        for one in found
    ]
    show.put_table(("run", "status", "created (UTC)", ">cost", "workflow"), rows)


def watch(run: RunId, as_json: AsJson = False) -> None:
    """Watch a run to its end, from its beginning."""
    from cli import reach
    from cli.run import watch as watched

    with reach.api() as api:
        ended = watched(reach.Reached(api), run, as_json=as_json)
    raise typer.Exit(0 if ended["status"] == "succeeded" else FAILED)


def cancel(
    run: RunId,
    step: Annotated[str | None, typer.Argument(metavar="[STEP]", help="Only this one, such as step2.")] = None,
    as_json: AsJson = False,
) -> None:
    """Stop a run, or one step of it: running calls are cut, what waits ends at once."""
    from cli import reach, show

    with reach.api() as api:
        answer = api.cancel(run, step)
    if as_json:
        show.put_json(answer)
    else:
        what = f"{step} of run {run}" if step else f"run {run}"
        show.put(f"{what} is {'cancelled' if answer['status'] == 'cancelled' else 'being cancelled'}")


def explain(
    run: RunId,
    replay: Annotated[
        bool, typer.Option("--replay", help="Whether each choice follows again from what was kept.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Why each step went where it went: every candidate's score, and why others were refused."""
    from cli import decisions, reach, show

    with reach.api() as api:
        found = api.decisions(run)
    if as_json:
        show.put_json(found)
    elif replay:
        decisions.put_replay(found["steps"])
    else:
        for step in found["steps"]:
            for decision in step["decisions"]:
                decisions.put(step["id"], decision)
    if replay and decisions.has_strayed(found["steps"]):
        raise typer.Exit(FAILED)


def costs(
    by: Annotated[str, typer.Option(help=f"One or more of {', '.join(GROUPS)}; comma-separated.")] = "provider",
    since: Annotated[str | None, typer.Option(help="From this moment on, as in 2030-01-31T00:00:00Z.")] = None,
    as_json: AsJson = False,
) -> None:
    """What was spent, from the ledger, and what is left of each budget."""
    from cli import reach, show

    groups = list(dict.fromkeys(name.strip() for name in by.split(",") if name.strip()))
    if unknown := [name for name in groups if name not in GROUPS]:
        raise UsageError(f"--by takes {', '.join(GROUPS)}, not {unknown[0]!r}")
    _check_moment(since)
    with reach.api() as api:
        found = api.usage(group_by=",".join(groups), **({"since": since} if since else {}))
        budgets = _budgets(api)
    if as_json:
        show.put_json({**found, "budgets": budgets})
        return
    total = {**dict.fromkeys(groups, ""), **dict.fromkeys(groups[:1], "total"), **found["total"]}
    columns = (*groups, ">calls", ">in", ">out", ">cost", ">of it estimated")
    show.put_table(columns, [_cost_row(one, groups) for one in (*found["data"], total)])
    if budgets:
        show.put_table(("budget", ">limit", ">spent", ">held", ">left", "begins anew"), map(_budget_row, budgets))


def _check_moment(since: str | None) -> None:
    try:
        is_known = since is None or datetime.fromisoformat(since).tzinfo is not None
    except ValueError:
        is_known = False
    if not is_known:
        raise UsageError(f"--since takes a moment with its offset from UTC, as in 2030-01-31T00:00:00Z, not {since!r}")


def _budgets(api: "Api") -> list[dict[str, Any]]:
    """None of them while they are being counted: what was spent is known all the same."""
    from cli.client import Answered

    try:
        return list(api.budgets()["data"])
    except Answered as no:
        if no.details["status"] != UNAVAILABLE:
            raise
        return []


def _budget_row(one: Mapping[str, Any]) -> tuple[object, ...]:
    from cli import show

    money = (show.dollars(one[f"{name}_usd"]) for name in ("limit", "spent", "held", "remaining"))
    return (one["name"], *money, one["resets_at"] or "never")


def _cost_row(row: Mapping[str, Any], groups: list[str]) -> tuple[object, ...]:
    from cli import show

    usage = row["usage"]
    read = usage["input"] + usage["cache_read"] + usage["cache_write"]
    money = (show.dollars(row["cost_usd"]), show.dollars(row["estimated_usd"]))
    return (*(row.get(group) or "–" for group in groups), row["calls"], read, usage["output"], *money)


def _short(run: Mapping[str, Any]) -> str:
    line = " ".join(run["workflow"].split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
