"""The events of a run for one listener: from the Redis stream while it is there, from the ledger where it has holes.

Nothing piles up for a slow listener: the stream is read in small pieces, as fast as they are taken. Whatever happens
to Redis, a run that has ended in the ledger ends here.
"""

import asyncio
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi.concurrency import run_in_threadpool

from api import present
from api.deps import House
from api.seen import Seen, Verdict
from goblin.errors import NotFound, Unavailable
from goblin.kv import outages
from goblin.money import to_usd
from ledger import views
from ledger.views import Progress, StepView
from workers.stream import key

_Entry = tuple[str, Mapping[str, str]]
_T = TypeVar("_T")
_ID = re.compile(r"\d{1,20}-\d{1,20}")
_START = "0-0"
_PIECE = 100  # entries read at once
_IDLE = 2.0  # seconds of silence before the ledger is asked
_GRACE = 2.0  # seconds between an entry in the ledger and its event, for a worker that is slow
_LONGEST_IDLE = 10.0  # seconds between two questions when the silence goes on
PATIENCE = 5.0  # seconds that Redis may take to answer
REPLAYED = "replayed"  # the id of events that no stream holds; whoever resumes from it is shown everything again


@dataclass(frozen=True, slots=True)
class Event:
    id: str
    type: str
    data: Mapping[str, Any]


