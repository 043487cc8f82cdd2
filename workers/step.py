"""One step when its message arrives: may it run, was the same asked before, or whom to ask (workers.asking).

Outcomes are data: what the canvas should do next is said by the returned value, and Celery is not known here.
"""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from goblin.errors import GoblinError, LeaseLost, NotFound, Unavailable
from ledger import attempts, looks
from ledger.attempts import Taken
from ledger.looks import Look
from ledger.states import StepStatus
from routing import cache
from routing.cache import Kept, Seat
from routing.failover import GiveUp, GoOn
from workers import cached
from workers.asking import ask, call_one, has_other_than, leave, way_of
from workers.cached import Asker
from workers.end import close, conclude, message, result_of
from workers.errand import Busy, Done, Errand, HandOver, PassOn, Result, Stale
from workers.runtime import Runtime
from workers.wait import wait
from workers.work import Work, gather, need_of, settled_around
from workflow.outcome import NotYet, Skip, decide
from workflow.plan import Plan, Step

_log = structlog.get_logger()


def perform(runtime: Runtime, errand: Errand) -> Result:
    """Do whatever a step message asks for now."""
    look = looks.look(runtime.ledger, errand.run, errand.idx)
    if look is None or look.epoch != errand.epoch or look.run_status.is_final:
        return Stale()
    if look.status is StepStatus.RUNNING:
        return Busy()
    plan = Plan.from_value(look.plan)
    step = plan.steps[errand.idx]
    if look.status.is_final:
        return Done(look.status, step.goblin, error=message(look.error))
    try:
        return _go(runtime, errand, look, plan, step)
    except (LeaseLost, Unavailable):
        raise
    except Exception as fault:  # noqa: BLE001
        # recovery would bring the same fault again and again: the step ends here, and the log has the rest
        return close(runtime, errand, look, plan, step, StepStatus.FAILED, _own(fault, errand))


def _go(runtime: Runtime, errand: Errand, look: Look, plan: Plan, step: Step) -> Result:
    settled = settled_around(runtime, errand, look, plan)
    match decide(plan, errand.idx, settled, look.options.get("fail_fast", True)):
        case NotYet():
            return Stale()
        case Skip():
            return close(runtime, errand, look, plan, step, StepStatus.SKIPPED)
        case go:
            return _run(runtime, gather(runtime, errand, look, plan, go.context))


def call_admitted(runtime: Runtime, errand: Errand, attempt: uuid.UUID) -> Result:
    """Make a call that another worker admitted for this one's queue."""
    look = looks.look(runtime.ledger, errand.run, errand.idx)
    if look is None:
        return Stale()
    plan = Plan.from_value(look.plan)
    go = decide(plan, errand.idx, settled_around(runtime, errand, look, plan), look.options.get("fail_fast", True))
    work = gather(runtime, errand, look, plan, getattr(go, "context", ()))
    leases = runtime.leases
    if leases.is_draining:
        return PassOn()
    with leases.alone(attempt) as is_alone:
        taken = attempts.take(runtime.ledger, attempt, leases.owner, leases.duration) if is_alone else None
        if taken is None:
            return perform(runtime, errand)  # its message goes on with the canvas, whoever makes the call
        request = _request(runtime, work)
        return _fly(runtime, work, request, lambda: _call(runtime, work, attempt, taken) or ask(runtime, work))


def _call(runtime: Runtime, work: Work, attempt: uuid.UUID, taken: Taken) -> Result | None:
    """Make a call that was taken; None when the step is free for another one."""
    try:
        candidate = runtime.candidate(taken.provider, taken.model)
    except NotFound as unknown:
        why = f"a worker that took the call cannot make it: {unknown.message}"
        return leave(runtime, work, attempt, taken.provider, taken.model, why)
    way = way_of(runtime, work)
    need = need_of(runtime, work, way if isinstance(way, GoOn) else GoOn({}, 0))
    given = runtime.turnstile.taken(attempt, candidate, taken, need)
    has_other = has_other_than(runtime.bounds, work.failures, runtime.router.rank(need), candidate)
    return call_one(runtime, work, given, taken.number, has_other=has_other)


def _run(runtime: Runtime, work: Work) -> Result:
    """Have the answer of an identical request, where the run may; else ask, while others like it wait."""
    request = _request(runtime, work)
    if request is None or isinstance(way_of(runtime, work), GiveUp):
        return ask(runtime, work)
    asker = _asker(work)
    seat = runtime.flights.recall(request, asker)
    if work.errand.turn.room == cached.room(request):
        work.errand.turn.end()  # the end of a flight calls all that it is for
    match seat:
        case Kept() as answer:
            closed = cached.serve(runtime.ledger, runtime.feed, runtime.leases, asker, answer, goblin=work.step.goblin)
            runtime.flights.served(request, answer)
            if closed is None:
                return Busy()
            conclude(runtime, work.errand.run, work.look, work.plan, closed)
            return result_of(work.errand, closed, closed.status, work.step.goblin, answer.provider, None)
        case Seat.WAIT:
            reason = cached.WAITS["flight"]
            return wait(runtime, work, cached.WAITS, {cached.room(request): None}, reason, [reason])
        case _:
            return _fly(runtime, work, request, lambda: ask(runtime, work))


def _fly(runtime: Runtime, work: Work, request: str | None, ask: Callable[[], Result]) -> Result:
    with runtime.flights.fly(request, _asker(work)) as flight:
        work.flight = flight
        result = ask()
        flight.is_handed_over = isinstance(result, HandOver)
        flight.is_left = isinstance(result, Busy)
        flight.is_over = isinstance(result, Done) and result.status is not StepStatus.CANCELLED
    return result


def _asker(work: Work) -> Asker:
    return Asker(work.errand.run, work.errand.epoch, work.step, work.look.key_id, work.begun)


def _request(runtime: Runtime, work: Work) -> str | None:
    """What makes this request the same as another one; None when the run wants an answer of its own."""
    if not cached.is_wanted(work.look.options, work.goblin):
        return None
    return cache.identity(
        need_of(runtime, work, GoOn({}, 0)),
        work.messages,
        key=work.look.key_id,
        reasoning=work.goblin.reasoning,
        verdict=work.goblin.verdict and work.errand.idx in work.plan.gates,
        tools=work.tools,
        sampling=work.sampling,
        retrieve=work.goblin.retrieve,
    )


def _own(fault: Exception, errand: Errand) -> Mapping[str, Any]:
    if isinstance(fault, GoblinError):
        return fault.as_value()
    _log.error("step.crashed", run=str(errand.run), step=errand.idx + 1, exc_info=fault)
    return GoblinError("an internal error; the worker's log has it").as_value()
