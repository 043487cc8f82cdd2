"""Breakers as the fleet shares them: what an error tells them, and when they open. The state itself lives in Redis.

    closed ──(failure rate ≥ threshold, or a refused key)──> open ──(rest is over)──> half open: one probe at a time
      ^                                                        ^                           │
      └──── ramp: 1, 2, 4, … calls, doubled every 3 s <─(good)─│───────────────(bad)───────┘

So many failures in a row that the last few calls pass any threshold open it, too, however well it did before.

A provider's breaker stands for its key, a candidate's for one model of it; both count every outcome. Every change of
state begins a new generation, and an answer to a call of an older one changes nothing. A rest doubles with every
opening in a row. A cooldown (the vendor said when to come back) is not a failure and leaves the state as it is.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from goblin.errors import Breaker, GoblinError, kind_of
from goblin.money import MOST
from providers.errors import BadCredentials
from providers.limit import Gauge, Limits
from providers.wire.complaint import LONGEST_WAIT_S

REST_OF_KEY_MS = 300_000  # a wrong key or an empty account does not mend itself in a moment
REST_OF_FAULT_MS = 60_000  # at most, when the vendor names a delay: it may recover earlier
REST_OF_THROTTLE_MS = 5_000  # when the vendor names no delay
LEARNED_MS = 600_000  # that a limit told by the vendor is believed

MINUTE_S = 60.0
_SILENT = Gauge(0)


class Verdict(StrEnum):
    GOOD = "good"
    BAD = "bad"
    COOL = "cool"
    OPEN = "open"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Knobs:
    """When a breaker opens and for how long. Times in milliseconds; the rate is that of the last one to two periods."""

    threshold: float = 0.8
    samples: int = 5
    period_ms: int = 30_000
    rest_base_ms: int = 5_000
    rest_max_ms: int = 20_000  # whoever recovers is used again within half a minute


@dataclass(frozen=True, slots=True)
class Told:
    """What the vendor's headers say: its limits per minute (0 = not said); how much of them is used by its own count,
    and the ms until all of that is free again; the ms until what is used up, also of longer periods, comes back.
    """

    requests: int = 0
    tokens: int = 0
    used_requests: int = 0
    used_tokens: int = 0
    requests_free_ms: int = 0
    tokens_free_ms: int = 0
    empty_ms: int = 0


def told(limits: Limits | None, age_s: float) -> Told:
    """What an answer said `age_s` seconds ago."""
    if limits is None:
        return Told()
    requests, tokens = _counted(limits.requests), _counted(limits.tokens)
    return Told(
        requests.limit,
        tokens.limit,
        requests.used,
        tokens.used,
        _ms(MINUTE_S if requests.reset_s is None else requests.reset_s, age_s),
        _ms(MINUTE_S if tokens.reset_s is None else tokens.reset_s, age_s),
        _ms(limits.empty_s, age_s),
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """The end of a call, as the breakers need it."""

    verdict: Verdict
    rest_ms: int = 0
    reason: str = ""
    told: Told = Told()
    cool_ms: int = 0  # that the vendor asks for beside a failure
    lock: str = ""  # what keeps the key from working, as the error's slug


def seen(error: GoblinError | None, told: Told = Told()) -> Seen:
    """What a call that ended so says. None: it succeeded. What is not the provider's doing says nothing."""
    if error is None:
        return Seen(Verdict.GOOD, told=told)
    reason = error.message[:200]
    match error.breaker:
        case Breaker.OPEN:
            return Seen(Verdict.OPEN, REST_OF_KEY_MS, reason, told, lock=error.slug)
        case Breaker.COOL:
            after_ms = told.empty_ms or REST_OF_THROTTLE_MS
            return Seen(
                Verdict.COOL, after_ms if error.retry_after is None else round(error.retry_after * 1000), reason, told
            )
        case Breaker.COUNT:
            cool_ms = min(round((error.retry_after or 0) * 1000), REST_OF_FAULT_MS)
            return Seen(Verdict.BAD, reason=f"fails too often, last: {reason}", told=told, cool_ms=cool_ms)
        case Breaker.IGNORE:
            return Seen(Verdict.NONE, reason=reason, told=told)


