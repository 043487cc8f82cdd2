"""The anthropic dialect: messages and models."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from providers.simulator import tool
from providers.simulator.answer import Ask, Finish, Reply
from providers.simulator.dialect import (
    Json,
    bearer,
    begun,
    described,
    encode,
    field,
    joined,
    messages,
    needed,
    stops,
    texts,
)
from providers.simulator.door import Chat, Listing
from providers.simulator.limits import Gauge
from providers.simulator.pace import Chunk
from providers.simulator.refusal import Kind, Refused, error_type
from providers.simulator.seal import check, seal
from providers.simulator.sheet import Sheet
from providers.simulator.tool import Part
from providers.simulator.world import House

_FINISH = {Finish.STOP: "end_turn", Finish.LENGTH: "max_tokens", Finish.FILTERED: "refusal", Finish.TOOL: "tool_use"}
_TYPE = {
    Kind.BAD_REQUEST: (400, "invalid_request_error"),
    Kind.AUTH: (401, "authentication_error"),
    Kind.PERMISSION: (403, "permission_error"),
    Kind.NOT_FOUND: (404, "not_found_error"),
    Kind.TOO_LARGE: (413, "request_too_large"),
    Kind.QUOTA: (402, "billing_error"),
    Kind.RATE: (429, "rate_limit_error"),
    Kind.OVERLOADED: (529, "overloaded_error"),
    Kind.CONTEXT: (400, "invalid_request_error"),
    Kind.FILTERED: (400, "invalid_request_error"),
    Kind.SERVER: (500, "api_error"),
    Kind.TIMEOUT: (504, "timeout_error"),
}
_SAMPLING = ("temperature", "top_p", "top_k")  # refused since the version of 2026-10-21
_REFUSAL = {"type": "refusal", "category": None, "explanation": None}
_DELTA = {True: b'{"type":"thinking_delta","thinking":', False: b'{"type":"text_delta","text":'}


class AnthropicVoice:
    garbage = b'event: content_block_delta\ndata: {"type":"content_block_delta","ind\n\n'

    def __init__(self, ask: Ask, reply: Reply, call_id: str) -> None:
        self._ask, self._reply, self._id = ask, reply, f"msg_{call_id}"
        self._index = -1
        self._thinking: bool | None = None  # which block is open
        self._thought: list[str] = []  # of that block

    def opening(self) -> bytes:
        message = {**self._message(), "content": [], "stop_reason": None, "stop_sequence": None}
        if self._reply.reports_usage:
            message["usage"] = self._usage(output=min(1, self._reply.usage.output))
        return _event({"type": "message_start", "message": message}) + _event({"type": "ping"})

    def piece(self, chunk: Chunk) -> bytes:
        if chunk.part is not None:
            return self._call(chunk.text, chunk.part)
        opened = b"" if chunk.thinking is self._thinking else self._turn(chunk.thinking)
        if chunk.thinking:
            self._thought.append(chunk.text)
        start = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":' % self._index
        return opened + start + _DELTA[chunk.thinking] + encode(chunk.text) + b"}}\n\n"

    def closing(self) -> bytes:
        delta: Json = {"stop_reason": _FINISH[self._reply.finish], "stop_sequence": None}
        if self._reply.finish is Finish.FILTERED:
            delta["stop_details"] = _REFUSAL
        event: Json = {"type": "message_delta", "delta": delta}
        if self._reply.reports_usage:
            event["usage"] = {"output_tokens": self._reply.usage.output}
        stop = _event({"type": "message_stop"}) if self._reply.says_done else b""
        return self._close() + _event(event) + stop

    def trouble(self) -> bytes:
        return _event({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})

    def whole(self) -> bytes:
        content: list[Json] = [{"type": "text", "text": self._reply.content()}] if self._reply.text else []
        if thought := self._reply.thought():
            content.insert(0, {"type": "thinking", "thinking": thought, "signature": seal(thought)})
        content.extend(
            {"type": "tool_use", "id": call.id, "name": call.name, "input": call.values} for call in self._reply.calls
        )
        message = {
            **self._message(),
            "content": content,
            "stop_reason": _FINISH[self._reply.finish],
            "stop_sequence": None,
        }
        if self._reply.finish is Finish.FILTERED:
            message["stop_details"] = _REFUSAL
        if self._reply.reports_usage:
            message["usage"] = self._usage(self._reply.usage.output)
        return encode(message)

    def _message(self) -> Json:
        return {"id": self._id, "type": "message", "role": "assistant", "model": self._ask.model}

    def _usage(self, output: int) -> Json:
        usage = self._reply.usage
        return {
            "input_tokens": usage.input - usage.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": usage.cached,
            "output_tokens": output,
        }

    def _call(self, arguments: str, part: Part) -> bytes:
        said = self._close()
        if part.is_first:
            self._index += 1
            block = {"type": "tool_use", "id": part.call.id, "name": part.call.name, "input": {}}
            said += _event({"type": "content_block_start", "index": self._index, "content_block": block})
        delta = {"type": "input_json_delta", "partial_json": arguments}
        said += _event({"type": "content_block_delta", "index": self._index, "delta": delta})
        return said + (_event({"type": "content_block_stop", "index": self._index}) if part.is_last else b"")

    def _turn(self, thinking: bool) -> bytes:
        """Closes the open block and opens the next."""
        closed = self._close()
        self._index += 1
        self._thinking = thinking
        block = {"type": "thinking", "thinking": "", "signature": ""} if thinking else {"type": "text", "text": ""}
        return closed + _event({"type": "content_block_start", "index": self._index, "content_block": block})

    def _close(self) -> bytes:
        if self._thinking is None:
            return b""
        signature = {"type": "signature_delta", "signature": seal("".join(self._thought))}
        self._thought.clear()
        signed = (
            _event({"type": "content_block_delta", "index": self._index, "delta": signature}) if self._thinking else b""
        )
        self._thinking = None
        return signed + _event({"type": "content_block_stop", "index": self._index})


class Anthropic:
    name = "anthropic"
    needs_key = True
    id_header = "request-id"
    stream_type = "text/event-stream; charset=utf-8"

    def routes(self, house: House) -> list[Route]:
        return [
            Route("/v1/messages", Chat(house, self, _read), methods=["POST"]),
            Route("/v1/models", Listing(house, self, _models), methods=["GET"]),
        ]

    def key(self, request: Request) -> str | None:
        return request.headers.get("x-api-key") or bearer(request)

    def check(self, request: Request) -> None:
        if not request.headers.get("anthropic-version"):
            raise Refused(Kind.BAD_REQUEST, "anthropic-version: header is required")

    def rate_headers(self, gauge: Gauge) -> dict[str, str]:
        headers = {}
        for what, room in (("requests", gauge.requests), ("tokens", gauge.tokens)):
            if room:
                reset = datetime.now(UTC) + timedelta(seconds=math.ceil(room[2]))
                headers[f"anthropic-ratelimit-{what}-limit"] = str(room[0])
                headers[f"anthropic-ratelimit-{what}-remaining"] = str(room[1])
                headers[f"anthropic-ratelimit-{what}-reset"] = reset.strftime("%Y-%m-%dT%H:%M:%SZ")
        return headers

    def refusal(self, refused: Refused, call_id: str) -> tuple[int, dict[str, str], Json]:
        status, name = error_type(refused, _TYPE)
        wait = refused.retry_after
        error = {"type": name, "message": self._text(refused)}
        headers = {} if wait is None else {"retry-after": str(math.ceil(wait))}
        return status, headers, {"type": "error", "error": error, "request_id": f"req_{call_id}"}

    def voice(self, ask: Ask, reply: Reply, call_id: str) -> AnthropicVoice:
        return AnthropicVoice(ask, reply, call_id)

    def _text(self, refused: Refused) -> str:
        if refused.kind is Kind.CONTEXT:
            return f"prompt is too long: {refused.text()}"
        return refused.text()


def _read(request: Request, body: Json) -> Ask:
    version = request.headers.get("anthropic-version", "")
    if not version:
        raise Refused(Kind.BAD_REQUEST, "anthropic-version: header is required")
    if version >= "2026-10-21" and (given := [name for name in _SAMPLING if name in body]):
        raise Refused(Kind.BAD_REQUEST, f"{given[0]}: not supported in this version")
    limit = needed(body, "max_tokens", int)
    if limit < 1:
        raise Refused(Kind.BAD_REQUEST, "max_tokens: at least 1 expected")
    thinking = field(body, "thinking", dict, {})
    form = field(field(body, "output_config", dict, {}), "format", dict, {})
    if form and form.get("type") != "json_schema":
        raise Refused(Kind.BAD_REQUEST, "output_config.format.type: Input should be 'json_schema'")
    return Ask(
        model=needed(body, "model", str),
        prompt=joined([described(body), texts(body.get("system")), *(_texts(message) for message in messages(body))]),
        tools=tool.offered(body.get("tools"), schema="input_schema"),
        is_told=_is_told(messages(body), thinks=thinking.get("type") in ("enabled", "adaptive")),
        begun=begun(body),
        stream=field(body, "stream", bool, False),
        max_tokens=limit,
        thinking=thinking.get("type") in ("enabled", "adaptive"),
        shows_thinking=thinking.get("display") != "omitted",
        stops=stops(body, "stop_sequences"),
        schema=field(form, "schema", dict),
    )


def _texts(message: Json) -> str:
    results = (texts(block.get("content")) for block in _blocks(message) if block.get("type") == "tool_result")
    return joined([texts(message.get("content")), *results])


def _blocks(message: Json) -> list[Json]:
    content = message.get("content")
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _is_told(spoken: list[Json], *, thinks: bool) -> bool:
    """Whether results of tools end the conversation.

    Raises Refused for results of calls that nobody made, and for calls without the thoughts that led to them.
    """
    blocks = [block for message in spoken for block in _blocks(message)]
    made = [block.get("id") for block in blocks if block.get("type") == "tool_use"]
    tool.check(made, (block.get("tool_use_id") for block in blocks if block.get("type") == "tool_result"))
    is_told = any(block.get("type") == "tool_result" for block in _blocks(spoken[-1]))
    if is_told and len(spoken) > 1:
        said = _blocks(spoken[-2])
        thoughts = [
            (one.get("thinking", ""), one.get("signature", "")) for one in said if one.get("type") == "thinking"
        ]
        check(thoughts, calls=any(one.get("type") == "tool_use" for one in said), thinks=thinks)
    return is_told


def _models(sheet: Sheet, _body: Json) -> Json:
    data: list[dict[str, Any]] = [
        {
            "type": "model",
            "id": name,
            "display_name": name,
            "created_at": "2026-01-01T00:00:00Z",
            "lifecycle": "active",
            "max_input_tokens": model.context,
        }
        for name, model in sheet.models.items()
        if not model.dimensions
    ]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"data": data, "has_more": False, **ends}


def _event(data: Json) -> bytes:
    return f"event: {data['type']}\ndata: ".encode() + encode(data) + b"\n\n"


DIALECT = Anthropic()
