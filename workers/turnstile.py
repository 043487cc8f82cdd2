"""Between a ranked route and the fleet's admission: the ask with every budget above it, and where to wait."""

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import structlog

from goblin import clock
from goblin.errors import GoblinError, Unavailable
from goblin.money import from_usd
from goblin.settings import Settings
from ledger.attempts import Charge, Taken
from ledger.looks import Look
from providers.provider import Provider
from routing import budget
from routing.admission import Admission, Admitted, Used
from routing.ask import ARRIVAL_MS, CANDIDATES, Ask, Place, Rate
from routing.breaker import Told, seen
from routing.budget import Budget
from routing.candidate import Candidate, Need
from routing.rebuild import LONGEST_MS
from routing.refusal import NEVER, OF_MONEY, REBUILDING_MS, Reason, Refused, Short
from routing.route import Route
from routing.script import Verb
from workers.lease import DISPATCH_LEASE

_log = structlog.get_logger()
REBUILDING = "rebuilding"
_OF_BUDGETS = "budget:"  # their waiting rooms


@dataclass(frozen=True, slots=True)
class Pass:
    """An admitted call: for whom, and what the fleet holds for it until it is concluded."""

    candidate: Candidate
    admitted: Admitted
    passed: tuple[Short, ...] = ()  # the candidates before it, which had no room
    asked_at: float = 0.0  # time.monotonic(); 0: by another worker

    @property
    def is_late(self) -> bool:
        """Whether the call would arrive later than its place in the minute is good for."""
        return 1_000 * (time.monotonic() - self.asked_at) > ARRIVAL_MS


class Turnstile:
    """Safe for many threads. Every verb is one round trip to Redis for each CANDIDATES of the route."""

    def __init__(self, admission: Admission, settings: Settings) -> None:
        self._admission = admission
        self._settings = settings

    def admit(self, attempt: uuid.UUID, route: Route, run: uuid.UUID, look: Look) -> Pass | Refused:
        """A place for the best candidate of the route that has room. Raises Unavailable without Redis."""
        above = self._above(run, look)
        candidates = [ranked.candidate for ranked in route.candidates]
        short: list[Short] = []
        asked_at = time.monotonic()
        for page in _pages(candidates):
            places = tuple(self._place(one, route.need) for one in page)
            answer = self._admission.admit(Ask(attempt, places, above))
            if isinstance(answer, Admitted):
                return Pass(page[places.index(answer.place)], answer, (*short, *answer.passed), asked_at)
            if is_rebuilding(answer):
                return answer  # those of this page may have room, whatever the others lack
            short += answer.reasons
        return Refused(tuple(short))

    def taken(self, attempt: uuid.UUID, candidate: Candidate, taken: Taken, need: Need) -> Pass:
        """The pass of a call that another worker had admitted. What it holds Redis knows by the attempt's id."""
        place = replace(self._place(candidate, need), hold=taken.hold)
        admitted = Admitted(attempt, place, taken.generation, clock.now(), taken.is_probe, taken.counters)
        return Pass(candidate, admitted)

    def arrive(self, given: Pass) -> bool:
        """Whether the call may be made now. One that is late counts from now on, where its minute has room."""
        try:
            return not given.is_late or self._admission.arrive(given.admitted.attempt)
        except Unavailable:
            return False

    def conclude(
        self,
        given: Pass,
        charge: Charge | None,
        error: GoblinError | None,
        told: Told = Told(),  # noqa: B008
        *lessons: Verb,
    ) -> tuple[str, ...]:
        """Turn the hold into what was spent and tell the fleet what it heard: the budgets that have just passed 80 %.

        `lessons` (of routing.health) go along.
        Without Redis nothing is done: the scheduler settles what the ledger has and Redis has not.
        """
        used = Used(charge.amount, charge.input, charge.output) if charge else Used(0)
        if error is None and told.tokens < given.admitted.place.tokens:
            told = replace(told, tokens=0, used_tokens=0)  # what has passed is not too large for a minute
        try:
            alerts = self._admission.conclude(given.admitted, used, seen(error, told), *lessons)
        except Unavailable:
            return ()
        for name in alerts:
            _log.warning("budget.nearly_spent", budget=name)
        return alerts

    def extend(self, attempt: uuid.UUID, amount: int) -> bool:
        """Whether every budget above a call under way could hold `amount` (nano-dollars) for it in all."""
        return self._admission.extend(attempt, amount)

    def correct(self, attempt: uuid.UUID, amount: int | None) -> None:
        """A call that was given up has cost `amount` (nano-dollars) in all; None: what was charged for it."""
        if amount is None:
            return
        try:
            self._admission.correct(attempt, amount)
        except Unavailable:
            return  # counted with the rest when the counters are built anew

    def give_back(self, attempt: uuid.UUID) -> None:
        """The admitted call is not made."""
        try:
            self._admission.release(attempt)
        except Unavailable:
            return  # the scheduler releases what was admitted and never opened

    def _above(self, run: uuid.UUID, look: Look) -> tuple[Budget, ...]:
        routing = self._settings.routing
        above = [
            budget.everything("hour", from_usd(routing.budget_hourly)),
            budget.everything("day", from_usd(routing.budget_daily)),
        ]
        if look.options.get("budget_usd") is not None:
            above.append(budget.of_run(run, from_usd(look.options["budget_usd"]), look.run_cost))
        if look.key_id is not None and look.key_budget is not None:
            above.append(budget.of_key(look.key_id, look.key_budget))
        if look.batch_id is not None and look.batch_budget is not None:
            above.append(budget.of_batch(look.batch_id, look.batch_budget))
        return tuple(above)

    def _place(self, candidate: Candidate, need: Need) -> Place:
        provider = candidate.provider
        return Place(
            provider=provider.id,
            candidate=candidate.name,
            hold=candidate.worst_case(need),
            tokens=candidate.input_tokens(need) + candidate.output_limit(need),
            rate=Rate(provider.rpm, provider.tpm, provider.concurrency, provider.tokens_counted == "arrival"),
            slot_ms=longest_ms(provider, self._settings.worker.lease),
            budgets=self._of_provider(provider.id),
            key=provider.fingerprint,
        )

    def _of_provider(self, provider: str) -> tuple[Budget, ...]:
        said = self._settings.providers.get(provider)
        if said is None:
            return ()
        limits: list[tuple[budget.Period, str | float | None]] = [
            ("hour", said.budget_hourly),
            ("day", said.budget_daily),
        ]
        return tuple(budget.of_provider(provider, period, from_usd(usd)) for period, usd in limits if usd is not None)


