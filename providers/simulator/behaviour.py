"""The grammar by which a model's name chooses how the simulator behaves. What the directives do is left to others.

    name      := base { "+" directive }
    directive := word [ "=" value ]

A later directive wins over an earlier one, so that runtime faults can be appended to a name.

    pace     ttft=SECONDS  speed=TOKENS_PER_SECOND (0: as fast as possible)  per=TOKENS_PER_CHUNK
    answer   tokens=N  overrun  say=BASE64URL  echo  verdict=PASS|FAIL  len  cached=N  prefill=on|refused
             think[=reasoning|hidden]  thinktag  call=N (so many calls of the tools that were offered, if any)
    refusal  fail=STATUS  after=SECONDS  quota  auth  overloaded  context  filtered[=400]  flaky=N
             ok (its words come with HTTP 200)
    silence  reset  silent
    stream   cut=N  midfail=N  malformed=N  stall=N:SECONDS  nodone  nousage
"""

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Any, TypeAlias

from providers.simulator.refusal import Kind, kind_of


class BadDirective(ValueError):
    """A directive that is unknown or whose value cannot be read; the message names it."""


class Break(Enum):
    """How an answer ends before its end."""

    CUT = "cut"  # the connection closes
    FAIL = "midfail"  # an error in the dialect's words, then the end
    GARBAGE = "malformed"  # bytes that are not the dialect, then the connection closes


class Think(Enum):
    """Where forced reasoning shows."""

    CONTENT = "reasoning_content"
    FIELD = "reasoning"
    HIDDEN = "hidden"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A model name, understood. None is: as the sheet says. Times are in seconds, `speed` is in tokens per second."""

    base: str
    ttft: float | None = None
    speed: float | None = None
    per: int = 1
    tokens: int | None = None
    overrun: bool = False  # past the length that was asked for
    say: str | None = None
    echo: bool = False
    verdict: str | None = None
    length: bool = False
    cached: int = 0
    prefill: str | None = None
    think: Think | None = None
    thinktag: bool = False
    calls: int = 0
    refuse: Kind | None = None
    status: int | None = None
    retry_after: float | None = None
    is_ok: bool = False  # whatever is refused
    filtered: bool = False
    flaky: int = 0
    reset: bool = False
    silent: bool = False
    breaks: tuple[Break, int] | None = None
    stall: tuple[int, float] | None = None
    done: bool = True
    usage: bool = True


Changes: TypeAlias = dict[str, Any]


@lru_cache(maxsize=4096)
def parse(name: str) -> Behaviour:
    """Raises BadDirective."""
    base, *directives = name.split("+")
    behaviour = Behaviour(base)
    for directive in directives:
        word, _, value = directive.partition("=")
        reader = _DIRECTIVES.get(word)
        if reader is None:
            raise BadDirective(f"unknown directive +{directive}")
        try:
            behaviour = replace(behaviour, **reader(value))
        except ValueError as error:
            raise BadDirective(f"+{directive}: {error}") from error
    return behaviour


def _count(text: str, least: int = 0) -> int:
    if not text.isdecimal() or int(text) < least:
        raise ValueError(f"a whole number of at least {least} is expected")
    return int(text)


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise ValueError("a number of at least 0 is expected")
    return number


def _status(text: str) -> Changes:
    status = _count(text, 400)
    if status > 599:
        raise ValueError("a status from 400 to 599 is expected")
    return {"refuse": kind_of(status), "status": status}


def _say(text: str) -> Changes:
    try:
        padded = text + "=" * (-len(text) % 4)
        return {"say": base64.b64decode(padded, altchars=b"-_", validate=True).decode()}
    except (binascii.Error, UnicodeDecodeError) as error:
        raise ValueError("URL-safe base64 of UTF-8 text is expected") from error


def _verdict(text: str) -> Changes:
    if text not in ("PASS", "FAIL"):
        raise ValueError("PASS or FAIL is expected")
    return {"verdict": text}


def _prefill(text: str) -> Changes:
    if text not in ("on", "refused"):
        raise ValueError("on or refused is expected")
    return {"prefill": text}


def _think(text: str) -> Changes:
    return {"think": Think(text or "reasoning_content")}


def _filtered(text: str) -> Changes:
    if text not in ("", "400"):
        raise ValueError("nothing or 400 is expected")
    return _refuse(Kind.FILTERED)("") if text else {"filtered": True}


def _stall(text: str) -> Changes:
    after, separator, seconds = text.partition(":")
    if not separator:
        raise ValueError("TOKENS:SECONDS is expected")
    return {"stall": (_count(after), _seconds(seconds))}


def _flag(field: str, value: bool = True) -> Callable[[str], Changes]:
    def read(text: str) -> Changes:
        if text:
            raise ValueError("no value is expected")
        return {field: value}

    return read


def _refuse(kind: Kind) -> Callable[[str], Changes]:
    def read(text: str) -> Changes:
        if text:
            raise ValueError("no value is expected")
        return {"refuse": kind, "status": None}

    return read


def _number(field: str, least: int = 0) -> Callable[[str], Changes]:
    return lambda text: {field: _count(text, least)}


def _time(field: str) -> Callable[[str], Changes]:
    return lambda text: {field: _seconds(text)}


def _break(how: Break) -> Callable[[str], Changes]:
    return lambda text: {"breaks": (how, _count(text))}


_DIRECTIVES: Mapping[str, Callable[[str], Changes]] = {
    "ttft": _time("ttft"),
    "speed": _time("speed"),
    "per": _number("per", 1),
    "tokens": _number("tokens"),
    "overrun": _flag("overrun"),
    "say": _say,
    "echo": _flag("echo"),
    "verdict": _verdict,
    "len": _flag("length"),
    "cached": _number("cached"),
    "prefill": _prefill,
    "think": _think,
    "thinktag": _flag("thinktag"),
    "call": _number("calls", 1),
    "fail": _status,
    "after": _time("retry_after"),
    "quota": _refuse(Kind.QUOTA),
    "auth": _refuse(Kind.AUTH),
    "overloaded": _refuse(Kind.OVERLOADED),
    "context": _refuse(Kind.CONTEXT),
    "filtered": _filtered,
    "ok": _flag("is_ok"),
    "flaky": _number("flaky"),
    "reset": _flag("reset"),
    "silent": _flag("silent"),
    "cut": _break(Break.CUT),
    "midfail": _break(Break.FAIL),
    "malformed": _break(Break.GARBAGE),
    "stall": _stall,
    "nodone": _flag("done", False),
    "nousage": _flag("usage", False),
}
