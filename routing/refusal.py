"""Why nobody had room: a reason for each candidate, whether waiting helps, and what a caller is told. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from goblin.errors import BreakerOpen, BudgetExhausted, GoblinError, NoCandidate, RateLimited, Unavailable
from goblin.money import to_usd
from providers.errors import ANSWERED
from routing.ask import Place

REBUILDING_MS = 200


class Reason(StrEnum):
    """What was missing. All but TOO_DEAR, BUDGET, TOO_LARGE and LOCKED pass while others finish or minutes go by."""

    TOO_DEAR = "too_dear"  # more than the whole budget
    BUDGET = "budget"  # what is spent leaves no room, until its window ends
    HELD = "held"  # money that calls under way may still need
    REQUESTS = "requests"
    TOKENS = "tokens"
    SLOTS = "slots"
    TOO_LARGE = "too_large"  # more tokens than the provider allows in a minute
    COOLING = "cooling"
    OPEN = "open"
    LOCKED = "locked"  # its key is refused, or its account is empty
    PROBING = "probing"
    RAMP = "ramp"


OF_MONEY = frozenset({Reason.TOO_DEAR, Reason.BUDGET, Reason.HELD})
NEVER = frozenset({Reason.TOO_DEAR, Reason.TOO_LARGE, Reason.LOCKED})  # within a time that anybody would wait
_LASTING = NEVER | {Reason.BUDGET}
_SPENT = OF_MONEY & _LASTING
_BREAKER = frozenset({Reason.COOLING, Reason.OPEN, Reason.PROBING, Reason.RAMP})
_FULL = frozenset({Reason.REQUESTS, Reason.TOKENS, Reason.SLOTS})
_ALL_AT_ONCE = frozenset({Reason.BUDGET, Reason.COOLING})  # may go when it ends, as far as no pace is kept


@dataclass(frozen=True, slots=True)
class Purse:
    """A budget as it stood when it had no room. Nano-dollars."""

    limit: int
    spent: int
    held: int


@dataclass(frozen=True, slots=True)
class Short:
    """Why a candidate was refused. `what` is the budget's counter, the provider or the candidate; `wait_ms` None = not
    known, or for ever."""

    place: Place
    reason: Reason
    wait_ms: int | None
    what: str
    purse: Purse | None = None  # of the budget
    lock: str = ""  # slug of the error that a key was refused with

    @property
    def name(self) -> str:
        """`what` as people know it. Models may have an @ in their names, too."""
        return self.what.partition("@")[0] if self.reason in OF_MONEY else self.what

    @property
    def topic(self) -> str:
        """What it is about, without the numbers that are others at every look."""
        if self.reason in OF_MONEY:
            return f"{self.name} {self.reason}"
        kind = "full" if self.reason in _FULL else "resting" if self.reason in _BREAKER else self.reason
        return f"{self.place.provider} {kind}"

    @property
    def pace_ms(self) -> float | None:
        """Ms that each who goes first adds to the wait; None: not known."""
        pace_ms = self.place.rate.pace_ms(self.place.tokens)
        return 0 if pace_ms is None and self.reason in _ALL_AT_ONCE else pace_ms

    def __str__(self) -> str:
        wait = "" if self.wait_ms is None else f", free in {self.wait_ms / 1000:.1f} s"
        return f"{self.why}{wait}"

    @property
    def why(self) -> str:
        """In words, without the wait."""
        purse = self.purse or Purse(0, 0, 0)
        money = {"needed": self.place.hold, "limit": purse.limit, "spent": purse.spent, "held": purse.held}
        usd = {key: _usd(amount) for key, amount in money.items()}
        return _WORDS[self.reason].format(self.name, lock=self.lock, **usd)


_REBUILT = "the fleet's counters are being rebuilt"
_NO_ROOM = "the budget {} has no room for a call that may cost {needed} USD"
_WORDS = {
    Reason.TOO_DEAR: "a call that may cost {needed} USD is larger than the whole budget {} of {limit} USD",
    Reason.BUDGET: f"{_NO_ROOM}: {{spent}} of {{limit}} USD are spent, {{held}} held",
    Reason.HELD: f"{_NO_ROOM} before others end: {{spent}} of {{limit}} USD are spent, {{held}} held",
    Reason.REQUESTS: "{} takes no more requests for now",
    Reason.TOKENS: "{} takes no more tokens for now",
    Reason.SLOTS: "{} has all the calls at once that it takes",
    Reason.TOO_LARGE: "more tokens than {} takes in a minute",
    Reason.COOLING: "{} asked to be left alone",
    Reason.OPEN: "the breaker of {} is open",
    Reason.LOCKED: "the key of {} does not work ({lock})",
    Reason.PROBING: "{} is being tried out by another call",
    Reason.RAMP: "{} is coming back slowly",
}


@dataclass(frozen=True, slots=True)
class Refused:
    """Nobody had room; nothing was taken. Without reasons: the counters are being rebuilt."""

    reasons: tuple[Short, ...]

    @property
    def why(self) -> str:
        """Every reason in words, without the waits."""
        return "; ".join(dict.fromkeys(short.why for short in self.reasons)) or _REBUILT

    @property
    def topics(self) -> list[str]:
        """What it is about: as long as that is the same, nobody need be told again."""
        return sorted({short.topic for short in self.reasons}) or [_REBUILT]

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
        """The first budget that is spent, or too small."""
        return next((short.what for short in self.reasons if short.reason in _SPENT), None)

    def as_error(self) -> GoblinError:
        """This refusal for a caller that does not wait."""
        after = None if self.retry_ms is None else self.retry_ms / 1000
        if not self.reasons:
            return Unavailable(_REBUILT, retry_after=after)
        reasons = {short.place.candidate: str(short) for short in self.reasons}
        message = "; ".join(dict.fromkeys(reasons.values()))
        if not self.may_pass:
            if self.budget is None:
                return self._of_key(message, reasons) or NoCandidate(message, reasons)
            name = self.budget.partition("@")[0]
            return BudgetExhausted(message, retry_after=after, budget=name, reasons=reasons)
        kinds = {short.reason for short in self.reasons} - _LASTING
        error = BreakerOpen if kinds <= _BREAKER else RateLimited
        return error(message, retry_after=after, reasons=reasons)

    def _of_key(self, message: str, reasons: Mapping[str, str]) -> GoblinError | None:
        """When keys that do not work are all that is missing."""
        fault = ANSWERED.get(self.reasons[0].lock)
        is_all = all(short.reason is Reason.LOCKED for short in self.reasons)
        return fault(message, reasons=dict(reasons)) if fault and is_all else None


def shorts(places: Sequence[Place], parts: Sequence[Any]) -> tuple[Short, ...]:
    """From the answer of the verb `admit`: reason, ms and what is short, for each place."""
    lines = zip(places, parts[::3], parts[1::3], parts[2::3], strict=False)
    return tuple(_short(place, Reason(why), None if ms < 0 else ms, what) for place, why, ms, what in lines)


def _short(place: Place, reason: Reason, wait_ms: int | None, what: str) -> Short:
    """What is said behind a name is told from it by the reason: models may have spaces in theirs."""
    if reason in OF_MONEY:
        name, *purse = what.rsplit(" ", 3)
        return Short(place, reason, wait_ms, name, Purse(*map(int, purse)))
    if reason is Reason.LOCKED:
        name, _, lock = what.rpartition(" ")
        return Short(place, reason, wait_ms, name, lock=lock)
    return Short(place, reason, wait_ms, what)


def _usd(amount: int) -> str:
    return to_usd(amount).rstrip("0").rstrip(".")
