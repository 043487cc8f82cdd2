"""The openai dialect: chat completions, embeddings, models."""

import base64
import math
import struct
import time
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from providers.simulator import tool
from providers.simulator.answer import Ask, Finish, Reply
from providers.simulator.dialect import (
    EmbedAsk,
    Json,
    bearer,
    begun,
    described,
    encode,
    field,
    joined,
    messages,
    needed,
    retry_after,
    stops,
    texts,
    told_by_id,
)
from providers.simulator.door import Chat, Embed, Listing
from providers.simulator.limits import Gauge
from providers.simulator.pace import Chunk
from providers.simulator.refusal import Kind, Refused, error_type
from providers.simulator.sheet import Sheet
from providers.simulator.tool import Called
from providers.simulator.world import House

_FINISH = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.FILTERED: "content_filter", Finish.TOOL: "tool_calls"}
TYPES = {
    Kind.BAD_REQUEST: (400, "invalid_request_error"),
    Kind.AUTH: (401, "invalid_request_error"),
    Kind.PERMISSION: (403, "invalid_request_error"),
    Kind.NOT_FOUND: (404, "invalid_request_error"),
    Kind.TOO_LARGE: (413, "invalid_request_error"),
    Kind.QUOTA: (429, "insufficient_quota"),
    Kind.RATE: (429, "requests"),
    Kind.OVERLOADED: (503, "server_error"),
    Kind.CONTEXT: (400, "invalid_request_error"),
    Kind.FILTERED: (400, "invalid_request_error"),
    Kind.SERVER: (500, "server_error"),
    Kind.TIMEOUT: (504, "server_error"),
}
_CODE = {
    Kind.AUTH: "invalid_api_key",
    Kind.NOT_FOUND: "model_not_found",
    Kind.QUOTA: "insufficient_quota",
    Kind.RATE: "rate_limit_exceeded",
    Kind.CONTEXT: "context_length_exceeded",
    Kind.FILTERED: "content_filter",
}
_OFF = ("none", "minimal")


class OpenAIVoice:
    garbage = b'data: {"id":"chatcmpl-","object":"chat.completion.ch\n\n'

    def __init__(self, ask: Ask, reply: Reply, call_id: str) -> None:
        self._ask, self._reply, self._id, self._created = ask, reply, f"chatcmpl-{call_id}", int(time.time())
        start = encode(
            {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": ask.model}
        )
        self._start = b"data: " + start[:-1] + b',"choices":['
        self._end = b'],"usage":null}\n\n' if self._counts() else b"]}\n\n"
        self._delta = {
            thinking: self._start + b'{"index":0,"delta":{"' + name.encode() + b'":'
            for thinking, name in ((True, reply.think_field), (False, "content"))
        }

    def opening(self) -> bytes:
        return self._start + b'{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}' + self._end

    def piece(self, chunk: Chunk) -> bytes:
        if chunk.part is not None:
            called = encode({"index": 0, "delta": {"tool_calls": [_begun_call(chunk)]}, "finish_reason": None})
            return self._start + called + self._end
        return self._delta[chunk.thinking] + encode(chunk.text) + b'},"finish_reason":null}' + self._end

    def closing(self) -> bytes:
        finish = encode({"index": 0, "delta": {}, "finish_reason": _FINISH[self._reply.finish]})
        usage = self._start + b'],"usage":' + encode(self._usage()) + b"}\n\n" if self._counts() else b""
        return self._start + finish + self._end + usage + (b"data: [DONE]\n\n" if self._reply.says_done else b"")

    def trouble(self) -> bytes:
        return b"data: " + encode(_error(Refused(Kind.SERVER))) + b"\n\n"

    def whole(self) -> bytes:
        message: Json = {"role": "assistant", "content": self._reply.content(), "refusal": None}
        if self._reply.calls:
            message |= {"content": self._reply.content() or None, "tool_calls": completion_calls(self._reply.calls)}
        if thought := self._reply.thought():
            message[self._reply.think_field] = thought
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _FINISH[self._reply.finish]}
        answer = {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._ask.model,
            "choices": [choice],
            "system_fingerprint": "fp_simulator",
        }
        return encode({**answer, "usage": self._usage()} if self._reply.reports_usage else answer)

    def _counts(self) -> bool:
        return self._reply.reports_usage and self._ask.wants_usage

    def _usage(self) -> Json:
        usage = self._reply.usage
        return {
            "prompt_tokens": usage.input,
            "completion_tokens": usage.output,
            "total_tokens": usage.input + usage.output,
            "prompt_tokens_details": {"cached_tokens": usage.cached},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
        }


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


