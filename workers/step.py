"""One step, from the arrival of its message to its outcome: look, guard, rank, admit, claim, call, settle.

Outcomes are data. A failed call frees the step and the loop ranks again without what has failed; what the canvas
should do next is said by the returned value, and Celery is not known here.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

import structlog

from goblin.clock import new_id, now, now_ms
from goblin.errors import Breaker, GoblinError, LeaseLost, Unavailable
from goblin.money import to_usd
from ledger import attempts
from ledger.attempts import Claim, Closed, Look
from ledger.holds import Outdated
from ledger.runs import PATIENCE
from ledger.states import StepStatus
from providers.errors import DeadlinePassed
from routing import cache, failover
from routing.cache import Kept, Seat
from routing.candidate import Candidate
from routing.failover import Failure, GiveUp, GoOn
from routing.refusal import Reason, Refused, Short
from routing.route import Route
from workers import cached
from workers.cached import Asker
from workers.call import Call, Question
from workers.conclude import conclude_run, foreseen, last_word
from workers.errand import Busy, Done, Errand, HandOver, Result, Stale
from workers.retrieve import Retrieval
from workers.runtime import Runtime
from workers.spoken import Spoken
from workers.turnstile import Pass, budget_room, rooms
from workers.wait import again_at, wait
from workers.work import Work, gather, need_of, settled_around
from workflow.outcome import NotYet, Skip, decide
from workflow.plan import Plan, Step

_log = structlog.get_logger()
_DISPATCH_LEASE = 60.0  # seconds that an admitted call may lie in its provider's queue


def perform(runtime: Runtime, errand: Errand) -> Result:
    """Do whatever a step message asks for now."""
    look = attempts.look(runtime.ledger, errand.run, errand.idx)
    if look is None or look.epoch != errand.epoch or look.run_status.is_final:
        return Stale()
    if look.status is StepStatus.RUNNING:
        return Busy()
    plan = Plan.from_value(look.plan)
    step = plan.steps[errand.idx]
    if look.status.is_final:
        return Done(look.status, step.goblin, error=_message(look.error))
    try:
        return _go(runtime, errand, look, plan, step)
    except (LeaseLost, Unavailable):
        raise
    except Exception as fault:  # noqa: BLE001
        # recovery would bring the same fault again and again: the step ends here, and the log has the rest
        return _close(runtime, errand, look, plan, step, StepStatus.FAILED, _own(fault, errand))


def _go(runtime: Runtime, errand: Errand, look: Look, plan: Plan, step: Step) -> Result:
    settled = settled_around(runtime, errand, look, plan)
    match decide(plan, errand.idx, settled, look.options.get("fail_fast", True)):
        case NotYet():
            return Stale()
        case Skip():
            return _close(runtime, errand, look, plan, step, StepStatus.SKIPPED)
        case go:
            return _run(runtime, gather(runtime, errand, look, plan, go.context))


def call_admitted(runtime: Runtime, errand: Errand, attempt: uuid.UUID) -> Result:
    """Make a call that another worker admitted for this one's queue."""
    look = attempts.look(runtime.ledger, errand.run, errand.idx)
    if look is None:
        return Stale()
    plan = Plan.from_value(look.plan)
    go = decide(plan, errand.idx, settled_around(runtime, errand, look, plan), look.options.get("fail_fast", True))
    work = gather(runtime, errand, look, plan, getattr(go, "context", ()))
    taken = attempts.take(runtime.ledger, attempt, runtime.leases.owner, runtime.leases.duration)
    if taken is None:
        return Stale()
    candidate = runtime.candidate(taken.provider, taken.model)
    way = _way(runtime, work)
    need = need_of(runtime, work, way if isinstance(way, GoOn) else GoOn({}, 0))
    given = runtime.turnstile.taken(attempt, candidate, taken.hold, need)
    has_other = _has_other(runtime, work, runtime.router.rank(need), candidate)
    return _fly(
        runtime,
        work,
        _request(runtime, work),
        lambda: _call(runtime, work, given, taken.number, has_other=has_other) or _ask(runtime, work),
    )


def _run(runtime: Runtime, work: Work) -> Result:
    """Have the answer of an identical request, where the run may; else ask, while others like it wait."""
    request = _request(runtime, work)
    if request is None or isinstance(_way(runtime, work), GiveUp):
        return _ask(runtime, work)
    asker = _asker(work)
    match runtime.flights.recall(request, asker):
        case Kept() as answer:
            closed = cached.serve(runtime.ledger, runtime.feed, runtime.leases, asker, answer, goblin=work.step.goblin)
            runtime.flights.served(request, answer)
            if closed is None:
                return Stale()
            _conclude(runtime, work.errand.run, work.look, work.plan, closed)
            return _result(work.errand, closed, closed.status, work.step.goblin, answer.provider, None)
        case Seat.WAIT:
            return wait(runtime, work, cached.WAITS, {cached.room(request): None}, cached.WAITS["flight"])
        case _:
            return _fly(runtime, work, request, lambda: _ask(runtime, work))


