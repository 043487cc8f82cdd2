"""The gemini dialect: generateContent, its stream, batchEmbedContents, models."""

import math
from base64 import b64encode
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from providers.simulator import tool, vertex
from providers.simulator.answer import Ask, Finish, Reply
from providers.simulator.dialect import EmbedAsk, Json, bearer, described, encode, field, joined, needed, stops, texts
from providers.simulator.door import Chat, Embed, Listing
from providers.simulator.limits import Gauge
from providers.simulator.pace import Chunk
from providers.simulator.refusal import Kind, Refused, error_type
from providers.simulator.sheet import Sheet
from providers.simulator.tool import Called
from providers.simulator.world import House

_FINISH = {Finish.STOP: "STOP", Finish.LENGTH: "MAX_TOKENS", Finish.FILTERED: "PROHIBITED_CONTENT", Finish.TOOL: "STOP"}
_STATUS = {
    Kind.BAD_REQUEST: (400, "INVALID_ARGUMENT"),
    Kind.AUTH: (401, "UNAUTHENTICATED"),
    Kind.PERMISSION: (403, "PERMISSION_DENIED"),
    Kind.NOT_FOUND: (404, "NOT_FOUND"),
    Kind.TOO_LARGE: (413, "INVALID_ARGUMENT"),
    Kind.QUOTA: (429, "RESOURCE_EXHAUSTED"),
    Kind.RATE: (429, "RESOURCE_EXHAUSTED"),
    Kind.OVERLOADED: (503, "UNAVAILABLE"),
    Kind.CONTEXT: (400, "INVALID_ARGUMENT"),
    Kind.FILTERED: (400, "INVALID_ARGUMENT"),
    Kind.SERVER: (500, "INTERNAL"),
    Kind.TIMEOUT: (504, "DEADLINE_EXCEEDED"),
}
_QUOTA = {
    Kind.QUOTA: "GenerateRequestsPerDayPerProjectPerModel",
    Kind.RATE: "GenerateRequestsPerMinutePerProjectPerModel",
}


class GeminiVoice:
    """Every event is a whole answer in small, with the usage so far."""

    garbage = b'data: {"candidates":[{"content":{"pa\r\n\r\n'

    def __init__(self, ask: Ask, reply: Reply, call_id: str) -> None:
        self._ask, self._reply, self._id = ask, reply, call_id
        self._said = self._thought = 0  # tokens
        self._begun = False

    def opening(self) -> bytes:
        return b""

    def piece(self, chunk: Chunk) -> bytes:
        if chunk.part is not None:  # calls are told whole
            self._said += chunk.tokens
            called = _calls([chunk.part.call], is_first=chunk.part.index == 0)
            return self._frame(self._answer(called, None, self._thought, self._said)) if chunk.part.is_last else b""
        part: Json = {"text": chunk.text}
        if chunk.thinking:
            self._thought += chunk.tokens
            part["thought"] = True
        else:
            self._said += chunk.tokens
        return self._frame(self._answer([part], None, self._thought, self._said))

    def closing(self) -> bytes:
        return self._frame(self._final([{"text": ""}])) + (b"" if self._ask.framed else b"]")

    def trouble(self) -> bytes:
        return self._frame(_error(Refused(Kind.OVERLOADED), [])) + (b"" if self._ask.framed else b"]")

    def whole(self) -> bytes:
        parts: list[Json] = [{"text": self._reply.content()}] if self._reply.text or not self._reply.calls else []
        if thought := self._reply.thought():
            parts.insert(0, {"text": thought, "thought": True})
        parts.extend(_calls(self._reply.calls))
        return encode(self._final(parts))

    def _final(self, parts: list[Json]) -> Json:
        usage = self._reply.usage
        return self._answer(parts, self._reply.finish, usage.reasoning, usage.output - usage.reasoning)

    def _answer(self, parts: list[Json], finish: Finish | None, thought: int, said: int) -> Json:
        answer: Json = {}
        if finish is Finish.FILTERED:
            answer["promptFeedback"] = {"blockReason": "PROHIBITED_CONTENT"}
        else:
            candidate: Json = {"content": {"parts": parts, "role": "model"}, "index": 0}
            answer["candidates"] = [candidate | ({"finishReason": _FINISH[finish]} if finish else {})]
        if self._reply.reports_usage:
            answer["usageMetadata"] = self._usage(thought, said)
        return {**answer, "modelVersion": self._ask.model, "responseId": self._id}

    def _usage(self, thought: int, said: int) -> Json:
        usage = self._reply.usage
        counts = {
            "promptTokenCount": usage.input,
            "candidatesTokenCount": said,
            "totalTokenCount": usage.input + thought + said,
        }
        if usage.cached:
            counts["cachedContentTokenCount"] = usage.cached
        if thought:
            counts["thoughtsTokenCount"] = thought
        return counts

    def _frame(self, answer: Json) -> bytes:
        if self._ask.framed:
            return b"data: " + encode(answer) + b"\r\n\r\n"
        begun, self._begun = self._begun, True
        return (b",\r\n" if begun else b"[") + encode(answer)


