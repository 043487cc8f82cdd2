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
from providers.wire.field import count, counted, entries, load, load_first, text, tree
from providers.wire.tool import NO_TOOLS, arguments, functions, turns, whole

STREAM_PATH = "/v1beta/models/{model}:streamGenerateContent?alt=sse"

RULES = (
    rule(BadCredentials, "api_key_invalid", "unauthenticated", "permission_denied"),
    rule(BadCredentials, status=(400,), contains=("api key not valid", "api key expired")),
    rule(BadCredentials, status=(400,), contains=("user location is not supported", "not available in your country")),
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
    **dict.fromkeys(("MAX_TOKENS", "CONTINUATION"), "length"),
    **dict.fromkeys(
        (
            "SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "RECITATION", "SPII", "IMAGE_SAFETY", "MODEL_ARMOR",
            "ESCALATION",
        ),
        "filtered",
    ),
}  # fmt: skip
_NO_REASON = ("", "FINISH_REASON_UNSPECIFIED")  # the second is the name of the first
_MALFORMED = ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "MALFORMED_RESPONSE")
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
    __slots__ = ("_calls", "_finished", "_provider", "_report", "_speaks", "_stream", "done")

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._stream = sse.Stream()
        self._report: Report | None = None
        self._finished = False
        self._calls = False
        self._speaks = False
        self.done = False

    def feed(self, data: bytes, out: list[Event]) -> None:
        for _, payload in self._stream.feed(data):
            self._take(load(payload), out)

    def end(self, out: list[Event]) -> None:
        for _, payload in self._stream.end():
            self._take(load(payload), out)
        if bare := self._stream.bare:  # an error that came as plain JSON
            self._take(load_first(bare), out)
        if not self._finished:
            raise BrokenStream(f"{self._provider.name} ended its answer without saying that it is whole")

    def _take(self, answer: dict[str, Any], out: list[Event]) -> None:
        if answer.get("error"):
            raise dialect.blame(self._provider, understand(answer, 200), RULES)
        candidates = entries(answer.get("candidates"))
        candidate = tree(candidates[0]) if candidates else {}
        for part in map(tree, entries(tree(candidate.get("content")).get("parts"))):
            self._speak(part, out)
        if (usage := usage_of(tree(answer.get("usageMetadata")))) is not None:
            self._report = Report(usage, text(answer.get("modelVersion")) or None)
        reason = dialect.word(self._provider, candidate.get("finishReason"))
        if blocked := dialect.word(self._provider, tree(answer.get("promptFeedback")).get("blockReason")):
            self._finish("filtered", reason or blocked, out)
        elif reason not in _NO_REASON and not self._finished:
            self._end(reason, out)
        if self._finished:  # before the end, counts are no more than a beginning
            self._tell_counts(out)

    def _speak(self, part: dict[str, Any], out: list[Event]) -> None:
        if words := text(part.get("text")):
            is_thought = part.get("thought") is True
            self._speaks = self._speaks or not is_thought
            out.append(Thought(words) if is_thought else Text(words))
        elif call := tree(part.get("functionCall")):
            self._calls = True
            made = whole(call.get("id"), call.get("name"), call.get("args"))
            out.append(replace(made, signature=text(part.get("thoughtSignature"))))

    def _end(self, reason: str, out: list[Event]) -> None:
        """Raises the fault that the reason means. What the answer has cost is told before."""
        if reason in _MALFORMED:
            self._tell_counts(out)
            raise Malformed(f"{self._provider.name} says of its own answer: {reason}")
        if reason not in _REASONS and not (self._speaks or self._calls):  # an end of another kind, and nothing came
            self._tell_counts(out)
            raise ServerError(f"{self._provider.name} broke off: {reason}")
        meant = _REASONS.get(reason, "stop")
        self._finish("tool" if self._calls and meant == "stop" else meant, reason, out)

    def _finish(self, reason: FinishReason, word: str, out: list[Event]) -> None:
        if not self._finished:
            self._finished = True
            out.append(Finish(reason, word))

    def _tell_counts(self, out: list[Event]) -> None:
        if self._report is not None:
            out.append(self._report)
            self._report = None


def usage_of(usage: dict[str, Any]) -> Usage | None:
    """None unless the counts can be read; left out is a count of nothing, which a prompt's is not.

    Thoughts are counted beside the answer, tool prompts beside the prompt.
    """
    prompt, output = counted(usage.get("promptTokenCount")), counted(usage.get("candidatesTokenCount", 0))
    if prompt is None or output is None:
        return None
    thoughts = count(usage.get("thoughtsTokenCount"))
    prompt += count(usage.get("toolUsePromptTokenCount"))
    return Usage(
        input=prompt,
        cache_read=min(prompt, count(usage.get("cachedContentTokenCount"))),
        output=output + thoughts,
        reasoning=thoughts,
    )