def _fly(runtime: Runtime, work: Work, request: str | None, ask: Callable[[], Result]) -> Result:
    with runtime.flights.fly(request, _asker(work)) as flight:
        work.flight = flight
        result = ask()
        flight.is_handed_over = isinstance(result, HandOver)
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
    )


def _ask(runtime: Runtime, work: Work) -> Result:
    """Ask one candidate after the other until the step has an outcome."""
    errand = work.errand
    while not runtime.leases.is_stopped:
        way = _way(runtime, work)
        if isinstance(way, GiveUp):
            return _fail(runtime, work, way.error)
        route = runtime.router.rank(need_of(runtime, work, way))
        if not route.candidates:
            return _nobody(runtime, work, way, route)
        attempt = new_id()
        given = runtime.turnstile.admit(attempt, route, errand.run, work.look)
        if isinstance(given, Refused):
            return _refused(runtime, work, way, route, given)
        runtime.waker.freed([given.candidate.provider.id])  # where one had room there may be more
        try:
            number = attempts.open_attempt(runtime.ledger, _claim(runtime, work, route, given))
        except Outdated:  # the counters were rebuilt meanwhile: nothing is held any more, so ask again
            continue
        if number is None:
            runtime.turnstile.give_back(attempt)
            return Stale()
        if not runtime.consumes(given.candidate.provider.id):
            return HandOver(attempt, given.candidate.provider.id, work.step.goblin)
        has_other = _has_other(runtime, work, route, given.candidate)
        if (result := _call(runtime, work, given, number, has_other=has_other)) is not None:
            return result
    return Stale()  # a stopping worker claims nothing more; recovery sends the step to another one


def _way(runtime: Runtime, work: Work) -> GoOn | GiveUp:
    """Where the step may go after its failures, while it has time."""
    if work.deadline is not None and now() >= work.deadline:
        return GiveUp(DeadlinePassed(f"its time was over at {work.deadline:%Y-%m-%d %H:%M:%S %Z}").as_value())
    return failover.after(work.failures, runtime.bounds, now_ms())


def _has_other(runtime: Runtime, work: Work, route: Route, candidate: Candidate) -> bool:
    """Whether a call that is cut would be followed by one of another candidate."""
    if len(work.failures) + 1 >= runtime.settings.routing.max_attempts:
        return False
    names = {one.candidate.name for one in route.candidates}
    return not names <= {candidate.name, *route.resting}


def _claim(runtime: Runtime, work: Work, route: Route, given: Pass) -> Claim:
    candidate, admitted = given.candidate, given.admitted
    is_ours = runtime.consumes(candidate.provider.id)
    return Claim(
        attempt=admitted.attempt,
        run=work.errand.run,
        idx=work.errand.idx,
        epoch=work.errand.epoch,
        provider=candidate.provider.id,
        model=candidate.model.id,
        owner=runtime.leases.owner if is_ours else None,
        lease=runtime.leases.duration if is_ours else _DISPATCH_LEASE,
        hold=admitted.place.hold,
        floor=Spoken(candidate.price, work.asked_tokens).cost,
        decision=_decision(runtime, route, short=_short(given.passed), price=asdict(candidate.price)),
        tokens=admitted.place.tokens,
        generation=admitted.generation,
        admitted_at=admitted.admitted_at,
    )


def _nobody(runtime: Runtime, work: Work, way: GoOn, route: Route) -> Result:
    """Wait for those who have failed, while one of them may be asked again; else fail."""
    again, decision = again_at(work, way), _decision(runtime, route)
    if not again:
        error = failover.key_fault(work.failures) or route.as_error().as_value()
        return _fail(runtime, work, error, decision)
    return wait(runtime, work, decision, again, "; ".join(way.excluded.values()), min(again.values()) / 1000)


def _refused(runtime: Runtime, work: Work, way: GoOn, route: Route, refused: Refused) -> Result:
    """Wait where there may be room later; fail where waiting cannot help or the run does not want to."""
    waits_for_money = work.look.options.get("on_budget") == "wait"
    where = {**rooms(refused, waits_for_money=waits_for_money), **again_at(work, way)}
    decision = _decision(runtime, route, short=_short(refused.reasons))
    if not where:
        # whoever waits for the same money will get none either
        runtime.waker.freed((budget_room(one.what) for one in refused.reasons if one.reason is Reason.BUDGET), count=50)
        return _fail(runtime, work, refused.as_error().as_value(), decision)
    after_s = None if refused.retry_ms is None else refused.retry_ms / 1000
    return wait(runtime, work, decision, where, refused.as_error().message, after_s)


