"""What a worker sees of a step when a message for it arrives: the step, its run, its neighbours, what was tried."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ledger.runs import PATIENCE
from ledger.session import Ledger
from ledger.states import RunStatus, StepStatus


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A settled step of the same run. `output` is known only for the steps just before the one that looked."""

    idx: int
    status: StepStatus
    output: str | None
    error: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Tried:
    """A closed attempt of the same step."""

    provider: str
    model: str
    error: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Look:
    """A step and its surroundings when a message for it arrives.

    `output` of a step that has not ended is what a call that was cut had said, while nobody took it back.
    """

    run_status: RunStatus
    epoch: int
    is_cancelled: bool
    plan: Mapping[str, Any]
    input: Mapping[str, Any]
    options: Mapping[str, Any]
    key_id: uuid.UUID | None
    key_budget: int | None  # nano-dollars; None: no limit
    key_weight: float
    status: StepStatus
    output: str | None
    error: Mapping[str, Any] | None
    settled: tuple[Neighbour, ...]
    tried: tuple[Tried, ...]
    started_at: datetime | None = None  # of its first call
    batch_id: uuid.UUID | None = None
    batch_budget: int | None = None  # nano-dollars; None: none of its own
    run_cost: int = 0  # nano-dollars of its calls that have ended


def look(ledger: Ledger, run: uuid.UUID, idx: int, *, patience: float = PATIENCE) -> Look | None:
    """The step as it stands, or None when there is no such step (its run was pruned)."""
    rows = ledger.run("steps.look", patience=patience, run=run, idx=idx)
    if not rows:
        return None
    row = rows[0]
    return Look(
        run_status=RunStatus(row.run_status),
        epoch=row.epoch,
        is_cancelled=row.is_cancelled,
        plan=row.plan,
        input=row.input,
        options=row.options,
        key_id=row.key_id,
        key_budget=row.key_budget,
        key_weight=row.key_weight,
        status=StepStatus(row.status),
        started_at=row.started_at,
        batch_id=row.batch_id,
        batch_budget=row.batch_budget,
        run_cost=row.run_cost,
        output=row.output,
        error=row.error,
        settled=tuple(Neighbour(i, StepStatus(status), output, error) for i, status, output, error in row.settled),
        tried=tuple(Tried(provider, model, error) for provider, model, error in row.tried or ()),
    )


def outputs(ledger: Ledger, run: uuid.UUID, steps: Sequence[int], *, patience: float = PATIENCE) -> dict[int, str]:
    """What the given steps wrote; absent where a step wrote nothing."""
    rows = ledger.run("steps.outputs", patience=patience, run=run, steps=list(steps))
    return {row.idx: row.output for row in rows if row.output is not None}
