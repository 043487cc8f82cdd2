"""What an error answer means: one reader for the shapes that servers use, and rules as data. A provider's own rules
come first, then its dialect's, then what the status alone suggests.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from providers.errors import (
    BadCredentials,
    BadRequest,
    ContextTooLong,
    Malformed,
    Overloaded,
    ProviderFault,
    QuotaSpent,
    ServerError,
    Throttled,
    UnknownModel,
)
from providers.wire.field import entries, text, tree

CLIP = 300  # characters of the vendor's own words
LONGEST_WAIT_S = 7 * 86_400.0  # for which anybody is left alone, whatever a vendor names
_DEPTH = 6
_HINT = re.compile(
    r"\b(?:try again|retry|resets?|wait)(?: in| after| for)?\s*~?\s*((?:\d+(?:\.\d+)?\s*(?:ms|h|m|s)[a-z]*\s*)+)", re.I
)
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|h|m|s)", re.I)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_NAMING = ("code", "type", "status", "reason", "quotaId", "quota_limit", "error_code", "status_code")


@dataclass(frozen=True, slots=True)
class Complaint:
    """An error answer, read. `names` are its codes, types and reasons in lower case; `retry_after` is in seconds."""

    status: int
    message: str
    names: frozenset[str]
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """`fault` is meant when every given condition holds. `contains` looks at message and names; one hit is enough."""

    fault: type[ProviderFault]
    status: frozenset[int] = frozenset()
    names: frozenset[str] = frozenset()
    contains: tuple[str, ...] = ()

    def fits(self, complaint: Complaint) -> bool:
        if self.status and complaint.status not in self.status:
            return False
        if self.names and self.names.isdisjoint(complaint.names):
            return False
        if not self.contains:
            return True
        message = complaint.message.lower().replace("\u2019", "'")  # AWS sets its apostrophes
        said = " ".join((message, *complaint.names))
        return any(words in said for words in self.contains)


def rule(fault: type[ProviderFault], *names: str, status: Iterable[int] = (), contains: Iterable[str] = ()) -> Rule:
    return Rule(fault, frozenset(status), frozenset(names), tuple(contains))


TOO_LONG = rule(
    ContextTooLong,
    status=(200, 400, 413, 422, 500),
    contains=(
        "context length", "context window", "context limit", "context size", "prompt is too long", "input is too long",
        "model token limit", "range of input length", "maximum number of tokens", "token count exceeds",
        "input token count is", "maximum input length",
    ),
)  # fmt: skip

_BY_STATUS = (
    rule(BadCredentials, status=(401, 403, 407)),
    rule(QuotaSpent, status=(402,)),
    rule(UnknownModel, status=(404, 410)),
    rule(Overloaded, status=(409, 425, 503, 529)),
    rule(ContextTooLong, status=(413,)),
    rule(Throttled, status=(429,)),
    rule(ServerError, status=(408, 424, 499)),
    rule(BadRequest, status=range(400, 500)),
    rule(BadRequest, "invalid_request_error", status=(200,)),  # inside a success the status says nothing
    rule(Malformed, status=range(300, 400)),
    rule(ServerError),
)


def read(status: int, headers: Mapping[str, str], body: bytes) -> Complaint:
    """An error answer of any shape, also none at all."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None if body.lstrip()[:1] in (b"<", b"") else body.decode("utf-8", "replace")
    return understand(value, status, headers)


def understand(value: Any, status: int, headers: Mapping[str, str] | None = None) -> Complaint:
    """The same for JSON that was read already, such as an error inside a stream (whose status is 200)."""
    message, names = _words(value), frozenset(_names(value))
    if status == 200:  # some put the status where others put a word
        status = next((int(name) for name in sorted(names) if name.isdecimal() and 400 <= int(name[:9]) <= 599), status)
    return Complaint(status, message, names, wait(headers or {}, value, message))


