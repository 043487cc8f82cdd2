"""The bedrock dialect: Converse, whole and as an event stream. A signature is read for whose it is, not verified."""

import json
import re
from struct import pack
from typing import Any
from zlib import crc32

from starlette.requests import Request
from starlette.routing import Route

from providers.simulator import tool
from providers.simulator.answer import Ask, Finish, Reply
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
)
from providers.simulator.door import Chat, Embed
from providers.simulator.limits import Gauge
from providers.simulator.pace import Chunk
from providers.simulator.refusal import Kind, Refused, error_type
from providers.simulator.seal import check, seal
from providers.simulator.tool import Part, Tool
from providers.simulator.world import House

_FINISH = {
    Finish.STOP: "end_turn",
    Finish.LENGTH: "max_tokens",
    Finish.FILTERED: "content_filtered",
    Finish.TOOL: "tool_use",
}
_TYPE = {
    Kind.BAD_REQUEST: (400, "ValidationException"),
    Kind.AUTH: (403, "UnrecognizedClientException"),
    Kind.PERMISSION: (403, "AccessDeniedException"),
    Kind.NOT_FOUND: (404, "ResourceNotFoundException"),
    Kind.TOO_LARGE: (413, "ValidationException"),
    Kind.QUOTA: (400, "ServiceQuotaExceededException"),
    Kind.RATE: (429, "ThrottlingException"),
    Kind.OVERLOADED: (503, "ServiceUnavailableException"),
    Kind.CONTEXT: (400, "ValidationException"),
    Kind.FILTERED: (400, "ValidationException"),
    Kind.SERVER: (500, "InternalServerException"),
    Kind.TIMEOUT: (408, "ModelTimeoutException"),
}
_SIGNED = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/\d{8}/([^/]+)/bedrock/aws4_request, ")
_TEXT = 7  # the type of a header's value


class BedrockVoice:
    garbage = bytes(range(64))

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._index = -1
        self._thinking: bool | None = None  # which block is open
        self._thought: list[str] = []  # of that block

    def opening(self) -> bytes:
        return _event("messageStart", {"role": "assistant"})

    def piece(self, chunk: Chunk) -> bytes:
        if chunk.part is not None:
            return self._call(chunk.text, chunk.part)
        opened = b"" if chunk.thinking is self._thinking else self._turn(chunk.thinking)
        if chunk.thinking:
            self._thought.append(chunk.text)
        delta = {"reasoningContent": {"text": chunk.text}} if chunk.thinking else {"text": chunk.text}
        return opened + _event("contentBlockDelta", {"contentBlockIndex": self._index, "delta": delta})

    def closing(self) -> bytes:
        stop = _event("messageStop", {"stopReason": _FINISH[self._reply.finish]})
        counts: Json = {"metrics": {"latencyMs": 1}}
        if self._reply.reports_usage:
            counts["usage"] = self._usage()
        return self._close() + stop + (_event("metadata", counts) if self._reply.says_done else b"")

    def trouble(self) -> bytes:
        return _frame(
            {
                ":exception-type": "modelStreamErrorException",
                ":content-type": "application/json",
                ":message-type": "exception",
            },
            encode({"message": Refused(Kind.SERVER).text()}),
        )

    def whole(self) -> bytes:
        content: list[Json] = [{"text": self._reply.content()}] if self._reply.text else []
        if thought := self._reply.thought():
            content.insert(0, {"reasoningContent": {"reasoningText": {"text": thought, "signature": seal(thought)}}})
        calls = ({"toolUseId": call.id, "name": call.name, "input": call.values} for call in self._reply.calls)
        content.extend({"toolUse": call} for call in calls)
        return encode(
            {
                "output": {"message": {"role": "assistant", "content": content}},
                "stopReason": _FINISH[self._reply.finish],
                "usage": self._usage(),
                "metrics": {"latencyMs": 1},
            }
        )

    def _usage(self) -> Json:
        usage = self._reply.usage
        return {
            "inputTokens": usage.input - usage.cached,
            "cacheReadInputTokens": usage.cached,
            "outputTokens": usage.output,
            "totalTokens": usage.input + usage.output,
        }

    def _call(self, arguments: str, part: Part) -> bytes:
        said = self._close()
        if part.is_first:
            self._index += 1
            use = {"toolUseId": part.call.id, "name": part.call.name}
            said += _event("contentBlockStart", {"contentBlockIndex": self._index, "start": {"toolUse": use}})
        delta = {"toolUse": {"input": arguments}}
        said += _event("contentBlockDelta", {"contentBlockIndex": self._index, "delta": delta})
        return said + (_event("contentBlockStop", {"contentBlockIndex": self._index}) if part.is_last else b"")

    def _turn(self, thinking: bool) -> bytes:
        """Closes the open block; the next one opens with its first words."""
        closed = self._close()
        self._index += 1
        self._thinking = thinking
        return closed

    def _close(self) -> bytes:
        if self._thinking is None:
            return b""
        delta = {"reasoningContent": {"signature": seal("".join(self._thought))}}
        signed = {"contentBlockIndex": self._index, "delta": delta}
        said = _event("contentBlockDelta", signed) if self._thinking else b""
        self._thinking = None
        self._thought.clear()
        return said + _event("contentBlockStop", {"contentBlockIndex": self._index})


