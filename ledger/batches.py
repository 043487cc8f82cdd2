"""Batches as their owners see them and change them. How they are fed and written is in ledger.feeding."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import ColumnElement, select, tuple_

from goblin.clock import new_id
from goblin.errors import NotFound
from ledger.models import Batch
from ledger.session import Ledger
from ledger.states import BatchStatus


@dataclass(frozen=True, slots=True)
class NewBatch:
    """`window` as it was asked for, `window_s` in seconds; `budget` in nano-dollars, None: none of its own."""

    file: uuid.UUID
    endpoint: str
    window: str
    window_s: float
    key_id: uuid.UUID | None = None
    budget: int | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Lines. What is neither completed nor failed has not ended, or was never begun."""

    total: int
    completed: int
    failed: int


@dataclass(frozen=True, slots=True)
class BatchView:
    id: uuid.UUID
    file_id: uuid.UUID
    endpoint: str
    window: str
    status: BatchStatus
    budget: int | None  # nano-dollars
    metadata: Mapping[str, str] | None
    error: Mapping[str, Any] | None
    output_file_id: uuid.UUID | None
    error_file_id: uuid.UUID | None
    counts: Counts
    created_at: datetime
    expires_at: datetime
    in_progress_at: datetime | None
    finalizing_at: datetime | None
    cancelling_at: datetime | None
    ended_at: datetime | None


def create(ledger: Ledger, new: NewBatch) -> uuid.UUID:
    """Raises NotFound when its file is not there any more."""
    rows = ledger.run(
        "batches.create",
        id=new_id(),
        key=new.key_id,
        file=new.file,
        endpoint=new.endpoint,
        window=new.window,
        window_s=new.window_s,
        budget=new.budget,
        metadata=Jsonb(new.metadata),
    )
    if not rows:
        raise NotFound("there is no such file")
    made: uuid.UUID = rows[0].id
    return made


def view(ledger: Ledger, batch: uuid.UUID, key_id: uuid.UUID | None) -> BatchView:
    """Raises NotFound for a batch that does not exist or is somebody else's."""
    rows = ledger.read(_BATCHES.where(Batch.id == batch, _seen_by(key_id)))
    if not rows:
        raise NotFound("there is no such batch")
    return _batch(ledger, rows[0])


def listed(ledger: Ledger, key_id: uuid.UUID | None, *, after: uuid.UUID | None, limit: int) -> list[BatchView]:
    """A page of batches behind another one, newest first. Raises NotFound when that one is not there."""
    query = _BATCHES.where(_seen_by(key_id)).order_by(Batch.created_at.desc(), Batch.id.desc()).limit(limit)
    if after is not None:
        here = view(ledger, after, key_id)
        query = query.where(tuple_(Batch.created_at, Batch.id) < tuple_(here.created_at, here.id))
    return [_batch(ledger, row) for row in ledger.read(query)]


@dataclass(frozen=True, slots=True)
class Purse:
    """A batch that is under way, with its budget in nano-dollars."""

    id: uuid.UUID
    budget: int


def purses(ledger: Ledger, key_id: uuid.UUID | None) -> list[Purse]:
    """The batches of a key that are under way and have a budget of their own."""
    is_open = Batch.status.in_([status for status in BatchStatus if not status.is_final])
    query = select(Batch.id, Batch.budget_nanousd).where(is_open, _seen_by(key_id), Batch.budget_nanousd.is_not(None))
    return [Purse(row.id, row.budget_nanousd or 0) for row in ledger.read(query.order_by(Batch.id))]


def request_cancel(ledger: Ledger, batch: uuid.UUID) -> bool:
    """Feed it no more, durably; False when there was nothing left to feed."""
    return bool(ledger.run("batches.request_cancel", batch=batch))


def cancel_runs(ledger: Ledger, batch: uuid.UUID) -> bool:
    """Ask all its open runs to stop; False when every one had been asked before.

    Those without a call under way end with this, the others when their workers hear of it.
    """
    with ledger.transaction() as transaction:
        asked = [row.id for row in transaction.run("batches.cancel_runs", batch=batch)]
        if asked:
            transaction.run("batches.cancel_steps", runs=asked)
    return bool(asked)


def _batch(ledger: Ledger, row: Any) -> BatchView:
    known = Counts(row.lines, row.completed or 0, row.failed or 0)
    status = BatchStatus(row.status)
    if not status.is_final:
        (found,) = ledger.run("batches.counts", batch=row.id)
        known = Counts(row.lines, found.completed, found.failed)
    return BatchView(
        id=row.id,
        file_id=row.file_id,
        endpoint=row.endpoint,
        window=row.completion_window,
        status=status,
        budget=row.budget_nanousd,
        metadata=row.metadata,
        error=row.error,
        output_file_id=row.output_file_id if status.is_final else None,
        error_file_id=row.error_file_id if status.is_final else None,
        counts=known,
        created_at=row.created_at,
        expires_at=row.expires_at,
        in_progress_at=row.in_progress_at,
        finalizing_at=row.finalizing_at,
        cancelling_at=row.cancelling_at,
        ended_at=row.ended_at,
    )


def _seen_by(key_id: uuid.UUID | None) -> ColumnElement[bool]:
    return Batch.key_id.is_(None) if key_id is None else Batch.key_id == key_id


_BATCHES = select(*Batch.__table__.columns)
