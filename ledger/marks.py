"""Facts about the whole installation that outlive any process, by name."""

from collections.abc import Iterator
from contextlib import contextmanager

from ledger.session import Ledger


def get(ledger: Ledger, name: str) -> str | None:
    rows = ledger.run("marks.get", name=name)
    return rows[0].value if rows else None


def put(ledger: Ledger, name: str, value: str) -> None:
    ledger.run("marks.set", name=name, value=value)


def sound(ledger: Ledger) -> str | None:
    """The moment (text, by Postgres' clock) of a new sounding of the steps queue; None while none is due."""
    rows = ledger.run("marks.sound")
    return rows[0].value if rows else None


def sound_calls(ledger: Ledger, calm: float) -> dict[str, str]:
    """The providers of calls that nobody took for `calm` seconds, each with the moment of its queue's new sounding."""
    return {row.provider: row.value for row in ledger.run("marks.sound_calls", calm=calm)}


def drained(ledger: Ledger, sent_at: str, provider: str | None = None) -> None:
    """Note that a provider's queue, or that of the steps, was drained up to what was sent at `sent_at` (text from the
    sounding)."""
    name = "drained" if provider is None else f"drained:{provider}"
    ledger.run("marks.drained", name=name, sent_at=sent_at)


@contextmanager
def duty(ledger: Ledger, name: str) -> Iterator[bool]:
    """Whether this process may do a duty that one at a time should do; the turn ends with the block."""
    with ledger.transaction() as transaction:
        (row,) = transaction.run("marks.try_lock", name=name)
        yield bool(row.is_mine)
