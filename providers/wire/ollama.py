"""Ollama's own /api/chat: one JSON object per line."""

import json
from collections.abc import Mapping
from typing import Any

from providers.errors import BrokenStream, ContextTooLong, Malformed, Overloaded, ProviderFault, UnknownModel
from providers.message import Chat, Event, Finish, FinishReason, Message, Report, Thought, Usage
from providers.provider import Provider
from providers.tokens import estimate_chat
from providers.wire import dialect
from providers.wire.complaint import TOO_LONG, read, rule, understand
from providers.wire.dialect import HttpRequest
from providers.wire.field import counted, entries, load, text, tree
from providers.wire.openai import OpenAi
from providers.wire.sse import Lines
from providers.wire.think import Splitter
from providers.wire.tool import NO_TOOLS, arguments, whole

RULES = (
    rule(
        UnknownModel,
        contains=("not found, try pulling", "does not support chat", "does not support thinking"),
    ),
    rule(ContextTooLong, contains=("exceeds the context", "exceeds maximum context")),
    TOO_LONG,
    NO_TOOLS,
    rule(Overloaded, status=(502, 503)),
)

_REASONS: Mapping[str, FinishReason] = {"stop": "stop", "length": "length"}
_DEFAULT_WINDOW = 4096  # tokens; a longer prompt would be cut silently


class Ollama(dialect.Dialect):
    words = OpenAi.words
    forms = dialect.JSON

    def request(self, provider: Provider, chat: Chat) -> HttpRequest:
        ways = dialect.quirks(provider, chat.model)
        options: dict[str, Any] = {"num_predict": chat.max_output_tokens}
        if (window := _window(provider, chat)) is not None:
            options["num_ctx"] = window
        options |= dialect.sampling(provider, chat, self.words)
        body: dict[str, Any] = {
            "model": chat.model,
            "messages": [_said(message) for message in chat.messages],
            "stream": True,
            "options": options,
            **_thinking(provider, chat),
        }
        if chat.sampling.form is not None:
            body["format"] = chat.sampling.schema or "json"
        if chat.tools:
            body["tools"] = chat.tools
        return HttpRequest(
            "POST",
            dialect.url(provider, provider.chat_path or "/api/chat", chat.model),
            dialect.headers(provider, "application/x-ndjson", ways.get("headers")),
            json.dumps(dialect.patched(body, ways.get("body", {}))).encode(),
        )

    def decoder(self, provider: Provider) -> "Decoder":
        return Decoder(provider)

    def fault(self, provider: Provider, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFault:
        return dialect.blame(provider, read(status, headers, body), RULES)

    def models_request(self, provider: Provider) -> HttpRequest | None:
        return dialect.listing(provider, provider.models_path or "/api/tags")

    def parse_models(self, body: bytes) -> tuple[str, ...]:
        rows = load(body).get("models")
        if not isinstance(rows, list):
            raise Malformed("the list of models has none of the known forms")
        chatting = (row for row in map(tree, rows) if "bert" not in text(tree(row.get("details")).get("family")))
        ids = (text(row.get("name")) or text(row.get("model")) for row in chatting)
        return tuple(name for name in ids if name and "embed" not in name)


def _said(message: Message) -> dict[str, Any]:
    """Calls have no ids here, and results are known by the tool's name."""
    form: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        form["tool_calls"] = [{"function": {"name": call.name, "arguments": arguments(call)}} for call in message.calls]
    if message.answers is not None:
        form["tool_name"] = message.answers.name
    return form


def _thinking(provider: Provider, chat: Chat) -> Mapping[str, Any]:
    """`think: false` suits every model, `think: true` is refused for those that cannot; gpt-oss knows degrees only."""
    if "gpt-oss" in chat.model:
        return {"think": "medium" if chat.reasoning else "low"}
    return dialect.reasoning(provider, chat, {"think": True}, {"think": False}) if chat.reasoning else {"think": False}


def _window(provider: Provider, chat: Chat) -> int | None:
    """The context to load the model with: what is configured, else a power of two that holds the call.

    Doubling keeps the number of sizes small: Ollama loads a model anew for each.
    """
    if (model := provider.known(chat.model)) is not None and model.context is not None:
        return model.context
    wanted = estimate_chat(chat) + chat.max_output_tokens
    return None if wanted <= _DEFAULT_WINDOW else 1 << (wanted - 1).bit_length()


class Decoder(dialect.Decoder):
    __slots__ = ("_calls", "_lines", "_provider", "_split", "done")

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._lines = Lines()
        self._split = Splitter()
        self._calls = False
        self.done = False

    def feed(self, data: bytes, out: list[Event]) -> None:
        self._take(self._lines.feed(data), out)

    def end(self, out: list[Event]) -> None:
        self._take(self._lines.end(), out)
        if not self.done:
            raise BrokenStream(f"{self._provider.name} ended its answer without saying that it is whole")

    def _take(self, lines: list[bytes], out: list[Event]) -> None:
        for line in lines:
            if line.strip() and not self.done:
                self._read(load(line), out)

    def _read(self, piece: dict[str, Any], out: list[Event]) -> None:
        if piece.get("error"):
            raise dialect.blame(self._provider, understand(piece, 200), RULES)
        message = tree(piece.get("message"))
        if thought := text(message.get("thinking")):
            out.append(Thought(thought))
        if words := text(message.get("content")):
            self._split.feed(words, out)
        for call in map(tree, entries(message.get("tool_calls"))):
            function = tree(call.get("function"))
            self._calls = True
            out.append(whole(call.get("id"), function.get("name"), function.get("arguments")))
        if piece.get("done") is True:
            self._close(piece, out)

    def _close(self, piece: dict[str, Any], out: list[Event]) -> None:
        self.done = True
        self._split.end(out)
        reason = text(piece.get("done_reason"))
        out.append(Finish("tool" if self._calls else _REASONS.get(reason, "stop"), reason or None))
        if (usage := usage_of(piece)) is not None:
            out.append(Report(usage, text(piece.get("model")) or None))


def usage_of(piece: dict[str, Any]) -> Usage | None:
    """Either count may be missing; half a count is none."""
    prompt, output = counted(piece.get("prompt_eval_count")), counted(piece.get("eval_count"))
    return None if prompt is None or output is None else Usage(input=prompt, output=output)
