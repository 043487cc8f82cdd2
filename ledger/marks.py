"""Facts about the whole installation that outlive any process, by name."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from ledger.session import Ledger

BATCH = "steps.batch"  # the queue of the steps of batches; no provider can be called so


def get(ledger: Ledger, name: str, patience: float = 0) -> str | None:
    rows = ledger.run("marks.get", patience, name=name)
    return rows[0].value if rows else None


def put(ledger: Ledger, name: str, value: str) -> None:
    ledger.run("marks.set", name=name, value=value)


def sound(ledger: Ledger, queue: str | None = None) -> str | None:
    """The moment (text, by Postgres' clock) of a sounding of the steps queue, or of BATCH; None while none is due."""
    rows = ledger.run(
        "marks.sound", sounded=_name("sounded", queue), drained=_name("drained", queue), is_batch=queue == BATCH
    )
    return rows[0].value if rows else None


def sound_calls(ledger: Ledger, *, lease: float, calm: float) -> dict[str, str]:
    """The providers of calls that were handed over for a `lease` and that nobody took for `calm` (seconds), each with
    the moment of its queue's new sounding."""
    return {row.provider: row.value for row in ledger.run("marks.sound_calls", lease=lease, calm=calm)}


def drained(ledger: Ledger, sent_at: str, queue: str | None = None) -> None:
    """Note that a provider's queue, BATCH, or that of the steps, was drained up to what was sent at `sent_at` (text of
    a sounding)."""
    ledger.run("marks.drained", name=_name("drained", queue), sent_at=sent_at)


def drained_at(ledger: Ledger, queue: str | None = None) -> datetime | None:
    """What was sent to the steps queue, or to BATCH, before this moment has been taken from it."""
    value = get(ledger, _name("drained", queue))
    return None if value is None else datetime.fromisoformat(value)


def _name(mark: str, queue: str | None) -> str:
    return mark if queue is None else f"{mark}:{queue}"


def watch(ledger: Ledger, lease: float) -> None:
    """Note that Postgres is in reach of who gives up leases (seconds); nothing is given up after a gap before one lease
    has passed."""
    ledger.run("marks.watch", gap=gap(lease))


def gap(lease: float) -> float:
    """Seconds out of reach in which no lease that is renewed every third of it runs out; a few looks at least."""
    return max(2.0, lease / 2)


def is_calm(ledger: Ledger, calm: float) -> bool:
    """Whether Postgres was in reach of who gives up leases for `calm` seconds: all who live could tell it something."""
    (row,) = ledger.run("marks.calm", calm=calm, gap=gap(calm))
    return bool(row.is_calm)


@contextmanager
def duty(ledger: Ledger, name: str) -> Iterator[bool]:
    """Whether this process may do a duty that one at a time should do; the turn ends with the block."""
    with ledger.transaction() as transaction:
        (row,) = transaction.run("marks.try_lock", name=name)
        yield bool(row.is_mine)
