"""Steps and the calls made for them: claim under a lease, settle with the money. Each verb is one statement."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from goblin.errors import LeaseLost
from ledger import holds, marks
from ledger.runs import PATIENCE
from ledger.session import Ledger
from ledger.states import AttemptStatus, RunStatus, StepStatus

OPENING = 60.0  # seconds that an admitted call may wait to be written down: the fleet holds its place for longer


@dataclass(frozen=True, slots=True)
class Claim:
    """What `open_attempt` writes down before a call."""

    attempt: uuid.UUID
    run: uuid.UUID
    idx: int
    epoch: int
    provider: str
    model: str
    owner: uuid.UUID | None
    lease: float  # seconds
    hold: int  # nano-dollars: the most that the call can cost
    floor: int  # nano-dollars: what it is known to cost while nothing has come back
    decision: Mapping[str, Any]
    tokens: int = 0  # reserved of the provider's minute
    generation: str | None = None  # of the admission; None = admitted by nobody
    admitted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """Tokens and money of a call that reached its provider."""

    amount: int  # nano-dollars
    is_measured: bool
    price: Mapping[str, Any]
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a call ended, for its attempt and for its step.

    `step` PENDING: it is free for another attempt, which may go on with `output`.
    """

    attempt: AttemptStatus
    step: StepStatus
    output: str | None = None
    error: Mapping[str, Any] | None = None
    charge: Charge | None = None
    finish: str | None = None  # why the answer ended: stop, length, tool
    ttft_ms: int | None = None
    duration_ms: int | None = None
    run: RunStatus | None = None  # what the run becomes if no other step is open; None: not known


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that is over, with the nano-dollars of all its calls."""

    status: RunStatus
    cost: int


@dataclass(frozen=True, slots=True)
class Closed:
    """A step after a call or without one, and its run. A step that was to be free again is CANCELLED if its run was."""

    status: StepStatus
    open_steps: int
    epoch: int
    cost: int  # nano-dollars of all calls of the step
    woken: tuple[Mapping[str, Any], ...]  # messages that waited for this step; none while it may still be called for
    ended: Ended | None = None  # the run, when this was its last step and what it becomes was said


def open_attempt(ledger: Ledger, claim: Claim, *, patience: float = OPENING) -> int | None:
    """Claim a step for one call: the attempt's number, or None when the message is stale or another one was first.

    May be repeated, and is while Postgres is away, for `patience` seconds: what was admitted keeps its place from
    others, be it the only one, until the ledger has it or it is held to be lost. Raises Outdated when the admission's
    counters were rebuilt meanwhile: it holds nothing any more, so ask again.
    """
    rows = ledger.run(
        "attempts.open",
        patience,
        run=claim.run,
        idx=claim.idx,
        epoch=claim.epoch,
        attempt=claim.attempt,
        provider=claim.provider,
        model=claim.model,
        owner=claim.owner,
        lease=claim.lease,
        hold=claim.hold,
        spent=claim.floor,
        tokens=claim.tokens,
        generation=claim.generation,
        admitted_at=claim.admitted_at,
        decision=Jsonb(claim.decision),
    )
    rows = rows or ledger.run("attempts.opened", patience, attempt=claim.attempt)
    if not rows and claim.generation is not None:
        holds.require_current(ledger, claim.generation, patience)
    return rows[0].number if rows else None


@dataclass(frozen=True, slots=True)
class Taken:
    """An attempt that somebody else admitted, now ours."""

    number: int
    provider: str
    model: str
    hold: int  # nano-dollars
    is_probe: bool = False
    counters: tuple[str, ...] = ()  # the budgets that hold
    generation: str = ""  # of the admission


def take(ledger: Ledger, attempt: uuid.UUID, owner: uuid.UUID, lease: float) -> Taken | None:
    """Take over an attempt that was admitted for us, or None when its lease has run out or nobody wants it any more.

    Repeated while Postgres is away, for a `lease` (seconds): whoever heard no answer may have it already. So only one
    message of an owner may ask at a time.
    """
    rows = ledger.run("attempts.take", patience=lease, attempt=attempt, owner=owner, lease=lease)
    return _taken(rows[0]) if rows else None


def _taken(row: Any) -> Taken:
    known = row.admitted or {}  # absent: claimed by an earlier release
    return Taken(
        row.number,
        row.provider,
        row.model,
        row.hold_nanousd,
        is_probe=known.get("is_probe", False),
        counters=tuple(known.get("counters", ())),
        generation=known.get("generation", ""),
    )


def call_back(ledger: Ledger) -> None:
    """Give up the calls that were handed over and that nobody has taken yet: their messages are gone."""
    ledger.run("attempts.call_back")


def call_back_lost(ledger: Ledger, *, lease: float, calm: float) -> None:
    """Give up the calls that were handed over, for a `lease` (seconds), and are in no queue any more.

    `calm` (seconds) is for a message to be sent after its claim, and for one that was taken to be claimed by its taker.
    """
    ledger.run("attempts.call_back_lost", lease=lease, calm=calm)


def call_back_cancelled(ledger: Ledger) -> None:
    """Give up the calls that were handed over and cancelled before anybody took them."""
    ledger.run("attempts.call_back_cancelled")


def call_back_late(ledger: Ledger, timeouts: Mapping[str, float]) -> None:
    """Give up the calls that were handed over and not taken while their run or their step had time.

    `timeouts` are the seconds that goblins give to a step, from its first call on.
    """
    ledger.run("attempts.call_back_late", goblins=list(timeouts), timeouts=list(timeouts.values()))


def renew(
    ledger: Ledger, owner: uuid.UUID, lease: float, spent: Mapping[uuid.UUID, int]
) -> tuple[frozenset[uuid.UUID], frozenset[uuid.UUID]]:
    """Renew the leases of all attempts in `spent` (nano-dollars so far): those still ours, those to cancel."""
    rows = ledger.run("attempts.renew", owner=owner, lease=lease, attempts=list(spent), spent=list(spent.values()))
    return frozenset(row.id for row in rows), frozenset(row.id for row in rows if row.is_cancelled)


def hold(ledger: Ledger, attempt: uuid.UUID, owner: uuid.UUID, amount: int) -> bool:
    """Change the most (nano-dollars) that a call of this owner may cost; False when it is not its call any more."""
    return bool(ledger.run("attempts.hold", attempt=attempt, owner=owner, amount=amount))


def release(ledger: Ledger, owner: uuid.UUID, spent: Mapping[uuid.UUID, int]) -> None:
    """Give back the leases of calls that their own worker has cut, with what each has cost (nano-dollars)."""
    ledger.run("attempts.release", owner=owner, attempts=list(spent), spent=list(spent.values()))


def settle(
    ledger: Ledger,
    attempt: uuid.UUID,
    ending: Ending,
    *,
    goblin: str,
    key_id: uuid.UUID | None,
    patience: float = PATIENCE,
) -> Closed:
    """Write down the end of a call: attempt, entry, step and run at once; tries for `patience` seconds.

    Raises Unavailable after that: nobody renews the lease then, and recovery charges what was held for the call.
    Raises LeaseLost when the attempt was given up meanwhile; the money really spent is entered as a correction then:
    what exceeds the charge, and when it was measured also what falls short of it. Its detail `charged` is the new sum.
    """
    money = _money(ending.charge)
    rows = ledger.run(
        "attempts.settle",
        patience=patience,
        attempt=attempt,
        status=ending.attempt,
        step_status=ending.step,
        output=ending.output,
        error=_json(ending.error),
        finish=ending.finish,
        ttft_ms=ending.ttft_ms,
        duration_ms=ending.duration_ms,
        goblin=goblin,
        key=key_id,
        is_charged=ending.charge is not None,
        run_status=ending.run,
        **money,
    )
    if rows:
        return _closed(rows[0])
    known = ledger.run("attempts.settled_by", patience=patience, attempt=attempt)
    if known and known[0].attempt_status != AttemptStatus.ABANDONED:
        return _closed(known[0])  # our own settle, whose answer was lost on the way: nobody else settles
    if ending.charge is not None and ledger.run(
        "attempts.correct", patience=patience, attempt=attempt, goblin=goblin, key=key_id, **money
    ):
        raise LeaseLost("another worker owns this step now", charged=ending.charge.amount)
    raise LeaseLost("another worker owns this step now")


def close_step(
    ledger: Ledger,
    run: uuid.UUID,
    idx: int,
    epoch: int,
    status: StepStatus,
    error: Mapping[str, Any] | None = None,
    decision: Mapping[str, Any] | None = None,
    ends_run: RunStatus | None = None,
    *,
    patience: float = PATIENCE,
) -> Closed | None:
    """End a step that makes no call, or None when another message was first. `ends_run` as in Ending.run."""
    rows = ledger.run(
        "steps.close",
        patience=patience,
        run=run,
        idx=idx,
        epoch=epoch,
        status=status,
        error=_json(error),
        decision=_json(decision),
        run_status=ends_run,
    )
    return _closed(rows[0]) if rows else None


@dataclass(frozen=True, slots=True)
class Noted:
    """That a step waits, and what for until now: its last decision's `waits`; None when it did not wait."""

    before: list[str] | None


