"""`goblin keys`: who may call the API. Works on the database itself, so that a first key needs no API."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from goblin.errors import UsageError
from goblin.money import to_usd

if TYPE_CHECKING:
    from ledger.keys import ApiKey
    from ledger.session import Ledger

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Of the key.")]
AsJson = Annotated[bool, typer.Option("--json", help="As data.")]
LONGEST_NAME = 100
MOST_RPM = 1_000_000


@app.command()
def create(
    name: Name,
    budget: Annotated[str | None, typer.Option(metavar="USD", help="The most that all its runs may cost.")] = None,
    rpm: Annotated[
        int | None, typer.Option(min=1, max=MOST_RPM, help="Runs and batches that it may submit in any minute.")
    ] = None,
    weight: Annotated[float, typer.Option(min=0.01, max=100, help="Its share of the turns where keys wait.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Create a key and print its secret: the only time that it is shown."""
    from cli import show
    from cli.budget import nanousd
    from ledger import keys

    _check_name(name)
    limits = keys.Limits(None if budget is None else nanousd(budget), rpm, weight)
    with _ledger() as ledger:
        secret = keys.create(ledger, name, limits)
    if as_json:
        show.put_json({"name": name, "secret": secret})
    else:
        show.put(secret)
        show.say("keep it: it is not shown again. Send it as a bearer token; goblin itself reads GOBLIN_API_KEY")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the keys, without their secrets."""
    from cli import show
    from ledger import keys

    with _ledger() as ledger:
        found = keys.all_keys(ledger)
    if as_json:
        show.put_json([_as_value(one) for one in found])
        return
    rows = [
        (
            one.name,
            "" if one.limits.budget is None else f"${to_usd(one.limits.budget)}",
            "" if one.limits.rpm is None else str(one.limits.rpm),
            f"{one.limits.weight:g}",
            f"{one.created_at:%Y-%m-%d %H:%M}",
            f"{one.revoked_at:%Y-%m-%d %H:%M}" if one.revoked_at else "",
        )
        for one in found
    ]
    show.put_table(("key", "budget", "runs/min", "weight", "created (UTC)", "revoked (UTC)"), rows)


@app.command()
def revoke(name: Name, as_json: AsJson = False) -> None:
    """Revoke a key: it opens nothing any more within seconds."""
    from cli import show
    from ledger import keys

    with _ledger() as ledger:
        keys.revoke(ledger, name)
        if as_json:
            show.put_json(next(_as_value(one) for one in keys.all_keys(ledger) if one.name == name))
        else:
            show.put(f"the key {name} is revoked")


def _check_name(name: str) -> None:
    if not (0 < len(name) <= LONGEST_NAME and name.isprintable() and name == name.strip()):
        raise UsageError(f"a key's name has 1 to {LONGEST_NAME} printable characters, and no space at its ends")


def _as_value(key: "ApiKey") -> dict[str, object]:
    budget = key.limits.budget
    return {
        "name": key.name,
        "budget_usd": None if budget is None else to_usd(budget),
        "rpm": key.limits.rpm,
        "weight": key.limits.weight,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }


@contextmanager
def _ledger() -> "Iterator[Ledger]":
    from cli.database import opened
    from goblin.settings import load
    from ledger.session import Ledger

    with opened(load()) as url:
        ledger = Ledger(url, connections=1)
        try:
            yield ledger
        finally:
            ledger.close()
