"""Reads the rate-limit headers of an answer, whoever sent it: what is allowed in a minute, and what is left of it.

A name is a family (x-ratelimit, ratelimit, anthropic-ratelimit, x-tokenlimit, …) and words for the role (limit,
remaining, reset), the thing (requests, tokens, or a part of the tokens) and the period, in any order. What cannot be
read says nothing.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Literal, TypeAlias

from providers.wire.complaint import seconds

Thing: TypeAlias = Literal["requests", "tokens"]
Part: TypeAlias = tuple[Thing, str, str]  # the thing, the part of it ("" = all), the period

MINUTE_S = 65.0  # what is free again later than this counts a longer period than the minute; vendors round up
_FAMILY = re.compile(r"(?:x-|anthropic-)?(?:rate-?limit(?P<sized>bysize)?|(?P<tokens>token-?limit))-(?P<words>.+)")
_ROLES = frozenset({"limit", "remaining", "reset"})
_THINGS: Mapping[str, Thing] = {"requests": "requests", "req": "requests", "tokens": "tokens"}
_PARTS = frozenset({"input", "output", "prompt", "generated"})
_PERIODS = frozenset({"minute", "hour", "day", "month"})
_EPOCH = 1e9  # a larger number of seconds is a moment
_EPOCH_MS = 1e11


@dataclass(frozen=True, slots=True)
class Gauge:
    """Allowed in a minute, left of it, and the seconds until all of it is free again; None = not said."""

    limit: int
    remaining: int | None = None
    reset_s: float | None = None

    @property
    def used(self) -> int:
        """By the vendor's own count, whoever used it."""
        return 0 if self.remaining is None else max(self.limit - self.remaining, 0)


@dataclass(frozen=True, slots=True)
class Limits:
    """What an answer said. `empty_s`: seconds until whatever is used up, in any period, comes back."""

    requests: Gauge | None = None
    tokens: Gauge | None = None
    empty_s: float = 0.0


def read(headers: Mapping[str, str], now: datetime) -> Limits | None:
    """None when nothing is said. Names are in lower case; moments count from the answer's own date, else from `now`."""
    found: dict[Part, dict[str, str]] = {}
    for name, value in headers.items():
        if "limit" in name and (known := _name(name)) is not None:
            part, role = known
            found.setdefault(part, {})[role] = value.strip()
    if not found:
        return None
    sent_at = _date(headers.get("date")) or now
    read_ = {part: gauge for part, said in found.items() if (gauge := _gauge(said, sent_at)) is not None}
    empty = [one.reset_s for one in read_.values() if one.remaining == 0 and one.reset_s is not None]
    of_minute = {part: gauge for part, gauge in read_.items() if _is_of_minute(part, gauge)}
    limits = Limits(_of(of_minute, "requests"), _of(of_minute, "tokens"), max(empty, default=0.0))
    return limits if limits != Limits() else None


@lru_cache(maxsize=512)
def _name(name: str) -> tuple[Part, str] | None:
    """What a header is about and its role there; None for one that is not understood in all its words."""
    family = _FAMILY.fullmatch(name)
    if family is None:
        return None
    words = re.split("[-_]", family["words"])
    thing: Thing = "tokens" if family["tokens"] or family["sized"] else "requests"
    role = part = period = ""
    for word in words:
        if word in _ROLES and not role:
            role = word
        elif word in _THINGS:
            thing = _THINGS[word]
        elif word in _PARTS and not part:
            part = word
        elif word in _PERIODS and not period:
            period = word
        else:
            return None
    return ((thing, part, period), role) if role else None


def _gauge(said: Mapping[str, str], now: datetime) -> Gauge | None:
    """Zero and less are placeholders that some vendors send."""
    limit = _number(said.get("limit"))
    if limit is None or limit < 1:
        return None
    remaining = _number(said.get("remaining"))
    left = None if remaining is None or remaining < 0 else int(remaining)
    return Gauge(int(limit), left, _reset(said.get("reset", ""), now))


def _is_of_minute(part: Part, gauge: Gauge) -> bool:
    """Some count days under a name without a period: what is free again after minutes shows it."""
    return part[2] == "minute" or (not part[2] and (gauge.reset_s is None or gauge.reset_s <= MINUTE_S))


def _of(gauges: Mapping[Part, Gauge], thing: Thing) -> Gauge | None:
    """Of all together if a vendor counts that, else of the parts (input and output) in sum."""
    own = {part: gauge for (name, part, _), gauge in gauges.items() if name == thing}
    if "" in own or not own:
        return own.get("")
    left = [gauge.remaining for gauge in own.values() if gauge.remaining is not None]
    resets = [gauge.reset_s for gauge in own.values() if gauge.reset_s is not None]
    remaining = sum(left) if len(left) == len(own) else None
    return Gauge(sum(gauge.limit for gauge in own.values()), remaining, max(resets, default=None))


def _reset(value: str, now: datetime) -> float | None:
    """Seconds of `12ms`, `6m0s`, `59.7`, an RFC 3339 or HTTP date, or Unix time in seconds or milliseconds."""
    wait = next(_waits(value, now), None)
    return None if wait is None or not math.isfinite(wait) else max(wait, 0.0)


def _waits(value: str, now: datetime) -> Iterator[float]:
    number = _number(value)
    if number is not None:
        yield number if number < _EPOCH else number / (1000 if number > _EPOCH_MS else 1) - now.timestamp()
    elif (moment := _moment(value) or _date(value)) is not None:
        yield (moment - now) / timedelta(seconds=1)
    elif (wait := seconds(value)) is not None:
        yield wait


def _number(value: str | None) -> float | None:
    """The first of `100, 100;w=60`."""
    try:
        number = float((value or "").partition(",")[0].partition(";")[0])
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _moment(value: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _date(value: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value) if value else None
    except (ValueError, OverflowError):
        return None
    return moment if moment is not None and moment.tzinfo else None