def seen_before(error: Mapping[str, Any] | None, age_ms: int) -> Seen:
    """What a call said that ended `age_ms` ago with an error that was written down; None: it succeeded."""
    if error is None:
        return Seen(Verdict.GOOD)
    kind = kind_of(error)
    known = kind.__new__(kind)  # its facts are all that matters, however it was made
    GoblinError.__init__(known, str(error["message"]), retry_after=error.get("retry_after"))
    found = seen(known)
    if found.verdict is Verdict.COOL and found.rest_ms <= age_ms:
        return Seen(Verdict.NONE)
    is_cool = found.verdict is Verdict.COOL
    rest_ms = found.rest_ms - age_ms if is_cool else found.rest_ms
    return replace(found, rest_ms=rest_ms, cool_ms=max(found.cool_ms - age_ms, 0))


@dataclass(frozen=True, slots=True)
class Change:
    """What became of the breaker of a provider or a candidate ("opened", "closed", "cooled"): `state` is what must
    outlive Redis, as the verbs write and read it."""

    name: str
    what: str
    state: str

    @property
    def at_ms(self) -> int:
        """Unix ms, by Redis' clock."""
        return int(json.loads(self.state)["changed"])

    @property
    def reason(self) -> str:
        return str(json.loads(self.state).get("reason", ""))


def changes(answer: Sequence[str]) -> tuple[Change, ...]:
    """From the answer of the verb `judge`."""
    return tuple(Change(*parts) for parts in zip(answer[::3], answer[1::3], answer[2::3], strict=True))


CONTACT = ("heard", "worked", "state", "until", "probe_until", "lock", "key")  # fields of a provider's breaker


@dataclass(frozen=True, slots=True)
class Contact:
    """What the fleet has heard of a provider: ms since anything came back, None = never; whether a call went well in
    the last day; and whether a check would tell nothing: its breaker leaves it alone now, or has a call on its way that
    tries it out.
    """

    heard_ms: int | None
    has_worked: bool
    is_locked: bool  # its key does not work
    is_left_alone: bool


def contact(values: Sequence[str | None], now_ms: int, key: str) -> Contact:
    """From the values of the fields CONTACT. `key` is the fingerprint of the one that a check would use.

    A key that was refused may be mended at any moment, or be another one by now. A list is no news of an account that
    is empty.
    """
    heard, worked, state, until, probe_until, lock, locked_key = values
    is_worth_a_look = lock is not None and (lock == BadCredentials.slug or locked_key != key)
    rests = int(until or 0) > now_ms and not is_worth_a_look
    is_left_alone = state == "open" and (rests or int(probe_until or 0) > now_ms)
    return Contact(None if heard is None else now_ms - int(heard), worked is not None, lock is not None, is_left_alone)


def as_ask(
    attempt: str,
    provider: str,
    candidate: str | None,
    outcome: Seen,
    knobs: Knobs,
    span_ms: int,
    key: str = "",
    *,
    is_again: bool = False,
) -> dict[str, Any]:
    """The value that the verb `judge` takes. `span_ms` is how long a window counts, `key` the fingerprint of the one
    that was used. `is_again`: a call that is told once more, from the ledger."""
    return {
        "attempt": attempt,
        **({"again": True} if is_again else {}),
        "provider": provider,
        "key": key,
        **({} if candidate is None else {"candidate": candidate}),
        "verdict": outcome.verdict,
        "rest_ms": outcome.rest_ms,
        "cool_ms": outcome.cool_ms,
        "lock": outcome.lock,
        "reason": outcome.reason,
        "threshold": knobs.threshold,
        "samples": knobs.samples,
        "period_ms": knobs.period_ms,
        "rest_base_ms": knobs.rest_base_ms,
        "rest_max_ms": knobs.rest_max_ms,
        "learned_requests": outcome.told.requests,
        "learned_tokens": outcome.told.tokens,
        "learned_ms": LEARNED_MS,
        "used_requests": outcome.told.used_requests,
        "used_tokens": outcome.told.used_tokens,
        "requests_free_ms": outcome.told.requests_free_ms,
        "tokens_free_ms": outcome.told.tokens_free_ms,
        "span": span_ms,
    }


def _counted(gauge: Gauge | None) -> Gauge:
    """A limit that cannot be counted up to is none."""
    return gauge if gauge is not None and gauge.limit <= MOST else _SILENT


def _ms(seconds: float, age_s: float) -> int:
    return max(round((min(seconds, LONGEST_WAIT_S) - age_s) * 1000), 0)
