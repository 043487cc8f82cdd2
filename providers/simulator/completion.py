"""An answer as a chat completion, whole or in chunks. Who words it in a way of their own overrides what differs."""

import time
from collections.abc import Iterable

from providers.simulator.answer import Ask, Finish, Reply
from providers.simulator.dialect import Json, encode
from providers.simulator.pace import Chunk
from providers.simulator.tool import Called

_FINISH = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.FILTERED: "content_filter", Finish.TOOL: "tool_calls"}


class Completion:
    garbage = b'data: {"id":"chatcmpl-","object":"chat.completion.ch\n\n'
    think_field: str | None = None  # None: as the reply says

    def __init__(self, ask: Ask, reply: Reply, call_id: str, trouble: Json) -> None:
        self.ask, self.reply, self.id, self._created = ask, reply, f"chatcmpl-{call_id}", int(time.time())
        self._trouble = trouble
        start = encode({"id": self.id, "object": "chat.completion.chunk", "created": self._created, "model": ask.model})
        self._start = b"data: " + start[:-1] + b',"choices":['
        self._end = b'],"usage":null}\n\n' if self.counts() else b"]}\n\n"
        self._delta = {
            thinking: self._start + b'{"index":0,"delta":{"' + name.encode() + b'":'
            for thinking, name in ((True, self.think_field or reply.think_field), (False, "content"))
        }

    def opening(self) -> bytes:
        return self.delta({"role": "assistant", "content": ""}, self.first())

    def piece(self, chunk: Chunk) -> bytes:
        if chunk.part is not None:
            return self.delta({"tool_calls": [_begun_call(chunk)]})
        return self._delta[chunk.thinking] + encode(chunk.text) + b'},"finish_reason":null}' + self._end

    def closing(self) -> bytes:
        finish: Json = {"index": 0, "delta": {}, "finish_reason": _FINISH[self.reply.finish]}
        counts = self.chunk(None, {"usage": self.usage()}) if self.counts() else b""
        return self.chunk(finish, self.last()) + counts + (b"data: [DONE]\n\n" if self.reply.says_done else b"")

    def trouble(self) -> bytes:
        return b"data: " + encode(self._trouble) + b"\n\n"

    def whole(self) -> bytes:
        choice = {"index": 0, "message": self.message(), "logprobs": None, "finish_reason": _FINISH[self.reply.finish]}
        answer = {
            "id": self.id,
            "object": "chat.completion",
            "created": self._created,
            "model": self.ask.model,
            "choices": [choice],
            "system_fingerprint": "fp_simulator",
            **self.first(),
        }
        return encode({**answer, "usage": self.usage()} if self.reply.reports_usage else answer)

    def counts(self) -> bool:
        """Whether tokens are counted in a chunk of their own."""
        return self.reply.reports_usage and self.ask.wants_usage

    def first(self) -> Json:
        """What else stands in the first chunk, or in a whole answer."""
        return {}

    def last(self) -> Json:
        """What else stands in the chunk that tells the end."""
        return {}

    def message(self) -> Json:
        message: Json = {"role": "assistant", "content": self.reply.content(), "refusal": None}
        if self.reply.calls:
            message |= {"content": self.reply.content() or None, "tool_calls": completion_calls(self.reply.calls)}
        if thought := self.reply.thought():
            message[self.think_field or self.reply.think_field] = thought
        return message

    def usage(self) -> Json:
        usage = self.reply.usage
        return {
            "prompt_tokens": usage.input,
            "completion_tokens": usage.output,
            "total_tokens": usage.input + usage.output,
            "prompt_tokens_details": {"cached_tokens": usage.cached},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
        }

    def delta(self, delta: Json, more: Json | None = None) -> bytes:
        """A chunk with a piece of the answer."""
        return self.chunk({"index": 0, "delta": delta, "finish_reason": None}, more)

    def chunk(self, choice: Json | None, more: Json | None = None) -> bytes:
        """A chunk, with further fields beside its choice."""
        told = {"usage": None} | (more or {}) if self.counts() else more
        fields = b"," + encode(told)[1:-1] if told else b""
        return self._start + (encode(choice) if choice else b"") + b"]" + fields + b"}\n\n"


def _begun_call(chunk: Chunk) -> Json:
    """The first piece of a call names it, all bring arguments."""
    if chunk.part is None:
        raise ValueError("a chunk that belongs to no call")
    piece: Json = {"index": chunk.part.index, "function": {"arguments": chunk.text}}
    if chunk.part.is_first:
        call = chunk.part.call
        piece |= {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": chunk.text}}
    return piece


def completion_calls(calls: Iterable[Called]) -> list[Json]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in calls
    ]
