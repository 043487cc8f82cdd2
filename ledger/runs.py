"""Runs: accepted once, published by epoch, finished once. What a run's steps do is in ledger.attempts."""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from goblin.clock import new_id
from goblin.errors import Conflict, NotFound
from ledger.session import Ledger
from ledger.states import RunStatus, StepStatus


@dataclass(frozen=True, slots=True)
class NewStep:
    goblin: str
    task: str
    after: tuple[int, ...]  # the steps whose outcome is handed to this one


@dataclass(frozen=True, slots=True)
class NewRun:
    workflow: str
    plan: Mapping[str, Any]
    input: Mapping[str, Any]
    options: Mapping[str, Any]
    steps: Sequence[NewStep]
    key_id: uuid.UUID | None = None
    idempotency_key: str | None = None

    def digest(self) -> bytes:
        """What two requests must share to be the same request."""
        body = json.dumps([self.workflow, self.plan, self.input, self.options], sort_keys=True)
        return hashlib.sha256(body.encode()).digest()


@dataclass(frozen=True, slots=True)
class Submitted:
    id: uuid.UUID
    is_new: bool


@dataclass(frozen=True, slots=True)
class Before:
    """A run that was submitted with an idempotency key."""

    id: uuid.UUID
    digest: bytes

    def by(self, run: NewRun) -> Submitted:
        """It is the answer to the same request. Raises Conflict for another one."""
        if self.digest != run.digest():
            raise Conflict(f"the idempotency key {run.idempotency_key!r} belongs to another request; use a new key")
        return Submitted(self.id, is_new=False)


@dataclass(frozen=True, slots=True)
class Remainder:
    """What is left of a run: its plan, the epoch to publish under, and the steps that need no message any more."""

    id: uuid.UUID
    plan: Mapping[str, Any]
    epoch: int
    settled: frozenset[int]
    fail_fast: bool
    is_batch: bool = False  # its messages go behind those of runs that somebody waits for


def submit(ledger: Ledger, run: NewRun) -> Submitted:
    """Store a run; once this returns, it will run.

    An idempotency key that is known already returns its run. Raises Conflict when the key came with another request,
    Unavailable when Postgres cannot be reached (nothing is stored then).
    """
    run_id = new_id()
    while not _store(ledger, run_id, run):
        before = submitted_before(ledger, run.key_id, run.idempotency_key)
        if before is not None:  # else it was forgotten in between
            return before.by(run)
    return Submitted(run_id, is_new=True)


def submitted_before(ledger: Ledger, key_id: uuid.UUID | None, idempotency_key: str | None) -> Before | None:
    """The run that an idempotency key of an API key holds."""
    rows = ledger.run("runs.submitted_before", key=key_id, idempotency_key=idempotency_key)
    return Before(rows[0].id, rows[0].digest) if rows else None


def _store(ledger: Ledger, run_id: uuid.UUID, run: NewRun) -> bool:
    rows = ledger.run(
        "runs.submit",
        id=run_id,
        key=run.key_id,
        workflow=run.workflow,
        plan=Jsonb(run.plan),
        input=Jsonb(run.input),
        options=Jsonb(run.options),
        idempotency_key=run.idempotency_key,
        idempotency_digest=run.digest() if run.idempotency_key else None,
        goblins=[step.goblin for step in run.steps],
        tasks=[step.task for step in run.steps],
        afters=[Jsonb(step.after) for step in run.steps],
    )
    return bool(rows)


def mark_published(ledger: Ledger, run_id: uuid.UUID, epoch: int) -> None:
    mark_all_published(ledger, {run_id: epoch})


def mark_all_published(ledger: Ledger, epochs: Mapping[uuid.UUID, int]) -> None:
    """Runs whose messages were sent, with the epochs that these hold."""
    ledger.run("runs.mark_published", runs=list(epochs), epochs=list(epochs.values()))


def finish(ledger: Ledger, run_id: uuid.UUID, status: RunStatus, *, patience: float = 0) -> int | None:
    """Close a run whose steps have all settled: its cost in nano-dollars, or None when somebody else closed it.

    `patience` (seconds) is for how long an outage of Postgres is waited out before Unavailable is raised.
    """
    rows = ledger.run("runs.finish", patience=patience, run=run_id, status=status)
    return rows[0].cost_nanousd if rows else None


