"""Closing a run whose steps have all settled; asked by whoever closed the last one, and by recovery when nobody did."""

import uuid

import structlog

from goblin.money import to_usd
from ledger import runs
from ledger.session import Ledger
from ledger.states import RunStatus, StepStatus
from workers.stream import Feed
from workflow.outcome import Outcome, Settled, conclude
from workflow.plan import Plan

_log = structlog.get_logger()


def conclude_run(
    ledger: Ledger, feed: Feed, run: uuid.UUID, plan: Plan, *, fail_fast: bool, patience: float = 0
) -> None:
    """Write down the run's outcome and tell its listeners; nothing when somebody else was first.

    `patience` (seconds) is for how long an outage of Postgres is waited out before Unavailable is raised.
    """
    status = _outcome(runs.settled_steps(ledger, run, patience=patience), plan, fail_fast)
    cost = runs.finish(ledger, run, status, patience=patience)
    if cost is None:
        return
    feed.emit(run, ("run.finished", {"outcome": status, "cost_usd": to_usd(cost)}))
    _log.info("run.finished", run=str(run), outcome=status, cost_usd=to_usd(cost))


def _outcome(steps: dict[int, StepStatus], plan: Plan, fail_fast: bool) -> RunStatus:
    if StepStatus.CANCELLED in steps.values():
        return RunStatus.CANCELLED
    settled = {idx: Settled(Outcome(status)) for idx, status in steps.items()}
    succeeded = conclude(plan, settled, fail_fast) is Outcome.SUCCEEDED
    return RunStatus.SUCCEEDED if succeeded else RunStatus.FAILED
