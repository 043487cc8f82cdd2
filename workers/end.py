"""How a step ends: written down, told to its listeners, and said to whoever has the canvas go on."""

import uuid
from collections.abc import Mapping
from typing import Any

from goblin.money import to_usd
from ledger import attempts
from ledger.attempts import Closed
from ledger.looks import Look
from ledger.runs import PATIENCE
from ledger.states import StepStatus
from workers.conclude import conclude_run, foreseen, last_word
from workers.errand import Busy, Done, Errand, Result, Stale
from workers.runtime import Runtime
from workers.work import Work
from workflow.plan import Plan, Step


def fail(runtime: Runtime, work: Work, error: Mapping[str, Any], decision: Mapping[str, Any] | None = None) -> Result:
    """Nobody else is to be asked: what was said of an answer is taken back."""
    by = work.failures[-1].provider if work.failures else None
    if work.begun:
        withdrawn = {"step": work.step.id, "reason": error.get("message")}
        runtime.feed.emit(work.errand.run, ("step.reset", withdrawn))
    return close(runtime, work.errand, work.look, work.plan, work.step, StepStatus.FAILED, error, decision, by)


def close(
    runtime: Runtime,
    errand: Errand,
    look: Look,
    plan: Plan,
    step: Step,
    status: StepStatus,
    error: Mapping[str, Any] | None = None,
    decision: Mapping[str, Any] | None = None,
    by: str | None = None,
) -> Result:
    """End a step without a call, or without another one than that which `by` has failed."""
    ends_run = foreseen(look, plan, errand.idx, status)
    closed = attempts.close_step(
        runtime.ledger, errand.run, errand.idx, errand.epoch, status, error, decision, ends_run
    )
    if closed is None:
        return Busy()
    finished = {"step": step.id, "outcome": status, "cost_usd": to_usd(closed.cost), "usage": None, "error": error}
    end = [last_word(errand.run, closed.ended)] if closed.ended else []
    runtime.feed.emit(errand.run, ("step.finished", finished), *end)
    conclude(runtime, errand.run, look, plan, closed)
    return result_of(errand, closed, status, step.goblin, by, error)


def result_of(
    errand: Errand,
    closed: Closed,
    status: StepStatus,
    goblin: str,
    by: str | None,
    error: Mapping[str, Any] | None,
) -> Result:
    """What the canvas is told. A run that was published anew meanwhile goes on by its new messages."""
    if closed.epoch != errand.epoch:
        return Stale(closed.woken)
    return Done(status, goblin, by, message(error), closed.woken)


def conclude(runtime: Runtime, run: uuid.UUID, look: Look, plan: Plan, closed: Closed) -> None:
    """End the run if no step is open and whoever closed the last one could not know that it was."""
    if closed.open_steps == 0 and closed.ended is None:
        fail_fast = look.options.get("fail_fast", True)
        conclude_run(runtime.ledger, runtime.feed, run, plan, fail_fast=fail_fast, patience=PATIENCE)


def message(error: Mapping[str, Any] | None) -> str | None:
    """An error in plain words."""
    return None if error is None else str(error.get("message"))
