"""Workers AI in its own words: an envelope around the answer, and in most streams no reason for the end but the end.

Models that answer there as chat completions do are read as such.
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from providers.errors import (
    BadCredentials,
    ContextTooLong,
    Malformed,
    Overloaded,
    ProviderFault,
    QuotaSpent,
    ServerError,
    UnknownModel,
)
from providers.message import Chat, Event, Report
from providers.provider import Provider
from providers.wire import dialect, openai
from providers.wire.complaint import read, rule
from providers.wire.dialect import HttpRequest
from providers.wire.field import entries, load, text, tree
from providers.wire.tool import said

RULES = (
    rule(QuotaSpent, "3036"),
    rule(Overloaded, "3040"),
    rule(ContextTooLong, "3006"),
    rule(ServerError, "3007"),
    rule(UnknownModel, "5007", "3042", "7000", "7003"),
    rule(BadCredentials, "10000", "10001", "9109", "3023", "3041", "5016", "5018"),
    *openai.RULES,
)


class Cloudflare(dialect.Dialect):
    words: ClassVar = {wish: name for wish, name in openai.OpenAi.words.items() if wish != "stop"}
    forms: ClassVar = frozenset()  # its JSON mode does not stream

    def request(self, provider: Provider, chat: Chat) -> HttpRequest:
        ways = dialect.quirks(provider, chat.model)
        body: dict[str, Any] = {
            "messages": [said(message) for message in chat.messages],
            ways.get("max_tokens_field", "max_tokens"): chat.max_output_tokens,
            "stream": True,
        }
        body |= dialect.sampling(provider, chat, self.words)
        if chat.tools:
            body["tools"] = chat.tools
        body = dialect.patched(body, dialect.reasoning(provider, chat, {"reasoning_effort": "medium"}, {}))
        return HttpRequest(
            "POST",
            dialect.url(provider, provider.chat_path or "/run/{model}", chat.model),
            dialect.headers(provider, "text/event-stream", ways.get("headers")),
            json.dumps(dialect.patched(body, ways.get("body", {}))).encode(),
        )

    def decoder(self, provider: Provider) -> "Decoder":
        return Decoder(provider)

    def fault(self, provider: Provider, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFault:
        return dialect.blame(provider, read(status, headers, body), RULES)

    def parse_models(self, body: bytes) -> tuple[str, ...]:
        rows = load(body).get("result")
        if not isinstance(rows, list):
            raise Malformed("the list of models has none of the known forms")
        chatting = (
            row for row in map(tree, rows) if text(tree(row.get("task")).get("name")) in ("", "Text Generation")
        )
        return tuple(name for row in chatting if (name := text(row.get("name"))))


class Decoder(openai.Decoder):
    """Turns what is said natively into chunks of a chat completion. Counts come before the end, and wait for it."""

    __slots__ = ("_report",)

    def __init__(self, provider: Provider) -> None:
        super().__init__(provider, RULES)
        self._report: Report | None = None

    def end(self, out: list[Event]) -> None:
        super().end(out)
        if self._report is not None:
            out.append(self._report)

    def _read(self, chunk: dict[str, Any], part: str, out: list[Event]) -> None:
        if isinstance(result := chunk.get("result"), dict):
            if chunk.get("success") is True:
                chunk, part = result, "message"
                self.done = True
            elif "success" not in chunk:  # a piece of a stream
                chunk = {"errors": chunk.get("errors"), **result}
        if "response" not in chunk or entries(chunk.get("choices")):
            super()._read(chunk, part, out)
            return
        if (usage := openai.usage_of(tree(chunk.get("usage")))) is not None:
            self._report = Report(usage)
        calls = [call if "function" in tree(call) else {"function": call} for call in entries(chunk.get("tool_calls"))]
        said = {"content": chunk["response"], "tool_calls": calls}
        choice = {part: said, "finish_reason": chunk.get("finish_reason")}
        super()._read({"choices": [choice], "errors": chunk.get("errors")}, part, out)
