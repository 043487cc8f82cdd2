"""What outlives Redis of the breakers: their newest states, written down at every change, and how calls ended of late.

What a state means is known to routing alone.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ledger.session import Ledger, Transaction

NEWEST = 40  # ends of a candidate: twice what opens whoever did well before


@dataclass(frozen=True, slots=True)
class State:
    """Of a provider's or a candidate's breaker, as text. `at_ms` is when it became so (Unix ms, by Redis' clock)."""

    text: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class End:
    """A call that ended `age_ms` ago: `at_ms` is when it was admitted (Unix ms), `error` None when it succeeded, `key`
    the fingerprint of the provider's key that it was admitted with, "" for none."""

    provider: str
    model: str
    at_ms: int
    age_ms: int
    error: Mapping[str, Any] | None
    key: str


def keep(ledger: Ledger, states: Mapping[str, State]) -> None:
    """By the names of providers and candidates. Raises Unavailable when Postgres cannot be reached."""
    ledger.run(
        "breakers.keep",
        names=list(states),
        states=[state.text for state in states.values()],
        moments=[state.at_ms for state in states.values()],
    )


def kept(transaction: Transaction) -> dict[str, str]:
    """The states of the last day by name."""
    return {row.name: row.state for row in transaction.run("breakers.kept")}


def ends(transaction: Transaction, *, since_ms: int, recent: uuid.UUID) -> tuple[End, ...]:
    """The newest ends of every candidate, oldest first, of calls admitted since a moment (Unix ms) under ids from
    `recent` on."""
    rows = transaction.run("breakers.ends", since_ms=since_ms, recent=recent, each=NEWEST)
    return tuple(End(row.provider, row.model, row.at_ms, row.age_ms, row.error, row.key) for row in rows)
