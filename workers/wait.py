"""Lets a step wait: noted in the ledger first, then in rooms, where capacity, money or the clock calls it."""

from collections.abc import Mapping
from typing import Any

from goblin.clock import now_ms
from ledger import attempts
from ledger.states import StepStatus
from routing.failover import GoOn
from routing.waiting import Waiter
from workers.errand import Busy, Wait
from workers.runtime import Runtime
from workers.work import Work


def again_at(work: Work, way: GoOn) -> dict[str, int]:
    """A room of the step's own, with the ms until somebody who has failed may be asked again; empty when nobody may."""
    if way.again_at_ms is None:
        return {}
    return {f"again:{work.errand.run.hex}-{work.errand.idx}": max(way.again_at_ms - now_ms(), 0)}


def wait(
    runtime: Runtime,
    work: Work,
    decision: Mapping[str, Any],
    where: Mapping[str, int | None],
    reason: str,
    after_s: float | None = None,
) -> Wait | Busy:
    """Wait in these rooms, each with the ms until the clock looks into it."""
    errand, options = work.errand, work.look.options
    if errand.turn.room in where:
        errand.turn.end()  # there is no room after all: whoever is behind it need not see that, too
    if not attempts.wait(runtime.ledger, errand.run, errand.idx, errand.epoch, decision):
        return Busy()
    if work.look.status is not StepStatus.WAITING:
        told = {"step": work.step.id, "reason": reason, "estimate_s": after_s}
        runtime.feed.emit(errand.run, ("step.waiting", told))
    waiter = Waiter(
        errand.run,
        errand.idx,
        errand.epoch,
        key=work.look.key_id.hex if work.look.key_id else "",
        weight=work.look.key_weight,
        priority=options.get("priority") or 0,
        deadline=work.deadline,
        since_ms=max((one.probed_at_ms for one in work.failures if one.probed_at_ms is not None), default=None),
    )
    return Wait(waiter, where)
