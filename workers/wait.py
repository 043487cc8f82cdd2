"""Lets a step wait: noted in the ledger first, then in rooms, where capacity, money or the clock calls it.

Listeners are told once, and again when it is something else that the step waits for.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from goblin.clock import now_ms
from goblin.errors import Unavailable
from ledger import attempts
from routing.failover import GoOn
from routing.waiting import Waiter
from workers.errand import Busy, Wait
from workers.runtime import Runtime
from workers.turnstile import is_of_budget
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
    topics: Sequence[str],
    paces: Mapping[str, float] | None = None,
) -> Wait | Busy:
    """Wait in these rooms, each with the ms until the clock looks into it, for `reason`: listeners are told it again
    when its `topics` are others."""
    errand, options = work.errand, work.look.options
    # where there is no room after all, whoever is behind it need not see that, too
    vain = "".join(errand.turn.end()) if errand.turn.room in where else ""
    waits = {**decision, "waits": list(topics)}
    noted = attempts.wait(runtime.ledger, errand.run, errand.idx, errand.epoch, waits)
    if noted is None:
        return Busy()
    is_news = noted.before is None or list(noted.before) != list(topics)
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
    told = {"step": work.step.id, "reason": reason} if is_news else None
    return Wait(waiter, where, paces or {}, told, vain)


def enter(runtime: Runtime, wait: Wait, message: Mapping[str, Any]) -> None:
    """Stand in the rooms with the message to be called by, and tell the listeners for how long if all goes as known.

    A turn in vain is had again; not for money, where a cheaper step of another key may fit meanwhile. Without Redis
    recovery finds that the step is in no room.
    """
    vain = "" if is_of_budget(wait.vain) else wait.vain
    try:
        ahead = runtime.waker.rooms.enter(wait.waiter, message, wait.rooms, vain=vain)
    except Unavailable:
        return
    if wait.told is not None:
        told = {**wait.told, "estimate_s": estimate_s(wait.rooms, ahead, wait.paces)}
        runtime.feed.emit(wait.waiter.run, ("step.waiting", told))


def estimate_s(rooms: Mapping[str, int | None], ahead: Mapping[str, int], paces: Mapping[str, float]) -> float | None:
    """Seconds until the first room has a place for who has so many before it; None when that is known of no room."""
    known = [
        after_ms + ahead[room] * paces.get(room, 0)
        for room, after_ms in rooms.items()
        if after_ms is not None and (room in paces or not ahead[room])
    ]
    return round(min(known) / 1000, 3) if known else None
