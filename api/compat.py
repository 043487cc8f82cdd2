"""One task for one goblin, in the shapes of the product's first document: start, then poll. A stream is a run."""

import asyncio
import json
import uuid
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from api import present
from api.auth import CallerDep
from api.deps import House, HouseDep
from api.follow import PATIENCE, Event, Follower
from api.seen import Seen
from api.submit import desk, submit
from goblin.errors import NotFound, Unavailable
from goblin.kv import outages
from goblin.money import NANO
from ledger import views
from ledger.states import RunStatus
from ledger.views import Progress
from providers.name import nearest
from routing.route import Router
from workers.order import Order, UnknownName
from workers.request import BudgetUsd, Request, Text
from workflow.plan import Plan, Sequence, Stage, Step
from workflow.text import text

router = APIRouter(tags=["tasks"])
_PREFIX = "stream_"
_HALF_WAY = 400  # tokens after which a step is taken to be half done: how long an answer gets is known when it ends
_STATUS = {
    RunStatus.QUEUED: "running",
    RunStatus.RUNNING: "running",
    RunStatus.SUCCEEDED: "completed",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "cancelled",
}
_TASKS = {
    "docs-writer": "document this code",
    "code-writer": "write the code that this asks for",
    "analyze": "analyze this",
    "review": "review this",
    "plan": "make a plan for this",
    "optimize": "optimize this code",
    "deploy": "prepare a release of this",
    "chat": "answer this",
    "translate": "translate this; into English unless it says otherwise",
    "summarize": "summarize this",
}


class Payload(BaseModel):
    """What the goblin works on, and (as `task` or `prompt`) what it is to do; other keys are passed over."""

    model_config = ConfigDict(extra="ignore")

    code: Text | None = None
    language: Annotated[Text, Field(max_length=50)] | None = None
    text: Text | None = None
    task: Text | None = None
    prompt: Text | None = None


class Opts(Request):
    prefer_local: bool | None = Field(None, alias="preferLocal")
    budget: BudgetUsd | None = Field(None, description="USD")

    def as_options(self) -> dict[str, Any]:
        given = {"prefer_local": self.prefer_local, "budget_usd": None if self.budget is None else str(self.budget)}
        return {name: value for name, value in given.items() if value is not None}


class StartRequest(Request):
    task_type: Text = Field(description="a goblin", examples=["docs-writer"])
    payload: Payload = Field(
        Payload(),
        examples=[{"code": "function add(a, b) { return a + b; }", "language": "javascript"}],
    )
    opts: Opts = Field(Opts(), examples=[{"preferLocal": True, "budget": 1.0}])


class Started(BaseModel):
    stream_id: str = Field(examples=["stream_0199c2f46f0e7c3a9d0b2f6f1f1f7a10"])
    provider: str | None = Field(description="who is ranked first now; who serves is decided when the step runs")
    model: str | None
    run_id: uuid.UUID


class Chunk(BaseModel):
    """`reset` withdraws the step's text so far: another attempt begins."""

    chunk: str
    token_count: int
    cost: float
    step: str
    reset: bool = False


class Polled(BaseModel):
    status: str = Field(description="running, completed, failed or cancelled")
    chunks: list[Chunk]
    total_cost: float = Field(description="USD")
    progress: float = Field(ge=0, le=1)
    result: str | None = None
    error: str | None = None
    next: str | None = Field(None, description="what `after` takes to go on from here")


class StreamEnd(BaseModel):
    """How a run ended, in words."""

    status: RunStatus
    result: str | None
    error: str | None


@router.post("/api/route_task_stream_start", summary="Start a task")
def start(request: StartRequest, house: HouseDep, caller: CallerDep) -> Started:
    step = _step(house, request)
    order = Order(
        workflow=text(Plan(Sequence((Stage((step,)),)))),
        input=request.payload.model_dump(include={"code", "language", "text"}, exclude_none=True),
        options=request.opts.as_options(),
        key_id=caller.key_id,
        rpm=caller.rpm,
    )
    submitted = submit(house, order)
    provider, model = _first(house, step, order)
    return Started(stream_id=f"{_PREFIX}{submitted.id.hex}", provider=provider, model=model, run_id=submitted.id)


