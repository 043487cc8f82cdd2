"""Runs as people and their clients read them; whose run it is decides who sees it. Writing is elsewhere.

What a run owner sees is read in an order (run before steps) in which a final run always shows final steps.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import ColumnElement, Double, cast, func, select, tuple_

from goblin.errors import NotFound
from ledger import looks
from ledger.models import Attempt, Entry, Run, Step
from ledger.session import Ledger
from ledger.states import RunStatus, StepStatus
from workflow.outcome import Outcome, Settled, produced
from workflow.plan import Plan


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of runs ended: the next one begins behind it."""

    created_at: datetime
    id: uuid.UUID


@dataclass(frozen=True, slots=True)
class RunView:
    id: uuid.UUID
    status: RunStatus
    workflow: str
    options: Mapping[str, Any]
    cost_nanousd: int
    created_at: datetime
    started_at: datetime | None
    cancel_requested_at: datetime | None
    finished_at: datetime | None

    @property
    def place(self) -> Place:
        return Place(self.created_at, self.id)


@dataclass(frozen=True, slots=True)
class Tokens:
    """`is_measured`: the provider counted all of them; else some are estimates."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    is_measured: bool = True

    @classmethod
    def from_sums(cls, sums: Sequence[Any]) -> Self:
        """From the columns TOKEN_SUMS, which are null when nothing was summed."""
        *counts, is_measured = sums
        read, cached, written, output, reasoning = (int(count or 0) for count in counts)
        return cls(read, cached, written, output, reasoning, is_measured is not False)


@dataclass(frozen=True, slots=True)
class AttemptView:
    idx: int
    number: int
    provider: str
    model: str
    status: str
    error: Mapping[str, Any] | None
    finish: str | None  # why the answer ended
    ttft_ms: int | None
    duration_ms: int | None
    spent_nanousd: int
    started_at: datetime
    finished_at: datetime | None
    is_cached: bool  # an answer that was kept; nobody was called


@dataclass(frozen=True, slots=True)
class StepView:
    """`tokens` is None when no call of the step was charged."""

    idx: int
    goblin: str
    task: str
    after: tuple[int, ...]
    status: StepStatus
    tokens: Tokens | None
    provider: str | None
    model: str | None
    output: str | None
    error: Mapping[str, Any] | None
    cost_nanousd: int
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: since how many seconds each of its `steps`, and itself, are final; None for what is not."""

    status: RunStatus
    cost_nanousd: int
    final_for: float | None
    steps: Mapping[int, float | None]


def run(ledger: Ledger, run_id: uuid.UUID, key_id: uuid.UUID | None) -> RunView:
    """Raises NotFound for a run that does not exist or is somebody else's: the two look alike."""
    rows = ledger.read(_RUNS.where(Run.id == run_id, _seen_by(key_id)))
    if not rows:
        raise NotFound(f"no run {run_id}")
    return _run(rows[0])


def page(
    ledger: Ledger, key_id: uuid.UUID | None, *, status: RunStatus | None, after: Place | None, limit: int
) -> list[RunView]:
    """Runs, newest first."""
    query = _RUNS.where(_seen_by(key_id)).order_by(Run.created_at.desc(), Run.id.desc()).limit(limit)
    if status is not None:
        query = query.where(Run.status == status)
    if after is not None:
        query = query.where(tuple_(Run.created_at, Run.id) < tuple_(after.created_at, after.id))
    return [_run(row) for row in ledger.read(query)]


def steps(ledger: Ledger, run_id: uuid.UUID) -> list[StepView]:
    tokens = _tokens(ledger, run_id)
    rows = ledger.read(_STEPS.where(Step.run_id == run_id).order_by(Step.idx))
    return [_step(row, tokens.get(row.idx)) for row in rows]


def step(ledger: Ledger, run_id: uuid.UUID, idx: int) -> StepView:
    """One step with what it wrote. Raises NotFound when its run was pruned meanwhile."""
    rows = ledger.read(_STEPS.where(Step.run_id == run_id, Step.idx == idx))
    if not rows:
        raise NotFound(f"no step {idx} of run {run_id}")
    return _step(rows[0], _tokens(ledger, run_id, Entry.idx == idx).get(idx))


def attempts(ledger: Ledger, run_id: uuid.UUID) -> list[AttemptView]:
    return [
        AttemptView(*row)
        for row in ledger.read(_ATTEMPTS.where(Attempt.run_id == run_id).order_by(Attempt.idx, Attempt.number))
    ]


def progress(ledger: Ledger, run_id: uuid.UUID) -> Progress:
    """Raises NotFound when the run was pruned."""
    rows = ledger.read(select(Run.status, Run.cost_nanousd, _age(Run.finished_at)).where(Run.id == run_id))
    if not rows:
        raise NotFound(f"no run {run_id}")
    status, cost, age = rows[0]
    known = ledger.read(select(Step.idx, _age(Step.finished_at)).where(Step.run_id == run_id).order_by(Step.idx))
    return Progress(RunStatus(status), cost, age, {row.idx: row[1] for row in known})


