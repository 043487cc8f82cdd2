"""One candidate after the other is asked, until a step has an outcome, has to wait, or is another worker's.

Rank, admit, claim, call, settle: a failed call frees the step, and it is ranked again without what has failed.
"""

import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from goblin.clock import new_id, now, now_ms
from goblin.errors import Breaker, LeaseLost
from goblin.money import to_usd
from ledger import attempts
from ledger.attempts import Claim, Closed, Ending
from ledger.holds import Outdated
from ledger.states import AttemptStatus, StepStatus
from providers.errors import Cancelled, DeadlinePassed
from routing import failover
from routing.admission import Admitted
from routing.candidate import Candidate
from routing.failover import Bounds, Failure, GiveUp, GoOn
from routing.refusal import Reason, Refused, Short
from routing.route import Route
from workers.call import Call, Question
from workers.conclude import foreseen
from workers.end import conclude, fail, result_of
from workers.errand import Busy, HandOver, PassOn, Result
from workers.lease import DISPATCH_LEASE
from workers.retrieve import Retrieval
from workers.runtime import Runtime
from workers.spoken import Spoken
from workers.turnstile import REBUILDING, Pass, budget_room, is_rebuilding, paces, rooms
from workers.untaken import Untaken, made, spare
from workers.wait import again_at, wait
from workers.work import Work, need_of

TOGETHER = 20  # who waited for the counters is called in such numbers, by each who finds them counted


def ask(runtime: Runtime, work: Work) -> Result:
    """Ask one candidate after the other until the step has an outcome."""
    while not runtime.leases.is_draining:
        way = way_of(runtime, work)
        if isinstance(way, GiveUp):
            return fail(runtime, work, way.error)
        route = runtime.router.rank(need_of(runtime, work, way))
        if not route.candidates:
            return _nobody(runtime, work, way, route)
        attempt = new_id()
        given, number = _admit(runtime, work, attempt, route)
        if not is_rebuilding(given):
            runtime.waker.freed([REBUILDING], count=TOGETHER)
        if isinstance(given, Refused):
            return _refused(runtime, work, way, route, given)
        if number is None:
            runtime.turnstile.give_back(attempt)
        # where one had room there may be more, and maybe it was called because of another one's
        runtime.waker.freed([*_rooms(given), *work.errand.turn.end()])
        if number is None:
            return Busy()
        if not runtime.consumes(given.candidate.provider.id):
            return HandOver(attempt, given.candidate.provider.id, work.step.goblin)
        has_other = has_other_than(runtime.bounds, work.failures, route, given.candidate)
        if (result := call_one(runtime, work, given, number, has_other=has_other)) is not None:
            return result
    return PassOn()


def _rooms(given: Pass) -> list[str]:
    """Of those who wait for what an admitted call takes, and gives back at its end."""
    return [given.candidate.provider.id, *(budget_room(one) for one in given.admitted.counters)]


def way_of(runtime: Runtime, work: Work) -> GoOn | GiveUp:
    """Where the step may go after its failures, while it has time."""
    if work.deadline is not None and now() >= work.deadline:
        return GiveUp(DeadlinePassed(f"its time was over at {work.deadline:%Y-%m-%d %H:%M:%S %Z}").as_value())
    own = made(work.failures)
    way = failover.after(own, runtime.bounds, now_ms())
    if isinstance(way, GiveUp) or len(own) == len(work.failures):
        return way
    return spare(way, work.failures, runtime.offers.registry.providers, now_ms())


def has_other_than(bounds: Bounds, failures: Sequence[Failure], route: Route, candidate: Candidate) -> bool:
    """Whether a call that is cut would be followed by one of another candidate."""
    if len(failover.counted(made(failures), bounds.retries)) + 1 >= bounds.max_attempts:
        return False
    names = {one.candidate.name for one in route.candidates}
    return not names <= {candidate.name, *route.resting}


def _admit(runtime: Runtime, work: Work, attempt: uuid.UUID, route: Route) -> tuple[Pass | Refused, int | None]:
    """A place, and the attempt's number in the ledger if the step was there to be claimed."""
    given = runtime.turnstile.admit(attempt, route, work.errand.run, work.look)
    if isinstance(given, Refused):
        return given, None
    try:
        return given, attempts.open_attempt(runtime.ledger, _claim(runtime, work, route, given))
    except Outdated:  # rebuilt meanwhile, or to be rebuilt: counters that the ledger does not know hold nothing
        return Refused(()), None


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
        lease=runtime.leases.duration if is_ours else DISPATCH_LEASE,
        hold=admitted.place.hold,
        floor=Spoken(candidate.price, work.asked_tokens).cost,
        decision=_decision(
            runtime,
            route,
            short=_short(given.passed),
            price=asdict(candidate.price),
            key=admitted.place.key,
            **({} if is_ours else {"admitted": _told(admitted)}),
        ),
        tokens=admitted.place.tokens,
        generation=admitted.generation,
        admitted_at=admitted.admitted_at,
    )