@router.get("/api/route_task_stream_poll/{stream_id}", summary="What a task has said since the last poll")
async def poll(
    stream_id: str,
    house: HouseDep,
    caller: CallerDep,
    after: Annotated[str | None, Query(max_length=100, description="hand out what follows this place, again")] = None,
) -> Polled:
    """Without `after` the server remembers what it has handed out; an answer that is lost on the way is lost then."""
    run_id = run_of(stream_id)
    await run_in_threadpool(views.run, house.ledger, run_id, caller.key_id)
    seen = await _recall(house, run_id) if after is None else None
    follower = Follower(house, run_id, cursor=after, seen=seen)
    chunks = [one for event in [event async for event in follower.until_now()] if (one := chunk_of(event))]
    if after is None:
        await _remember(house, run_id, follower.seen)
    progress = await run_in_threadpool(views.progress, house.ledger, run_id)
    end = await run_in_threadpool(end_of, house, run_id, progress.status) if follower.seen.has_ended else None
    return Polled(
        status=_STATUS[end.status] if end else "running",
        chunks=chunks,
        total_cost=_cost(progress, follower.seen),
        progress=1.0 if end else _share(progress, follower.seen),
        result=end.result if end else None,
        error=end.error if end else None,
        next=follower.seen.at or None,
    )


def run_of(stream_id: str) -> uuid.UUID:
    """Raises NotFound for what is no stream's id."""
    try:
        return uuid.UUID(stream_id.removeprefix(_PREFIX))
    except ValueError:
        raise NotFound(f"no stream {stream_id[:100]!r}") from None


def chunk_of(event: Event) -> Chunk | None:
    """What of an event is text, or takes text back."""
    data = event.data
    match event.type:
        case "delta":
            return Chunk(chunk=data["text"], token_count=data["tokens"], cost=float(data["cost"]), step=data["step"])
        case "step.reset":
            return Chunk(chunk="", token_count=0, cost=0.0, step=data["step"], reset=True)
        case _:
            return None


def end_of(house: House, run_id: uuid.UUID, status: RunStatus) -> StreamEnd:
    if status is RunStatus.SUCCEEDED:
        return StreamEnd(status=status, result=views.output(house.ledger, run_id), error=None)
    failure = views.failure(house.ledger, run_id) or {"message": f"the run was {status}"}
    return StreamEnd(status=status, result=None, error=str(failure["message"]))


def _step(house: House, request: StartRequest) -> Step:
    goblin, payload = request.task_type, request.payload
    if goblin not in house.settings.goblins:
        hint = nearest(goblin[:100], house.settings.goblins)
        raise UnknownName(f"unknown goblin {goblin[:100]!r}{hint}", field="task_type")
    return Step(0, goblin, payload.task or payload.prompt or _TASKS.get(goblin, "do this"))


def _first(house: House, step: Step, order: Order) -> tuple[str | None, str | None]:
    """Who would be asked now; without anybody free, who would be asked of those that could."""
    need = desk(house).need(step, order)
    calm = Router(house.offers, house.settings.routing)
    ranked = house.router.rank(need).candidates or calm.rank(need).candidates
    return (ranked[0].candidate.provider.id, ranked[0].candidate.model.id) if ranked else (None, None)


def _cost(progress: Progress, seen: Seen) -> float:
    """USD: what is settled, and what running steps have spoken for since."""
    over = {present.step_id(idx) for idx, final_for in progress.steps.items() if final_for is not None}
    speaking = sum(shown.cost_nanousd for step, shown in seen.running.items() if step not in over)
    return (progress.cost_nanousd + speaking) / NANO


def _share(progress: Progress, seen: Seen) -> float:
    parts = sum(shown.tokens / (shown.tokens + _HALF_WAY) for shown in seen.running.values())
    return round(min((len(seen.done) + parts) / len(progress.steps), 0.99), 4)


def _key(run_id: uuid.UUID) -> str:
    return f"goblin:poll:{{{run_id}}}"


async def _recall(house: House, run_id: uuid.UUID) -> Seen | None:
    try:
        with outages():
            async with asyncio.timeout(PATIENCE):
                kept = await house.events.get(_key(run_id))
    except Unavailable:
        return None
    value: Mapping[str, Any] | None = json.loads(kept) if kept else None
    return Seen.from_value(value) if value else None


async def _remember(house: House, run_id: uuid.UUID, seen: Seen) -> None:
    try:
        with outages():
            async with asyncio.timeout(PATIENCE):
                await house.events.set(_key(run_id), json.dumps(seen.as_value()), ex=house.settings.limits.stream_ttl)
    except Unavailable:
        return  # what is handed out twice is worth more than what is not handed out
