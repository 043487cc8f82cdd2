"""Stopping a run, or one step of it. A call under way is cut by its worker, which is told at once."""

import re
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Path

from api import present
from api.auth import CallerDep
from api.deps import House, HouseDep
from api.runs import RunId
from api.schemas import RunSummary, StepOut
from goblin.errors import Conflict, NotFound, Unavailable
from goblin.kv import outages
from goblin.money import to_usd
from ledger import runs, views
from ledger.runs import CancelledStep
from ledger.states import RunStatus, StepStatus
from ledger.views import StepView
from providers.errors import Cancelled
from workers.conclude import conclude_run
from workers.lease import CANCEL
from workflow.plan import Plan

router = APIRouter(tags=["runs"])
_STEP = re.compile(r"step([1-9][0-9]{0,3})")


@router.post("/v1/runs/{run_id}/cancel", status_code=202, summary="Stop a run")
def cancel_run(run_id: RunId, house: HouseDep, caller: CallerDep) -> RunSummary:
    """Steps that wait end at once, running calls are cut. Again is the same; a run that ended otherwise gives 409."""
    run = views.run(house.ledger, run_id, caller.key_id)
    if run.status.is_final and run.status is not RunStatus.CANCELLED:
        raise Conflict(f"the run has {run.status} already", status=run.status)
    if not run.status.is_final:
        _cancel_run(house, run_id)
    return present.summary(views.run(house.ledger, run_id, caller.key_id))


@router.post("/v1/runs/{run_id}/steps/{step_id}/cancel", status_code=202, summary="Stop one step of a run")
def cancel_step(
    run_id: RunId,
    step_id: Annotated[str, Path(description="as the run shows it")],
    house: HouseDep,
    caller: CallerDep,
) -> StepOut:
    """The run goes on: to whatever follows, a cancelled step is one that failed. Again is the same; a step that ended
    otherwise gives 409."""
    views.run(house.ledger, run_id, caller.key_id)
    before = _step(house, run_id, step_id)
    cancelled = runs.cancel_step(house.ledger, run_id, before.idx, Cancelled("it was cancelled").as_value())
    if cancelled is not None:
        _go_on(house, run_id, before, cancelled)
    step = _step(house, run_id, step_id)
    if cancelled is None and step.status is not StepStatus.CANCELLED:
        raise Conflict(f"the step has {step.status} already", status=step.status)
    return present.step(step, [one for one in views.attempts(house.ledger, run_id) if one.idx == step.idx])


def _step(house: House, run_id: uuid.UUID, step_id: str) -> StepView:
    if (named := _STEP.fullmatch(step_id)) is not None:
        for step in views.steps(house.ledger, run_id):
            if step.idx == int(named[1]) - 1:
                return step
    raise NotFound(f"no step {step_id[:100]!r} in this run")


def _cancel_run(house: House, run_id: uuid.UUID) -> None:
    closed = runs.request_cancel(house.ledger, run_id)
    steps = views.steps(house.ledger, run_id) if closed else []
    events = [_finished(step.idx, step.cost_nanousd, None) for step in steps if step.idx in closed]
    # only who closed the last step may say how the run ended: a worker may be about to say that it succeeded
    cost = runs.finish(house.ledger, run_id, RunStatus.CANCELLED) if closed else None
    if cost is not None:
        events.append(("run.finished", {"outcome": RunStatus.CANCELLED, "cost_usd": to_usd(cost)}))
    house.feed.emit(run_id, *events)
    _tell_workers(house, run_id)


def _go_on(house: House, run_id: uuid.UUID, step: StepView, cancelled: CancelledStep) -> None:
    """What follows a step that has ended just now. Whatever is not reached here is made good by the scheduler."""
    if cancelled.status is StepStatus.RUNNING:
        _tell_workers(house, run_id)
        return
    house.feed.emit(run_id, _finished(step.idx, step.cost_nanousd, Cancelled("it was cancelled").as_value()))
    rest = runs.remainder(house.ledger, run_id)
    plan = Plan.from_value(rest.plan)
    if cancelled.open_steps == 0:
        conclude_run(house.ledger, house.feed, run_id, plan, fail_fast=rest.fail_fast)
    elif rest.epoch == cancelled.epoch:
        house.broker.publish(plan, run_id, rest.epoch, rest.settled, is_batch=rest.is_batch)


def _finished(idx: int, cost: int, error: Any) -> tuple[str, dict[str, Any]]:
    ended = {"outcome": StepStatus.CANCELLED, "cost_usd": to_usd(cost), "usage": None, "error": error}
    return "step.finished", {"step": present.step_id(idx), **ended}


def _tell_workers(house: House, run_id: uuid.UUID) -> None:
    try:
        with outages():
            house.redis.publish(CANCEL, str(run_id))
    except Unavailable:
        return  # workers read the request in the ledger at their next renewal