def _told(admitted: Admitted) -> dict[str, Any]:
    """What whoever takes the call must know to conclude it, beside what Redis knows."""
    return {
        "is_probe": admitted.is_probe,
        "counters": list(admitted.counters),
        "generation": admitted.generation,
    }


def _nobody(runtime: Runtime, work: Work, way: GoOn, route: Route) -> Result:
    """Wait for those who have failed, while one of them may be asked again; else fail."""
    again, decision = again_at(work, way), _decision(runtime, route)
    if not again:
        error = failover.key_fault(made(work.failures)) or route.as_error().as_value()
        return fail(runtime, work, error, decision)
    reasons = dict.fromkeys(way.excluded.values())
    return wait(runtime, work, decision, again, "; ".join(reasons), sorted(way.excluded))


def _refused(runtime: Runtime, work: Work, way: GoOn, route: Route, refused: Refused) -> Result:
    """Wait where there may be room later; fail where waiting cannot help or the run does not want to."""
    waits_for_money = work.look.options.get("on_budget") == "wait"
    where = {**rooms(refused, waits_for_money=waits_for_money), **again_at(work, way)}
    decision = _decision(runtime, route, short=_short(refused.reasons))
    if not where:
        # whoever waits for the same money will get none either
        runtime.waker.freed((budget_room(one.what) for one in refused.reasons if one.reason is Reason.BUDGET), count=50)
        return fail(runtime, work, refused.as_error().as_value(), decision)
    return wait(runtime, work, decision, where, refused.why, refused.topics, paces(refused))


def _decision(runtime: Runtime, route: Route, **more: Any) -> dict[str, Any]:
    """What is kept of a route, and of what became of it."""
    value = route.as_value()
    runtime.obstacles.keep(value["obstacles"], route.obstacles)
    return {**value, **more}


def _short(reasons: Iterable[Short]) -> dict[str, str]:
    return {short.place.candidate: str(short) for short in reasons}


def call_one(runtime: Runtime, work: Work, given: Pass, number: int, *, has_other: bool) -> Result | None:
    """Make one call and write down its end; None when the step is free for another one."""
    errand, candidate, attempt = work.errand, given.candidate, given.admitted.attempt
    if not runtime.turnstile.arrive(given):
        why = f"{candidate.provider.name} had no room any more when the call came to be made"
        return leave(runtime, work, attempt, candidate.provider.id, candidate.model.id, why)
    is_gate = errand.idx in work.plan.gates
    work.start()
    question = Question(
        errand.run,
        work.step,
        work.goblin,
        work.messages,
        work.input_tokens,
        is_gate,
        begun=work.begun,
        tools=work.tools,
        sampling=work.sampling,
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
    runtime.waker.freed(_rooms(given))
    ending = _overtaken(ending, closed)
    call.report(ending, closed, alerts)
    return _after(runtime, work, failure, ending, closed)


def leave(runtime: Runtime, work: Work, attempt: uuid.UUID, provider: str, model: str, why: str) -> Result | None:
    """Give a call back that cannot be made here or now: nobody was asked, and nothing is owed."""
    error = Untaken(why, failed_at_ms=now_ms()).as_value()
    ending = Ending(AttemptStatus.FAILED, StepStatus.PENDING, work.begun or None, error)
    closed = attempts.settle(runtime.ledger, attempt, ending, goblin=work.step.goblin, key_id=work.look.key_id)
    runtime.turnstile.give_back(attempt)
    runtime.waker.freed([provider])
    ending = _overtaken(ending, closed)
    if closed.status.is_final:
        told = {"outcome": closed.status, "cost_usd": to_usd(closed.cost), "usage": None, "error": ending.error}
        runtime.feed.emit(work.errand.run, ("step.finished", {"step": work.step.id, **told}))
    return _after(runtime, work, Failure(provider, model, error), ending, closed)


def _overtaken(ending: Ending, closed: Closed) -> Ending:
    """The end as it was written down: a step that was cancelled meanwhile is not free again, and has no other fault."""
    if closed.status is ending.step:
        return ending
    return replace(ending, step=closed.status, output=None, error=Cancelled("it was cancelled").as_value())


def _after(runtime: Runtime, work: Work, failure: Failure, ending: Ending, closed: Closed) -> Result | None:
    """What the canvas is told of a step that has ended; None of one that is free for another call."""
    if not closed.status.is_final:
        work.failures.append(failure)
        work.begun = ending.output or ""
        return None
    conclude(runtime, work.errand.run, work.look, work.plan, closed)
    return result_of(work.errand, closed, closed.status, work.step.goblin, failure.provider, ending.error)
