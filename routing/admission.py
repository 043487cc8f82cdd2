"""May this call be made now? One atomic decision for the whole fleet, asked between ranking and opening an attempt.

Redis counts, Postgres knows: after a loss of Redis every ask is refused until routing.rebuild has counted anew.
The verbs are in routing/lua; here are their values. What to do with a refusal is the caller's business.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from goblin.errors import BreakerOpen, BudgetExhausted, NoCandidate, RateLimited, Refusal, Unavailable
from goblin.kv import outages
from goblin.money import MOST
from routing import breaker, budget
from routing.breaker import Contact, Knobs, Seen
from routing.budget import Budget, State
from routing.script import Scripts

CANDIDATES = 8  # that one ask may bring; those further down are asked for when these are refused
MINUTE_MS = 60_000
ARRIVAL_MS = 500  # by which calls may overtake each other between admission and arrival
SPAN_MS = MINUTE_MS + ARRIVAL_MS
REBUILDING_MS = 200


@dataclass(frozen=True, slots=True)
class Rate:
    """What a provider allows: requests and tokens per rolling minute, calls at once; None = no limit known.

    `is_counted_on_arrival`: the vendor counts input and output limit when the request arrives, whatever is used, so
    nothing is given back. Else input counts at arrival and output at the end: the reservation (output limit included)
    is exchanged for what was used, so the sum is never too low and only calls under way are counted too high.
    """

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    is_counted_on_arrival: bool = False

    def request_burst_ms(self) -> int:
        """Ms of the pace that may be sent at once after a pause: a tenth of the minute, but five requests."""
        return max(SPAN_MS // 10, 5 * SPAN_MS // self.rpm) if self.rpm else 0

    def token_burst_ms(self) -> int:
        """A quarter: reservations are larger than what is used, and a pace by them must not starve the window."""
        return SPAN_MS // 4


@dataclass(frozen=True, slots=True)
class Place:
    """A candidate asking for room: `hold` the most that the call may cost (nano-dollars), `tokens` the most it counts.

    `slot_ms` is the longest that the call can last: then its slot is free even if nobody says so.
    """

    provider: str
    candidate: str
    hold: int
    tokens: int
    rate: Rate
    slot_ms: int
    budgets: tuple[Budget, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.hold <= MOST:
            raise ValueError(f"a call of {self.hold} nano-dollars cannot be counted exactly")


@dataclass(frozen=True, slots=True)
class Ask:
    """Candidates in order of preference and the budgets above all of them, for an attempt whose id is made before."""

    attempt: uuid.UUID
    places: tuple[Place, ...]
    budgets: tuple[Budget, ...] = ()


@dataclass(frozen=True, slots=True)
class Admitted:
    """The place that was taken. An attempt may only be opened under the `generation` that admitted it."""

    attempt: uuid.UUID
    place: Place
    generation: str
    admitted_at: datetime  # by Redis' clock: these hour and day pay
    is_probe: bool
    counters: tuple[str, ...]  # the budgets that hold
    passed: "tuple[Short, ...]" = ()  # those before it in order of preference, which had no room


class Reason(StrEnum):
    """What was missing. Only BUDGET and TOO_LARGE do not pass while others finish or time goes on by minutes."""

    BUDGET = "budget"  # spent, until its window ends
    HELD = "held"  # money that calls under way may still need
    REQUESTS = "requests"
    TOKENS = "tokens"
    SLOTS = "slots"
    TOO_LARGE = "too_large"  # more tokens than the provider allows in a minute
    COOLING = "cooling"
    OPEN = "open"
    PROBING = "probing"
    RAMP = "ramp"


_LASTING = frozenset({Reason.BUDGET, Reason.TOO_LARGE})
_BREAKER = frozenset({Reason.COOLING, Reason.OPEN, Reason.PROBING, Reason.RAMP})


@dataclass(frozen=True, slots=True)
class Short:
    """Why a candidate was refused. `what` is the budget, provider or candidate; `wait_ms` None = not known."""

    place: Place
    reason: Reason
    wait_ms: int | None
    what: str

    def __str__(self) -> str:
        wait = "" if self.wait_ms is None else f", free in {self.wait_ms / 1000:.1f} s"
        return f"{_WORDS[self.reason].format(self.what.partition('@')[0])}{wait}"


_WORDS = {
    Reason.BUDGET: "the budget {} is spent",
    Reason.HELD: "what is left of the budget {} is held for calls under way",
    Reason.REQUESTS: "{} takes no more requests for now",
    Reason.TOKENS: "{} takes no more tokens for now",
    Reason.SLOTS: "{} has all the calls at once that it takes",
    Reason.TOO_LARGE: "more tokens than {} takes in a minute",
    Reason.COOLING: "{} asked to be left alone",
    Reason.OPEN: "the breaker of {} is open",
    Reason.PROBING: "{} is being tried out by another call",
    Reason.RAMP: "{} is coming back slowly",
}


@dataclass(frozen=True, slots=True)
class Refused:
    """Nobody had room; nothing was taken. Without reasons: the counters are being rebuilt."""

    reasons: tuple[Short, ...]

    @property
    def may_pass(self) -> bool:
        """Whether waiting helps before a budget's window ends: calls finish, windows move on, breakers close."""
        return not self.reasons or any(short.reason not in _LASTING for short in self.reasons)

    @property
    def retry_ms(self) -> int | None:
        """When to ask again if no release calls earlier. None: nobody knows, wait for a release."""
        if not self.reasons:
            return REBUILDING_MS
        passing = [short for short in self.reasons if short.reason not in _LASTING]
        waits = [short.wait_ms for short in passing or self.reasons if short.wait_ms is not None]
        return min(waits, default=None)

    @property
    def budget(self) -> str | None:
        """The first budget that is spent."""
        return next((short.what for short in self.reasons if short.reason is Reason.BUDGET), None)

    def as_error(self) -> Refusal | Unavailable:
        """This refusal for a caller that does not wait."""
        after = None if self.retry_ms is None else self.retry_ms / 1000
        if not self.reasons:
            return Unavailable("the fleet's counters are being rebuilt", retry_after=after)
        reasons = {short.place.candidate: str(short) for short in self.reasons}
        message = "; ".join(dict.fromkeys(reasons.values()))
        if not self.may_pass:
            if self.budget is None:
                return NoCandidate(message, reasons)
            name = self.budget.partition("@")[0]
            return BudgetExhausted(message, retry_after=after, budget=name, reasons=reasons)
        kinds = {short.reason for short in self.reasons} - _LASTING
        error = BreakerOpen if kinds <= _BREAKER else RateLimited
        return error(message, retry_after=after, reasons=reasons)


