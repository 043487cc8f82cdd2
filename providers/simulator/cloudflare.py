"""The cloudflare dialect: Workers AI in its own words, and the Vectorize of the same account (in vectorize.py)."""

from collections.abc import Iterable

from starlette.requests import Request
from starlette.routing import Route

from providers.simulator import tool, vectorize
from providers.simulator.answer import Ask, Reply
from providers.simulator.dialect import Json, bearer, described, encode, field, joined, messages, retry_after, texts
from providers.simulator.door import Chat, Listing
from providers.simulator.limits import Gauge
from providers.simulator.openai import suppresses_thinking
from providers.simulator.pace import Chunk
from providers.simulator.refusal import Kind, Refused
from providers.simulator.sheet import Sheet
from providers.simulator.tag import Tagger, tagged
from providers.simulator.tool import Called
from providers.simulator.world import House

_CODE = {
    Kind.BAD_REQUEST: (400, 5006),
    Kind.AUTH: (401, 10000),
    Kind.PERMISSION: (403, 5018),
    Kind.NOT_FOUND: (404, 3042),
    Kind.TOO_LARGE: (413, 3006),
    Kind.QUOTA: (429, 3036),
    Kind.RATE: (429, 971),
    Kind.OVERLOADED: (429, 3040),
    Kind.CONTEXT: (413, 3006),
    Kind.FILTERED: (400, 5006),
    Kind.SERVER: (500, 3000),
    Kind.TIMEOUT: (408, 3007),
}


class CloudflareVoice:
    garbage = b'data: {"response":"he\n\n'

    def __init__(self, reply: Reply) -> None:
        self._reply, self._tagger = reply, Tagger()

    def opening(self) -> bytes:
        return b""

    def piece(self, chunk: Chunk) -> bytes:
        if chunk.part is not None:  # calls are told whole
            called = _calls([chunk.part.call])
            return _event({"response": "", "tool_calls": called}) if chunk.part.is_last else b""
        return _event({"response": self._tagger.say(chunk)})

    def closing(self) -> bytes:
        counts = _event({"response": "", "usage": self._usage()}) if self._reply.reports_usage else b""
        return counts + (b"data: [DONE]\n\n" if self._reply.says_done else b"")

    def trouble(self) -> bytes:
        return _event(failure(3000, Refused(Kind.SERVER).text()))

    def whole(self) -> bytes:
        result: Json = {"response": tagged(self._reply), "tool_calls": _calls(self._reply.calls)}
        return encode(success({**result, "usage": self._usage()} if self._reply.reports_usage else result))

    def _usage(self) -> Json:
        usage = self._reply.usage
        return {
            "prompt_tokens": usage.input,
            "completion_tokens": usage.output,
            "total_tokens": usage.input + usage.output,
            "prompt_tokens_details": {"cached_tokens": usage.cached},
        }


def _calls(calls: Iterable[Called]) -> list[Json]:
    return [{"name": call.name, "arguments": call.values} for call in calls]


class Cloudflare:
    name = "cloudflare"
    needs_key = True
    id_header = "cf-ray"
    stream_type = "text/event-stream"

    def routes(self, house: House) -> list[Route]:
        account = "/client/v4/accounts/{account}"
        return [
            Route(f"{account}/ai/run/{{model:path}}", Chat(house, self, _read), methods=["POST"]),
            Route(f"{account}/ai/models/search", Listing(house, self, _models), methods=["GET"]),
            *vectorize.routes(f"{account}/vectorize/v2/indexes", house, self),
        ]

    def key(self, request: Request) -> str | None:
        return bearer(request)

    def rate_headers(self, _gauge: Gauge) -> dict[str, str]:
        return {}

    def refusal(self, refused: Refused, _call_id: str) -> tuple[int, dict[str, str], Json]:
        status, code = _CODE[refused.kind]
        return refused.status or status, retry_after(refused), failure(refused.code or code, refused.text())

    def voice(self, _ask: Ask, reply: Reply, _call_id: str) -> CloudflareVoice:
        return CloudflareVoice(reply)


def success(result: object) -> Json:
    return {"result": result, "success": True, "errors": [], "messages": []}


def failure(code: int, message: str) -> Json:
    return {"result": None, "success": False, "errors": [{"code": code, "message": message}], "messages": []}


def _read(request: Request, body: Json) -> Ask:
    limit = field(body, "max_tokens", int)
    if limit is not None and limit < 1:
        raise Refused(Kind.BAD_REQUEST, "max_tokens: at least 1 expected")
    prompt = field(body, "prompt", str)
    said = [prompt] if prompt else [texts(message.get("content")) for message in messages(body)]
    is_told = not prompt and messages(body)[-1].get("role") == "tool"
    return Ask(
        model=request.path_params["model"],
        prompt=joined([described(body), *said]),
        stream=field(body, "stream", bool, False),
        max_tokens=limit,
        thinking=not suppresses_thinking(body),
        tools=tool.functions(body.get("tools")),
        is_told=is_told,
    )


def _models(sheet: Sheet, asked: Json) -> Json:
    """All of them on the first page."""
    if asked.get("page", "1") != "1":
        return success([])
    tasks = {True: "Text Embeddings", False: "Text Generation"}
    return success(
        [
            {"id": name, "name": name, "source": 1, "task": {"name": tasks[bool(model.dimensions)]}}
            for name, model in sheet.models.items()
        ]
    )


def _event(data: Json) -> bytes:
    return b"data: " + encode(data) + b"\n\n"


DIALECT = Cloudflare()