def wait(ledger: Ledger, run: uuid.UUID, idx: int, epoch: int, decision: Mapping[str, Any]) -> Noted | None:
    """Note that a step waits for capacity, and why; None when another message was first."""
    rows = ledger.run("steps.wait", run=run, idx=idx, epoch=epoch, decision=Jsonb(decision))
    return Noted(rows[0].waits) if rows else None


@dataclass(frozen=True, slots=True)
class Waiting:
    run: uuid.UUID
    idx: int
    epoch: int
    seen_at: datetime  # by Postgres' clock
    is_batch: bool = False


def waiting(ledger: Ledger, *, after: Waiting | None, limit: int) -> list[Waiting]:
    """The next of those who wait for capacity, those of the oldest runs first."""
    run, idx = (after.run, after.idx) if after else (uuid.UUID(int=0), -1)
    rows = ledger.run("steps.waiting", run=run, idx=idx, limit=limit)
    return [Waiting(row.run_id, row.idx, row.epoch, row.now, row.is_batch) for row in rows]


def park(ledger: Ledger, run: uuid.UUID, idx: int, signature: Mapping[str, Any]) -> bool:
    """Leave a message with a running step, to be sent when it settles; False when it is not running any more."""
    return bool(ledger.run("steps.park", run=run, idx=idx, signature=Jsonb(signature)))