def _decision(runtime: Runtime, route: Route, **more: Any) -> dict[str, Any]:
    """What is kept of a route, and of what became of it."""
    value = route.as_value()
    runtime.obstacles.keep(value["obstacles"], route.obstacles)
    return {**value, **more}


def _short(reasons: Iterable[Short]) -> dict[str, str]:
    return {short.place.candidate: str(short) for short in reasons}


def _call(runtime: Runtime, work: Work, given: Pass, number: int, *, has_other: bool) -> Result | None:
    """Make one call and write down its end; None when the step is free for another one."""
    errand, candidate, attempt = work.errand, given.candidate, given.admitted.attempt
    is_gate = errand.idx in work.plan.gates
    question = Question(
        errand.run,
        work.step,
        work.goblin,
        work.messages,
        work.input_tokens,
        is_gate,
        begun=work.begun,
        tools=work.tools,
        has_other=has_other,
        ends_at=None if work.deadline is None else time.monotonic() + (work.deadline - now()).total_seconds(),
    )
    retrieve = work.goblin.retrieve
    call: Call | Retrieval = (
        Retrieval(runtime, question, given, number, retrieve) if retrieve else Call(runtime, question, given, number)
    )
    ending = call.make()
    if ending.error is not None:
        ending = replace(ending, error=failover.noted(ending.error, now_ms(), is_probe=given.admitted.is_probe))
    ending = replace(ending, run=foreseen(work.look, work.plan, errand.idx, ending.step))
    # LeaseLost ends this message here: whoever owns the step now goes on
    try:
        closed = attempts.settle(runtime.ledger, attempt, ending, goblin=work.step.goblin, key_id=work.look.key_id)
    except LeaseLost as lost:
        runtime.turnstile.correct(attempt, lost.details.get("charged"))
        raise
    if work.flight is not None and not work.begun:  # what several calls have said is no single answer
        work.flight.keep(ending, candidate.provider.id, candidate.model.id)
    failure = Failure(candidate.provider.id, candidate.model.id, ending.error or {}, candidate.model.context)
    if call.error is not None and call.error.breaker is Breaker.COOL and call.error.retry_after is not None:
        pause_s = failover.pause_s([*work.failures, failure], candidate.name)
        call.error.retry_after = max(call.error.retry_after, pause_s)
    alerts = runtime.turnstile.conclude(given, ending.charge, call.error, call.told, *call.lessons)
    runtime.waker.freed([candidate.provider.id, *(budget_room(one) for one in given.admitted.counters)])
    ending = replace(ending, step=closed.status)  # a cancelled run frees no step
    call.report(ending, closed, alerts)
    if not ending.step.is_final:
        work.failures.append(failure)
        work.begun = ending.output or ""
        return None
    _conclude(runtime, errand.run, work.look, work.plan, closed)
    return _result(errand, closed, ending.step, work.step.goblin, candidate.provider.id, ending.error)


def _fail(runtime: Runtime, work: Work, error: Mapping[str, Any], decision: Mapping[str, Any] | None = None) -> Result:
    by = work.failures[-1].provider if work.failures else None
    if work.begun:
        withdrawn = {"step": work.step.id, "reason": error.get("message")}
        runtime.feed.emit(work.errand.run, ("step.reset", withdrawn))
    return _close(runtime, work.errand, work.look, work.plan, work.step, StepStatus.FAILED, error, decision, by)


def _close(
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
        return Stale()
    finished = {"step": step.id, "outcome": status, "cost_usd": to_usd(closed.cost), "usage": None, "error": error}
    end = [last_word(errand.run, closed.ended)] if closed.ended else []
    runtime.feed.emit(errand.run, ("step.finished", finished), *end)
    _conclude(runtime, errand.run, look, plan, closed)
    return _result(errand, closed, status, step.goblin, by, error)


def _result(
    errand: Errand,
    closed: Closed,
    status: StepStatus,
    goblin: str,
    by: str | None,
    error: Mapping[str, Any] | None,
) -> Result:
    if closed.epoch != errand.epoch:
        return Stale(closed.woken)
    return Done(status, goblin, by, _message(error), closed.woken)


def _conclude(runtime: Runtime, run: uuid.UUID, look: Look, plan: Plan, closed: Closed) -> None:
    if closed.open_steps == 0 and closed.ended is None:
        fail_fast = look.options.get("fail_fast", True)
        conclude_run(runtime.ledger, runtime.feed, run, plan, fail_fast=fail_fast, patience=PATIENCE)


def _own(fault: Exception, errand: Errand) -> Mapping[str, Any]:
    if isinstance(fault, GoblinError):
        return fault.as_value()
    _log.error("step.crashed", run=str(errand.run), step=errand.idx + 1, exc_info=fault)
    return GoblinError("an internal error; the worker's log has it").as_value()


def _message(error: Mapping[str, Any] | None) -> str | None:
    return None if error is None else str(error.get("message"))