class Follower:
    """One listener. `cursor` is the id that it resumes from, `seen` what it was shown before, where that was kept."""

    def __init__(self, house: House, run: uuid.UUID, *, cursor: str | None = None, seen: Seen | None = None) -> None:
        self.seen = seen or Seen()
        self._house = house
        self.run = run
        self._cursor = cursor
        self._has_text = cursor is not None or seen is not None  # the listener may hold text that it was given before
        self._is_again = False  # it is shown everything again, so that each step's text is withdrawn first
        self._touched: set[str] = set()

    async def until_now(self) -> AsyncIterator[Event]:
        """What there is, and no waiting. Raises Unavailable when neither Redis nor Postgres can tell."""
        async for event in self._caught_up():
            yield event
        async for event in self._from_ledger():
            yield event

    async def until_end(self) -> AsyncIterator[Event | None]:
        """Everything, to the run's end. None now and then when nothing happens, so that a line can be kept alive.

        A run that is pruned meanwhile ends without its run.finished, so that nobody takes this for the whole.
        """
        try:
            async for event in self._tail():
                yield event
        except NotFound:
            return

    async def _tail(self) -> AsyncIterator[Event | None]:
        async for event in self._caught_up():
            yield event
        pause, asked_at = 0.0, 0.0
        while not self.seen.has_ended:
            if time.monotonic() - asked_at >= pause:
                try:
                    async for event in self._from_ledger():
                        yield event
                except Unavailable:
                    pass  # asked again soon; the stream may go on meanwhile
                pause, asked_at = min(max(2 * pause, _IDLE), _LONGEST_IDLE), time.monotonic()
            if self.seen.has_ended:
                return
            entries = await self._next(block=True)
            if entries:
                pause, asked_at = _IDLE, time.monotonic()
            else:
                yield None
            async for event in self._pass_on(entries):
                yield event

    async def _caught_up(self) -> AsyncIterator[Event]:
        await self._resume()
        async for event in self._read_on():
            yield event

    async def _read_on(self) -> AsyncIterator[Event]:
        while not self.seen.has_ended and (entries := await self._next(block=False)):
            async for event in self._pass_on(entries):
                yield event

    async def _resume(self) -> None:
        """Go over what the listener had before. When its place is gone it is shown everything again."""
        if self._cursor is None:
            return
        if not _ID.fullmatch(self._cursor) or not await self._read(self._cursor, self._cursor, 1):
            self._is_again = True
            return
        while self.seen.at != self._cursor:
            entries = await self._read(f"({self.seen.at}" if self.seen.at else "-", self._cursor, _PIECE)
            if not entries:
                break
            for entry in entries:
                self._recall(*entry)
        self.seen.at = self._cursor

    def _recall(self, entry_id: str, fields: Mapping[str, str]) -> None:
        data = json.loads(fields["data"])
        verdict = self.seen.take(fields["type"], data)
        self.seen.at = entry_id
        if verdict is Verdict.CHECK:
            self.seen.finish(data["step"])
        self.seen.has_ended = self.seen.has_ended or verdict is Verdict.END

    async def _pass_on(self, entries: Sequence[_Entry]) -> AsyncIterator[Event]:
        for entry_id, fields in entries:
            if self.seen.has_ended:
                return
            event = Event(entry_id, fields["type"], json.loads(fields["data"]))
            async for shown in self._judge(event):
                yield shown
            self.seen.at = entry_id

    async def _judge(self, event: Event) -> AsyncIterator[Event]:
        step = event.data.get("step", "")
        match self.seen.take(event.type, event.data):
            case Verdict.PASS:
                for shown in self._fresh(event, step):
                    yield shown
            case Verdict.WITHDRAW:
                yield Event(self._id, "step.reset", {"step": step, "reason": "abandoned"})
                yield event
            case Verdict.CHECK:
                async for shown in self._check(event, step):
                    yield shown
            case Verdict.END:
                async for shown in self._missing(await self._surely(views.progress), grace=0):
                    yield shown
                self.seen.has_ended = True
                yield event
            case Verdict.DROP:
                return

    async def _check(self, event: Event, step: str) -> AsyncIterator[Event]:
        """Pass on the end of a step if its whole text was shown, else show all of it."""
        idx = _idx(step)
        kept = await self._surely(views.output_length, idx)
        shown = self.seen.running.get(step)
        if kept is not None and kept != (shown.solid if shown else 0):
            async for one in self._whole(idx):
                yield one
            return
        self.seen.finish(step)
        for one in self._fresh(event, step):
            yield one

    def _fresh(self, event: Event, step: str) -> list[Event]:
        if not self._is_again or not step or step in self._touched:
            return [event]
        self._touched.add(step)
        return [Event(self._id, "step.reset", {"step": step, "reason": REPLAYED}), event]

    async def _from_ledger(self) -> AsyncIterator[Event]:
        """What the ledger knows and the stream did not tell, though it had the time to."""
        if self.seen.has_ended:
            return
        progress = await self._ask(views.progress)
        if not self.seen.at:  # what the ledger knows may have been told since the stream was read
            async for event in self._read_on():
                yield event
            if self.seen.has_ended:
                return
        grace = _GRACE if self.seen.at else 0
        async for event in self._missing(progress, grace):
            yield event
        if progress.final_for is not None and progress.final_for >= grace:
            self.seen.has_ended = True
            cost = to_usd(progress.cost_nanousd)
            yield Event(self._id, "run.finished", {"outcome": progress.status, "cost_usd": cost})

    async def _missing(self, progress: Progress, grace: float) -> AsyncIterator[Event]:
        for idx, final_for in progress.steps.items():
            if final_for is not None and final_for >= grace and present.step_id(idx) not in self.seen.done:
                async for event in self._whole(idx):
                    yield event

    async def _whole(self, idx: int) -> AsyncIterator[Event]:
        """A step that has ended, all at once, in place of whatever was shown of it."""
        kept = await self._surely(views.step, idx)
        step = present.step_id(idx)
        shown = self.seen.finish(step)
        if self._has_text or (shown is not None and shown.size):
            self._touched.add(step)
            yield Event(self._id, "step.reset", {"step": step, "reason": REPLAYED})
        for kind, data in _retold(step, kept):
            yield Event(self._id, kind, data)

    async def _next(self, *, block: bool) -> Sequence[_Entry]:
        """The entries behind the last one; none after a while of silence, or when Redis cannot be reached."""
        if not block:
            return await self._read(f"({self.seen.at}" if self.seen.at else "-", "+", _PIECE)
        try:
            with outages():
                async with asyncio.timeout(_IDLE + PATIENCE):
                    answer: Any = await self._house.events.xread(
                        {key(self.run): self.seen.at or _START}, count=_PIECE, block=int(_IDLE * 1000)
                    )
        except Unavailable:
            await asyncio.sleep(_IDLE)
            return ()
        entries: Sequence[_Entry] = answer[0][1] if answer else ()
        return entries

    async def _read(self, first: str, last: str, count: int) -> Sequence[_Entry]:
        try:
            with outages():
                async with asyncio.timeout(PATIENCE):
                    answer: Any = await self._house.events.xrange(key(self.run), first, last, count)
        except Unavailable:
            return ()
        entries: Sequence[_Entry] = answer
        return entries

    async def _ask(self, view: Callable[..., _T], *arguments: Any) -> _T:
        return await run_in_threadpool(view, self._house.ledger, self.run, *arguments)

    async def _surely(self, view: Callable[..., _T], *arguments: Any) -> _T:
        """An answer without which nothing whole can be shown: waits for Postgres."""
        while True:
            try:
                return await self._ask(view, *arguments)
            except Unavailable:
                await asyncio.sleep(_IDLE)

    @property
    def _id(self) -> str:
        """For events that no stream holds: the place of the listener, or a mark when it has none in this stream."""
        return self.seen.at or REPLAYED


def _retold(step: str, kept: StepView) -> list[tuple[str, Mapping[str, Any]]]:
    """The events of a step that has ended, as if it had come in one piece."""
    cost, events = to_usd(kept.cost_nanousd), []
    if kept.attempts:
        who = {"goblin": kept.goblin, "provider": kept.provider, "model": kept.model, "attempt": kept.attempts}
        events.append(("step.started", {"step": step, **who}))
    if kept.output:
        tokens = kept.tokens.output if kept.tokens else 0
        events.append(("delta", {"step": step, "text": kept.output, "tokens": tokens, "cost": cost}))
    usage = present.usage(kept.tokens).model_dump() if kept.tokens else None
    end = {"step": step, "outcome": kept.status, "cost_usd": cost, "usage": usage, "error": kept.error}
    return [*events, ("step.finished", end)]


def _idx(step: str) -> int:
    return int(step.removeprefix("step")) - 1