class OpenAI:
    name = "openai"
    needs_key = True
    id_header = "x-request-id"
    stream_type = "text/event-stream; charset=utf-8"

    def routes(self, house: House) -> list[Route]:
        return [
            Route("/v1/chat/completions", Chat(house, self, _read), methods=["POST"]),
            Route("/v1/embeddings", Embed(house, self, _read_embed, _embeddings), methods=["POST"]),
            Route("/v1/models", Listing(house, self, _models), methods=["GET"]),
        ]

    def key(self, request: Request) -> str | None:
        return bearer(request) or request.headers.get("api-key")

    def rate_headers(self, gauge: Gauge) -> dict[str, str]:
        headers = {}
        for what, room in (("requests", gauge.requests), ("tokens", gauge.tokens)):
            if room:
                headers[f"x-ratelimit-limit-{what}"] = str(room[0])
                headers[f"x-ratelimit-remaining-{what}"] = str(room[1])
                headers[f"x-ratelimit-reset-{what}"] = _duration(room[2])
        return headers

    def refusal(self, refused: Refused, _call_id: str) -> tuple[int, dict[str, str], Json]:
        status, _ = error_type(refused, TYPES)
        headers = {}
        if refused.retry_after is not None:
            headers = retry_after(refused) | {"retry-after-ms": str(math.ceil(refused.retry_after * 1000))}
        return status, headers, _error(refused)

    def voice(self, ask: Ask, reply: Reply, call_id: str) -> OpenAIVoice:
        return OpenAIVoice(ask, reply, call_id)


def _error(refused: Refused) -> Json:
    param = {Kind.CONTEXT: "messages", Kind.NOT_FOUND: "model"}.get(refused.kind)
    error_name = error_type(refused, TYPES)[1]
    return {"error": {"message": refused.text(), "type": error_name, "param": param, "code": _CODE.get(refused.kind)}}


def _duration(seconds: float) -> str:
    """As OpenAI writes it: 12ms, 1.5s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:.3g}s" if minutes else f"{rest:.4g}s"


def _read(_request: Request, body: Json) -> Ask:
    limit = field(body, "max_completion_tokens", int, field(body, "max_tokens", int))
    if limit is not None and limit < 1:
        raise Refused(Kind.BAD_REQUEST, "max_tokens: at least 1 expected")
    stream = field(body, "stream", bool, False)
    options = field(body, "stream_options", dict, {})
    if options and not stream:
        raise Refused(Kind.BAD_REQUEST, "The 'stream_options' parameter is only allowed when 'stream' is enabled.")
    return Ask(
        model=needed(body, "model", str),
        prompt=joined([described(body), *(texts(message.get("content")) for message in messages(body))]),
        begun=begun(body),
        stream=stream,
        max_tokens=limit,
        wants_usage=options.get("include_usage") is True,
        thinking=not suppresses_thinking(body),
        shows_thinking=body.get("reasoning_format") != "hidden",
        tools=tool.functions(body.get("tools")),
        is_told=_is_told(body),
        stops=_stops(body),
        schema=_schema(body),
    )


def _stops(body: Json) -> tuple[str, ...]:
    given = body.get("stop")
    return (given,) if isinstance(given, str) else stops(body, "stop", 4)


def _schema(body: Json) -> Json | None:
    wanted = field(body, "response_format", dict, {})
    kind = wanted.get("type", "text")
    if kind not in ("text", "json_object", "json_schema"):
        raise Refused(Kind.BAD_REQUEST, f"response_format.type: {kind!r} is not supported")
    described = field(wanted, "json_schema", dict, {})
    if kind == "json_schema" and "name" not in described:
        raise Refused(Kind.BAD_REQUEST, "Missing required parameter: 'response_format.json_schema.name'.")
    return None if kind == "text" else field(described, "schema", dict, {})


def _is_told(body: Json) -> bool:
    """Whether results of tools end the conversation. Raises Refused for what the vendors of `thinking` refuse: calls
    without the reasoning that led to them."""
    calling = [message for message in body["messages"] if message.get("tool_calls")]
    if field(body, "thinking", dict, {}).get("type") == "enabled":
        for message in calling:
            if "reasoning_content" not in message:
                raise Refused(
                    Kind.BAD_REQUEST, "The `reasoning_content` in the thinking mode must be passed back to the API."
                )
    return told_by_id(body)


def suppresses_thinking(body: Json) -> bool:
    """The compatible providers' ways to say that no reasoning is wanted."""
    template = field(body, "chat_template_kwargs", dict, {})
    thinking = field(body, "thinking", dict, {})
    reasoning = field(body, "reasoning", dict, {})
    return (
        body.get("reasoning_effort") in _OFF
        or thinking.get("type") == "disabled"
        or False in (body.get("enable_thinking"), template.get("enable_thinking"), reasoning.get("enabled"))
        or reasoning.get("effort") in _OFF
    )


def _read_embed(_request: Request, body: Json) -> EmbedAsk:
    given = body.get("input")
    inputs: Any = [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not inputs or not all(isinstance(text, str) for text in inputs):
        raise Refused(Kind.BAD_REQUEST, "input: a text or a list of texts expected")
    dimensions = field(body, "dimensions", int)
    if dimensions is not None and not 1 <= dimensions <= 4096:
        raise Refused(Kind.BAD_REQUEST, "dimensions: 1 to 4096 expected")
    return EmbedAsk(needed(body, "model", str), inputs, dimensions, body.get("encoding_format") == "base64")


def _embeddings(ask: EmbedAsk, vectors: list[list[float]], tokens: int) -> Json:
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if ask.as_base64 else vector}
        for index, vector in enumerate(vectors)
    ]
    return {
        "id": "embd-simulated",  # wanted by Mistral's client
        "object": "list",
        "model": ask.model,
        "data": data,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _models(sheet: Sheet, _body: Json) -> Json:
    data = [{"id": name, "object": "model", "created": 1767225600, "owned_by": "simulator"} for name in sheet.models]
    return {"object": "list", "data": data}


DIALECT = OpenAI()
