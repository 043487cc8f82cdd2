"""The error tree. Four class facts decide what every floor does with an error; nobody asks isinstance ladders.

Branches that belong to a floor (workflow syntax, providers' faults) are declared there and inherit from these.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, ClassVar


class Retry(Enum):
    """What may be tried after an error, at the place that the fact is about."""

    NEVER = "never"
    ONCE = "once"  # once more, and only while nothing has been streamed
    ALONE = "alone"  # after a pause, and only while nobody else is left
    LATER = "later"  # when its delay has passed or capacity is free
    LARGER = "larger"  # only a candidate with a larger context window
    YES = "yes"


class Breaker(Enum):
    """What an error tells the provider's breaker."""

    IGNORE = "ignore"
    COUNT = "count"  # a failure in the rate
    COOL = "cool"  # not a failure; the candidate rests for retry_after
    OPEN = "open"  # opens at once, for the whole key


class GoblinError(Exception):
    """Base of everything this product raises on purpose.

    `slug` is the stable name seen by callers (problem+json `type`, ledger, events); `message` is safe to show:
    it never holds a secret or a prompt.
    """

    slug: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    same_candidate: ClassVar[Retry] = Retry.NEVER
    other_candidate: ClassVar[Retry] = Retry.NEVER
    breaker: ClassVar[Breaker] = Breaker.IGNORE

    def __init__(self, message: str, *, retry_after: float | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after  # seconds
        self.details = details

    def as_value(self) -> dict[str, Any]:
        """The error as data: what the ledger stores and events carry."""
        value: dict[str, Any] = {"type": self.slug, "message": self.message}
        if self.retry_after is not None:
            value["retry_after"] = self.retry_after
        if self.details:
            value["details"] = self.details
        return value


def kind_of(value: Mapping[str, Any]) -> type[GoblinError]:
    """The facts of an error that was written down by `as_value`; those of GoblinError when nobody knows it any more."""
    known: dict[str, type[GoblinError]] = {}
    waiting = [GoblinError]
    while waiting:
        one = waiting.pop()
        known[one.slug] = one
        waiting.extend(one.__subclasses__())
    return known.get(str(value["type"]), GoblinError)


class ConfigError(GoblinError):
    """The configuration cannot be used; raised at start-up only. The message says what to write instead."""

    slug = "config"


class UsageError(GoblinError):
    slug = "usage"
    http_status = 422


class NotFound(UsageError):
    slug = "not_found"
    http_status = 404


class Unauthorized(UsageError):
    slug = "unauthorized"
    http_status = 401


class Conflict(UsageError):
    slug = "conflict"
    http_status = 409


class TooLarge(UsageError):
    slug = "too_large"
    http_status = 413


class Refusal(GoblinError):
    """Routing or admission says no, for now or for good."""

    slug = "refused"
    http_status = 503
    same_candidate = Retry.LATER
    other_candidate = Retry.YES


class NoCandidate(Refusal):
    """Nobody can serve the step; `reasons` maps every candidate looked at to why it was refused."""

    slug = "no_candidate"

    def __init__(self, message: str, reasons: Mapping[str, str]) -> None:
        super().__init__(message, reasons=dict(reasons))


class BudgetExhausted(Refusal):
    slug = "budget_exhausted"
    http_status = 402
    other_candidate = Retry.NEVER


class RateLimited(Refusal):
    slug = "rate_limited"
    http_status = 429


class BreakerOpen(Refusal):
    slug = "breaker_open"


class LeaseLost(GoblinError):
    """Another worker owns the step now: stop silently."""

    slug = "lease_lost"


class Abandoned(GoblinError):
    """The worker that made a call went away; nobody knows how the call ended."""

    slug = "abandoned"
    same_candidate = Retry.YES
    other_candidate = Retry.YES


class Unavailable(GoblinError):
    """A part of our own (Postgres, Redis) cannot be reached."""

    slug = "unavailable"
    http_status = 503
    same_candidate = Retry.LATER
