"""Plays a reply to a client in time, with its faults: when each token is due, and how an answer ends before its end.

`settle` is called once per answer, before its last bytes are written, with the outcome and the tokens produced.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol, TypeAlias

from providers.simulator.answer import Reply
from providers.simulator.behaviour import Behaviour, Break
from providers.simulator.line import Line
from providers.simulator.refusal import Kind, Refused
from providers.simulator.sheet import Model
from providers.simulator.tool import Part, within

_FLUSH = 256  # chunks that are due together are written together, at most so many


class Outcome(Enum):
    WHOLE = "whole"
    CUT = "cut"
    ERROR = "error"
    GONE = "client_gone"


Settle: TypeAlias = Callable[[Outcome, int], None]


class Voice(Protocol):
    """One answer on the wire of a dialect. In order: opening, pieces, then closing or trouble; or whole alone."""

    garbage: bytes

    def opening(self) -> bytes: ...
    def piece(self, chunk: "Chunk", /) -> bytes: ...
    def closing(self) -> bytes: ...
    def trouble(self) -> bytes: ...
    def whole(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Tempo:
    """When tokens are due, in seconds since the request came."""

    ttft: float
    speed: float
    stall: tuple[int, float] | None = None

    def due(self, tokens: int) -> float:
        """When the last of so many tokens is due."""
        paced = (tokens - 1) / self.speed if self.speed and tokens else 0.0
        stalled = self.stall[1] if self.stall and tokens > self.stall[0] else 0.0
        return self.ttft + paced + stalled

    def end(self, tokens: int) -> float:
        """When an answer of so many tokens ends: a stall that no token met comes before the end."""
        stalled = self.stall[1] if self.stall and tokens <= self.stall[0] else 0.0
        return self.due(tokens) + stalled

    def produced(self, elapsed: float, tokens: int) -> int:
        """How many of so many tokens are there after a time."""
        return bisect_right(range(1, tokens + 1), elapsed, key=self.due)


@dataclass(frozen=True, slots=True)
class Chunk:
    text: str
    tokens: int
    thinking: bool
    part: Part | None = None  # of a call, whose arguments the text belongs to


def tempo(behaviour: Behaviour, model: Model) -> Tempo:
    return Tempo(
        model.ttft if behaviour.ttft is None else behaviour.ttft,
        model.speed if behaviour.speed is None else behaviour.speed,
        behaviour.stall,
    )


async def stream(
    line: Line, head: Mapping[str, str], voice: Voice, reply: Reply, behaviour: Behaviour, beat: Tempo, settle: Settle
) -> None:
    """Streams a reply. One that is cut has no end of its body: the server closes the connection."""
    if beat.ttft and not await line.pause(beat.ttft):
        return settle(Outcome.GONE, 0)
    await line.start(200, head)
    limit = min(behaviour.breaks[1], reply.usage.output) if behaviour.breaks else reply.usage.output
    pending, produced = [voice.opening()], 0
    for chunk in _chunks(reply, behaviour, limit):
        wait = beat.due(produced + chunk.tokens) - line.elapsed
        if wait > 0 or len(pending) >= _FLUSH:
            await line.write(b"".join(pending))
            pending.clear()
            if not await line.pause(wait):
                return settle(Outcome.GONE, produced)
        produced += chunk.tokens
        if reply.shows_thinking or not chunk.thinking:
            pending.append(voice.piece(chunk))
    wait = beat.end(limit) - line.elapsed
    if wait > 0:
        await line.write(b"".join(pending))
        pending.clear()
        if not await line.pause(wait):
            return settle(Outcome.GONE, produced)
    return await _end(line, voice, behaviour, pending, produced, settle)


async def _end(
    line: Line, voice: Voice, behaviour: Behaviour, pending: list[bytes], produced: int, settle: Settle
) -> None:
    match behaviour.breaks:
        case None:
            settle(Outcome.WHOLE, produced)
            await line.write(b"".join([*pending, voice.closing()]), more=False)
        case (Break.FAIL, _):
            settle(Outcome.ERROR, produced)
            await line.write(b"".join([*pending, voice.trouble()]), more=False)
        case (how, _):
            settle(Outcome.CUT, produced)
            await line.write(b"".join([*pending, voice.garbage if how is Break.GARBAGE else b""]))


async def whole(
    line: Line, head: Mapping[str, str], voice: Voice, reply: Reply, behaviour: Behaviour, beat: Tempo, settle: Settle
) -> None:
    """Answers in one piece when all its tokens are there. Raises Refused where a stream would have failed midway."""
    limit = min(behaviour.breaks[1], reply.usage.output) if behaviour.breaks else reply.usage.output
    wait = beat.end(limit)
    if wait > 0 and not await line.pause(wait):
        return settle(Outcome.GONE, beat.produced(line.elapsed, limit))
    settle(ending(behaviour), limit)
    return await piece(line, head, voice.whole(), behaviour)


def ending(behaviour: Behaviour) -> Outcome:
    """How an answer in one piece ends. Raises Refused where a stream would have failed midway."""
    if behaviour.breaks is None:
        return Outcome.WHOLE
    if behaviour.breaks[0] is Break.FAIL:
        raise Refused(Kind.SERVER)
    return Outcome.CUT


async def piece(line: Line, head: Mapping[str, str], body: bytes, behaviour: Behaviour) -> None:
    """A body whole, or half of it: announced as such, so that it is garbage, or as the whole, so that it is cut."""
    half = body[: len(body) // 2]
    match behaviour.breaks:
        case None:
            await line.answer(200, head, body)
        case (Break.GARBAGE, _):
            await line.answer(200, head, half)
        case _:
            await line.start(200, {**head, "content-length": str(len(body))})
            await line.write(half)


def _chunks(reply: Reply, behaviour: Behaviour, limit: int) -> Iterator[Chunk]:
    """Tokens in chunks of `per`, up to a limit; none spans a stall, or the border between thinking, text and calls."""
    thinking = reply.thinking[:limit]
    text = reply.text[: limit - len(thinking)]
    stall = behaviour.stall[0] if behaviour.stall else 0
    yield from _slices(thinking, behaviour.per, stall, thinking=True)
    yield from _slices(text, behaviour.per, stall - len(thinking), thinking=False)
    said = len(thinking) + len(text)
    for index, call in enumerate(within(reply.calls, limit - said)):
        chunks = list(_slices(call.pieces, behaviour.per, stall - said, thinking=False))
        said += len(call.pieces)
        for number, chunk in enumerate(chunks, 1):
            is_last = number == len(chunks) and call.is_whole and reply.calls[index].is_whole
            yield replace(chunk, part=Part(index, reply.calls[index], is_first=number == 1, is_last=is_last))


def _slices(tokens: Sequence[str], per: int, border: int, *, thinking: bool) -> Iterator[Chunk]:
    border = min(max(border, 0), len(tokens))
    for begin, end in ((0, border), (border, len(tokens))):
        for at in range(begin, end, per):
            part = tokens[at : min(at + per, end)]
            yield Chunk("".join(part), len(part), thinking)
