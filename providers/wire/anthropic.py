"""The Messages API. Sent as version 2023-06-01, the one that takes a temperature."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from providers.errors import (
    BadCredentials,
    BrokenStream,
    ContentFiltered,
    Overloaded,
    ProviderFault,
    QuotaSpent,
    ServerError,
    Throttled,
    UnknownModel,
)
from providers.message import Chat, Event, Finish, FinishReason, Message, Report, Text, Thought, Usage
from providers.provider import Provider
from providers.wire import dialect, reason, sse
from providers.wire.complaint import TOO_LONG, read, rule, understand
from providers.wire.dialect import HttpRequest
from providers.wire.field import count, counted, load, load_first, text, tree
from providers.wire.openai import OpenAi
from providers.wire.tool import NO_TOOLS, Pieces, arguments, functions, schema, turns

VERSION = "2023-06-01"

RULES = (
    rule(QuotaSpent, "billing_error", "enforced_spend_limit_reached", "contract_spend_limit_reached"),
    rule(QuotaSpent, status=(400,), contains=("credit balance", "spend limit", "usage limit")),
    rule(BadCredentials, "authentication_error", "permission_error"),
    rule(BadCredentials, status=(400,), contains=("organization has been disabled",)),
    rule(ContentFiltered, status=(200, 400), contains=("content filtering policy",)),
    rule(UnknownModel, "not_found_error"),
    rule(Overloaded, "overloaded_error"),
    rule(Throttled, "rate_limit_error"),
    rule(ServerError, "api_error", "timeout_error"),
    TOO_LONG,
    NO_TOOLS,
)

_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "filtered",
    "tool_use": "tool",
}
_PROMPT = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class Anthropic(dialect.Dialect):
    words: ClassVar = {"temperature": "temperature", "top_p": "top_p", "stop": "stop_sequences"}
    forms: ClassVar = frozenset({"json_schema"})

    def request(self, provider: Provider, chat: Chat) -> HttpRequest:
        ways = dialect.quirks(provider, chat.model)
        body: dict[str, Any] = {
            "model": chat.model,
            "max_tokens": chat.max_output_tokens,
            "messages": [_turn(turn) for turn in turns(chat.messages)],
            "stream": True,
        }
        if system := "\n\n".join(message.content for message in chat.messages if message.role == "system"):
            body["system"] = system
        if chat.tools:
            body["tools"] = [_tool(function) for function in functions(chat)]
        chat = reason.answerable(chat)
        wish = dialect.reasoning(provider, chat, {"thinking": {"type": "adaptive"}}, {"thinking": {"type": "disabled"}})
        if _affords(wish, chat.max_output_tokens):
            body = dialect.patched(body, wish)
        thinks = tree(body.get("thinking")).get("type") in ("enabled", "adaptive")
        body |= dialect.sampling(provider, replace(chat, reasoning=thinks), self.words)
        if chat.sampling.schema is not None:
            form = {"type": "json_schema", "schema": chat.sampling.schema}
            body = dialect.patched(body, {"output_config": {"format": form}})
        more = {"anthropic-version": ways.get("version", VERSION), **ways.get("headers", {})}
        return HttpRequest(
            "POST",
            dialect.url(provider, provider.chat_path or "/v1/messages", chat.model),
            dialect.headers(provider, "text/event-stream", more),
            json.dumps(dialect.patched(body, ways.get("body", {}))).encode(),
        )

    def decoder(self, provider: Provider) -> "Decoder":
        return Decoder(provider)

    def fault(self, provider: Provider, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFault:
        return dialect.blame(provider, read(status, headers, body), RULES)

    def models_request(self, provider: Provider) -> HttpRequest | None:
        more = {"anthropic-version": provider.quirks.get("version", VERSION)}
        return dialect.listing(provider, provider.models_path, more)

    def parse_models(self, body: bytes) -> tuple[str, ...]:
        return OpenAi().parse_models(body)


def _turn(turn: Sequence[Message]) -> dict[str, Any]:
    """What tools have answered is the user's to say, in one turn."""
    (first, *_) = turn
    if first.answers is not None:
        results = ((message.answers.id if message.answers else "", message.content) for message in turn)
        blocks = [{"type": "tool_result", "tool_use_id": call_id, "content": words} for call_id, words in results]
        return {"role": "user", "content": blocks}
    if not first.calls:
        return {"role": first.role, "content": first.content}
    words = [{"type": "text", "text": first.content}] if first.content else []
    uses = [{"type": "tool_use", "id": one.id, "name": one.name, "input": arguments(one)} for one in first.calls]
    return {"role": first.role, "content": [*reason.signed(first), *words, *uses]}


def _tool(function: Mapping[str, Any]) -> dict[str, Any]:
    named = {key: function[key] for key in ("name", "description") if key in function}
    return {**named, "input_schema": schema(function)}


