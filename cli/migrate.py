"""Brings a database to the shape that this release expects. Safe to run twice, and by two at once."""

import time
from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from goblin.errors import Unavailable
from ledger.session import Ledger

PAUSE_S = 0.25


def upgrade(url: str, *, wait_s: float = 0) -> tuple[str | None, str | None]:
    """The revision before and after. Unavailable when Postgres does not answer within `wait_s` seconds."""
    ledger = Ledger(url, connections=1)
    try:
        before = _revision(ledger.engine, wait_s)
        script = Config()
        script.set_main_option("script_location", str(files("migrations")))
        whole = ledger.engine.url.render_as_string(hide_password=False)
        script.set_main_option("sqlalchemy.url", whole.replace("%", "%%"))
        command.upgrade(script, "head")
        return before, _revision(ledger.engine, 0)
    finally:
        ledger.close()


def _revision(engine: Engine, wait_s: float) -> str | None:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            with engine.connect() as connection:
                return MigrationContext.configure(connection).get_current_revision()
        except OperationalError as error:
            if time.monotonic() >= deadline:
                reason = str(error.orig).strip().split("\n")[0].strip(": \t") if error.orig else "no reason given"
                raise Unavailable(
                    f"Postgres cannot be reached ({reason}): check DATABASE_URL, or wait for it with --wait"
                ) from error
        time.sleep(PAUSE_S)
