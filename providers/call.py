"""The only HTTP client: carries a dialect's bytes and keeps the limits. What it raises are our own errors.

One connection pool per slot, taken last in first out, costs a fraction of the CPU of one pool for all. Slots belong to
an origin, so that a connection is found alive where the last call left it. Threads may share one Caller.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TypeAlias, TypeVar

import httpx

from goblin.errors import GoblinError
from providers import limit
from providers.control import Control, Watchdog
from providers.embed import Embed, Embedder, Embeddings, Purpose, joined, slices
from providers.errors import BrokenStream, Malformed, ProviderFault, UnknownModel, Unreachable
from providers.message import Chat, Event, Text, Thought
from providers.provider import Deadlines, Provider
from providers.slot import IDLE_S, Idle, Slot, Transport, fault_of, origin_of
from providers.wire.complaint import complains, wait
from providers.wire.dialect import Decoder, HttpRequest
from providers.wire.embedding import EMBEDDING
from providers.wire.field import load_first
from providers.wire.spoken import SPOKEN

__all__ = ["Caller", "Control", "Watchdog", "fetch"]

Read = TypeVar("Read")
Judge: TypeAlias = Callable[[Provider, int, Mapping[str, str], bytes], ProviderFault]

LARGEST_ANSWER = 64 * 2**20  # bytes of a whole stream, with its framing
LARGEST_COMPLAINT = 64 * 2**10  # bytes of an error answer that are read
LARGEST_LIST = 8 * 2**20  # bytes of a list of models
PARTING_S = 1.0  # that a vendor is given to hear that its answer is not wanted any more
_ECHO = 20  # characters of a prompt that no message may repeat


class Caller:
    """Calls providers. `transport` makes what answers in place of the network, for benchmarks inside one process."""

    def __init__(
        self,
        transport: Transport | None = None,
        watchdog: Watchdog | None = None,
        largest_answer: int = LARGEST_ANSWER,
        idle_s: float = IDLE_S,
    ) -> None:
        self._transport = transport
        self._largest_answer = largest_answer
        self._watchdog = watchdog or Watchdog()
        self._idle = Idle(idle_s)

    def stream(self, provider: Provider, chat: Chat, control: Control) -> Generator[Event, None, None]:
        """The events of one call, as they come; the connection is given back when the generator ends or is closed.

        Raises ProviderFault, or what `control` was cut with. An answer that ends without raising is whole.

        What another host says, which an answer named and which gets no key, is not about the key: where it refuses, the
        decoder goes on as after nothing.
        """
        dialect = SPOKEN[provider.dialect]
        decoder = dialect.decoder(provider)
        first = dialect.request(provider, chat)
        request: HttpRequest | None = first
        try:
            with self._watched(provider, control):
                while request is not None:
                    if request.after_s:
                        control.rest(request.after_s)
                    is_own = request is first or origin_of(request) == origin_of(first)
                    with self._exchange(provider, request, control, is_own=is_own) as response:
                        if response.is_success:
                            yield from _events(provider, decoder, response, control, self._largest_answer)
                        elif is_own:
                            raise _complaint(provider, dialect.fault, response, control)
                        else:
                            yield from _ended(decoder, response)
                    request = decoder.follow()
        except ProviderFault as fault:
            _keep_discreet(fault, provider, [message.content for message in chat.messages])
            raise
        finally:
            if request is not None and (stop := decoder.abandon()) is not None:
                self._abandon(provider, stop)

    def ask(
        self, provider: Provider, request: HttpRequest, control: Control, judge: Judge, parse: Callable[[bytes], Read]
    ) -> Read:
        """What `parse` reads in an answer that is no stream. Raises ProviderFault (what `judge` makes of an error
        answer), or what `control` was cut with.
        """
        with self._watched(provider, control):
            return self._receive(provider, request, control, judge, parse)

    def embed(
        self,
        provider: Provider,
        model: str,
        texts: Sequence[str],
        control: Control,
        purpose: Purpose = "document",
        dimensions: int | None = None,
    ) -> Embeddings:
        """A vector for every text, in as many requests as the vendor wants them in.

        Raises ProviderFault (UnknownModel where no dialect makes vectors), or what `control` was cut with.
        """
        embedder, judge = EMBEDDING.get(provider.embeddings_dialect or provider.dialect), _judge_of(provider)
        if embedder is None:
            raise UnknownModel(f"{provider.name} makes no embeddings that are spoken here")
        parts: list[Embeddings] = []
        try:
            with self._watched(provider, control):
                for some in slices(texts, min(provider.embedding_texts or embedder.most_texts, embedder.most_texts)):
                    embed = Embed(model, some, purpose, dimensions)
                    parts.append(self._embed(provider, embedder, embed, control, judge))
        except ProviderFault as fault:
            _keep_discreet(fault, provider, texts)
            raise
        return joined(parts)

    def _embed(
        self, provider: Provider, embedder: Embedder, embed: Embed, control: Control, judge: Judge
    ) -> Embeddings:
        request = embedder.request(provider, embed)
        return self._receive(provider, request, control, judge, lambda body: embedder.parse(body, len(embed.texts)))

    def _receive(
        self, provider: Provider, request: HttpRequest, control: Control, judge: Judge, parse: Callable[[bytes], Read]
    ) -> Read:
        with self._exchange(provider, request, control) as response:
            if not response.is_success:
                raise _complaint(provider, judge, response, control)
            body = _body(provider, response, control, self._largest_answer)
            control.first_token()
            return _read(provider, response, body, judge, parse)

    def _abandon(self, provider: Provider, request: HttpRequest) -> None:
        """Tells a vendor to stop. Nobody waits for it for long, and nobody is told when it fails."""
        brief = replace(provider, deadlines=Deadlines(PARTING_S, PARTING_S, PARTING_S, PARTING_S))
        with contextlib.suppress(GoblinError):
            self.ask(brief, request, Control(), SPOKEN[provider.dialect].fault, bytes)

    @contextlib.contextmanager
    def _watched(self, provider: Provider, control: Control) -> Iterator[None]:
        try:
            control.start(provider.deadlines, provider.name)
            self._watchdog.watch(control)
            yield
        finally:
            control.finish()
            self._watchdog.forget(control)

    def close(self) -> None:
        """Closes the connections that no call uses."""
        self._idle.close()

    @contextlib.contextmanager
    def _exchange(
        self, provider: Provider, request: HttpRequest, control: Control, *, is_own: bool = True
    ) -> Iterator[httpx.Response]:
        """`is_own`: at the provider's own origin, whose limits are those of the key."""
        origin = origin_of(request)
        slot = self._idle.take(origin) or Slot(origin, self._transport)
        try:
            response = slot.send(request, provider, control)
            if response is None:
                slot.close()  # its kept connection had ended; once more, on a new one
                slot = Slot(origin, self._transport)
                response = slot.send(request, provider, control)
            if response is None:
                raise Unreachable(f"{provider.name} closed the connection without an answer")
            said = limit.read(response.headers, datetime.now(UTC)) if is_own else None
            control.hear(said, is_error=not response.is_success)
            try:
                yield response
            finally:
                control.finish()  # before the connection may serve another call
                response.close()
        finally:
            self._idle.give_back(slot)