@dataclass(frozen=True, slots=True)
class Used:
    """What a call really took: nano-dollars, and tokens as the vendor counts them against its limits."""

    amount: int
    input: int = 0
    output: int = 0


class Admission:
    """The fleet's one gate. Every method is one round trip and raises Unavailable when Redis cannot be reached."""

    def __init__(self, scripts: Scripts, knobs: Knobs = Knobs()) -> None:  # noqa: B008
        self.scripts = scripts
        self._knobs = knobs

    def admit(self, ask: Ask) -> Admitted | Refused:
        """Take a place for the first candidate that has room. Asking twice for one attempt takes one place."""
        places = ask.places[:CANDIDATES]
        answer = self.scripts.run("admit", *as_values(ask))
        if answer[0] == "rebuilding":
            return Refused(())
        if answer[0] == "refused":
            return Refused(_shorts(places, answer[1:]))
        _, index, at_ms, generation, is_probe, *passed = answer
        place = places[index]
        names = budget.names_at((*ask.budgets, *place.budgets), at_ms)
        admitted_at = datetime.fromtimestamp(at_ms / 1000, UTC)
        return Admitted(ask.attempt, place, generation, admitted_at, bool(is_probe), names, _shorts(places, passed))

    def known(self, attempt: uuid.UUID, place: Place, hold: int) -> Admitted:
        """What another process was admitted for. Redis knows the rest by the attempt's id."""
        return Admitted(attempt, replace(place, hold=hold), "", datetime.now(UTC), is_probe=False, counters=())

    def settle(
        self, attempt: uuid.UUID, used: Used, *, generation: str = "", counters: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Turn a hold into what was spent, once, after the ledger has it: the budgets that have just passed 80 %.

        `generation` and `counters` of the admission serve when Redis lost the record but not the counters.
        """
        return _alerts(self.scripts.run("settle", _settlement(attempt, used, generation, counters)))

    def conclude(self, admitted: Admitted, used: Used, outcome: Seen) -> tuple[str, ...]:
        """`observe` and `settle` of an admitted call, in one round trip."""
        place = admitted.place
        judged = breaker.as_ask(str(admitted.attempt), place.provider, place.candidate, outcome, self._knobs, SPAN_MS)
        settled = _settlement(admitted.attempt, used, admitted.generation, admitted.counters)
        return _alerts(self.scripts.run_all([("judge", judged), ("settle", settled)])[1])

    def release(self, attempt: uuid.UUID) -> None:
        """The call was never made: give everything back. Harmless after a settlement, or twice."""
        self.scripts.run("release", {"attempt": str(attempt)})

    def observe(
        self, provider: str, candidate: str | None, outcome: Seen, attempt: uuid.UUID | None = None
    ) -> dict[str, str]:
        """Tell the breakers how a call ended: which of them were opened, closed or cooled by that.

        Before its settlement if the call was admitted; without `attempt` it counts as of now. A check of the provider
        that asks for none of its models has no `candidate`.
        """
        asked = breaker.as_ask(str(attempt or ""), provider, candidate, outcome, self._knobs, SPAN_MS)
        answer = self.scripts.run("judge", asked)
        return dict(zip(answer[::2], answer[1::2], strict=True))

    def contacts(self, providers: Sequence[str]) -> list[Contact]:
        """When each provider was last heard of, for all of them in one round trip."""
        with outages():
            pipe = self.scripts.client.pipeline(transaction=False)
            pipe.time()
            for provider in providers:
                pipe.hmget(f"{self.scripts.prefix}:breaker:{provider}", list(breaker.CONTACT))
            (now_s, now_us), *found = pipe.execute()
        return [breaker.contact(values, now_s * 1000 + now_us // 1000) for values in found]

    def generation(self) -> str | None:
        """Whose counters are in use; None while there are none."""
        with outages():
            value: str | None = self.scripts.client.get(f"{self.scripts.prefix}:generation")  # type: ignore[assignment]
            return value

    def budgets(self) -> list[State]:
        """Every budget in its present window, runs excepted; empty while the counters are being rebuilt."""
        generation = self.generation()
        if generation is None:
            return []
        root, client = self.scripts.root(generation), self.scripts.client
        with outages():
            now = client.time()[0] * 1000
            names: list[str] = client.zrangebyscore(f"{root}budgets", f"({now}", "+inf")  # type: ignore[assignment]
            texts: list[str | None] = client.hmget(f"{root}money", names) if names else []  # type: ignore[assignment]
        return [budget.read(name, text) for name, text in zip(names, texts, strict=True) if text]


def as_values(ask: Ask) -> list[dict[str, Any]]:
    """The values that the verb `admit` takes."""
    head = {"attempt": str(ask.attempt), "span": SPAN_MS, "budgets": [_budget(one) for one in ask.budgets]}
    return [head, *(_place(one) for one in ask.places[:CANDIDATES])]


def _shorts(places: Sequence[Place], parts: Sequence[Any]) -> tuple[Short, ...]:
    lines = zip(places, parts[::3], parts[1::3], parts[2::3], strict=False)
    return tuple(Short(place, Reason(why), None if ms < 0 else ms, what) for place, why, ms, what in lines)


def _place(place: Place) -> dict[str, Any]:
    rate = place.rate
    return {
        "provider": place.provider,
        "candidate": place.candidate,
        "amount": place.hold,
        "tokens": place.tokens,
        "is_counted_on_arrival": rate.is_counted_on_arrival,
        "slot_ms": place.slot_ms,
        "concurrency": rate.concurrency or 0,
        "rpm": rate.rpm or 0,
        "tpm": rate.tpm or 0,
        "request_burst": rate.request_burst_ms(),
        "token_burst": rate.token_burst_ms(),
        "budgets": [_budget(one) for one in place.budgets],
    }


def _budget(one: Budget) -> list[str | int]:
    return [one.name, one.limit, one.window_ms, one.idle_ms]


def _settlement(attempt: uuid.UUID, used: Used, generation: str, counters: Sequence[str]) -> dict[str, Any]:
    return {
        "attempt": str(attempt),
        "amount": used.amount,
        "input": used.input,
        "output": used.output,
        "generation": generation,
        "budgets": list(counters),
    }


def _alerts(answer: Sequence[str]) -> tuple[str, ...]:
    return tuple(answer[1:])
