"""What admission counts, as the ledger knows it: open attempts and what was spent, at one moment, under one generation.

The mark `admission` names the generation whose counters are in use. An attempt opens under that one alone.
"""

import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from goblin.errors import Refusal
from ledger import breakers, marks
from ledger.breakers import End as CallEnd
from ledger.session import Ledger

MARK = "admission"
DAY_MS = 86_400_000
_SKEW_MS = 60_000  # by which the clocks may differ of those who make ids, of Postgres, and of Redis


class Outdated(Refusal):
    """Admitted under counters that were replaced since: it holds nothing any more."""

    slug = "outdated"


@dataclass(frozen=True, slots=True)
class Hold:
    """An open attempt. `at_ms` is when it was admitted (Unix ms), `amount` what it may cost at most (nano-dollars)."""

    attempt: uuid.UUID
    provider: str
    model: str
    run: uuid.UUID
    key: uuid.UUID | None
    batch: uuid.UUID | None
    at_ms: int
    amount: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Made:
    """A call that was admitted of late, with the tokens that it reserved."""

    provider: str
    model: str
    at_ms: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Spending:
    """Nano-dollars of a provider's calls that were admitted in the hour from `hour_ms` on (Unix ms)."""

    provider: str
    hour_ms: int
    amount: int


@dataclass(frozen=True, slots=True)
class Truth:
    """Nano-dollars spent by `runs` that are open still, by all `keys`, and by open `batches` that have a budget."""

    holds: tuple[Hold, ...]
    made: tuple[Made, ...]  # oldest first
    hours: tuple[Spending, ...]  # of the UTC day
    runs: dict[uuid.UUID, int]
    keys: dict[uuid.UUID, int]
    batches: dict[uuid.UUID, int]
    breakers: Mapping[str, str]  # the states that were kept, by name
    ends: tuple[CallEnd, ...]  # of late


@dataclass(frozen=True, slots=True)
class End:
    """An attempt that admission holds something for: open still, or what it took (nano-dollars, tokens)."""

    has_ended: bool
    amount: int
    input: int
    output: int


def current(ledger: Ledger, patience: float = 0) -> str | None:
    """The generation that attempts open under; None before the first."""
    return marks.get(ledger, MARK, patience) or None


def require_current(ledger: Ledger, generation: str, patience: float = 0) -> None:
    """Raises Outdated when another generation is in use."""
    if current(ledger, patience) != generation:
        raise Outdated("the fleet's counters were rebuilt after this admission", retry_after=0)


@contextmanager
def renew(ledger: Ledger, generation: str, *, now_ms: int, span_ms: int) -> Iterator[Truth]:
    """Begin a generation: the truth to load it with. Attempts open under it when the block ends, and none meanwhile.

    `now_ms` (Unix ms) is by the clock that admits; calls of the last `span_ms` are wanted.
    """
    with ledger.transaction() as transaction:
        transaction.run("holds.begin")
        transaction.run("holds.lock")
        transaction.run("holds.change", generation=generation)
        since_ms = now_ms - span_ms
        recent = uuid.UUID(int=(since_ms - _SKEW_MS) << 80)
        day_ms = now_ms // DAY_MS * DAY_MS
        rows = transaction.run(
            "holds.truth", since_ms=since_ms, recent=recent, day_ms=day_ms, booked_ms=day_ms - _SKEW_MS
        )
        ends = breakers.ends(transaction, since_ms=since_ms, recent=recent)
        yield _truth(rows, breakers.kept(transaction), ends)


def ended(ledger: Ledger, attempts: Collection[uuid.UUID], *, calm: float) -> dict[uuid.UUID, End]:
    """What became of these attempts; absent are those that were never opened. What has ended less than `calm` seconds
    ago counts as open."""
    rows = ledger.run("holds.ended", attempts=list(attempts), calm=calm)
    return {row.id: End(row.has_ended, row.amount, row.input, row.output) for row in rows}


def note_fold(ledger: Ledger) -> None:
    """Note up to which entry may be folded, once nobody writes any more who writes now; nothing while more is left."""
    ledger.run("holds.note_fold")


def fold(ledger: Ledger, *, limit: int) -> bool:
    """Add what the next entries cost to what their keys have spent before, each once: False when none is ready.

    A rebuild reads what was folded as sums, and the entries behind it one by one.
    """
    return bool(ledger.run("holds.fold", limit=limit))


def _truth(rows: Any, states: Mapping[str, str], ends: tuple[CallEnd, ...]) -> Truth:
    kinds: dict[str, list[Any]] = {kind: [] for kind in ("hold", "call", "hour", "run", "key", "batch")}
    for row in rows:
        kinds[row.kind].append(row)
    return Truth(
        holds=tuple(
            Hold(r.id, r.provider, r.model, r.run_id, r.key_id, r.batch_id, r.at_ms, r.amount, r.tokens)
            for r in kinds["hold"]
        ),
        made=tuple(Made(r.provider, r.model, r.at_ms, r.tokens) for r in sorted(kinds["call"], key=lambda r: r.at_ms)),
        hours=tuple(Spending(r.provider, r.at_ms, r.amount) for r in kinds["hour"]),
        runs={r.id: r.amount for r in kinds["run"]},
        keys={r.id: r.amount for r in kinds["key"]},
        batches={r.id: r.amount for r in kinds["batch"]},
        breakers=states,
        ends=ends,
    )