def _closed(row: Any) -> Closed:
    status = StepStatus(row.status)
    woken = tuple(row.parked or ()) if status.is_final else ()
    ended = Ended(RunStatus(row.run_status), row.run_cost) if row.run_status else None
    return Closed(status, row.open_steps, row.epoch, row.cost_nanousd, woken, ended)


def _json(value: Mapping[str, Any] | None) -> Jsonb | None:
    return None if value is None else Jsonb(value)


def _money(charge: Charge | None) -> dict[str, Any]:
    charge = charge or Charge(0, is_measured=False, price={})
    return {
        "amount": charge.amount,
        "is_measured": charge.is_measured,
        "price": Jsonb(charge.price),
        "input": charge.input,
        "cache_read": charge.cache_read,
        "cache_write": charge.cache_write,
        "output_tokens": charge.output,
        "reasoning": charge.reasoning,
    }


@dataclass(frozen=True, slots=True)
class Abandoned:
    """A run that lost calls: it waits for a new canvas under its new epoch, or for its end when no step is open."""

    run: uuid.UUID
    epoch: int
    open_steps: int
    attempts: int


def abandon(ledger: Ledger, *, calm: float, limit: int) -> list[Abandoned]:
    """End the attempts whose leases ran out and free their steps.

    Nothing is taken from anybody until Postgres has been in reach (marks.watch) for `calm` seconds, one lease: whoever
    is alive renews in that time.
    """
    rows = ledger.run("attempts.abandon", calm=calm, gap=marks.gap(calm), limit=limit)
    return [Abandoned(row.id, row.epoch, row.open_steps, row.attempts) for row in rows]
