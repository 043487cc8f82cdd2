"""The doors of a dialect, as ASGI endpoints: each lets a call in (key, faults, limits), serves it and books it."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from providers.simulator import pace, tokens
from providers.simulator.answer import Ask, Reply, Usage, answer
from providers.simulator.behaviour import Behaviour
from providers.simulator.dialect import Dialect, EmbedAsk, Json, encode
from providers.simulator.invoice import Call, price
from providers.simulator.line import Line
from providers.simulator.pace import Outcome
from providers.simulator.refusal import Kind, Refused
from providers.simulator.sheet import Model, Sheet
from providers.simulator.vector import embed
from providers.simulator.world import House, World, clock

_LARGEST = 64 * 2**20  # bytes of a request
_NOTHING = Usage(0, 0)


@dataclass(slots=True)
class Visit:
    """One call while it is served: what the book will say of it."""

    world: World
    dialect: Dialect
    name: str
    id: str
    path: str
    idempotency_key: str | None
    model: str = ""
    prompt: str = ""
    arrived: bool = False

    def charge(self, what: str, nanousd: int) -> None:
        """Books something that has no tokens."""
        call = Call(
            time=time.time(),
            name=self.name,
            dialect=self.dialect.name,
            model=what,
            status=200,
            outcome=Outcome.WHOLE.value,
            prompt_sha256="",
            prompt_length=0,
            idempotency_key=None,
            nanousd=nanousd,
        )
        self.world.book.enter(call, billed=True)

    def enter(self, status: int, outcome: Outcome, usage: Usage = _NOTHING, row: Model | None = None) -> None:
        """Enters the call in the book, billed when the model's row is given."""
        call = Call(
            time=time.time(),
            name=self.name,
            dialect=self.dialect.name,
            model=self.model,
            status=status,
            outcome=outcome.value,
            prompt_sha256=hashlib.sha256(self.prompt.encode("utf-8", "replace")).hexdigest(),
            prompt_length=len(self.prompt),
            idempotency_key=self.idempotency_key,
            input_tokens=usage.input,
            cached_tokens=usage.cached,
            output_tokens=usage.output,
            nanousd=price(row, usage) if row else 0,
        )
        self.world.book.enter(call, billed=row is not None)

    def head(self) -> dict[str, str]:
        meter = self.world.meter(self.name)
        limited = meter.limit.rpm is not None or meter.limit.tpm is not None
        rates = self.dialect.rate_headers(meter.gauge(clock())) if limited else {}
        identity = {self.dialect.id_header: f"req_{self.id}"} if self.dialect.id_header else {}
        return identity | rates


@dataclass(frozen=True, slots=True)
class Entry:
    """A conversation that was let in."""

    ask: Ask
    reply: Reply
    behaviour: Behaviour
    row: Model

    def settle(self, visit: Visit, outcome: Outcome, produced: int) -> None:
        visit.enter(200, outcome, Usage(self.reply.usage.input, produced, self.reply.usage.cached), self.row)


class Door:
    """An ASGI endpoint. A Refused from serving is answered in the dialect's words."""

    recorded = True

    def __init__(self, house: House, dialect: Dialect) -> None:
        self.house, self.dialect = house, dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, line = Request(scope, receive), Line(scope, receive, send)
        world = self.house.world
        name = request.path_params.get("name", self.dialect.name)
        idempotency_key = request.headers.get("idempotency-key")
        visit = Visit(world, self.dialect, name, f"{next(world.ids):012x}", scope["path"], idempotency_key)
        try:
            await self.serve(request, line, visit)
        except Refused as refused:
            status, headers, body = self.dialect.refusal(refused, visit.id)
            status = 200 if refused.is_ok else status
            if self.recorded:
                visit.enter(status, Outcome.ERROR)
            await line.answer(status, {"content-type": "application/json", **visit.head(), **headers}, encode(body))
        finally:
            if visit.arrived:
                world.meter(name).leave()
            line.close()

    async def serve(self, request: Request, line: Line, visit: Visit) -> None:
        raise NotImplementedError

    def check_key(self, request: Request) -> None:
        key = self.dialect.key(request)
        if (self.dialect.needs_key and not key) or "wrong" in (key or ""):
            raise Refused(Kind.AUTH)

    async def let_in(self, line: Line, visit: Visit, behaviour: Behaviour) -> bool:
        """Counts an arrival and applies the faults before an answer. False when there is nothing left to say."""
        visit.world.meter(visit.name).arrive(clock())
        visit.arrived = True
        if behaviour.reset:
            visit.enter(0, Outcome.ERROR)
            await line.reset()
            return False
        if behaviour.silent:
            await line.until_gone()
            visit.enter(0, Outcome.GONE)
            return False
        if visit.world.fails_still(visit.path, visit.name, visit.model, behaviour.flaky):
            raise Refused(Kind.SERVER, status=500)
        if behaviour.refuse:
            raise Refused(
                behaviour.refuse,
                status=behaviour.status,
                retry_after=behaviour.retry_after,
                is_ok=behaviour.is_ok,
            )
        return True

    def take(self, visit: Visit, count: int) -> None:
        wait = visit.world.meter(visit.name).take(clock(), count)
        if wait is not None:
            raise Refused(Kind.RATE, retry_after=wait)


