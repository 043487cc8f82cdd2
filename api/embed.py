"""Vectors for a caller who waits: a run of one step that this process does itself, from admission to settlement.

Being a run, it is held against every budget, entered in the ledger and recovered like any other: should this process
die over it, or Postgres be away at its end, its lease runs out, what it may have cost is charged, and a worker closes
it as failed.
"""

import uuid
from dataclasses import asdict, dataclass, replace

from api.deps import House
from goblin.clock import new_id, now_ms
from goblin.errors import BudgetExhausted, GoblinError, LeaseLost, Unavailable
from ledger import attempts, looks, runs
from ledger.attempts import Claim
from ledger.holds import Outdated
from ledger.looks import Look
from ledger.runs import NewRun, NewStep
from ledger.states import RunStatus, StepStatus
from providers.embed import Embeddings
from routing import failover
from routing.candidate import Candidate, Need
from routing.failover import Bounds, Failure, GiveUp, GoOn
from routing.refusal import Refused
from routing.route import Route
from workers.embedding import Embedding, Wish
from workers.turnstile import Pass, budget_room
from workflow.plan import Plan, Sequence, Stage, Step

NAME = "/v1/embeddings"  # where others have a goblin's name; no goblin can be called so
_MARGIN_S = 30.0  # that a lease outlives the longest call: nobody renews it
_PATIENCE_S = 3.0  # with Postgres: somebody is waiting
_FIRST_EPOCH = 1


@dataclass(frozen=True, slots=True)
class Embedded:
    run: uuid.UUID
    candidate: Candidate
    found: Embeddings
    input_tokens: int
    cost: int  # nano-dollars


def embed(house: House, wish: Wish, need: Need, key_id: uuid.UUID | None) -> Embedded:
    """Raises what the last call failed with, NoCandidate, or what admission refused with: nobody waits here.

    Raises Unavailable without Postgres, also after a call whose end cannot be written down: recovery settles it.
    """
    plan = plan_of(len(wish.texts), need)
    (step,) = plan.steps
    run = runs.submit(
        house.ledger, NewRun(NAME, plan.as_value(), {}, {}, [NewStep(NAME, step.task, ())], key_id=key_id)
    ).id
    runs.mark_published(house.ledger, run, _FIRST_EPOCH)  # no worker is to do it
    look = looks.look(house.ledger, run, 0, patience=_PATIENCE_S)
    if look is None:
        raise Unavailable("the run of this request has been pruned", retry_after=0)
    return _Errand(house, wish, need, run, look).go()


def plan_of(texts: int, need: Need) -> Plan:
    step = Step(0, NAME, f"{texts} texts", need.provider, need.model)
    return Plan(Sequence((Stage((step,)),)))


@dataclass(frozen=True, slots=True)
class _Errand:
    house: House
    wish: Wish
    need: Need
    run: uuid.UUID
    look: Look

    def go(self) -> Embedded:
        failures: list[Failure] = []
        retries = {one.id: one.retry_count for one in self.house.registry.providers.values()}
        bounds = Bounds(self.house.settings.routing.max_attempts, retries, patience_s=0)  # somebody is waiting
        error: GoblinError | None = None
        while True:
            way = failover.after(failures, bounds, now_ms())
            if isinstance(way, GiveUp) and error is not None:
                raise self._closed(error)
            route = self.house.router.rank(self._need(way))
            if not route.candidates:
                raise self._closed(error or route.as_error())
            given = self._admitted(route, error)
            attempt = given.admitted.attempt
            try:
                number = attempts.open_attempt(self.house.ledger, self._claim(route, given), patience=_PATIENCE_S)
            except Outdated:  # rebuilt meanwhile, or to be rebuilt: counters that the ledger does not know hold nothing
                raise self._closed(Refused(()).as_error()) from None
            if number is None:
                self.house.turnstile.give_back(attempt)
                raise Unavailable("this request was taken over by recovery", retry_after=1)
            call = self._call(given)
            if call.error is None and call.found is not None:
                bill = call.bill
                return Embedded(self.run, given.candidate, call.found, bill.usage.input, bill.amount)
            error = call.error or GoblinError("an internal error; the server's log has it")
            provider, model = given.candidate.provider.id, given.candidate.model
            failures.append(Failure(provider, model.id, error.as_value(), model.context))

    def _need(self, way: GoOn | GiveUp) -> Need:
        if isinstance(way, GiveUp):
            return self.need
        return Need(
            self.need.task_class, self.need.input_tokens, 0, self.need.provider, self.need.model,
            excluded=way.excluded, vectors=True,
        )  # fmt: skip

    def _admitted(self, route: Route, error: GoblinError | None) -> Pass:
        given = self.house.turnstile.admit(new_id(), route, self.run, self.look)
        if isinstance(given, Refused):
            refusal = given.as_error()
            raise self._closed(refusal if error is None or isinstance(refusal, BudgetExhausted) else error)
        return given

    def _claim(self, route: Route, given: Pass) -> Claim:
        candidate, admitted = given.candidate, given.admitted
        return Claim(
            attempt=admitted.attempt,
            run=self.run,
            idx=0,
            epoch=_FIRST_EPOCH,
            provider=candidate.provider.id,
            model=candidate.model.id,
            owner=new_id(),
            lease=candidate.provider.deadlines.total + _MARGIN_S,
            hold=admitted.place.hold,
            floor=admitted.place.hold,
            decision={**route.as_value(), "price": asdict(candidate.price), "key": admitted.place.key},
            tokens=admitted.place.tokens,
            generation=admitted.generation,
            admitted_at=admitted.admitted_at,
        )

    def _call(self, given: Pass) -> Embedding:
        """Makes the call and writes down its end, which is also its run's when it was answered."""
        house, attempt = self.house, given.admitted.attempt
        call = Embedding(house.caller, given.candidate, self.wish)
        ending = call.make()
        if ending.step is StepStatus.SUCCEEDED:
            ending = replace(ending, run=RunStatus.SUCCEEDED)
        try:
            attempts.settle(house.ledger, attempt, ending, goblin=NAME, key_id=self.look.key_id, patience=_PATIENCE_S)
        except LeaseLost as lost:
            house.turnstile.correct(attempt, lost.details.get("charged"))
            raise Unavailable("this request was taken over by recovery", retry_after=1) from lost
        house.turnstile.conclude(given, ending.charge, call.error, call.told, *call.lessons)
        freed = [given.candidate.provider.id, *(budget_room(one) for one in given.admitted.counters)]
        house.waker.call(freed)
        return call

    def _closed(self, error: GoblinError) -> GoblinError:
        """The error, after the run has ended with it."""
        attempts.close_step(
            self.house.ledger,
            self.run,
            0,
            _FIRST_EPOCH,
            StepStatus.FAILED,
            error.as_value(),
            ends_run=RunStatus.FAILED,
            patience=_PATIENCE_S,
        )
        return error