def fetch(provider: Provider, request: HttpRequest, timeout_s: float, parse: Callable[[bytes], Read]) -> Read:
    """What `parse` reads in a small answer, such as a list of models. Raises ProviderFault."""
    provider = replace(provider, deadlines=Deadlines(timeout_s, timeout_s, timeout_s, timeout_s))
    control = Control()
    control.start(provider.deadlines, provider.name)
    slot = Slot(origin_of(request), None)
    try:
        response = slot.send(request, provider, control)
        if response is None:
            raise Unreachable(f"{provider.name} closed the connection without an answer")
        judge = _judge_of(provider)
        if not response.is_success:
            raise _complaint(provider, judge, response, control)
        return _read(provider, response, _body(provider, response, control, LARGEST_LIST), judge, parse)
    finally:
        control.finish()
        slot.close()


def _judge_of(provider: Provider) -> Judge:
    """Who only makes or keeps vectors complains as OpenAI does."""
    return SPOKEN.get(provider.dialect, SPOKEN["openai"]).fault


def _read(
    provider: Provider, response: httpx.Response, body: bytes, judge: Judge, parse: Callable[[bytes], Read]
) -> Read:
    """Raises Malformed, or what the vendor complains of in place of an answer: some do so with a status of success."""
    try:
        return parse(body)
    except Malformed:
        if not complains(load_first(body)):
            raise
    raise judge(provider, 200, _head(response), body)


