"""The events of a run, as a Redis Stream: what workers write while a run lives and the API hands on.

An entry has the fields `type` and `data` (JSON); its stream id is the number that clients resume from.
Redis may lose them all: the API then rebuilds the finished steps from the ledger.
"""

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

import redis

from goblin.errors import Unavailable
from goblin.kv import outages
from goblin.money import to_usd
from goblin.settings import LimitSettings

FLUSH_AFTER = 0.05  # seconds that a delta may wait for others to share its round trip


def key(run: uuid.UUID) -> str:
    return f"goblin:events:{{{run}}}"


class Feed:
    """Writes events of runs; one per worker process, safe for many threads."""

    def __init__(self, client: redis.Redis, limits: LimitSettings) -> None:
        self._client = client
        self._limits = limits

    def emit(self, run: uuid.UUID, *events: tuple[str, Mapping[str, Any]]) -> None:
        """Append events in one round trip. Losing them loses no truth, so an outage of Redis is not an error here."""
        try:
            with outages():
                pipe = self._client.pipeline(transaction=False)
                for kind, data in events:
                    self._append(pipe, run, kind, data)
                pipe.expire(key(run), self._limits.stream_ttl)
                pipe.execute()
        except Unavailable:
            return

    def _append(self, pipe: Any, run: uuid.UUID, kind: str, data: Mapping[str, Any]) -> None:
        entry = {"type": kind, "data": json.dumps(data, ensure_ascii=False, separators=(",", ":"))}
        pipe.xadd(key(run), entry, maxlen=self._limits.stream_events, approximate=True)


class StepFeed:
    """The events of one call, its deltas gathered so that tokens cost no round trip each."""

    def __init__(self, feed: Feed, run: uuid.UUID, step: str) -> None:
        self._feed = feed
        self._run = run
        self._step = step
        self._events: list[tuple[str, Mapping[str, Any]]] = []
        self._text: list[str] = []
        self._tokens = 0
        self._cost = 0
        self._flushed_at = 0.0

    def say(self, kind: str, **data: Any) -> None:
        """Queue an event behind the text that came before it."""
        self._gather()
        self._events.append((kind, {"step": self._step, **data}))

    def delta(self, text: str, tokens: int, cost: int) -> None:
        """Queue a piece of text with its tokens (estimated) and their cost in nano-dollars."""
        self._text.append(text)
        self._tokens += tokens
        self._cost += cost
        if time.monotonic() - self._flushed_at >= FLUSH_AFTER:
            self.flush()

    def tell(self, kind: str, **data: Any) -> None:
        """Queue an event of the run itself."""
        self._gather()
        self._events.append((kind, data))

    def flush(self) -> None:
        self._gather()
        if self._events:
            self._feed.emit(self._run, *self._events)
            self._events = []
        self._flushed_at = time.monotonic()

    def _gather(self) -> None:
        if self._text:
            data = {"step": self._step, "text": "".join(self._text), "tokens": self._tokens, "cost": to_usd(self._cost)}
            self._events.append(("delta", data))
            self._text, self._tokens, self._cost = [], 0, 0