def _calls(calls: Iterable[Called], *, is_first: bool = True) -> list[Json]:
    """Of several calls in one answer the first is signed."""
    parts: list[Json] = [{"functionCall": {"name": call.name, "args": call.values}} for call in calls]
    if parts and is_first:
        parts[0]["thoughtSignature"] = _signature(parts[0])
    return parts


def _signature(part: Json) -> str:
    return b64encode(f"signed: {part['functionCall'].get('name')}".encode()).decode()


class Gemini:
    name = "gemini"
    needs_key = True
    id_header = ""
    stream_type = "text/event-stream"

    def routes(self, house: House) -> list[Route]:
        model = "/v1beta/models/{model:path}"
        project = "/v1/projects/{project}/locations/{location}/publishers/google/models/{model:path}"
        return [
            Route(f"{model}:generateContent", Chat(house, self, _read), methods=["POST"]),
            Route(f"{model}:streamGenerateContent", Chat(house, self, _read_stream), methods=["POST"]),
            Route(f"{project}:generateContent", Chat(house, self, _read), methods=["POST"]),
            Route(f"{project}:streamGenerateContent", Chat(house, self, _read_stream), methods=["POST"]),
            Route(f"{model}:batchEmbedContents", Embed(house, self, _read_embed, _embeddings), methods=["POST"]),
            *vertex.routes(house, self),
            Route("/v1beta/models", Listing(house, self, _models), methods=["GET"]),
        ]

    def key(self, request: Request) -> str | None:
        return request.headers.get("x-goog-api-key") or request.query_params.get("key") or bearer(request)

    def rate_headers(self, _gauge: Gauge) -> dict[str, str]:
        """None: this vendor says it all in the body of the error."""
        return {}

    def refusal(self, refused: Refused, _call_id: str) -> tuple[int, dict[str, str], Json]:
        details: list[Json] = []
        if quota := _QUOTA.get(refused.kind):
            violation = {"quotaMetric": "generativelanguage.googleapis.com/generate_content_requests", "quotaId": quota}
            details.append({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]})
        if refused.retry_after is not None:
            delay = f"{math.ceil(refused.retry_after * 1000) / 1000:g}s"
            details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
        return error_type(refused, _STATUS)[0], {}, _error(refused, details)

    def voice(self, ask: Ask, reply: Reply, call_id: str) -> GeminiVoice:
        return GeminiVoice(ask, reply, call_id)


def _error(refused: Refused, details: list[Json]) -> Json:
    code, status = error_type(refused, _STATUS)
    text = (
        f"The input token count exceeds the maximum. {refused.text()}"
        if refused.kind is Kind.CONTEXT
        else refused.text()
    )
    error: Json = {"code": code, "message": text, "status": status}
    return {"error": error | ({"details": details} if details else {})}


