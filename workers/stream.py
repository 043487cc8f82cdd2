"""The events of a run, as a Redis Stream: what workers write while a run lives and the API hands on.

An entry has the fields `type` and `data` (JSON); its stream id is the number that clients resume from.
Redis may lose them all: the API then rebuilds the finished steps from the ledger.
"""

import json
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import redis

from goblin.errors import Unavailable
from goblin.kv import outages
from goblin.money import to_usd
from goblin.settings import LimitSettings

FLUSH_AFTER = 0.05  # seconds that a delta waits for others to share its round trip; twice that when none follows


def key(run: uuid.UUID) -> str:
    return f"goblin:events:{{{run}}}"


class Feed:
    """Writes events of runs; one per worker process, safe for many threads."""

    def __init__(self, client: redis.Redis, limits: LimitSettings) -> None:
        self._client = client
        self._limits = limits
        self._late: set[StepFeed] = set()  # those that have gathered something
        self._awake = threading.Condition()
        self._thread: threading.Thread | None = None

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

    def watch(self, step: "StepFeed") -> None:
        """Send what it has gathered, should nothing follow that does."""
        with self._awake:
            self._late.add(step)
            if self._thread is None or not self._thread.is_alive():  # the second after a fork
                self._thread = threading.Thread(target=self._send_late, name="feed", daemon=True)
                self._thread.start()
            self._awake.notify()

    def _send_late(self) -> None:
        while True:
            with self._awake:
                self._awake.wait_for(lambda: self._late)
            time.sleep(FLUSH_AFTER)
            with self._awake:
                late = [step for step in self._late if step.is_due]
                self._late.difference_update(late)
            for step in late:
                with suppress(Exception):  # which its call will meet as well
                    step.flush()

    def _append(self, pipe: Any, run: uuid.UUID, kind: str, data: Mapping[str, Any]) -> None:
        entry = {"type": kind, "data": json.dumps(data, ensure_ascii=False, separators=(",", ":"))}
        pipe.xadd(key(run), entry, maxlen=self._limits.stream_events, approximate=True)


class StepFeed:
    """The events of one call, its deltas gathered so that tokens cost no round trip each. Safe for many threads."""

    def __init__(self, feed: Feed, run: uuid.UUID, step: str) -> None:
        self.id = step
        self._feed = feed
        self._run = run
        self._events: list[tuple[str, Mapping[str, Any]]] = []
        self._text: list[str] = []
        self._tokens = 0
        self._cost = 0
        self._flushed_at = 0.0
        self._lock = threading.RLock()

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self._flushed_at >= FLUSH_AFTER

    def say(self, kind: str, **data: Any) -> None:
        """Queue an event behind the text that came before it."""
        self.tell(kind, step=self.id, **data)

    def delta(self, text: str, tokens: int, cost: int) -> None:
        """Queue a piece of text with its tokens (estimated) and their cost in nano-dollars."""
        with self._lock:
            is_first = not self._text
            self._text.append(text)
            self._tokens += tokens
            self._cost += cost
            if self.is_due:
                self.flush()
            elif is_first:
                self._feed.watch(self)

    def tell(self, kind: str, **data: Any) -> None:
        """Queue an event of the run itself."""
        with self._lock:
            self._gather()
            self._events.append((kind, data))

    def flush(self) -> None:
        with self._lock:
            self._gather()
            if self._events:
                self._feed.emit(self._run, *self._events)
                self._events = []
            self._flushed_at = time.monotonic()

    def _gather(self) -> None:
        if self._text:
            data = {"step": self.id, "text": "".join(self._text), "tokens": self._tokens, "cost": to_usd(self._cost)}
            self._events.append(("delta", data))
            self._text, self._tokens, self._cost = [], 0, 0
