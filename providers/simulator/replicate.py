"""The replicate dialect: predictions that run by themselves. A stream is only a view of one.

So a prediction whose reader has gone is billed whole, as the vendor would, unless it is cancelled.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.routing import Route

from providers.simulator import pace
from providers.simulator.answer import Ask, Reply
from providers.simulator.behaviour import Break
from providers.simulator.dialect import Json, bearer, encode, field, joined, needed
from providers.simulator.door import Chat, Door, Entry, Listing, Visit
from providers.simulator.limits import Gauge
from providers.simulator.line import Line
from providers.simulator.pace import Chunk, Outcome, Tempo
from providers.simulator.refusal import Kind, Refused
from providers.simulator.sheet import Sheet
from providers.simulator.tag import Tagger, tagged
from providers.simulator.world import House

KEPT = 10_000  # predictions that can be looked at
OWNER = "sim"

_STATUS = {
    Kind.BAD_REQUEST: 422,
    Kind.AUTH: 401,
    Kind.PERMISSION: 403,
    Kind.NOT_FOUND: 404,
    Kind.TOO_LARGE: 413,
    Kind.QUOTA: 402,
    Kind.RATE: 429,
    Kind.OVERLOADED: 503,
    Kind.CONTEXT: 422,
    Kind.FILTERED: 422,
    Kind.SERVER: 500,
    Kind.TIMEOUT: 504,
}
_OFF = ("none", "minimal", "disabled")


@dataclass(slots=True)
class Prediction:
    """One that was created at `born` (seconds of the loop's clock)."""

    entry: Entry
    visit: Visit
    beat: Tempo
    born: float
    status: str = "processing"

    @property
    def fails(self) -> bool:
        return self.entry.behaviour.breaks is not None and self.entry.behaviour.breaks[0] is Break.FAIL

    @property
    def limit(self) -> int:
        """Tokens after which it ends."""
        output, breaks = self.entry.reply.usage.output, self.entry.behaviour.breaks
        return min(breaks[1], output) if breaks and self.fails else output

    def left(self) -> float:
        """Seconds until it ends by itself."""
        return self.born + self.beat.end(self.limit) - asyncio.get_running_loop().time()

    def look(self) -> None:
        if self.left() <= 0:
            self.finish()

    def finish(self) -> None:
        status, outcome = ("failed", Outcome.ERROR) if self.fails else ("succeeded", Outcome.WHOLE)
        self._settle(status, outcome, self.limit)

    def cancel(self) -> None:
        elapsed = asyncio.get_running_loop().time() - self.born
        self._settle("canceled", Outcome.GONE, self.beat.produced(elapsed, self.limit))

    def _settle(self, status: str, outcome: Outcome, produced: int) -> None:
        if self.status == "processing":
            self.status = status
            self.entry.settle(self.visit, outcome, produced)

    def view(self, request: Request) -> Json:
        root = f"{request.url.scheme}://{request.url.netloc}{request.scope['root_path']}/v1"
        get, reply, over = f"{root}/predictions/{self.visit.id}", self.entry.reply, self.status == "succeeded"
        usage = {"input_token_count": reply.usage.input, "output_token_count": reply.usage.output}
        metrics = {"predict_time": self.beat.end(self.limit), **(usage if reply.reports_usage else {})}
        urls = {"get": get, "cancel": f"{get}/cancel"}
        if self.entry.ask.stream:
            urls["stream"] = f"{root}/streams/{self.visit.id}"
        return {
            "id": self.visit.id,
            "model": f"{OWNER}/{self.entry.ask.model}",
            "version": "hidden",
            "status": self.status,
            "input": {},
            "output": [tagged(reply)] if over else None,
            "logs": "",
            "error": Refused(Kind.SERVER).text() if self.status == "failed" else None,
            "metrics": metrics if over else {},
            "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "urls": urls,
        }


class ReplicateVoice:
    garbage = b"event: outp\nid: 9:0\ndata: he\n\n"

    def __init__(self) -> None:
        self._tagger, self._said = Tagger(), 0

    def opening(self) -> bytes:
        return b""

    def piece(self, chunk: Chunk) -> bytes:
        return self._event("output", self._tagger.say(chunk))

    def closing(self) -> bytes:
        return self._event("done", "{}")

    def trouble(self) -> bytes:
        return self._event("error", Refused(Kind.SERVER).text()) + self._event("done", '{"reason":"error"}')

    def whole(self) -> bytes:
        raise NotImplementedError  # a prediction is not an answer

    def _event(self, name: str, data: str) -> bytes:
        self._said += 1
        lines = "".join(f"data: {line}\n" for line in data.split("\n"))
        return f"event: {name}\nid: {self._said}:0\n{lines}\n".encode("utf-8", "replace")


class Replicate:
    name = "replicate"
    needs_key = True
    id_header = ""
    stream_type = "text/event-stream"

    def routes(self, house: House) -> list[Route]:
        kept: OrderedDict[str, Prediction] = OrderedDict()
        return [
            Route("/v1/models/{owner}/{model:path}/predictions", Create(house, self, kept), methods=["POST"]),
            Route("/v1/predictions", Create(house, self, kept), methods=["POST"]),
            Route("/v1/predictions/{id}", Later(house, self, kept, Prediction.look), methods=["GET"]),
            Route("/v1/predictions/{id}/cancel", Later(house, self, kept, Prediction.cancel), methods=["POST"]),
            Route("/v1/streams/{id}", Listen(house, self, kept, Prediction.look), methods=["GET"]),
            Route("/v1/models", Listing(house, self, _models), methods=["GET"]),
        ]

    def key(self, request: Request) -> str | None:
        return bearer(request)

    def rate_headers(self, _gauge: Gauge) -> dict[str, str]:
        return {}

    def refusal(self, refused: Refused, _call_id: str) -> tuple[int, dict[str, str], Json]:
        """The only hint at how long to wait is in the words."""
        status, text = refused.status or _STATUS[refused.kind], refused.text()
        if refused.kind is Kind.CONTEXT:
            text = f"Input is too long: {text}"
        if refused.retry_after is not None:
            text = f"Request was throttled. Your rate limit resets in ~{refused.retry_after:g}s."
        return status, {}, {"title": refused.kind.value, "detail": text, "status": status}

    def voice(self, _ask: Ask, _reply: Reply, _call_id: str) -> ReplicateVoice:
        return ReplicateVoice()


class Create(Chat):
    def __init__(self, house: House, dialect: Replicate, kept: "OrderedDict[str, Prediction]") -> None:
        super().__init__(house, dialect, _read)
        self.kept = kept

    async def serve(self, request: Request, line: Line, visit: Visit) -> None:
        if (entry := await self.enter(request, line, visit)) is None:
            return
        loop = asyncio.get_running_loop()
        prediction = Prediction(entry, visit, pace.tempo(entry.behaviour, entry.row), loop.time())
        self.kept[visit.id] = prediction
        if len(self.kept) > KEPT:
            self.kept.popitem(last=False)
        loop.call_later(max(0.0, prediction.left()), prediction.finish)
        if request.headers.get("prefer", "").startswith("wait"):
            await line.pause(prediction.left())
            prediction.finish()
        await line.answer(201, {"content-type": "application/json"}, encode(prediction.view(request)))


class Later(Door):
    """What may be done with a prediction: not recorded, since the prediction is."""

    recorded = False

    def __init__(
        self,
        house: House,
        dialect: Replicate,
        kept: "OrderedDict[str, Prediction]",
        act: Callable[[Prediction], None],
    ) -> None:
        super().__init__(house, dialect)
        self.kept, self.act = kept, act

    async def serve(self, request: Request, line: Line, visit: Visit) -> None:
        self.check_key(request)
        prediction = self.find(request)
        self.act(prediction)
        head = {"content-type": "application/json", **visit.head()}
        await line.answer(200, head, encode(prediction.view(request)))

    def find(self, request: Request) -> Prediction:
        prediction = self.kept.get(request.path_params["id"])
        if prediction is None:
            raise Refused(Kind.NOT_FOUND, "The requested resource could not be found.")
        return prediction


class Listen(Later):
    """Whoever knows the address may listen."""

    async def serve(self, request: Request, line: Line, visit: Visit) -> None:
        prediction = self.find(request)
        entry, waited = prediction.entry, asyncio.get_running_loop().time() - prediction.born
        beat = Tempo(max(0.0, prediction.beat.ttft - waited), prediction.beat.speed, prediction.beat.stall)
        head = {"content-type": self.dialect.stream_type}
        voice = self.dialect.voice(entry.ask, entry.reply, visit.id)
        await pace.stream(line, head, voice, entry.reply, entry.behaviour, beat, lambda _outcome, _produced: None)


def _read(request: Request, body: Json) -> Ask:
    wishes = needed(body, "input", dict)
    limit = field(wishes, "max_completion_tokens", int, field(wishes, "max_tokens", int))
    if limit is not None and limit < 1:
        raise Refused(Kind.BAD_REQUEST, "- input.max_tokens: Must be greater than or equal to 1")
    told = {str(wishes[name]).lower() for name in ("reasoning_effort", "thinking") if name in wishes}
    return Ask(
        model=request.path_params.get("model") or needed(body, "version", str),
        prompt=joined([field(wishes, "system_prompt", str, ""), needed(wishes, "prompt", str)]),
        stream=field(body, "stream", bool, False),
        max_tokens=limit,
        thinking=told.isdisjoint(_OFF),
    )


def _models(sheet: Sheet, _body: Json) -> Json:
    rows = [_described(name) for name, model in sheet.models.items() if not model.dimensions]
    return {"next": None, "previous": None, "results": rows}


def _described(name: str) -> Json:
    unsaid = ("description", "github_url", "paper_url", "license_url", "cover_image_url", "default_example")
    known = {"url": f"https://replicate.com/{OWNER}/{name}", "owner": OWNER, "name": name, "visibility": "public"}
    return {**known, "run_count": 0, "latest_version": None, **dict.fromkeys(unsaid)}


DIALECT = Replicate()
