"""What is asked of admission: who may be called, what that takes at most, under which budgets. Values, no decision."""

import uuid
from dataclasses import dataclass
from typing import Any

from goblin.money import MOST
from routing.budget import Budget

CANDIDATES = 8  # that one ask may bring; those further down are asked for when these are refused
MINUTE_MS = 60_000
ARRIVAL_MS = 500  # by which calls may overtake each other between admission and arrival
SPAN_MS = MINUTE_MS + ARRIVAL_MS


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

    def pace_ms(self, tokens: int) -> float | None:
        """Ms that each call of so many tokens takes of what is allowed in a minute; None: no such limit is known."""
        paces = [SPAN_MS * cost / limit for cost, limit in ((1, self.rpm), (tokens, self.tpm)) if limit]
        return max(paces, default=None)

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
    key: str = ""  # fingerprint of the provider's

    def __post_init__(self) -> None:
        if not 0 <= self.hold <= MOST:
            raise ValueError(f"a call of {self.hold} nano-dollars cannot be counted exactly")


@dataclass(frozen=True, slots=True)
class Ask:
    """Candidates in order of preference and the budgets above all of them, for an attempt whose id is made before."""

    attempt: uuid.UUID
    places: tuple[Place, ...]
    budgets: tuple[Budget, ...] = ()


def as_values(ask: Ask) -> list[dict[str, Any]]:
    """The values that the verb `admit` takes."""
    head = {"attempt": str(ask.attempt), "span": SPAN_MS, "budgets": [_budget(one) for one in ask.budgets]}
    return [head, *(_place(one) for one in ask.places[:CANDIDATES])]


def _place(place: Place) -> dict[str, Any]:
    rate = place.rate
    return {
        "provider": place.provider,
        "key": place.key,
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
    return [one.name, one.limit, one.window_ms, one.idle_ms, one.spent]