def _read(request: Request, body: Json, *, stream: bool = False) -> Ask:
    contents = needed(body, "contents", list)
    config = field(body, "generationConfig", dict, {})
    thinking = field(config, "thinkingConfig", dict, {})
    limit = field(config, "maxOutputTokens", int)
    if limit is not None and limit < 1:
        raise Refused(Kind.BAD_REQUEST, "maxOutputTokens: a positive number expected")
    is_json = config.get("responseMimeType") == "application/json"
    if not is_json and "responseJsonSchema" in config:
        raise Refused(Kind.BAD_REQUEST, "A response schema needs the response mime type application/json.")
    return Ask(
        model=request.path_params["model"],
        prompt=joined([described(body), _texts(body.get("systemInstruction")), *map(_texts, contents)]),
        tools=_tools(body),
        is_told=_is_told(contents),
        stream=stream,
        max_tokens=limit,
        thinking=_either(thinking, "thinkingBudget", "thinking_budget") != 0,
        shows_thinking=_either(thinking, "includeThoughts", "include_thoughts") is True,
        framed=request.query_params.get("alt") == "sse",
        stops=stops(config, "stopSequences"),
        schema=field(config, "responseJsonSchema", dict, {}) if is_json else None,
    )


def _read_stream(request: Request, body: Json) -> Ask:
    return _read(request, body, stream=True)


def _either(fields: Json, camel: str, snake: str) -> Any:
    """Google's SDK sends some keys in snake case, and the vendor takes both."""
    return fields.get(camel, fields.get(snake))


def _texts(content: Any) -> str:
    parts = content.get("parts") if isinstance(content, dict) else None
    told = [encode(part["functionResponse"]).decode() for part in parts or () if "functionResponse" in part]
    return joined([texts(parts), *told])


def _tools(body: Json) -> tuple[tool.Tool, ...]:
    groups = field(body, "tools", list, [])
    rows = [row for group in groups for row in _either(group, "functionDeclarations", "function_declarations") or ()]
    return tool.offered(
        [{"parameters": _either(row, "parametersJsonSchema", "parameters_json_schema"), **row} for row in rows]
    )


def _is_told(contents: list[Json]) -> bool:
    """Whether results of tools end the conversation.

    Raises Refused for results of calls that nobody made, and for calls that come back without what signed them.
    """
    parts = [part for content in contents for part in content.get("parts") or ()]
    made = [part["functionCall"].get("name") for part in parts if "functionCall" in part]
    tool.check(made, (part["functionResponse"].get("name") for part in parts if "functionResponse" in part))
    for content in contents:
        called = [part for part in content.get("parts") or () if "functionCall" in part]
        if called and _either(called[0], "thoughtSignature", "thought_signature") != _signature(called[0]):
            raise Refused(Kind.BAD_REQUEST, "Function call is missing a thought_signature in functionCall parts.")
    return any("functionResponse" in part for part in contents[-1].get("parts") or ())


def _read_embed(request: Request, body: Json) -> EmbedAsk:
    requests = needed(body, "requests", list)
    if not all(isinstance(each, dict) for each in requests):
        raise Refused(Kind.BAD_REQUEST, "requests: a list of objects expected")
    dimensions = field(requests[0], "outputDimensionality", int)
    if dimensions is not None and not 1 <= dimensions <= 4096:
        raise Refused(Kind.BAD_REQUEST, "outputDimensionality: 1 to 4096 expected")
    return EmbedAsk(request.path_params["model"], [_texts(each.get("content")) for each in requests], dimensions)


def _embeddings(_ask: EmbedAsk, vectors: list[list[float]], _tokens: int) -> Json:
    return {"embeddings": [{"values": vector} for vector in vectors]}


def _models(sheet: Sheet, _body: Json) -> Json:
    return {
        "models": [
            {
                "name": f"models/{name}",
                "displayName": name,
                "version": "001",
                "inputTokenLimit": model.context,
                "outputTokenLimit": model.context,
                "supportedGenerationMethods": ["embedContent"] if model.dimensions else ["generateContent"],
            }
            for name, model in sheet.models.items()
        ]
    }


DIALECT = Gemini()
