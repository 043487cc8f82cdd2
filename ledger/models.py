"""The tables, as SQLAlchemy knows them, for migrations and for reading. Hot-path writing is in ledger/sql.

What changes while a call goes on (`touched_at`, `lease_until`, costs) is in no index, so that writing it touches none.
"""

import uuid
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    SmallInteger,
    Text,
)
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB, UUID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ledger.states import AttemptStatus, BatchStatus, RunStatus, StepStatus

_Moment = DateTime(timezone=True)
_NOW = sql("now()")


def _one_of(
    column: str, states: type[RunStatus] | type[StepStatus] | type[AttemptStatus] | type[BatchStatus]
) -> CheckConstraint:
    values = ", ".join(f"'{state.value}'" for state in states)
    return CheckConstraint(f"{column} in ({values})", name=f"{column}_known")


class Table(DeclarativeBase):
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text,
        datetime: _Moment,
        dict[str, Any]: JSONB,
        uuid.UUID: UUID(as_uuid=True),
    }


class Key(Table):
    """An API key; only its digest is kept. A limit that is null is none; `weight` counts where keys wait."""

    __tablename__ = "keys"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    digest: Mapped[bytes] = mapped_column(BYTEA, unique=True)
    budget_nanousd: Mapped[int | None] = mapped_column(BigInteger)
    rpm: Mapped[int | None]
    weight: Mapped[float] = mapped_column(Double, server_default="1")
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    revoked_at: Mapped[datetime | None]


class Run(Table):
    """One execution of a workflow. `epoch` grows when what is left of it is published anew: `renewed_at` says when it
    last did, `published_at` when that was noted as sent. `touched_at` is any sign of life.
    """

    __tablename__ = "runs"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    key_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("keys.id"))
    batch_id: Mapped[uuid.UUID | None]
    status: Mapped[str] = mapped_column(server_default=RunStatus.QUEUED)
    workflow: Mapped[str]
    plan: Mapped[dict[str, Any]]
    input: Mapped[dict[str, Any]]
    options: Mapped[dict[str, Any]]
    epoch: Mapped[int] = mapped_column(server_default="1")
    published_epoch: Mapped[int] = mapped_column(server_default="0")
    open_steps: Mapped[int] = mapped_column(SmallInteger)
    cost_nanousd: Mapped[int] = mapped_column(BigInteger, server_default="0")
    idempotency_key: Mapped[str | None]
    idempotency_digest: Mapped[bytes | None] = mapped_column(BYTEA)
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    touched_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    renewed_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    published_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    started_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        _one_of("status", RunStatus),
        CheckConstraint("open_steps >= 0", name="open_steps_not_negative"),
        Index("runs_by_key", "key_id", "created_at"),
        Index("runs_of_batch", "batch_id", "status", postgresql_where=sql("batch_id is not null")),
        Index("runs_open", "id", postgresql_where=sql("status in ('queued', 'running')")),
        Index(
            "runs_idempotency",
            sql("coalesce(key_id, '00000000-0000-0000-0000-000000000000'::uuid)"),
            "idempotency_key",
            unique=True,
            postgresql_where=sql("idempotency_key is not null"),
        ),
    )


class Step(Table):
    """One branch of a stage. `attempts` counts the calls opened for it and fences late ones.

    `parked` holds the messages that wait for it to settle, as the signatures that a retry would send. They stand in
    this row because whoever settles it then has them all: a row of their own could be written unseen meanwhile.
    """

    __tablename__ = "steps"

    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    idx: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    goblin: Mapped[str]
    task: Mapped[str]
    after: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger))
    status: Mapped[str] = mapped_column(server_default=StepStatus.PENDING)
    attempts: Mapped[int] = mapped_column(SmallInteger, server_default="0")
    provider: Mapped[str | None]
    model: Mapped[str | None]
    output: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    decision: Mapped[dict[str, Any] | None]
    parked: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    cost_nanousd: Mapped[int] = mapped_column(BigInteger, server_default="0")
    started_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        _one_of("status", StepStatus),
        Index("steps_waiting", "run_id", postgresql_where=sql("status = 'waiting'")),
    )


class Attempt(Table):
    """One call for a step, held under a lease by one worker process (`owner`: a random id per process start).

    It began (`started_at`) when it was admitted; `tokens` is what it reserved of its provider's minute.
    """

    __tablename__ = "attempts"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    run_id: Mapped[uuid.UUID]
    idx: Mapped[int] = mapped_column(SmallInteger)
    number: Mapped[int] = mapped_column(SmallInteger)
    provider: Mapped[str]
    model: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=AttemptStatus.OPEN)
    owner: Mapped[uuid.UUID | None]
    lease_until: Mapped[datetime]
    hold_nanousd: Mapped[int] = mapped_column(BigInteger)
    spent_nanousd: Mapped[int] = mapped_column(BigInteger, server_default="0")
    tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    decision: Mapped[dict[str, Any]]
    error: Mapped[dict[str, Any] | None]
    finish: Mapped[str | None]
    ttft_ms: Mapped[int | None]
    duration_ms: Mapped[int | None]
    started_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        _one_of("status", AttemptStatus),
        ForeignKeyConstraint(["run_id", "idx"], ["steps.run_id", "steps.idx"], ondelete="CASCADE"),
        Index("attempts_of_step", "run_id", "idx", "number", unique=True),
        Index("attempts_open", "owner", postgresql_where=sql("status = 'open'")),
    )


