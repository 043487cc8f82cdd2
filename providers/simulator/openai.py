"""The openai dialect: chat completions, embeddings, models."""

import base64
import math
import struct
from collections.abc import Mapping
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.routing import Route

from providers.simulator import tool
from providers.simulator.answer import Ask, Reply
from providers.simulator.completion import Completion
from providers.simulator.dialect import (
    EmbedAsk,
    Json,
    bearer,
    begun,
    described,
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
from providers.simulator.refusal import Kind, Refused, error_type
from providers.simulator.sheet import Sheet
from providers.simulator.world import House

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


class OpenAI:
    name = "openai"
    root = "/v1"
    types: ClassVar[Mapping[Kind, tuple[int, str]]] = TYPES
    needs_key = True
    id_header = "x-request-id"
    stream_type = "text/event-stream; charset=utf-8"

    def routes(self, house: House) -> list[Route]:
        return [
            Route(f"{self.root}/chat/completions", Chat(house, self, read), methods=["POST"]),
            Route(f"{self.root}/embeddings", Embed(house, self, read_embed, embeddings), methods=["POST"]),
            Route(f"{self.root}/models", Listing(house, self, models), methods=["GET"]),
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
        status, _ = error_type(refused, self.types)
        headers = {}
        if refused.retry_after is not None:
            headers = retry_after(refused) | {"retry-after-ms": str(math.ceil(refused.retry_after * 1000))}
        return status, headers, self.error(refused)

    def error(self, refused: Refused) -> Json:
        """The body of a refusal, and what breaks a stream off."""
        return {"error": self.described(refused)}

    def described(self, refused: Refused) -> Json:
        param = {Kind.CONTEXT: "messages", Kind.NOT_FOUND: "model"}.get(refused.kind)
        error_name = error_type(refused, self.types)[1]
        return {"message": refused.text(), "type": error_name, "param": param, "code": _CODE.get(refused.kind)}

    def voice(self, ask: Ask, reply: Reply, call_id: str) -> Completion:
        return Completion(ask, reply, call_id, self.error(Refused(Kind.SERVER)))


def _duration(seconds: float) -> str:
    """As OpenAI writes it: 12ms, 1.5s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:.3g}s" if minutes else f"{rest:.4g}s"


def read(_request: Request, body: Json) -> Ask:
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


def read_embed(_request: Request, body: Json) -> EmbedAsk:
    given = body.get("input")
    inputs: Any = [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not inputs or not all(isinstance(text, str) for text in inputs):
        raise Refused(Kind.BAD_REQUEST, "input: a text or a list of texts expected")
    dimensions = field(body, "dimensions", int)
    if dimensions is not None and not 1 <= dimensions <= 4096:
        raise Refused(Kind.BAD_REQUEST, "dimensions: 1 to 4096 expected")
    return EmbedAsk(needed(body, "model", str), inputs, dimensions, body.get("encoding_format") == "base64")


def embeddings(ask: EmbedAsk, vectors: list[list[float]], tokens: int) -> Json:
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


def models(sheet: Sheet, _body: Json) -> Json:
    data = [{"id": name, "object": "model", "created": 1767225600, "owned_by": "simulator"} for name in sheet.models]
    return {"object": "list", "data": data}


DIALECT = OpenAI()
