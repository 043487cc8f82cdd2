"""The waiting rooms: steps that were refused for capacity, in order, until a place is free. Kept in Redis.

What waits is the message that a retry would send; whoever frees a place, or sees the clock free one, sends it again.
A step stands in the room of every provider that could serve it, or of the budget that is short, and leaves all of them
when it is called. A room has a moment at which the clock calls somebody if no release does before: ever later ones
while it calls in vain. If Redis loses the rooms, the ledger still knows who waited, and recovery publishes those runs
anew.
"""

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis

from goblin.kv import outages
from routing.script import source

WAITERS = "{goblin}:rooms:steps"
ROOMS = "{goblin}:rooms:moments"
DEADLINES = "{goblin}:rooms:deadlines"
PAUSES = "{goblin}:rooms:pauses"
_KEYS = [WAITERS, ROOMS, DEADLINES, PAUSES]
PREFIX = "{goblin}:rooms:room:"
NO_DEADLINE = 10**15 - 1
LEVELS = 100  # of priority on both sides of 0
AGAIN_MS = 1_000  # after which the clock looks into a room that nobody gave a better moment
LONGEST_MS = 30_000  # to which that grows while nobody gets a place
NAMED = 200  # rooms that are told by their names; many of one step each must not be read over and over


@dataclass(frozen=True, slots=True)
class Waiter:
    """A step that waits.

    A `priority` above 0 is behind all steps of others that are not. Among those of one API key a lower one is served
    first, within it the earlier deadline, then the older run.
    """

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
    def line(self) -> int:
        """Behind which keys it stands, and no finer: between keys a number that anybody may choose says nothing."""
        return int(self.priority > 0)

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


@dataclass(frozen=True, slots=True)
class Called:
    """A step that was called: its message, and out of which room ("": its time is over)."""

    message: dict[str, Any]
    room: str


class WaitingRooms:
    """One per process, safe for many threads. Every verb is one round trip and raises Unavailable without Redis."""

    def __init__(self, client: redis.Redis, *, clock: str | None = None) -> None:
        """`clock` is the Lua text that defines `now_ms()`: the server's own clock if not given."""
        self._client = client
        parts = [source("part/clock") if clock is None else clock, source("part/room")]
        self._wait, self._wake = (
            client.register_script("\n".join([*parts, source(verb)])) for verb in ("wait", "wake")
        )

    def enter(
        self, waiter: Waiter, message: Mapping[str, Any], rooms: Mapping[str, int | None], *, vain: str = ""
    ) -> dict[str, int]:
        """Stand in these rooms, each with the ms until it may have room (None: not known): how many are called before
        it in each, if the keys there have equal weights. `vain` is the one that it was called out of for nothing."""
        place: list[str | int] = [waiter.key, str(waiter.weight), waiter.line, waiter.place, waiter.ends]
        args = [PREFIX, waiter.id, json.dumps(message), *place, AGAIN_MS, vain, *_moments(rooms)]
        with outages():
            return dict(zip(rooms, map(int, self._wait(keys=_KEYS, args=args)), strict=True))

    def call(self, rooms: Sequence[str], count: int = 1) -> list[Called]:
        """The next `count` steps of each room, which have left now; they must be sent."""
        return self._called(count, rooms) if rooms else []

    def call_due(self) -> list[Called]:
        """The next step of every room whose moment has come, and the steps whose time is over.

        One process of all gets each.
        """
        return self._called(1, ())

    def _called(self, count: int, rooms: Sequence[str]) -> list[Called]:
        with outages():
            found = self._wake(keys=_KEYS, args=[PREFIX, count, AGAIN_MS, LONGEST_MS, *rooms])
        return [Called(json.loads(text), room) for room, text in zip(found[::2], found[1::2], strict=True)]

    def occupied(self) -> frozenset[str] | None:
        """The rooms that somebody may be in; None: too many to be named."""
        with outages():
            found = self._client.zrange(ROOMS, 0, NAMED)
        return frozenset(map(str, found)) if len(found) <= NAMED else None

    def hurry(self) -> None:
        """Places were given back by somebody who does not know whose: the clock looks at once where it looks seldom."""
        with outages():
            if seldom := self._client.hkeys(PAUSES):
                pipe = self._client.pipeline()
                pipe.zadd(ROOMS, {str(room): 0 for room in seldom}, xx=True, lt=True)
                pipe.delete(PAUSES)
                pipe.execute()

    def missing(self, waiters: Collection[Waiter]) -> list[Waiter]:
        """Those of whom no room knows: their messages were lost."""
        if not waiters:
            return []
        with outages():
            found = self._client.hmget(WAITERS, [waiter.id for waiter in waiters])
        return [waiter for waiter, text in zip(waiters, found, strict=True) if text is None]


def _moments(rooms: Mapping[str, int | None]) -> list[str | int]:
    return [part for room, after_ms in rooms.items() for part in (room, -1 if after_ms is None else max(after_ms, 0))]