def complains(answer: Mapping[str, Any]) -> bool:
    """Whether an object that came with a status of success, and holds no answer, is an error: wrapped, flat, or a code
    of the vendor's own."""
    words = ("error", "errors", "message", "detail")
    is_named = answer.get("object") == "error" or answer.get("success") is False
    return is_named or any(answer.get(word) for word in words) or bool(tree(answer.get("base_resp")).get("status_code"))


def judge(
    provider: str, complaint: Complaint, own: Iterable[Rule], dialect: Iterable[Rule], key: str | None
) -> ProviderFault:
    """The fault that a complaint means. `provider` is the name to show; `key` is taken out of what is quoted."""
    fault = next(one.fault for rules in (own, dialect, _BY_STATUS) for one in rules if one.fits(complaint))
    names = quote(", ".join(sorted(complaint.names)), key and key.lower())
    words = quote(complaint.message, key) or names or "no explanation"
    where = f"{provider} answered {complaint.status}" if complaint.status != 200 else f"{provider} broke off"
    return fault(f"{where}: {words}", retry_after=complaint.retry_after)


def quote(message: str, key: str | None) -> str:
    """Vendor text on one line, clipped, without the key."""
    if key:
        message = message.replace(key, "[key]")
    line = " ".join(message[: 4 * CLIP].split())
    return line if len(line) <= CLIP else line[: CLIP - 1] + "…"


def _words(value: Any) -> str:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        return _words(value[0]) if value and not isinstance(value[0], list) else ""
    error = tree(value)
    for key in ("error", "message", "msg", "detail", "status_msg", "errors", "base_resp"):
        if isinstance(error.get(key), (str, dict, list)) and (words := _words(error[key])):
            return words
    return ""


def _names(value: Any, depth: int = 0) -> Iterator[str]:
    if depth > _DEPTH:
        return
    if isinstance(value, list):
        for item in value[:16]:
            yield from _names(item, depth + 1)
    elif isinstance(value, dict):
        for key in _NAMING:
            if isinstance(name := value.get(key), (str, int)) and not isinstance(name, bool):
                yield text(name)[:100].lower() if isinstance(name, str) else _number(name)
        for key in ("error", "errors", "details", "violations", "metadata", "base_resp", "innererror"):
            yield from _names(value.get(key), depth + 1)


def _number(value: int) -> str:
    return str(value) if abs(value) < 10**12 else "number"


def wait(headers: Mapping[str, str], value: Any = None, message: str = "") -> float | None:
    """Seconds after which to come again, by the head of an answer, else by its JSON or its words; None = not said."""
    said = (
        _float(headers.get("retry-after-ms"), 0.001),
        _float(headers.get("retry-after"), 1.0),
        _until(headers.get("retry-after"), headers.get("date")),
        next((seconds(text(item.get("retryDelay"))) for item in _details(value) if "retryDelay" in item), None),
        seconds(hint[1]) if (hint := _HINT.search(message[: 4 * CLIP])) else None,
    )
    first = next((one for one in said if one is not None), None)
    return None if first is None else min(max(first, 0.0), LONGEST_WAIT_S)


def _details(value: Any) -> Iterator[Mapping[str, Any]]:
    first = value[0] if isinstance(value, list) and value else value
    return map(tree, entries(tree(tree(first).get("error")).get("details")))


def seconds(duration: str) -> float | None:
    """Seconds of texts such as `12ms`, `6m0s`, `1.5s`; None for anything else."""
    parts = _TIME.findall(duration[:64])
    return sum(float(number) * _SECONDS[unit.lower()] for number, unit in parts) if parts else None


def _float(value: str | None, unit: float) -> float | None:
    try:
        number = float(value) if value else math.nan
    except ValueError:
        return None
    return number * unit if math.isfinite(number) else None


def _until(moment: str | None, now: str | None) -> float | None:
    """Seconds from the server's own clock to a date that it names: its clock may differ from ours."""
    end, start = _date(moment), _date(now)
    return (end - start).total_seconds() if end and start and bool(end.tzinfo) == bool(start.tzinfo) else None


def _date(value: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(value) if value else None
    except (ValueError, OverflowError):
        return None
