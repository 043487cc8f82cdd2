"""The waiting rooms: steps that were refused for capacity, in order, until a place is free. Kept in Redis.

What waits is the message that a retry would send; whoever frees a place, or sees the clock free one, sends it again.
A step stands in the room of every provider that could serve it, or of the budget that is short, and leaves all of them
when it is called. A room has a moment at which the clock calls somebody if no release does before. If Redis loses the
rooms, the ledger still knows who waited, and recovery publishes those runs anew.
"""

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

import redis

from goblin.kv import outages

WAITERS = "{goblin}:waiting:steps"
ROOMS = "{goblin}:waiting:rooms"
DEADLINES = "{goblin}:waiting:deadlines"
_KEYS = [WAITERS, ROOMS, DEADLINES]
PREFIX = "{goblin}:waiting:room:"
NO_DEADLINE = 10**15 - 1
LEVELS = 100  # of priority on both sides of 0
AGAIN_MS = 1_000  # after which the clock looks into a room that nobody gave a better moment


@dataclass(frozen=True, slots=True)
class Waiter:
    """A step that waits. A lower `priority` is served first, within it the earlier deadline, then the older run."""

    run: uuid.UUID
    idx: int
    epoch: int
    key: str = ""  # the API key, or "" for none
    weight: float = 1.0  # of the key's turns
    priority: int = 0  # -100..100
    deadline: datetime | None = None
    since_ms: int | None = None  # Unix ms, in place of the run's arrival: for who has had a turn in vain

    @property
    def id(self) -> str:
        return f"{self.run.hex}-{self.idx}-{self.epoch}"

    @property
    def place(self) -> str:
        """Text that sorts as the steps of one API key are served. A run's id begins with the moment that it arrived."""
        deadline = int(self.ends or NO_DEADLINE)
        level = min(max(self.priority, -LEVELS), LEVELS) + LEVELS
        since = self.run.int >> 80 if self.since_ms is None else self.since_ms
        return f"{level:03d}:{deadline:015d}:{since:015d}:{self.idx:03d}"

    @property
    def ends(self) -> str:
        """The deadline in Unix ms, as text; "" for none."""
        return "" if self.deadline is None else str(max(0, int(self.deadline.timestamp() * 1000)))


class WaitingRooms:
    """One per process, safe for many threads. Every verb is one round trip and raises Unavailable without Redis."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._wait = client.register_script(_script("wait"))
        self._wake = client.register_script(_script("wake"))

    def enter(self, waiter: Waiter, message: Mapping[str, Any], rooms: Mapping[str, int | None]) -> int:
        """Stand in these rooms, each with the ms until it may have room (None: not known): how many others are in the
        emptiest of them."""
        step = [PREFIX, waiter.id, json.dumps(message), waiter.key, str(waiter.weight), waiter.place, waiter.ends]
        with outages():
            return int(self._wait(keys=_KEYS, args=[*step, *_moments(rooms)]))

    def call(self, rooms: Sequence[str], count: int = 1) -> list[dict[str, Any]]:
        """The messages of the next `count` steps of each room, which have left now; they must be sent."""
        with outages():
            found = self._wake(keys=_KEYS, args=[PREFIX, count, AGAIN_MS, *rooms]) if rooms else []
            return [json.loads(text) for text in found]

    def call_due(self) -> list[dict[str, Any]]:
        """The messages of the next step of every room whose moment has come, and of the steps whose time is over.

        One process of all gets each.
        """
        with outages():
            return [json.loads(text) for text in self._wake(keys=_KEYS, args=[PREFIX, 1, AGAIN_MS])]

    def occupied(self) -> frozenset[str]:
        """The rooms that somebody may be in."""
        with outages():
            return frozenset(str(room) for room in self._client.zrange(ROOMS, 0, -1))

    def missing(self, waiters: Collection[Waiter]) -> list[Waiter]:
        """Those of whom no room knows: their messages were lost."""
        if not waiters:
            return []
        with outages():
            found = self._client.hmget(WAITERS, [waiter.id for waiter in waiters])
        return [waiter for waiter, text in zip(waiters, found, strict=True) if text is None]


def _moments(rooms: Mapping[str, int | None]) -> list[str | int]:
    return [part for room, after_ms in rooms.items() for part in (room, AGAIN_MS if after_ms is None else after_ms)]


def _script(name: str) -> str:
    return files("routing").joinpath(f"lua/{name}.lua").read_text()
