"""generateContent, streamed: every event is a partial answer, and there is no terminator, the stream just ends."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from providers.errors import (
    BadCredentials,
    BrokenStream,
    ContentFiltered,
    Malformed,
    Overloaded,
    ProviderFault,
    QuotaSpent,
    ServerError,
    Throttled,
    UnknownModel,
)
from providers.message import Chat, Event, Finish, FinishReason, Message, Report, Text, Thought, ToolCall, Usage
from providers.provider import Provider
from providers.wire import dialect, sse
from providers.wire.complaint import TOO_LONG, read, rule, understand
from providers.wire.dialect import HttpRequest
from providers.wire.field import count, entries, load, text, tree
from providers.wire.tool import NO_TOOLS, arguments, functions, turns, whole

STREAM_PATH = "/v1beta/models/{model}:streamGenerateContent?alt=sse"

RULES = (
    rule(BadCredentials, "api_key_invalid", "unauthenticated", "permission_denied"),
    rule(BadCredentials, status=(400,), contains=("api key not valid", "api key expired")),
    rule(QuotaSpent, status=(200, 429), contains=("perday", "per day", "per_day")),
    rule(Throttled, "resource_exhausted"),
    rule(Overloaded, "unavailable"),
    rule(UnknownModel, "not_found"),
    rule(ServerError, "internal", "deadline_exceeded"),
    TOO_LONG,
    NO_TOOLS,
    rule(ContentFiltered, "safety", "prohibited_content"),
)

_REASONS: Mapping[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    **dict.fromkeys(("SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "RECITATION", "SPII", "IMAGE_SAFETY"), "filtered"),
    **dict.fromkeys(("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"), "tool"),
}
_ON = {"generationConfig": {"thinkingConfig": {"includeThoughts": True, "thinkingBudget": -1}}}
_OFF = {"generationConfig": {"thinkingConfig": {"thinkingBudget": 0}}}


class Gemini(dialect.Dialect):
    words: ClassVar = {
        "temperature": "temperature",
        "top_p": "topP",
        "stop": "stopSequences",
        "seed": "seed",
        "frequency_penalty": "frequencyPenalty",
        "presence_penalty": "presencePenalty",
    }
    forms = dialect.JSON

    def request(self, provider: Provider, chat: Chat) -> HttpRequest:
        ways = dialect.quirks(provider, chat.model)
        settings: dict[str, Any] = {"maxOutputTokens": chat.max_output_tokens}
        settings |= dialect.sampling(provider, chat, self.words)
        if chat.sampling.form is not None:
            settings["responseMimeType"] = "application/json"
        if chat.sampling.schema is not None:
            settings["responseJsonSchema"] = chat.sampling.schema
        body: dict[str, Any] = {
            "contents": [_turn(turn) for turn in turns(chat.messages)],
            "generationConfig": settings,
        }
        if system := [{"text": message.content} for message in chat.messages if message.role == "system"]:
            body["systemInstruction"] = {"parts": system}
        if chat.tools:
            body["tools"] = [{"functionDeclarations": list(functions(chat))}]
        body = dialect.patched(body, dialect.reasoning(provider, chat, _ON, _OFF))
        return HttpRequest(
            "POST",
            dialect.url(provider, provider.stream_path or STREAM_PATH, chat.model),
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
        chatting = (
            row
            for row in map(tree, rows)
            if "generateContent" in entries(row.get("supportedGenerationMethods", ["generateContent"]))
        )
        ids = (text(row.get("name")).removeprefix("models/") for row in chatting)
        return tuple(name for name in ids if name and "embed" not in name)


def _turn(turn: Sequence[Message]) -> dict[str, Any]:
    """What tools have answered is the user's to say, in one turn."""
    role = "model" if turn[0].role == "assistant" else "user"
    return {"role": role, "parts": [part for message in turn for part in _parts(message)]}


def _parts(message: Message) -> list[dict[str, Any]]:
    if message.answers is not None:
        answer = {"name": message.answers.name, "response": {"result": message.content}}
        return [{"functionResponse": {**_id(message.answers), **answer}}]
    words = [{"text": message.content}] if message.content or not message.calls else []
    return [*words, *map(_call, message.calls)]


def _call(call: ToolCall) -> dict[str, Any]:
    part = {"functionCall": {**_id(call), "name": call.name, "args": arguments(call)}}
    return {**part, "thoughtSignature": call.signature} if call.signature else part


def _id(call: ToolCall) -> dict[str, str]:
    return {"id": call.id} if call.id else {}


class Decoder(dialect.Decoder):
    __slots__ = ("_calls", "_finished", "_provider", "_report", "_stream", "done")

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._stream = sse.Stream()
        self._report: Report | None = None
        self._finished = False
        self._calls = False
        self.done = False

    def feed(self, data: bytes, out: list[Event]) -> None:
        for _, payload in self._stream.feed(data):
            self._take(load(payload), out)

    def end(self, out: list[Event]) -> None:
        for _, payload in self._stream.end():
            self._take(load(payload), out)
        if not self._finished and self._stream.stray:  # an error that came as plain JSON
            self._take(load(bytes(self._stream.stray)), out)
        if not self._finished:
            raise BrokenStream(f"{self._provider.name} ended its answer without saying that it is whole")

    def _take(self, answer: dict[str, Any], out: list[Event]) -> None:
        if "error" in answer:
            raise dialect.blame(self._provider, understand(answer, 200), RULES)
        candidates = entries(answer.get("candidates"))
        candidate = tree(candidates[0]) if candidates else {}
        for part in map(tree, entries(tree(candidate.get("content")).get("parts"))):
            if words := text(part.get("text")):
                out.append(Thought(words) if part.get("thought") is True else Text(words))
            elif call := tree(part.get("functionCall")):
                self._calls = True
                made = whole(call.get("id"), call.get("name"), call.get("args"))
                out.append(replace(made, signature=text(part.get("thoughtSignature"))))
        blocked = text(tree(answer.get("promptFeedback")).get("blockReason"))
        if reason := text(candidate.get("finishReason")) or blocked:
            meant = "filtered" if blocked else _REASONS.get(reason, "stop")
            self._finish("tool" if self._calls and meant == "stop" else meant, reason, out)
        if isinstance(usage := answer.get("usageMetadata"), dict):
            self._report = Report(usage_of(usage), text(answer.get("modelVersion")) or None)
        if self._finished and self._report is not None:  # before the end, counts are no more than a beginning
            out.append(self._report)
            self._report = None

    def _finish(self, reason: FinishReason, word: str, out: list[Event]) -> None:
        if not self._finished:
            self._finished = True
            out.append(Finish(reason, word))


def usage_of(usage: dict[str, Any]) -> Usage:
    """Thoughts are counted beside the answer, tool prompts beside the prompt."""
    thoughts = count(usage.get("thoughtsTokenCount"))
    prompt = count(usage.get("promptTokenCount")) + count(usage.get("toolUsePromptTokenCount"))
    return Usage(
        input=prompt,
        cache_read=min(prompt, count(usage.get("cachedContentTokenCount"))),
        output=count(usage.get("candidatesTokenCount")) + thoughts,
        reasoning=thoughts,
    )
