"""The cohere dialect: chat and embed of version 2, models of version 1."""

from starlette.requests import Request
from starlette.routing import Route

from providers.simulator import tool
from providers.simulator.answer import Ask, Finish, Reply
from providers.simulator.completion import completion_calls
from providers.simulator.dialect import (
    EmbedAsk,
    Json,
    bearer,
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
from providers.simulator.refusal import Kind, Refused
from providers.simulator.sheet import Sheet
from providers.simulator.tool import Part
from providers.simulator.world import House

MOST_TEXTS = 96  # of one request for embeddings

_FINISH = {
    Finish.STOP: "COMPLETE",
    Finish.LENGTH: "MAX_TOKENS",
    Finish.FILTERED: "ERROR_TOXIC",
    Finish.TOOL: "TOOL_CALL",
}
_STATUS = {
    Kind.BAD_REQUEST: 400,
    Kind.AUTH: 401,
    Kind.PERMISSION: 403,
    Kind.NOT_FOUND: 404,
    Kind.TOO_LARGE: 413,
    Kind.QUOTA: 402,
    Kind.RATE: 429,
    Kind.OVERLOADED: 503,
    Kind.CONTEXT: 400,
    Kind.FILTERED: 498,
    Kind.SERVER: 500,
    Kind.TIMEOUT: 504,
}


class CohereVoice:
    garbage = b'event: content-delta\ndata: {"type":"content-delta","index":0,"del\n\n'

    def __init__(self, ask: Ask, reply: Reply, call_id: str) -> None:
        self._ask, self._reply, self._id = ask, reply, call_id
        self._index = -1
        self._thinking: bool | None = None  # which block is open

    def opening(self) -> bytes:
        message = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        return _event({"id": self._id, "type": "message-start", "delta": {"message": message}})

    def piece(self, chunk: Chunk) -> bytes:
        if chunk.part is not None:
            return self._call(chunk.text, chunk.part)
        if self._reply.calls and not chunk.thinking:
            return _event({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": chunk.text}}})
        opened = b"" if chunk.thinking is self._thinking else self._turn(chunk.thinking)
        said = {"thinking" if chunk.thinking else "text": chunk.text}
        return opened + _event({"type": "content-delta", "index": self._index, "delta": {"message": {"content": said}}})

    def closing(self) -> bytes:
        delta: Json = {"finish_reason": _FINISH[self._reply.finish]}
        if self._reply.reports_usage:
            delta["usage"] = self._usage()
        end = _event({"type": "message-end", "id": self._id, "delta": delta})
        return self._close() + end + (b"data: [DONE]\n\n" if self._reply.says_done else b"")

    def trouble(self) -> bytes:
        delta = {"finish_reason": "ERROR", "error": Refused(Kind.SERVER).text()}
        return self._close() + _event({"type": "message-end", "id": self._id, "delta": delta})

    def whole(self) -> bytes:
        content: list[Json] = [{"type": "text", "text": self._reply.content()}] if self._reply.text else []
        if thought := self._reply.thought():
            content.insert(0, {"type": "thinking", "thinking": thought})
        message: Json = {"role": "assistant", "content": content}
        if self._reply.calls:
            message = {"role": "assistant", "tool_calls": completion_calls(self._reply.calls)}
            message |= {"tool_plan": self._reply.content()} if self._reply.text else {}
        answer: Json = {"id": self._id, "finish_reason": _FINISH[self._reply.finish], "message": message}
        return encode({**answer, "usage": self._usage()} if self._reply.reports_usage else answer)

    def _usage(self) -> Json:
        usage = self._reply.usage
        counts = {"input_tokens": usage.input, "output_tokens": usage.output}
        preamble = 67  # tokens that the vendor adds and does not bill
        real = {**counts, "input_tokens": usage.input + preamble}
        return {"billed_units": counts, "tokens": real, "cached_tokens": usage.cached}

    def _call(self, arguments: str, part: Part) -> bytes:
        said = self._close()
        if part.is_first:
            function = {"name": part.call.name, "arguments": ""}
            begun = {"id": part.call.id, "type": "function", "function": function}
            self._index += 1
            said += self._of_call("start", begun)
        said += self._of_call("delta", {"function": {"arguments": arguments}})
        return said + (_event({"type": "tool-call-end", "index": self._index}) if part.is_last else b"")

    def _of_call(self, what: str, call: Json) -> bytes:
        return _event({"type": f"tool-call-{what}", "index": self._index, "delta": {"message": {"tool_calls": call}}})

    def _turn(self, thinking: bool) -> bytes:
        closed = self._close()
        self._index += 1
        self._thinking = thinking
        content = {"type": "thinking", "thinking": ""} if thinking else {"type": "text", "text": ""}
        return closed + _event(
            {"type": "content-start", "index": self._index, "delta": {"message": {"content": content}}}
        )

    def _close(self) -> bytes:
        if self._thinking is None:
            return b""
        self._thinking = None
        return _event({"type": "content-end", "index": self._index})


class Cohere:
    name = "cohere"
    needs_key = True
    id_header = "x-debug-trace-id"
    stream_type = "text/event-stream"

    def routes(self, house: House) -> list[Route]:
        return [
            Route("/v2/chat", Chat(house, self, _read), methods=["POST"]),
            Route("/v2/embed", Embed(house, self, _read_embed, _embeddings), methods=["POST"]),
            Route("/v1/models", Listing(house, self, _models), methods=["GET"]),
        ]

    def key(self, request: Request) -> str | None:
        return bearer(request)

    def rate_headers(self, _gauge: Gauge) -> dict[str, str]:
        return {}

    def refusal(self, refused: Refused, call_id: str) -> tuple[int, dict[str, str], Json]:
        text = refused.text()
        if refused.kind is Kind.CONTEXT:
            text = f"too many tokens: {text} Try using shorter or fewer inputs."
        return refused.status or _STATUS[refused.kind], retry_after(refused), {"id": call_id, "message": text}

    def voice(self, ask: Ask, reply: Reply, call_id: str) -> CohereVoice:
        return CohereVoice(ask, reply, call_id)


def _read(_request: Request, body: Json) -> Ask:
    limit = field(body, "max_tokens", int)
    if limit is not None and limit < 1:
        raise Refused(Kind.BAD_REQUEST, "max_tokens: at least 1 expected")
    form = field(body, "response_format", dict, {})
    if form.get("type", "text") not in ("text", "json_object"):
        raise Refused(Kind.BAD_REQUEST, "response_format: type must be 'text' or 'json_object'")
    return Ask(
        model=needed(body, "model", str),
        prompt=joined([described(body), *(texts(message.get("content")) for message in messages(body))]),
        stream=field(body, "stream", bool, False),
        max_tokens=limit,
        thinking=field(body, "thinking", dict, {}).get("type") != "disabled",
        tools=tool.functions(body.get("tools")),
        is_told=told_by_id(body),
        stops=stops(body, "stop_sequences", 5),
        schema=field(form, "json_schema", dict, {}) if form.get("type") == "json_object" else None,
    )


def _read_embed(_request: Request, body: Json) -> EmbedAsk:
    needed(body, "input_type", str)
    inputs = needed(body, "texts", list)
    if len(inputs) > MOST_TEXTS or not all(isinstance(text, str) for text in inputs):
        raise Refused(Kind.BAD_REQUEST, f"texts: at most {MOST_TEXTS} texts expected")
    dimensions = field(body, "output_dimension", int)
    if dimensions is not None and not 1 <= dimensions <= 4096:
        raise Refused(Kind.BAD_REQUEST, "output_dimension: 1 to 4096 expected")
    truncate = field(body, "truncate", str, "END")
    if truncate not in ("NONE", "END"):
        raise Refused(Kind.BAD_REQUEST, "truncate: NONE or END expected; START is not simulated")
    return EmbedAsk(needed(body, "model", str), inputs, dimensions, cuts=truncate == "END")


def _embeddings(ask: EmbedAsk, vectors: list[list[float]], tokens: int) -> Json:
    return {
        "id": "embeddings",
        "embeddings": {"float": vectors},
        "texts": list(ask.texts),
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens}},
        "response_type": "embeddings_by_type",
    }


def _models(sheet: Sheet, _body: Json) -> Json:
    return {
        "models": [
            {
                "name": name,
                "endpoints": ["embed"] if model.dimensions else ["chat"],
                "finetuned": False,
                "context_length": model.context,
            }
            for name, model in sheet.models.items()
        ]
    }


def _event(data: Json) -> bytes:
    return f"event: {data['type']}\ndata: ".encode() + encode(data) + b"\n\n"


DIALECT = Cohere()