class Entry(Table):
    """A line of the cost ledger; append-only. One charge per attempt, a correction is a line of its own.

    It outlives the run that it paid for: money is kept when outputs are pruned.
    """

    __tablename__ = "entries"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    attempt_id: Mapped[uuid.UUID]
    run_id: Mapped[uuid.UUID]
    idx: Mapped[int] = mapped_column(SmallInteger)
    key_id: Mapped[uuid.UUID | None]
    kind: Mapped[str]
    goblin: Mapped[str]
    provider: Mapped[str]
    model: Mapped[str]
    is_measured: Mapped[bool]
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_read_tokens: Mapped[int] = mapped_column(BigInteger)
    cache_write_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    price: Mapped[dict[str, Any]]
    amount_nanousd: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)

    __table_args__ = (
        CheckConstraint("kind in ('charge', 'correction')", name="kind_known"),
        Index("entries_one_charge", "attempt_id", unique=True, postgresql_where=sql("kind = 'charge'")),
        Index("entries_of_run", "run_id"),
        Index("entries_by_time", "created_at"),
    )


class SpentBefore(Table):
    """What a key has spent by all entries up to the one that the mark `folded` names: those need not be read again."""

    __tablename__ = "spent_before"

    key_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    amount_nanousd: Mapped[int] = mapped_column(BigInteger)


class File(Table):
    """Lines that somebody uploaded, or that a batch wrote. One that is not whole or was deleted is seen by nobody."""

    __tablename__ = "files"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    key_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("keys.id"))
    filename: Mapped[str]
    purpose: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    lines: Mapped[int] = mapped_column(BigInteger, server_default="0")
    is_whole: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    expires_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("purpose in ('batch', 'batch_output')", name="purpose_known"),
        Index("files_by_key", "key_id", "created_at"),
    )


class FileLine(Table):
    """A line as it came, also one that is no text. No foreign key: a million lines would each ask for their file."""

    __tablename__ = "file_lines"

    file_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[bytes] = mapped_column(BYTEA)


class Batch(Table):
    """Lines of a file that become runs. `fed` is the last line that was looked at, `written` the last one whose result
    is in the files; `ends_as` is what it becomes once the results of all that was begun are written. `completed` and
    `failed` lines are counted when it ends; before that the runs tell.
    """

    __tablename__ = "batches"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    key_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("keys.id"))
    file_id: Mapped[uuid.UUID]
    endpoint: Mapped[str]
    completion_window: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=BatchStatus.VALIDATING)
    ends_as: Mapped[str | None]
    budget_nanousd: Mapped[int | None] = mapped_column(BigInteger)
    labels: Mapped[dict[str, Any]] = mapped_column("metadata")
    lines: Mapped[int] = mapped_column(BigInteger)
    fed: Mapped[int] = mapped_column(server_default="0")
    written: Mapped[int] = mapped_column(server_default="0")
    completed: Mapped[int | None] = mapped_column(BigInteger)
    failed: Mapped[int | None] = mapped_column(BigInteger)
    error: Mapped[dict[str, Any] | None]
    output_file_id: Mapped[uuid.UUID | None]
    error_file_id: Mapped[uuid.UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    expires_at: Mapped[datetime]
    in_progress_at: Mapped[datetime | None]
    finalizing_at: Mapped[datetime | None]
    cancelling_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        _one_of("status", BatchStatus),
        Index("batches_by_key", "key_id", "created_at"),
        Index(
            "batches_open",
            "id",
            postgresql_where=sql("status in ('validating', 'in_progress', 'finalizing', 'cancelling')"),
        ),
    )


class BatchLine(Table):
    """What became of a line: a run, or an error of its own. A name (`custom_id`) belongs to one good line."""

    __tablename__ = "batch_lines"

    batch_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    custom_id: Mapped[str | None]
    run_id: Mapped[uuid.UUID | None]
    error: Mapped[dict[str, Any] | None]

    __table_args__ = (
        CheckConstraint("(run_id is null) <> (error is null)", name="run_or_error"),
        Index("batch_lines_by_name", "batch_id", "custom_id", unique=True, postgresql_where=sql("error is null")),
        Index("batch_lines_bad", "batch_id", postgresql_where=sql("error is not null")),
    )


class Obstacle(Table):
    """Why whole providers could not be called, as decisions name it by its fingerprint."""

    __tablename__ = "obstacles"

    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    reasons: Mapped[dict[str, Any]]
    seen_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class Mark(Table):
    """A fact about the whole installation, by name."""

    __tablename__ = "marks"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]
    set_at: Mapped[datetime] = mapped_column(server_default=_NOW)