class Chat(Door):
    def __init__(self, house: House, dialect: Dialect, read: Callable[[Request, Json], Ask]) -> None:
        super().__init__(house, dialect)
        self.read = read

    async def serve(self, request: Request, line: Line, visit: Visit) -> None:
        if (entry := await self.enter(request, line, visit)) is None:
            return
        ask, reply, behaviour, row = entry.ask, entry.reply, entry.behaviour, entry.row

        def settle(outcome: Outcome, produced: int) -> None:
            entry.settle(visit, outcome, produced)

        voice = self.dialect.voice(ask, reply, visit.id)
        play = pace.stream if ask.stream else pace.whole
        content_type = self.dialect.stream_type if ask.stream and ask.framed else "application/json"
        head = {"content-type": content_type, **visit.head()}
        await play(line, head, voice, reply, behaviour, pace.tempo(behaviour, row), settle)

    async def enter(self, request: Request, line: Line, visit: Visit) -> "Entry | None":
        """A call that was let in, with its reply; None when there is nothing left to say."""
        self.check_key(request)
        ask = self.read(request, await body_of(request))
        visit.model, visit.prompt = ask.model, ask.prompt
        behaviour, row = visit.world.find(visit.name, ask.model)
        if not await self.let_in(line, visit, behaviour):
            return None
        if behaviour.prefill == "refused" and ask.begun:
            raise Refused(Kind.BAD_REQUEST, "The conversation must end with a user message.")
        reply = answer(ask, behaviour, row, visit.world.sheet.seed)
        if reply.usage.input >= row.context and ask.window is None:
            raise Refused(
                Kind.CONTEXT,
                f"This model's context window is {row.context} tokens; the prompt has {reply.usage.input}.",
            )
        self.take(visit, reply.usage.input + reply.usage.output)
        return Entry(ask, reply, behaviour, row)


class Embed(Door):
    def __init__(
        self,
        house: House,
        dialect: Dialect,
        read: Callable[[Request, Json], EmbedAsk],
        render: Callable[[EmbedAsk, list[list[float]], int], Json],
    ) -> None:
        super().__init__(house, dialect)
        self.read, self.render = read, render

    async def serve(self, request: Request, line: Line, visit: Visit) -> None:
        self.check_key(request)
        ask = self.read(request, await body_of(request))
        visit.model, visit.prompt = ask.model, "\n\n".join(ask.texts)
        behaviour, row = visit.world.find(visit.name, ask.model)
        if not row.dimensions:
            raise Refused(Kind.BAD_REQUEST, f"The model `{ask.model}` does not make embeddings.")
        if not await self.let_in(line, visit, behaviour):
            return
        ask = _shortened(ask, row.context) if ask.cuts else ask
        counts = [tokens.count(text) for text in ask.texts]
        if max(counts) > row.context:
            raise Refused(Kind.CONTEXT)
        usage = Usage(sum(counts), 0)
        self.take(visit, usage.input)
        vectors = [embed(text, ask.dimensions or row.dimensions) for text in ask.texts]
        body, end = encode(self.render(ask, vectors, usage.input)), pace.ending(behaviour)
        gone = not await line.pause(pace.tempo(behaviour, row).ttft)
        visit.enter(200, Outcome.GONE if gone else end, usage, row)
        await pace.piece(line, {"content-type": "application/json", **visit.head()}, body, behaviour)


def _shortened(ask: EmbedAsk, most: int) -> EmbedAsk:
    told = [tokens.split(text) for text in ask.texts]
    cut = frozenset(nth for nth, parts in enumerate(told) if len(parts) > most)
    return replace(ask, texts=["".join(parts[:most]) for parts in told], cut=cut)


class Listing(Door):
    """Models and their like: not billed, not recorded, but down when the whole provider is."""

    recorded = False

    def __init__(self, house: House, dialect: Dialect, render: Callable[[Sheet, Json], Json]) -> None:
        super().__init__(house, dialect)
        self.render = render

    async def serve(self, request: Request, line: Line, visit: Visit) -> None:
        self.check_key(request)
        body = await body_of(request) if request.method == "POST" else dict(request.query_params)
        behaviour = visit.world.behaviour(visit.name)
        if behaviour.reset or behaviour.silent:
            await (line.reset() if behaviour.reset else line.until_gone())
            return
        if behaviour.refuse:
            raise Refused(behaviour.refuse, status=behaviour.status, retry_after=behaviour.retry_after)
        listed = self.render(visit.world.sheet, body)
        await line.answer(200, {"content-type": "application/json", **visit.head()}, encode(listed))


async def body_of(request: Request) -> Json:
    """The JSON object that was sent. Raises Refused."""
    received = bytearray()
    async for part in request.stream():
        received += part
        if len(received) > _LARGEST:
            raise Refused(Kind.TOO_LARGE)
    try:
        body: Any = json.loads(received)
    except ValueError as error:
        raise Refused(Kind.BAD_REQUEST, "We could not parse the JSON body of your request.") from error
    if not isinstance(body, dict):
        raise Refused(Kind.BAD_REQUEST, "The body of a request is a JSON object.")
    return body
