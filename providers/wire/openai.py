"""Chat completions, as OpenAI and most others speak it. What a provider does differently stands in its row."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from providers.errors import (
    BadCredentials,
    BrokenStream,
    ContentFiltered,
    ContextTooLong,
    Malformed,
    Overloaded,
    ProviderFault,
    QuotaSpent,
    ServerError,
    Throttled,
    UnknownModel,
)
from providers.message import Chat, Event, Finish, FinishReason, Message, Report, Text, Thought, Usage
from providers.provider import Provider
from providers.wire import dialect, gateway, reason, sse
from providers.wire.complaint import TOO_LONG, Rule, complains, read, rule, understand
from providers.wire.dialect import HttpRequest
from providers.wire.field import count, counted, entries, load, load_first, speech, text, tree
from providers.wire.think import Splitter
from providers.wire.tool import NO_TOOLS, Pieces, said

RULES = (
    *gateway.UPSTREAM,
    rule(
        QuotaSpent,
        "insufficient_quota", "billing_not_active", "credit_balance_exhausted", "billing_hard_limit_reached",
        "exceeded_current_quota_error",
        "organization_spend_limit_exceeded", "project_spend_limit_exceeded", "organization_usage_limit_exceeded",
    ),
    rule(ContextTooLong, "context_length_exceeded", "exceed_context_size_error"),
    rule(ContextTooLong, status=(413, 429), contains=("request too large",)),  # for a minute, and no minute is larger
    rule(ContentFiltered, "content_filter", "content_policy_violation"),
    rule(BadCredentials, "invalid_api_key", "authentication_error", "invalid_authentication_error"),
    rule(UnknownModel, "model_not_found"),
    rule(UnknownModel, status=(400,), contains=("organization must be verified",)),
    rule(Overloaded, "engine_overloaded_error", "overloaded_error", "unavailable_error"),
    rule(Throttled, "rate_limit_exceeded", "slow_down", "rate_limit_reached_error", "rate_limit_error"),
    *gateway.RULES,
    TOO_LONG,
    NO_TOOLS,
)  # fmt: skip

_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "content_filter": "filtered",
    "sensitive": "filtered",
    "tool_calls": "tool",
    "function_call": "tool",
}
_FAILED: Mapping[str, type[ProviderFault]] = {
    "error": ServerError,
    "network_error": ServerError,
    "engine_overloaded": Overloaded,
    "insufficient_system_resource": Overloaded,
}


class OpenAi(dialect.Dialect):
    words: ClassVar = {
        name: name for name in ("temperature", "top_p", "stop", "seed", "frequency_penalty", "presence_penalty")
    }
    forms = dialect.JSON

    def request(self, provider: Provider, chat: Chat) -> HttpRequest:
        ways = dialect.quirks(provider, chat.model)
        body: dict[str, Any] = {
            "model": chat.model,
            "messages": [_handed(message, ways.get("reasoning_back")) for message in chat.messages],
            ways.get("max_tokens_field", "max_tokens"): chat.max_output_tokens,
            "stream": True,
        }
        if ways.get("stream_usage", "include_usage") == "include_usage":
            body["stream_options"] = {"include_usage": True}
        body |= dialect.sampling(provider, chat, self.words)
        if chat.sampling.response_format is not None:
            body["response_format"] = chat.sampling.response_format
        if chat.tools:
            body["tools"] = chat.tools
        body = dialect.patched(body, dialect.reasoning(provider, chat, {"reasoning_effort": "medium"}, {}))
        body = dialect.patched(body, ways.get("body", {}))
        more = dict(ways.get("headers", {}))
        if chat.idempotency_key is not None and "idempotency_header" in ways:
            more[ways["idempotency_header"].lower()] = chat.idempotency_key
        return HttpRequest(
            "POST",
            dialect.url(provider, provider.chat_path or "/chat/completions", chat.model),
            dialect.headers(provider, "text/event-stream", more),
            json.dumps(body).encode(),
        )

    def decoder(self, provider: Provider) -> "Decoder":
        return Decoder(provider)

    def fault(self, provider: Provider, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFault:
        return dialect.blame(provider, read(status, headers, body), RULES)

    def parse_models(self, body: bytes) -> tuple[str, ...]:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            raise Malformed("the list of models is not JSON") from None
        rows = value if isinstance(value, list) else tree(value).get("data", tree(value).get("models"))
        if not isinstance(rows, list):
            raise Malformed("the list of models has none of the known forms")
        ids = (text(tree(row).get("id")) or text(tree(row).get("model")) for row in rows)
        return tuple(name for name in ids if name and "embed" not in name.lower())


def _handed(message: Message, back: str | None) -> dict[str, Any]:
    """With the reasoning behind its calls, under the name by which this provider wants it back, if it does."""
    form = said(message)
    if message.calls and back == "thinking_blocks":
        form |= {"thinking_blocks": reason.signed(message), "reasoning_content": reason.open_text(message)}
    elif message.calls and back is not None:
        form[back] = reason.open_text(message)
    return form


class Decoder(dialect.Decoder):
    __slots__ = (
        "_finished", "_in_pieces", "_provider", "_reasoned", "_refused", "_rules", "_seen", "_split", "_stream",
        "_tools", "done",
    )  # fmt: skip

    def __init__(self, provider: Provider, rules: tuple[Rule, ...] = RULES) -> None:
        self._provider = provider
        self._rules = rules
        self._stream = sse.Stream()
        self._split = Splitter()
        self._tools = Pieces()
        self._reasoned = reason.Blocks()
        self._finished = False
        self._refused = False
        self._seen = False
        self._in_pieces = False
        self.done = False

    def feed(self, data: bytes, out: list[Event]) -> None:
        for _, payload in self._stream.feed(data):
            self._take(payload, out)

    def end(self, out: list[Event]) -> None:
        for _, payload in self._stream.end():
            self._take(payload, out)
        if bare := self._stream.bare:  # an answer that is no stream, or a bare error
            self._read(load_first(bare), "message", out)
        if not self._finished and not (self.done and self._seen):
            raise BrokenStream(f"{self._provider.name} ended its answer without saying that it is whole")
        if not self._finished:
            self._finish("stop", out)

    def _take(self, payload: bytes, out: list[Event]) -> None:
        if self.done:
            return
        if payload.strip() == b"[DONE]":
            self.done = True
            return
        self._read(load(payload), "delta", out)

    def _read(self, chunk: dict[str, Any], part: str, out: list[Event]) -> None:
        self._complain(chunk)
        choices = entries(chunk.get("choices"))
        choice = tree(choices[0]) if choices else {}
        self._seen = self._seen or bool(choices)
        try:
            self._speak(self._said(choice, part), out)
            reason = dialect.word(self._provider, choice.get("finish_reason"))
            if reason and not self._finished:
                self._finish(reason, out)
        finally:  # also what broke off was counted
            counts = chunk.get("usage") or tree(chunk.get("x_groq")).get("usage") or choice.get("usage")
            if (usage := usage_of(tree(counts))) is not None:
                out.append(Report(usage, text(chunk.get("model")) or None))

    def _said(self, choice: dict[str, Any], part: str) -> dict[str, Any]:
        """A stream of one whole message is none of pieces; behind pieces, the message repeats them."""
        if not self._in_pieces and part not in choice:
            part = "message"
        self._in_pieces |= part in choice
        return tree(choice.get(part))

    def _complain(self, chunk: dict[str, Any]) -> None:
        error = chunk.get("error") or tree(chunk.get("x_groq")).get("error") or chunk.get("errors")
        business = tree(chunk.get("base_resp")).get("status_code")
        is_flat = not (chunk.get("choices") or chunk.get("usage")) and complains(chunk)
        if error or business or is_flat:
            raise dialect.blame(
                self._provider, understand({**chunk, "error": error} if error else chunk, 200), self._rules
            )

    def _speak(self, delta: dict[str, Any], out: list[Event]) -> None:
        content = delta.get("content")
        if thought := speech(delta.get("reasoning_content")) or speech(delta.get("reasoning")):
            out.append(Thought(thought))
        if not self._reasoned.add_all(delta.get("thinking_blocks")):
            self._reasoned.add(thought)
        if isinstance(content, list):
            self._speak_parts(content, out)
        elif words := speech(content):
            self._split.feed(words, out)
        self._tools.add_all(delta.get("tool_calls"))
        if refusal := text(delta.get("refusal")):
            self._refused = True
            out.append(Text(refusal))

    def _speak_parts(self, parts: list[Any], out: list[Event]) -> None:
        for part in map(tree, parts):
            if part.get("type") == "thinking":
                thinking = part.get("thinking")
                words = text(thinking) or "".join(text(tree(piece).get("text")) for piece in entries(thinking))
                if words:
                    out.append(Thought(words))
            elif words := text(part.get("text")):
                self._split.feed(words, out)

    def _finish(self, reason: str, out: list[Event]) -> None:
        if (fault := _FAILED.get(reason)) is not None:
            raise fault(f"{self._provider.name} broke off: {reason}")
        self._split.end(out)
        if self._tools.are_open:
            self._reasoned.tell(out)
        called = self._tools.close(out)  # not all who call a tool say so at the end
        self._finished = True
        meant = "filtered" if self._refused else _REASONS.get(reason, "stop")
        out.append(Finish("tool" if called and meant == "stop" else meant, reason or None))


def usage_of(usage: dict[str, Any]) -> Usage | None:
    """None unless both counts can be read, and where an answer has no prompt: some count each piece by itself.

    Some count reasoning beside the completion instead of in it; the total tells.
    """
    prompt, output = counted(usage.get("prompt_tokens")), counted(usage.get("completion_tokens"))
    if prompt is None or output is None or output > prompt == 0:
        return None
    cached, thought = tree(usage.get("prompt_tokens_details")), tree(usage.get("completion_tokens_details"))
    reasoning = count(thought.get("reasoning_tokens"))
    found = cached.get("cached_tokens"), usage.get("cached_tokens"), usage.get("prompt_cache_hit_tokens")
    if reasoning and count(usage.get("total_tokens")) == prompt + output + reasoning:
        output += reasoning
    return Usage(
        input=prompt,
        cache_read=min(prompt, next(filter(None, map(count, found)), 0)),
        cache_write=min(prompt, count(cached.get("cache_write_tokens"))),
        output=output,
        reasoning=min(output, reasoning),
    )