def longest_ms(provider: Provider, lease: float) -> int:
    """Ms from the admission of a call on after which it has ended: also one that lay in its provider's queue."""
    return int((DISPATCH_LEASE + provider.deadlines.connect + provider.deadlines.total + lease) * 1000)


def longest_of(providers: Iterable[Provider], lease: float) -> int:
    """Ms after which whatever was admitted has ended, whoever was called; `lease` in seconds."""
    return max(LONGEST_MS, *(longest_ms(one, lease) for one in providers), 0)


def rooms(refused: Refused, *, waits_for_money: bool) -> dict[str, int | None]:
    """Where a refused step waits, with the ms until the clock may have room; empty when waiting cannot help."""
    if is_rebuilding(refused):
        return {REBUILDING: REBUILDING_MS}
    found: dict[str, int | None] = {}
    for short in refused.reasons:
        if short.reason in NEVER:
            continue
        if short.reason is Reason.BUDGET and not (waits_for_money and short.wait_ms is not None):
            continue  # a run's, a batch's or a key's budget never begins anew: nobody may wait for it
        room = _room(short)
        known = [ms for ms in (found.get(room), short.wait_ms) if ms is not None]
        found[room] = min(known, default=None)
    return found


def paces(refused: Refused) -> dict[str, float]:
    """The ms that each who is called first adds, in the rooms of which that is known."""
    found: dict[str, float] = {REBUILDING: 0} if is_rebuilding(refused) else {}
    for short in refused.reasons:
        if short.pace_ms is not None:
            found[_room(short)] = min(short.pace_ms, found.get(_room(short), short.pace_ms))
    return found


def _room(short: Short) -> str:
    return budget_room(short.what) if short.reason in OF_MONEY else short.place.provider


def is_rebuilding(answer: Pass | Refused) -> bool:
    """Whether nobody was let through because the counters are not known just now."""
    return isinstance(answer, Refused) and not answer.reasons


def budget_room(counter: str) -> str:
    """Of a budget in all its windows: who waits for the next one is called by those who find money in it."""
    return f"{_OF_BUDGETS}{counter.partition('@')[0]}"


def is_of_budget(room: str) -> bool:
    return room.startswith(_OF_BUDGETS)


def _pages(candidates: Sequence[Candidate]) -> Iterator[Sequence[Candidate]]:
    for start in range(0, len(candidates), CANDIDATES):
        yield candidates[start : start + CANDIDATES]
