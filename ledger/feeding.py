"""A batch on its way: lines become runs, ended runs become results. Each page is written once, whoever tries again."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from goblin.clock import new_id
from ledger.runs import NewRun
from ledger.session import Ledger
from ledger.states import BatchStatus, RunStatus, StepStatus


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """`fed` and `written` are numbers of lines; `open` runs are under way; `is_over`: its window has passed."""

    id: uuid.UUID
    key_id: uuid.UUID | None
    file_id: uuid.UUID
    endpoint: str
    status: BatchStatus
    ends_as: BatchStatus | None
    lines: int
    fed: int
    written: int
    budget: int | None  # nano-dollars
    has_files: bool
    is_over: bool
    weight: float  # of its key
    open: int


@dataclass(frozen=True, slots=True)
class FedLine:
    """A line that was read: the run that it becomes, or why it cannot be one. `name` is its custom_id."""

    number: int
    name: str | None
    run: NewRun | Mapping[str, Any]


def open_batches(ledger: Ledger) -> list[OpenBatch]:
    """All that are under way, oldest first; those that were just accepted are begun with this."""
    ledger.run("batches.begin")
    return [
        OpenBatch(
            row.id,
            row.key_id,
            row.file_id,
            row.endpoint,
            BatchStatus(row.status),
            BatchStatus(row.ends_as) if row.ends_as else None,
            row.lines,
            row.fed,
            row.written,
            row.budget,
            row.output_file is not None,
            row.is_over,
            row.weight,
            row.open,
        )
        for row in ledger.run("batches.open")
    ]


def feed(
    ledger: Ledger, batch: OpenBatch, page: Sequence[FedLine], double: Mapping[str, Any]
) -> list[tuple[uuid.UUID, NewRun]] | None:
    """Store the next lines as runs and errors, in one statement: the new runs.

    `double` is the error of a line whose name another one has. None, and nothing has happened, when the batch is fed no
    more or was fed further by somebody else.
    """
    made = {line.number: new_id() for line in page if isinstance(line.run, NewRun)}
    runs = {made[line.number]: line.run for line in page if isinstance(line.run, NewRun)}
    steps = [(run, idx, step) for run, new in runs.items() for idx, step in enumerate(new.steps)]
    rows = ledger.run(
        "batches.feed",
        batch=batch.id,
        before=batch.fed,
        last=page[-1].number,
        double=Jsonb(double),
        numbers=[line.number for line in page],
        names=[line.name for line in page],
        runs=[made.get(line.number) for line in page],
        errors=[None if isinstance(line.run, NewRun) else Jsonb(line.run) for line in page],
        run_ids=list(runs),
        workflows=[run.workflow for run in runs.values()],
        plans=[Jsonb(run.plan) for run in runs.values()],
        inputs=[Jsonb(run.input) for run in runs.values()],
        options=[Jsonb(run.options) for run in runs.values()],
        step_counts=[len(run.steps) for run in runs.values()],
        step_runs=[run for run, _, _ in steps],
        idxs=[idx for _, idx, _ in steps],
        goblins=[step.goblin for _, _, step in steps],
        tasks=[step.task for _, _, step in steps],
        afters=[Jsonb(step.after) for _, _, step in steps],
    )
    return [(row.run, runs[row.run]) for row in rows if row.run is not None] if rows else None


def lately(ledger: Ledger, batch: OpenBatch, *, within: int, limit: int) -> list[tuple[str, str]]:
    """Of the last `within` lines that were fed, how those that ended last did: the error's type, and its budget."""
    rows = ledger.run("batches.lately", batch=batch.id, fed=batch.fed, within=within, limit=limit)
    return [(row.type, row.budget) for row in rows]


def stop(ledger: Ledger, batch: uuid.UUID, ends_as: BatchStatus, error: Mapping[str, Any] | None = None) -> None:
    """Feed no more: it ends as soon as what was begun has ended."""
    ledger.run("batches.stop", batch=batch, ends_as=ends_as, error=Jsonb(error) if error is not None else None)


@dataclass(frozen=True, slots=True)
class Said:
    """A step of a run that has ended. Tokens of all its calls; cost in nano-dollars."""

    idx: int
    goblin: str
    status: StepStatus
    provider: str | None
    model: str | None
    output: str | None
    error: Mapping[str, Any] | None
    cost: int
    finish: str | None
    input: int
    cached: int
    written: int
    reasoning: int


@dataclass(frozen=True, slots=True)
class EndedRun:
    id: uuid.UUID
    status: RunStatus
    workflow: str
    metadata: Mapping[str, str]
    cost: int
    created_at: datetime
    finished_at: datetime | None
    steps: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class EndedLine:
    """What became of a line; `run` None: its `error` is that it never was one."""

    number: int
    name: str | None
    error: Mapping[str, Any] | None
    run: EndedRun | None


@dataclass(frozen=True, slots=True)
class Result:
    """A line of the output file, or of the error file."""

    number: int
    is_good: bool
    body: bytes


def ends(ledger: Ledger, batch: uuid.UUID, *, after: int, limit: int, size: int) -> list[EndedLine]:
    """How the next lines behind a number have ended, until they are `limit` or have `size` bytes."""
    rows = ledger.run("batches.ends", batch=batch, after=after, limit=limit, bytes=size)
    steps: dict[uuid.UUID, list[Said]] = {}
    for row in ledger.run("batches.said", runs=[row.run for row in rows if row.run is not None]):
        run, idx, goblin, status, *rest = row
        steps.setdefault(run, []).append(Said(idx, goblin, StepStatus(status), *rest))
    return [EndedLine(row.number, row.name, row.error, _run(row, steps.get(row.run, ()))) for row in rows]


def begin_files(ledger: Ledger, batch: uuid.UUID) -> None:
    """The files that results are written to; once."""
    names = [f"batch_{batch.hex}_output.jsonl", f"batch_{batch.hex}_error.jsonl"]
    ledger.run("batches.begin_files", batch=batch, output=new_id(), errors=new_id(), names=names)


def write(ledger: Ledger, batch: uuid.UUID, before: int, page: Sequence[Result]) -> bool:
    """Results behind those that are `written` already; False, and nothing is, when somebody else was first."""
    rows = ledger.run(
        "batches.write",
        batch=batch,
        before=before,
        last=page[-1].number,
        numbers=[one.number for one in page],
        good=[one.is_good for one in page],
        bodies=[one.body for one in page],
    )
    return bool(rows)


def finish(ledger: Ledger, batch: uuid.UUID, *, kept_s: float) -> BatchStatus | None:
    """The batch has ended and its files can be seen, for so many seconds; None when somebody else was first."""
    rows = ledger.run("batches.finish", batch=batch, expires_s=kept_s)
    return BatchStatus(rows[0].status) if rows else None


def _run(row: Any, steps: Sequence[Said]) -> EndedRun | None:
    if row.run is None or row.status is None:
        return None
    return EndedRun(
        row.run, RunStatus(row.status), row.workflow, row.metadata or {}, row.cost, row.created_at, row.finished_at,
        tuple(steps),
    )  # fmt: skip
