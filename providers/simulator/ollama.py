"""The ollama dialect: chat in JSON lines, embed, and what a local server tells of its models. No key, no rate headers.

It has no word for a blocked prompt: a filtered answer is an empty one. A prompt too long is shortened in silence.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
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
)
from providers.simulator.door import Chat, Embed, Listing
from providers.simulator.limits import Gauge
from providers.simulator.pace import Chunk
from providers.simulator.refusal import Kind, Refused
from providers.simulator.sheet import Model, Sheet
from providers.simulator.tool import Called
from providers.simulator.world import House

_FINISH = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.FILTERED: "stop", Finish.TOOL: "stop"}
_STATUS = {
    Kind.BAD_REQUEST: 400,
    Kind.AUTH: 401,
    Kind.PERMISSION: 403,
    Kind.NOT_FOUND: 404,
    Kind.TOO_LARGE: 413,
    Kind.QUOTA: 429,
    Kind.RATE: 429,
    Kind.OVERLOADED: 503,
    Kind.CONTEXT: 400,
    Kind.FILTERED: 400,
    Kind.SERVER: 500,
    Kind.TIMEOUT: 504,
}
_MESSAGE = {
    Kind.AUTH: "unauthorized",
    Kind.QUOTA: "you have reached your usage limit, please upgrade to continue",
    Kind.RATE: "too many requests",
    Kind.OVERLOADED: "server busy, please try again. maximum pending requests exceeded",
    Kind.CONTEXT: "the input length exceeds the context length",
    Kind.SERVER: "llama runner process has terminated",
}
_WINDOW = 2**31  # a window no prompt fills: the model's own decides


class OllamaVoice:
    garbage = b'{"model":"x","created_at":"2026-\n'

    def __init__(self, ask: Ask, reply: Reply) -> None:
        self._ask, self._reply, self._began = ask, reply, time.perf_counter_ns()
        self._head: Json = {"model": ask.model, "created_at": _stamp(datetime.now(UTC))}
        start = encode(self._head)[:-1] + b',"message":{"role":"assistant",'
        self._starts = {True: start + b'"content":"","thinking":', False: start + b'"content":'}

    def opening(self) -> bytes:
        return b""

    def piece(self, chunk: Chunk) -> bytes:
        if chunk.part is not None:  # calls are told whole
            message = {"role": "assistant", "content": "", "tool_calls": _calls([chunk.part.call])}
            return encode({**self._head, "message": message, "done": False}) + b"\n" if chunk.part.is_last else b""
        return self._starts[chunk.thinking] + encode(chunk.text) + b'},"done":false}\n'

    def closing(self) -> bytes:
        return encode(self._final({"role": "assistant", "content": ""})) + b"\n"

    def trouble(self) -> bytes:
        return encode({"error": _MESSAGE[Kind.SERVER]}) + b"\n"

    def whole(self) -> bytes:
        message: Json = {"role": "assistant", "content": self._reply.content()}
        if thought := self._reply.thought():
            message["thinking"] = thought
        if self._reply.calls:
            message["tool_calls"] = _calls(self._reply.calls)
        return encode(self._final(message))

    def _final(self, message: Json) -> Json:
        took = time.perf_counter_ns() - self._began
        final = {**self._head, "message": message, "done": True, "done_reason": _FINISH[self._reply.finish]}
        durations = {
            "total_duration": took,
            "load_duration": 0,
            "prompt_eval_duration": took // 4,
            "eval_duration": took - took // 4,
        }
        usage = self._reply.usage
        counts = {"prompt_eval_count": usage.input, "eval_count": usage.output} if self._reply.reports_usage else {}
        return {**final, **durations, **counts}


def _calls(calls: Iterable[Called]) -> list[Json]:
    return [{"function": {"name": call.name, "arguments": call.values}} for call in calls]


class Ollama:
    name = "ollama"
    needs_key = False
    id_header = ""
    stream_type = "application/x-ndjson"

    def routes(self, house: House) -> list[Route]:
        return [
            Route("/api/chat", Chat(house, self, _read), methods=["POST"]),
            Route("/api/embed", Embed(house, self, _read_embed, _embeddings), methods=["POST"]),
            Route("/api/tags", Listing(house, self, _tags), methods=["GET"]),
            Route("/api/ps", Listing(house, self, _running), methods=["GET"]),
            Route("/api/show", Listing(house, self, _show), methods=["POST"]),
        ]

    def key(self, request: Request) -> str | None:
        return bearer(request)

    def rate_headers(self, _gauge: Gauge) -> dict[str, str]:
        return {}

    def refusal(self, refused: Refused, _call_id: str) -> tuple[int, dict[str, str], Json]:
        text = refused.message or _MESSAGE.get(refused.kind) or refused.text()
        return refused.status or _STATUS[refused.kind], retry_after(refused), {"error": text}

    def voice(self, ask: Ask, reply: Reply, _call_id: str) -> OllamaVoice:
        return OllamaVoice(ask, reply)


def _read(_request: Request, body: Json) -> Ask:
    options = field(body, "options", dict, {})
    limit = field(options, "num_predict", int)
    form = body.get("format")
    if form not in (None, "", "json") and not isinstance(form, dict):
        raise Refused(Kind.BAD_REQUEST, f'invalid format: {form!r}; expected "json" or a JSON schema')
    return Ask(
        model=needed(body, "model", str),
        prompt=joined([described(body), *(texts(message.get("content")) for message in messages(body))]),
        begun=begun(body),
        tools=tool.functions(body.get("tools")),
        is_told=messages(body)[-1].get("role") == "tool",
        stream=field(body, "stream", bool, True),
        max_tokens=limit if limit and limit > 0 else None,
        thinking=body.get("think") is not False,
        window=field(options, "num_ctx", int, _WINDOW),
        stops=stops(options, "stop"),
        schema={} if form == "json" else form or None,
    )


def _read_embed(_request: Request, body: Json) -> EmbedAsk:
    given: Any = body.get("input")
    inputs = [given] if isinstance(given, str) else given
    if not isinstance(inputs, list) or not inputs or not all(isinstance(text, str) for text in inputs):
        raise Refused(Kind.BAD_REQUEST, "invalid input type")
    return EmbedAsk(needed(body, "model", str), inputs, cuts=field(body, "truncate", bool, True))


def _embeddings(ask: EmbedAsk, vectors: list[list[float]], tokens: int) -> Json:
    return {
        "model": ask.model,
        "embeddings": vectors,
        "total_duration": 1,
        "load_duration": 0,
        "prompt_eval_count": tokens,
    }


def _tags(sheet: Sheet, _body: Json) -> Json:
    return {"models": [_described(model) for model in sheet.models.values()]}


def _running(sheet: Sheet, _body: Json) -> Json:
    expires = _stamp(datetime.now(UTC) + timedelta(minutes=5))
    return {"models": [{**_described(model), "expires_at": expires, "size_vram": 0} for model in sheet.models.values()]}


def _show(sheet: Sheet, body: Json) -> Json:
    name = needed(body, "model", str)
    model = sheet.models.get(name.partition("+")[0])
    if model is None:
        raise Refused(Kind.NOT_FOUND, f"model '{name}' not found")
    abilities = ["embedding"] if model.dimensions else ["completion"] + ["thinking"] * model.reasoning
    info = {"general.architecture": "simulator", "simulator.context_length": model.context}
    return {"details": _DETAILS, "model_info": info, "capabilities": abilities, "modified_at": "2026-01-01T00:00:00Z"}


_DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "simulator",
    "families": ["simulator"],
    "parameter_size": "1B",
}


def _described(model: Model) -> Json:
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": "2026-01-01T00:00:00Z",
        "size": 1_000_000_000,
        "digest": sha256(model.name.encode()).hexdigest(),
        "details": _DETAILS,
    }


def _stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


DIALECT = Ollama()