def _affords(wish: Mapping[str, Any], max_tokens: int) -> bool:
    """A thinking budget must be smaller than the output limit, else the request is refused."""
    return count(tree(wish.get("thinking")).get("budget_tokens")) < max_tokens


class Decoder(dialect.Decoder):
    __slots__ = ("_counts", "_model", "_provider", "_reason", "_reasoned", "_stream", "_tools", "done")

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._stream = sse.Stream()
        self._tools = Pieces()
        self._reasoned = reason.Blocks()
        self._counts: dict[str, int] = {}
        self._model: str | None = None
        self._reason: str | None = None
        self.done = False

    def feed(self, data: bytes, out: list[Event]) -> None:
        self._take_all(self._stream.feed(data), out)

    def end(self, out: list[Event]) -> None:
        self._take_all(self._stream.end(), out)
        if bare := self._stream.bare:  # an error that came as plain JSON
            self._take(load_first(bare), out)
        if self._reason is None:
            raise BrokenStream(f"{self._provider.name} ended its answer without saying that it is whole")

    def _take_all(self, events: list[sse.Event], out: list[Event]) -> None:
        for name, payload in events:
            if not self.done and name != b"ping":
                self._take(load(payload), out)

    def _take(self, event: dict[str, Any], out: list[Event]) -> None:
        kind = event.get("type")
        if kind == "content_block_delta":
            self._speak(event.get("index"), tree(event.get("delta")), out)
        elif kind == "content_block_start":  # empty, unless a server opens a block with its first words
            self._speak(event.get("index"), tree(event.get("content_block")), out)
        elif kind == "content_block_stop":
            self._reasoned.end()
            self._tell_calls(out, event.get("index"))
        elif kind == "message_start":
            message = tree(event.get("message"))
            self._counts = _counts(tree(message.get("usage")))
            self._model = text(message.get("model")) or None
        elif kind == "message_delta":
            self._close(event, out)
        elif kind == "message_stop":
            self.done = True
        elif kind == "error" or event.get("error"):
            raise dialect.blame(self._provider, understand(event, 200), RULES)

    def _speak(self, index: Any, delta: dict[str, Any], out: list[Event]) -> None:
        if words := text(delta.get("text")):
            out.append(Text(words))
        elif thought := text(delta.get("thinking")):
            out.append(Thought(thought))
            self._reasoned.add(thought, text(delta.get("signature")))
        elif signature := text(delta.get("signature")):
            self._reasoned.add(signature=signature)
        elif hidden := text(delta.get("data")):
            self._reasoned.hide(hidden)
        elif delta.get("type") == "tool_use":
            self._tools.add(index, delta.get("id"), delta.get("name"), delta.get("input"))
        elif piece := text(delta.get("partial_json")):
            self._tools.add(index, arguments=piece)

    def _tell_calls(self, out: list[Event], index: Any = None) -> None:
        if self._tools.are_open:
            self._reasoned.tell(out)
            self._tools.close(out, index)

    def _close(self, event: dict[str, Any], out: list[Event]) -> None:
        """Counts are reported with the reason for the end: before it, the output count is no more than a beginning."""
        reason = text(tree(event.get("delta")).get("stop_reason"))
        told = _counts(tree(event.get("usage")))
        if not any(told.get(name) for name in _PROMPT):  # a prompt that was counted has not become nothing
            told = {name: number for name, number in told.items() if name not in _PROMPT or name not in self._counts}
        self._counts |= told
        if reason and self._reason is None:
            self._reason = reason
            self._tell_calls(out)  # blocks may be left open
            out.append(Finish(_REASONS.get(reason, "stop"), reason))
        if self._reason is not None and (usage := usage_of(self._counts)) is not None:
            out.append(Report(usage, self._model))


def _counts(usage: dict[str, Any]) -> dict[str, int]:
    """What can be read of a usage, whose parts come at different times; nothing else of it is kept."""
    details = tree(usage.get("output_tokens_details"))
    reasoning = count(details.get("thinking_tokens")) or counted(details.get("reasoning_tokens"))
    found = {"reasoning": reasoning, **{name: counted(usage.get(name)) for name in (*_PROMPT, "output_tokens")}}
    return {name: number for name, number in found.items() if number is not None}


def usage_of(counts: Mapping[str, int]) -> Usage | None:
    """None without both counts. `input_tokens` leaves out what was read from and written to the cache."""
    if "input_tokens" not in counts or "output_tokens" not in counts:
        return None
    found, written = counts.get("cache_read_input_tokens", 0), counts.get("cache_creation_input_tokens", 0)
    output = counts["output_tokens"]
    reasoning = min(output, counts.get("reasoning", 0))
    return Usage(counts["input_tokens"] + found + written, found, written, output, reasoning)
