"""Cohere's chat of version 2. Counts are those that are billed, where the vendor tells them apart."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from providers.errors import (
    BrokenStream,
    ContentFiltered,
    ContextTooLong,
    Malformed,
    ProviderFault,
    QuotaSpent,
    ServerError,
)
from providers.message import Chat, Event, Finish, FinishReason, Message, Report, Text, Thought, Usage
from providers.provider import Provider
from providers.sampling import Sampling
from providers.wire import dialect, sse
from providers.wire.complaint import TOO_LONG, read, rule, understand
from providers.wire.dialect import HttpRequest
from providers.wire.field import count, counted, entries, load, load_first, text, tree
from providers.wire.openai import OpenAi
from providers.wire.tool import NO_TOOLS, Pieces, said

RULES = (
    rule(QuotaSpent, status=(429,), contains=("api calls / month", "per month")),
    rule(ContentFiltered, status=(498,)),
    rule(ContextTooLong, status=(200, 400, 422), contains=("too many tokens",)),
    TOO_LONG,
    NO_TOOLS,
)

_REASONS: Mapping[str, FinishReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool",
    "ERROR_TOXIC": "filtered",
}
_FAILED = ("ERROR", "TIMEOUT", "USER_CANCEL")  # as they begin


class Cohere(dialect.Dialect):
    words: ClassVar = {**OpenAi.words, "top_p": "p", "stop": "stop_sequences"}
    forms = dialect.JSON

    def request(self, provider: Provider, chat: Chat) -> HttpRequest:
        ways = dialect.quirks(provider, chat.model)
        body: dict[str, Any] = {
            "model": chat.model,
            "messages": [_said(message) for message in chat.messages],
            "max_tokens": chat.max_output_tokens,
            "stream": True,
        }
        body |= dialect.sampling(provider, chat, self.words)
        if chat.sampling.form is not None:
            body["response_format"] = _form(chat.sampling)
        if chat.tools:
            body["tools"] = chat.tools
        on, off = {"thinking": {"type": "enabled"}}, {"thinking": {"type": "disabled"}}
        body = dialect.patched(body, dialect.reasoning(provider, chat, on, off))
        return HttpRequest(
            "POST",
            dialect.url(provider, provider.chat_path or "/v2/chat", chat.model),
            dialect.headers(provider, "text/event-stream", ways.get("headers")),
            json.dumps(dialect.patched(body, ways.get("body", {}))).encode(),
        )

    def decoder(self, provider: Provider) -> "Decoder":
        return Decoder(provider)

    def fault(self, provider: Provider, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFault:
        return dialect.blame(provider, read(status, headers, body), RULES)

    def parse_models(self, body: bytes) -> tuple[str, ...]:
        rows = load(body).get("models")
        if not isinstance(rows, list):
            raise Malformed("the list of models has none of the known forms")
        chatting = (row for row in map(tree, rows) if "chat" in entries(row.get("endpoints", ["chat"])))
        return tuple(name for row in chatting if (name := text(row.get("name"))))


def _form(sampling: Sampling) -> dict[str, Any]:
    schema = {} if sampling.schema is None else {"json_schema": sampling.schema}
    return {"type": "json_object", **schema}


def _said(message: Message) -> dict[str, Any]:
    """Words beside calls are a plan here."""
    form = said(message)
    if message.calls and (plan := form.pop("content")):
        form["tool_plan"] = plan
    return form


class Decoder(dialect.Decoder):
    __slots__ = ("_finished", "_provider", "_stream", "_tools", "done")

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._stream = sse.Stream()
        self._tools = Pieces()
        self._finished = False
        self.done = False

    def feed(self, data: bytes, out: list[Event]) -> None:
        for _, payload in self._stream.feed(data):
            self._take(payload, out)

    def end(self, out: list[Event]) -> None:
        for _, payload in self._stream.end():
            self._take(payload, out)
        if bare := self._stream.bare:  # an error that came as plain JSON
            self._read(load_first(bare), out)
        if not self._finished:
            raise BrokenStream(f"{self._provider.name} ended its answer without saying that it is whole")

    def _take(self, payload: bytes, out: list[Event]) -> None:
        if not self.done and payload.strip() != b"[DONE]":
            self._read(load(payload), out)

    def _read(self, event: dict[str, Any], out: list[Event]) -> None:
        delta = tree(event.get("delta"))
        match event.get("type"):
            case "content-start" | "content-delta":
                self._speak(tree(tree(delta.get("message")).get("content")), out)
            case "tool-plan-delta":
                if plan := text(tree(delta.get("message")).get("tool_plan")):
                    out.append(Thought(plan))
            case "tool-call-start" | "tool-call-delta":
                call = tree(tree(delta.get("message")).get("tool_calls"))
                self._tools.add_all([{**call, "index": event.get("index")}])
            case "message-end":
                try:
                    self._close(delta, out)
                finally:  # also what broke off was counted
                    if (usage := usage_of(tree(delta.get("usage")))) is not None:
                        out.append(Report(usage))
            case None if "message" in event:  # an error that came as it would have come without a stream
                raise dialect.blame(self._provider, understand(event, 200), RULES)

    def _speak(self, content: dict[str, Any], out: list[Event]) -> None:
        if thought := text(content.get("thinking")):
            out.append(Thought(thought))
        if words := text(content.get("text")):
            out.append(Text(words))

    def _close(self, delta: dict[str, Any], out: list[Event]) -> None:
        reason = dialect.word(self._provider, delta.get("finish_reason"))
        if error := text(delta.get("error")):
            raise dialect.blame(self._provider, understand(error, 200), RULES)
        meant = _REASONS.get(reason)
        if meant is None and reason.startswith(_FAILED):
            raise ServerError(f"{self._provider.name} broke off: {reason}")
        self._tools.close(out)
        self._finished = self.done = True
        out.append(Finish(meant or "stop", reason or None))


def usage_of(usage: dict[str, Any]) -> Usage | None:
    """None when it does not hold both counts."""
    for counts in (tree(usage.get("billed_units")), tree(usage.get("tokens"))):
        prompt, output = counted(counts.get("input_tokens")), counted(counts.get("output_tokens"))
        if prompt is not None and output is not None:
            return Usage(input=prompt, cache_read=min(prompt, count(usage.get("cached_tokens"))), output=output)
    return None