class Bedrock:
    name = "bedrock"
    needs_key = True
    id_header = "x-amzn-requestid"
    stream_type = "application/vnd.amazon.eventstream"

    def routes(self, house: House) -> list[Route]:
        model = "/model/{model:path}"
        return [
            Route(f"{model}/converse", Chat(house, self, _read), methods=["POST"]),
            Route(f"{model}/converse-stream", Chat(house, self, _read_stream), methods=["POST"]),
            Route(f"{model}/invoke", Embed(house, self, _read_embed, _embedding), methods=["POST"]),
        ]

    def key(self, request: Request) -> str | None:
        signed = _SIGNED.match(request.headers.get("authorization", ""))
        return signed[1] if signed else bearer(request)

    def rate_headers(self, _gauge: Gauge) -> dict[str, str]:
        return {}

    def refusal(self, refused: Refused, _call_id: str) -> tuple[int, dict[str, str], Json]:
        status, name = error_type(refused, _TYPE)
        text = f"Input is too long for requested model. {refused.text()}"
        message = text if refused.kind is Kind.CONTEXT else refused.text()
        return status, {"x-amzn-errortype": name, **retry_after(refused)}, {"message": message}

    def voice(self, _ask: Ask, reply: Reply, _call_id: str) -> BedrockVoice:
        return BedrockVoice(reply)


def _read(request: Request, body: Json, *, stream: bool = False) -> Ask:
    config = field(body, "inferenceConfig", dict, {})
    more = field(body, "additionalModelRequestFields", dict, {})
    limit = field(config, "maxTokens", int)
    if limit is not None and limit < 1:
        raise Refused(Kind.BAD_REQUEST, "maxTokens: at least 1 expected")
    tools = field(body, "toolConfig", dict, {}).get("tools")
    specs = [row.get("toolSpec") if isinstance(row, dict) else row for row in tools or ()]
    said = [texts(_flat(message.get("content"))) for message in messages(body)]
    thinking = field(more, "thinking", dict, {}).get("type") in ("enabled", "adaptive")
    return Ask(
        model=request.path_params["model"],
        prompt=joined([described(body, "toolConfig"), texts(body.get("system")), *said]),
        tools=tuple(Tool(one.name, one.schema.get("json") or {}) for one in tool.offered(specs, schema="inputSchema")),
        is_told=_is_told(messages(body), thinks=thinking),
        stream=stream,
        max_tokens=limit,
        thinking=thinking,
        stops=stops(config, "stopSequences", 2500),
        schema=_schema(body),
    )


def _schema(body: Json) -> Json | None:
    """It comes as the text of it."""
    form = field(field(body, "outputConfig", dict, {}), "textFormat", dict, {})
    if not form:
        return None
    try:
        schema: Json = json.loads(form["structure"]["jsonSchema"]["schema"])
    except (KeyError, TypeError, ValueError):
        raise Refused(Kind.BAD_REQUEST, "outputConfig.textFormat: a JSON schema expected, as a text") from None
    return schema


def _flat(content: Any) -> Any:
    """Content with the words of results in their place."""
    rows = content if isinstance(content, list) else []
    return [block for row in rows for block in ((row.get("toolResult") or {}).get("content") or [row])]


def _is_told(spoken: list[Json], *, thinks: bool) -> bool:
    """Whether results of tools end the conversation.

    Raises Refused for results of calls that nobody made, and for calls without the thoughts that led to them.
    """
    blocks = [block for message in spoken for block in message.get("content") or ()]
    made = [block["toolUse"].get("toolUseId") for block in blocks if "toolUse" in block]
    tool.check(made, (block["toolResult"].get("toolUseId") for block in blocks if "toolResult" in block))
    is_told = any("toolResult" in block for block in spoken[-1].get("content") or ())
    if is_told and len(spoken) > 1:
        said = spoken[-2].get("content") or ()
        found = [one["reasoningContent"].get("reasoningText", {}) for one in said if "reasoningContent" in one]
        thoughts = [(one.get("text", ""), one.get("signature", "")) for one in found]
        check(thoughts, calls=any("toolUse" in one for one in said), thinks=thinks)
    return is_told


def _read_stream(request: Request, body: Json) -> Ask:
    return _read(request, body, stream=True)


def _read_embed(request: Request, body: Json) -> EmbedAsk:
    """As Amazon's Titan takes it: one text."""
    if stray := sorted(set(body) - {"inputText", "dimensions", "normalize", "embeddingTypes"}):
        raise Refused(Kind.BAD_REQUEST, f"Malformed input request: extraneous key [{stray[0]}] is not permitted")
    return EmbedAsk(request.path_params["model"], [needed(body, "inputText", str)], field(body, "dimensions", int))


def _embedding(_ask: EmbedAsk, vectors: list[list[float]], tokens: int) -> Json:
    (vector,) = vectors
    return {"embedding": vector, "embeddingsByType": {"float": vector}, "inputTextTokenCount": tokens}


def _event(name: str, payload: Json) -> bytes:
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return _frame(headers, encode(payload))


def _frame(headers: dict[str, str], payload: bytes) -> bytes:
    head = b"".join(
        pack(">B", len(name)) + name.encode() + pack(">BH", _TEXT, len(value)) + value.encode()
        for name, value in headers.items()
    )
    lengths = pack(">II", 16 + len(head) + len(payload), len(head))
    frame = lengths + pack(">I", crc32(lengths)) + head + payload
    return frame + pack(">I", crc32(frame))


DIALECT = Bedrock()