def request_cancel(ledger: Ledger, run_id: uuid.UUID) -> tuple[int, ...]:
    """Ask a run to stop: the steps that end at once. The running ones end when their workers hear of it."""
    with ledger.transaction() as transaction:
        if not transaction.run("runs.request_cancel", run=run_id):
            return ()
        return tuple(row.idx for row in transaction.run("runs.cancel_steps", run=run_id))


@dataclass(frozen=True, slots=True)
class CancelledStep:
    """A step that was asked to stop: ended, or RUNNING until its worker hears of it. `epoch` is the run's now."""

    status: StepStatus
    open_steps: int
    epoch: int


def cancel_step(ledger: Ledger, run_id: uuid.UUID, idx: int, error: Mapping[str, Any]) -> CancelledStep | None:
    """Ask one step to stop, for which `error` is told to what follows; None when it has ended, or its run has."""
    rows = ledger.run("runs.cancel_step", run=run_id, idx=idx, error=Jsonb(error))
    return CancelledStep(StepStatus(rows[0].status), rows[0].open_steps, rows[0].epoch) if rows else None


def remainder(ledger: Ledger, run_id: uuid.UUID) -> Remainder:
    """Raises NotFound when there is no such run."""
    for found in remainders(ledger, [run_id]):
        return found
    raise NotFound(f"no run {run_id}")


def remainders(ledger: Ledger, run_ids: Sequence[uuid.UUID]) -> list[Remainder]:
    """In no order; absent where there is no such run."""
    return [
        Remainder(row.id, row.plan, row.epoch, frozenset(row.settled), row.options.get("fail_fast", True), row.is_batch)
        for row in ledger.run("runs.remainders", runs=list(run_ids))
    ]


@dataclass(frozen=True, slots=True)
class Standing:
    """What the steps of a run became, and whether the run itself was cancelled."""

    steps: Mapping[int, StepStatus]
    is_cancelled: bool


def standing(ledger: Ledger, run_id: uuid.UUID, *, patience: float = 0) -> Standing:
    """`patience` as for `finish`."""
    rows = ledger.run("runs.statuses", patience=patience, run=run_id)
    return Standing({row.idx: StepStatus(row.status) for row in rows}, any(row.is_cancelled for row in rows))


def renew_epochs(ledger: Ledger, epochs: Mapping[uuid.UUID, int]) -> dict[uuid.UUID, int]:
    """Outdate every message of these epochs: the new ones. Absent where another recovery was first or the run ended."""
    rows = ledger.run("runs.renew_epochs", runs=list(epochs), epochs=list(epochs.values()))
    return {row.id: row.epoch for row in rows}


FIRST, LAST = uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class Page:
    """Runs in the order of their making: behind one and up to another."""

    after: uuid.UUID = FIRST
    until: uuid.UUID = LAST


BEGIN = Page(until=FIRST)  # no run, before the first one


def unpublished(ledger: Ledger, *, patience: float, limit: int) -> list[tuple[uuid.UUID, int]]:
    """Open runs that nobody noted as published for `patience` seconds, with their epochs."""
    return [(row.id, row.epoch) for row in ledger.run("runs.unpublished", calm=patience, limit=limit)]


def unfinished(ledger: Ledger, *, patience: float, limit: int) -> list[uuid.UUID]:
    """Open runs without an open step: whoever closed the last one did not live to close the run."""
    return [row.id for row in ledger.run("runs.unfinished", calm=patience, limit=limit)]


def stalled(ledger: Ledger, page: Page, *, patience: float, limit: int) -> list[tuple[uuid.UUID, int]]:
    """Open runs whose message was lost, with their epochs: the steps queue was drained past them, and a step is due.

    Of those that fell silent more than a minute before, only the ones of the page are looked at.
    """
    rows = ledger.run("runs.stalled", after=page.after, until=page.until, calm=patience, limit=limit)
    return [(row.id, row.epoch) for row in rows]


def next_page(ledger: Ledger, page: Page, size: int) -> Page:
    """About so many open runs behind a page; the first ones again when it was the last."""
    after = FIRST if page.until == LAST else page.until
    rows = ledger.run("runs.page_end", after=after, size=size)
    return Page(after, rows[0].id if rows else LAST)


def outdate_all(ledger: Ledger) -> None:
    """Give every open run a new epoch, because all messages are gone; `unpublished` finds them then."""
    ledger.run("runs.outdate_all")


PATIENCE = 600.0  # seconds that a worker keeps trying to write down what happened
