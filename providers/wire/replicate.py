"""Predictions: one is created, its output streamed from the address that the answer names, and its end read afterwards.

The prompt is one text, since models there take no roles that all of them know. The key goes to the provider's own
origin only; streams come from elsewhere without one.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import quote, urlsplit

from providers.errors import BrokenStream, ContentFiltered, Malformed, ProviderFault, UnknownModel
from providers.message import Chat, Event, Finish, Report, Usage
from providers.provider import Provider
from providers.wire import dialect, sse
from providers.wire.complaint import TOO_LONG, complains, read, rule, understand
from providers.wire.dialect import HttpRequest
from providers.wire.field import counted, load, text, tree
from providers.wire.think import Splitter

RULES = (rule(ContentFiltered, contains=("flagged as sensitive", "nsfw")), TOO_LONG)

_VERSION = re.compile(r":([0-9a-f]{64})$")  # behind the name of a model that only runs by version
_RUNNING = ("starting", "processing")
_FIRST_LOOK_S, _RAREST_LOOK_S = 0.25, 5.0


class Replicate(dialect.Dialect):
    words: ClassVar = {"temperature": "temperature"}  # inputs are the models' own
    forms: ClassVar = frozenset()

    def request(self, provider: Provider, chat: Chat) -> HttpRequest:
        if chat.tools:
            raise UnknownModel(f"{provider.name} has no model that takes tools")
        ways = dialect.quirks(provider, chat.model)
        wishes: dict[str, Any] = {
            "prompt": _prompt(chat),
            ways.get("max_tokens_field", "max_tokens"): chat.max_output_tokens,
        }
        wishes |= dialect.sampling(provider, chat, self.words)
        wishes = dialect.patched(wishes, dialect.reasoning(provider, chat, {}, {}))
        body: dict[str, Any] = {"input": dialect.patched(wishes, ways.get("body", {})), "stream": True}
        if version := _VERSION.search(chat.model):
            body["version"] = version[1]
        path = "/predictions" if version else f"/models/{quote(chat.model)}/predictions"
        return HttpRequest(
            "POST",
            dialect.url(provider, provider.chat_path or path, chat.model),
            dialect.headers(provider, "application/json", ways.get("headers")),
            json.dumps(body).encode(),
        )

    def decoder(self, provider: Provider) -> "Decoder":
        return Decoder(provider)

    def fault(self, provider: Provider, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFault:
        return dialect.blame(provider, read(status, headers, body), RULES)

    def parse_models(self, body: bytes) -> tuple[str, ...]:
        rows = load(body).get("results")
        if not isinstance(rows, list):
            raise Malformed("the list of models has none of the known forms")
        named = ((text(tree(row).get("owner")), text(tree(row).get("name"))) for row in rows)
        return tuple(f"{owner}/{name}" for owner, name in named if owner and name)


def _prompt(chat: Chat) -> str:
    """A conversation of more than one turn names who speaks."""
    system = [message.content for message in chat.messages if message.role == "system"]
    turns = [message for message in chat.messages if message.role != "system"]
    if len(turns) > 1:
        said = [f"{message.role.capitalize()}: {message.content}" for message in turns]
    else:
        said = [message.content for message in turns]
    return "\n\n".join((*system, *said))


class Decoder(dialect.Decoder):
    """Three parts: the prediction as created, its stream, the prediction as it ended (looked at until it has)."""

    __slots__ = (
        "_body",
        "_heard",
        "_heard_size",
        "_next",
        "_over",
        "_pause_s",
        "_prediction",
        "_provider",
        "_split",
        "_stream",
        "done",
    )

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._split = Splitter()
        self._prediction = ""  # its id
        self._over = False
        self._heard = hashlib.sha256()  # of the words of the stream: what its end repeats is not said again
        self._heard_size = 0  # characters
        self._body = bytearray()  # of a part that is no stream
        self._stream: sse.Stream | None = None
        self._pause_s = _FIRST_LOOK_S
        self._next: HttpRequest | None = None
        self.done = False

    def feed(self, data: bytes, out: list[Event]) -> None:
        if self._stream is not None:
            self._hear(self._stream.feed(data), out)
            return
        self._body += data
        if len(self._body) > sse.LONGEST_LINE:
            raise Malformed(f"{self._provider.name} described a prediction in more than {sse.LONGEST_LINE} bytes")

    def end(self, out: list[Event]) -> None:
        if self._stream is not None:
            self._hear(self._stream.end(), out)
            self._stream = None
            self._next = self._look(0.0)
            return
        if not self._body.strip():
            raise BrokenStream(f"{self._provider.name} ended its answer without saying that it is whole")
        prediction = load(bytes(self._body))
        self._body.clear()
        self._read(prediction, out)

    def follow(self) -> HttpRequest | None:
        request, self._next, self.done = self._next, None, False
        return request

    def abandon(self) -> HttpRequest | None:
        return None if self._over or not self._prediction else self._of_prediction("POST", "/cancel")

    def _hear(self, events: list[sse.Event], out: list[Event]) -> None:
        for name, payload in events:
            if self.done:
                return
            if name == b"output":
                words = text(payload.decode("utf-8", "replace"))
                self._heard.update(words.encode())
                self._heard_size += len(words)
                self._split.feed(words, out)
            elif name == b"error":
                self._over = True
                raise dialect.blame(self._provider, read(200, {}, payload), RULES)
            elif name == b"done":
                self.done = True
            elif name != b"logs":
                raise Malformed(f"{self._provider.name} streams something that is not its dialect")

    def _read(self, prediction: dict[str, Any], out: list[Event]) -> None:
        status, first = prediction.get("status"), not self._prediction
        self._prediction = self._prediction or text(prediction.get("id"))
        if status in _RUNNING and self._prediction:
            address = text(tree(prediction.get("urls")).get("stream")) if first else ""
            self._next = self._listen(address) if address else self._look(self._pause_s)
            return
        self._over = True
        if status in ("failed", "canceled", "aborted"):
            complaint = understand(prediction.get("error") or f"the prediction was {status}", 200)
            raise dialect.blame(self._provider, complaint, RULES)
        if status != "succeeded" and complains(prediction):
            raise dialect.blame(self._provider, understand(prediction, 200), RULES)
        if status != "succeeded":
            raise Malformed(f"{self._provider.name} sent something that is no prediction")
        self._close(prediction, out)

    def _close(self, prediction: dict[str, Any], out: list[Event]) -> None:
        output = prediction.get("output")
        whole = "".join(map(text, output)) if isinstance(output, list) else text(output)
        begun, rest = whole[: self._heard_size], whole[self._heard_size :]
        if (
            hashlib.sha256(begun.encode()).digest() == self._heard.digest()
        ):  # else the stream's form is its own: all said
            self._split.feed(rest, out)
        self._split.end(out)
        out.append(Finish("stop", "succeeded"))
        metrics = tree(prediction.get("metrics"))
        read, written = counted(metrics.get("input_token_count")), counted(metrics.get("output_token_count"))
        if read is not None and written is not None:
            out.append(Report(Usage(input=read, output=written), text(prediction.get("model")) or None))

    def _listen(self, address: str) -> HttpRequest:
        theirs, ours = urlsplit(address), urlsplit(self._provider.base_url)
        is_ours = (theirs.scheme, theirs.netloc) == (ours.scheme, ours.netloc)
        if not is_ours and theirs.scheme != "https":
            raise Malformed(f"{self._provider.name} names an address for its stream that is not safe")
        self._stream = sse.Stream()
        asked = self._provider if is_ours else replace(self._provider, auth="none")
        return HttpRequest("GET", address, dialect.headers(asked, "text/event-stream", {"cache-control": "no-store"}))

    def _look(self, after_s: float) -> HttpRequest:
        self._pause_s = min(2 * self._pause_s, _RAREST_LOOK_S)
        return replace(self._of_prediction("GET", ""), after_s=after_s)

    def _of_prediction(self, method: str, action: str) -> HttpRequest:
        path = f"/predictions/{quote(self._prediction, safe='')}{action}"
        return HttpRequest(
            method, dialect.url(self._provider, path), dialect.headers(self._provider, "application/json")
        )