def _events(
    provider: Provider, decoder: Decoder, response: httpx.Response, control: Control, most: int
) -> Iterator[Event]:
    chunks = _chunks(provider, response, control, most)
    for data in chunks:
        events, fault = _decoded(decoder.feed, data)
        if events:
            control.pause()
            for event in events:
                if isinstance(event, Text | Thought):
                    control.first_token()
                yield event
            control.enter("stall")
        if fault is not None:
            raise _timely(fault, response)
        if decoder.done:
            break
        control.check()  # silence between comments is silence, too
    if decoder.done:
        _drain(chunks, control)
    elif control.error is not None:  # an answer without a length ends well when its socket is shut down
        raise control.error
    yield from _ended(decoder, response)


def _ended(decoder: Decoder, response: httpx.Response) -> Iterator[Event]:
    events, fault = _decoded(decoder.end)
    yield from events
    if fault is not None:
        raise _timely(fault, response)


def _decoded(decode: Callable[..., None], *data: bytes) -> tuple[list[Event], ProviderFault | None]:
    """What was read, and the fault behind it: tokens that came in the same piece are paid for, and were meant."""
    events: list[Event] = []
    try:
        decode(*data, events)
    except ProviderFault as fault:
        return events, fault
    return events, None


def _drain(chunks: Iterator[bytes], control: Control) -> None:
    """Reads what follows a whole answer, so that the connection can be kept. Nothing here can spoil the answer."""
    control.drain()
    with contextlib.suppress(GoblinError):
        for _ in chunks:
            control.check()


def _body(provider: Provider, response: httpx.Response, control: Control, most: int) -> bytes:
    body = bytearray()
    for data in _chunks(provider, response, control, most):
        body += data
        control.check()
    return bytes(body)


def _complaint(provider: Provider, judge: Judge, response: httpx.Response, control: Control) -> ProviderFault:
    body = bytearray()
    with contextlib.suppress(ProviderFault):  # the status alone says something, too
        for data in _chunks(provider, response, control, LARGEST_COMPLAINT):
            body += data
            control.check()
    return judge(provider, response.status_code, _head(response), bytes(body))


def _head(response: httpx.Response) -> Mapping[str, str]:
    now = format_datetime(datetime.now(UTC), usegmt=True)  # for a date to wait for, where the server does not say
    return {"date": now, **{name.lower(): value for name, value in response.headers.items()}}


def _timely(fault: ProviderFault, response: httpx.Response) -> ProviderFault:
    """An error inside a success may name its delay in the head, which decoders never see."""
    if fault.retry_after is None:
        fault.retry_after = wait(_head(response))
    return fault


def _chunks(provider: Provider, response: httpx.Response, control: Control, most: int) -> Iterator[bytes]:
    size = 0
    try:
        for data in response.iter_bytes():
            size += len(data)
            if size > most:
                raise Malformed(f"{provider.name} answered with more than {most} bytes")
            yield data
        return
    except httpx.HTTPError as error:
        failure = error
    raise control.error or fault_of(failure, provider, control, BrokenStream)


def _keep_discreet(fault: ProviderFault, provider: Provider, said: Iterable[str]) -> None:
    """Takes the vendor's words out of a message when they repeat the prompt."""
    words = fault.message
    pieces = [words[at : at + _ECHO] for at in range(0, len(words) - _ECHO + 1, _ECHO)]
    if any(piece in text for text in said for piece in pieces):
        fault.message = (
            f"{provider.name}: {fault.slug.replace('_', ' ')} (its words repeat the prompt and are withheld)"
        )
        fault.args = (fault.message,)
