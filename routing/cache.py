"""Answers kept for identical requests, shared by the fleet in Redis within bounds, and who is asking for one just now.

Who may have an answer from here, and what is done meanwhile by those who wait for one, is the workers' business.
"""

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from goblin.settings import CacheSettings, RetrieveSettings
from providers.message import Message
from providers.sampling import UNSAID, Sampling
from routing.candidate import Need
from routing.script import Scripts

_FORM = 2  # of identities and of what is kept under them


@dataclass(frozen=True, slots=True)
class Kept:
    """A whole answer, who gave it, and the step that it was given to."""

    text: str
    provider: str
    model: str
    run: str
    step: str


class Seat(StrEnum):
    """What somebody does who finds no answer."""

    FLY = "fly"  # ask for it, while others wait
    WAIT = "wait"  # another one is asking
    ALONE = "alone"  # ask for it; nobody waits, because the last who asked had nothing to keep


def identity(
    need: Need,
    messages: Sequence[Message],
    *,
    key: uuid.UUID | None,
    reasoning: bool,
    verdict: bool,
    tools: Sequence[Mapping[str, Any]] = (),
    sampling: Sampling = UNSAID,
    retrieve: RetrieveSettings | None = None,
) -> str:
    """The same text for requests that any candidate would be asked in the same words, and of the same candidates.

    `key` is the API key, which shares nothing with others. What a step has tried before is no part of it.
    """
    asked = {
        "form": _FORM,
        "key": key.hex if key else None,
        "messages": [asdict(one) for one in messages],
        "output_tokens": need.output_tokens,
        "task_class": need.task_class,
        "reasoning": reasoning,
        "verdict": verdict,
        "tools": tools,
        "sampling": sampling.as_value(),
        "retrieve": retrieve.model_dump() if retrieve else None,
        "pins": (need.provider, need.model),
        "allowed": (_set(need.providers), _set(need.models)),
        "preferred": (need.preferred, need.prefer_local),
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


class Cache:
    """Safe for many threads. Every method is one round trip and raises Unavailable without Redis."""

    def __init__(self, scripts: Scripts, settings: CacheSettings) -> None:
        self._scripts = scripts
        self._settings = settings

    def recall(self, request: str, flyer: str, lease: float) -> Kept | Seat:
        """The answer, or what to do without one: FLY is for `lease` seconds, and again for whoever flies already."""
        found, *text = self._scripts.run("recall", _recall(request, flyer, lease))
        return Kept(**json.loads(text[0])) if found == "hit" else Seat(found)

    def renew(self, flyers: Mapping[str, str], lease: float) -> None:
        """Go on flying for `lease` seconds (request -> flyer), also when Redis has lost the flights."""
        self._scripts.run_all([("recall", _recall(request, flyer, lease)) for request, flyer in flyers.items()])

    def keep(self, request: str, answer: Kept) -> bool:
        """Keep an answer unless it is too large; older ones may have to go."""
        text = json.dumps(asdict(answer), ensure_ascii=False)
        bounds = self._settings
        if len(text.encode()) > bounds.entry_bytes:
            return False
        value = {"request": request, "text": text, "ttl_ms": int(bounds.ttl * 1000)}
        kept = self._scripts.run("keep", {**value, "entries": bounds.entries, "bytes": bounds.bytes})
        return bool(kept[0] == "kept")

    def land(self, request: str, flyer: str, *, alone: float = 0) -> None:
        """End a flight; for `alone` seconds nobody waits for another one."""
        self._scripts.run("land", {"request": request, "flyer": flyer, "alone_ms": int(alone * 1000)})


def _recall(request: str, flyer: str, lease: float) -> dict[str, str | int]:
    return {"request": request, "flyer": flyer, "lease_ms": int(lease * 1000)}


def _set(names: Iterable[str] | None) -> list[str] | None:
    return None if names is None else sorted(set(names))
