"""What a run becomes when its steps have settled.

Whoever closes the last step mostly knows that it is the last, and says with it what the run becomes. When several end
at once nobody knows; then whoever finds the run without an open step closes it, and recovery when nobody did.
"""

import uuid
from collections.abc import Mapping
from typing import Any

import structlog

from goblin.money import to_usd
from ledger import looks, runs
from ledger.attempts import Ended
from ledger.looks import Look
from ledger.runs import Standing
from ledger.session import Ledger
from ledger.states import RunStatus, StepStatus
from workers.stream import Feed
from workflow.outcome import Outcome, Settled, conclude, produced
from workflow.plan import Plan

_log = structlog.get_logger()


def conclude_run(
    ledger: Ledger, feed: Feed, run: uuid.UUID, plan: Plan, *, fail_fast: bool, patience: float = 0
) -> None:
    """Write down the run's outcome and tell its listeners; nothing when somebody else was first.

    `patience` (seconds) is for how long an outage of Postgres is waited out before Unavailable is raised.
    """
    standing = runs.standing(ledger, run, patience=patience)
    texts: Mapping[int, str] = {}
    if plan.needs_outputs and StepStatus.CANCELLED in standing.steps.values():
        texts = looks.outputs(ledger, run, list(standing.steps), patience=patience)
    status = _outcome(standing, plan, fail_fast, texts)
    cost = runs.finish(ledger, run, status, patience=patience)
    if cost is None:
        return
    feed.emit(run, last_word(run, Ended(status, cost)))


def foreseen(look: Look, plan: Plan, idx: int, status: StepStatus) -> RunStatus | None:
    """What the run becomes when this step ends so and was the last one; None when others were open at the look, when
    the run may have been cancelled since, or when it takes texts to know what a cancelled step counts for."""
    if not status.is_final or status is StepStatus.CANCELLED or len(look.settled) < len(plan.steps) - 1:
        return None
    steps = {one.idx: one.status for one in look.settled} | {idx: status}
    if plan.needs_outputs and StepStatus.CANCELLED in steps.values():
        return None
    return _outcome(Standing(steps, look.is_cancelled), plan, look.options.get("fail_fast", True), {})


def last_word(run: uuid.UUID, ended: Ended) -> tuple[str, Mapping[str, Any]]:
    """The event that ends the stream of a run; the log has it too."""
    said = {"outcome": ended.status, "cost_usd": to_usd(ended.cost)}
    _log.info("run.finished", run=str(run), **said)
    return "run.finished", said


def _outcome(standing: Standing, plan: Plan, fail_fast: bool, texts: Mapping[int, str]) -> RunStatus:
    """A single step that was cancelled counts as failed; if nothing else ended the run, it was cancelled. `texts` are
    the outputs, where the plan needs them to tell whether that step would have run."""
    steps = standing.steps
    if standing.is_cancelled and StepStatus.CANCELLED in steps.values():
        return RunStatus.CANCELLED
    settled = {idx: Settled(Outcome(status), texts.get(idx, "")) for idx, status in steps.items()}
    if conclude(plan, settled, fail_fast) is Outcome.SUCCEEDED:
        return RunStatus.SUCCEEDED
    behind = {steps[idx] for idx in produced(plan, settled, fail_fast)}
    is_cancelled = StepStatus.CANCELLED in behind and StepStatus.FAILED not in behind
    return RunStatus.CANCELLED if is_cancelled else RunStatus.FAILED
