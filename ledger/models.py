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

from ledger.states import AttemptStatus, RunStatus, StepStatus

_Moment = DateTime(timezone=True)
_NOW = sql("now()")


def _one_of(column: str, states: type[RunStatus] | type[StepStatus] | type[AttemptStatus]) -> CheckConstraint:
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
    """One execution of a workflow. `epoch` grows when what is left of it is published anew."""

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
    started_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        _one_of("status", RunStatus),
        CheckConstraint("open_steps >= 0", name="open_steps_not_negative"),
        Index("runs_by_key", "key_id", "created_at"),
        Index("runs_of_batch", "batch_id", postgresql_where=sql("batch_id is not null")),
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