def output_length(ledger: Ledger, run_id: uuid.UUID, idx: int) -> int | None:
    """Characters that a step wrote, or None when it kept nothing."""
    rows = ledger.read(select(func.length(Step.output)).where(Step.run_id == run_id, Step.idx == idx))
    return rows[0][0] if rows else None


def output(ledger: Ledger, run_id: uuid.UUID) -> str:
    """What a run that has ended produced: the texts behind what is carried at its end, in text order. Raises NotFound
    when it was pruned."""
    found = ledger.read(select(Run.plan, Run.options).where(Run.id == run_id))
    if not found:
        raise NotFound(f"no run {run_id}")
    value, options = found[0]
    rows = ledger.read(select(Step.idx, Step.status).where(Step.run_id == run_id))
    plan = Plan.from_value(value)
    written: Mapping[int, str] = {}
    if plan.needs_outputs and any(row.status == StepStatus.CANCELLED for row in rows):
        written = looks.outputs(ledger, run_id, [row.idx for row in rows], patience=0)
    settled = {row.idx: Settled(Outcome(row.status), written.get(row.idx, "")) for row in rows}
    ends = produced(plan, settled, options.get("fail_fast", True))
    texts = ledger.read(select(Step.output).where(Step.run_id == run_id, Step.idx.in_(ends)).order_by(Step.idx))
    return "\n\n".join(text for (text,) in texts if text)


def failure(ledger: Ledger, run_id: uuid.UUID) -> Mapping[str, Any] | None:
    """Why the last step that failed did so."""
    query = select(Step.error).where(Step.run_id == run_id, Step.status == StepStatus.FAILED, Step.error.is_not(None))
    rows = ledger.read(query.order_by(Step.idx.desc()).limit(1))
    return rows[0][0] if rows else None


def open_runs(ledger: Ledger) -> dict[RunStatus, int]:
    """How many runs are queued and running, whoever they belong to."""
    unfinished = [status.value for status in RunStatus if not status.is_final]
    counts = select(Run.status, func.count()).where(Run.status.in_(unfinished)).group_by(Run.status)
    return {RunStatus(status): count for status, count in ledger.read(counts)}


def _age(moment: Any) -> ColumnElement[float | None]:
    return cast(func.extract("epoch", func.now() - moment), Double)


def _seen_by(key_id: uuid.UUID | None) -> ColumnElement[bool]:
    return Run.key_id.is_(None) if key_id is None else Run.key_id == key_id


def _run(row: Any) -> RunView:
    return RunView(row[0], RunStatus(row[1]), *row[2:])


def _step(row: Any, tokens: Tokens | None) -> StepView:
    idx, goblin, task, after, status, *rest = row
    return StepView(idx, goblin, task, tuple(after), StepStatus(status), tokens, *rest)


def _tokens(ledger: Ledger, run_id: uuid.UUID, *conditions: ColumnElement[bool]) -> dict[int, Tokens]:
    rows: Sequence[Any] = ledger.read(
        select(Entry.idx, *TOKEN_SUMS).where(Entry.run_id == run_id, *conditions).group_by(Entry.idx)
    )
    return {row[0]: Tokens.from_sums(row[1:]) for row in rows}


# Sums over entries, in the order of the fields of Tokens.
TOKEN_SUMS = (
    func.sum(Entry.input_tokens),
    func.sum(Entry.cache_read_tokens),
    func.sum(Entry.cache_write_tokens),
    func.sum(Entry.output_tokens),
    func.sum(Entry.reasoning_tokens),
    func.bool_and(Entry.is_measured),
)

_RUNS = select(
    Run.id,
    Run.status,
    Run.workflow,
    Run.options,
    Run.cost_nanousd,
    Run.created_at,
    Run.started_at,
    Run.cancel_requested_at,
    Run.finished_at,
)
_STEPS = select(
    Step.idx,
    Step.goblin,
    Step.task,
    Step.after,
    Step.status,
    Step.provider,
    Step.model,
    Step.output,
    Step.error,
    Step.cost_nanousd,
    Step.started_at,
    Step.finished_at,
    Step.attempts,
)
_ATTEMPTS = select(
    Attempt.idx,
    Attempt.number,
    Attempt.provider,
    Attempt.model,
    Attempt.status,
    Attempt.error,
    Attempt.finish,
    Attempt.ttft_ms,
    Attempt.duration_ms,
    Attempt.spent_nanousd,
    Attempt.started_at,
    Attempt.finished_at,
    Attempt.decision.has_key("cache"),
)
