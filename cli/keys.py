"""`goblin keys`: who may call the API. Works on the database itself, so that a first key needs no API."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ledger.session import Ledger

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Of the key.")]
AsJson = Annotated[bool, typer.Option("--json", help="As data.")]


@app.command()
def create(name: Name, as_json: AsJson = False) -> None:
    """Create a key and print its secret: the only time that it is shown."""
    from cli import show
    from ledger import keys

    with _ledger() as ledger:
        secret = keys.create(ledger, name)
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
        show.put_json([{"name": one.name, "created_at": one.created_at, "revoked_at": one.revoked_at} for one in found])
        return
    rows = [
        (one.name, f"{one.created_at:%Y-%m-%d %H:%M}", f"{one.revoked_at:%Y-%m-%d %H:%M}" if one.revoked_at else "")
        for one in found
    ]
    show.put_table(("key", "created (UTC)", "revoked (UTC)"), rows)


@app.command()
def revoke(name: Name) -> None:
    """Revoke a key: it opens nothing any more within seconds."""
    from cli import show
    from ledger import keys

    with _ledger() as ledger:
        keys.revoke(ledger, name)
    show.put(f"the key {name} is revoked")


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
