"""A run's events as server-sent events (SSE): numbered, resumable with Last-Event-ID, ending with run.finished."""

import json
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from api.auth import CallerDep
from api.deps import HouseDep
from api.follow import Event, Follower
from api.runs import RunId
from ledger import views

router = APIRouter(tags=["runs"])
_KEEP_ALIVE = 15.0  # seconds of silence that proxies bear
_RETRY_MS = 1_000
_ResumeFrom = Annotated[str | None, Header(alias="Last-Event-ID", max_length=100)]
_EXAMPLE = (
    f"retry: {_RETRY_MS}\n\n"
    'id: 1735689600000-0\nevent: step.started\ndata: {"step":"step1","goblin":"chat","provider":"ollama",…}\n\n'
    'id: 1735689600050-0\nevent: delta\ndata: {"step":"step1","text":"Hello","tokens":1,"cost":"0.000000000"}\n\n'
)


class EventStream(StreamingResponse):
    media_type = "text/event-stream"


@router.get(
    "/v1/runs/{run_id}/events",
    response_class=EventStream,
    summary="A run as it happens",
    responses={200: {"content": {"text/event-stream": {"example": _EXAMPLE}}}},
)
async def follow_run(
    run_id: RunId,
    house: HouseDep,
    caller: CallerDep,
    last_event_id: _ResumeFrom = None,
    resume_from: Annotated[str | None, Query(alias="last_event_id", max_length=100)] = None,
) -> EventStream:
    """`step.started`, `delta`, `step.waiting`, `step.reset` (the text so far is withdrawn), `step.finished`, and at the
    end `run.finished`. A stream that ends without it was cut: connect again with the last id. Going away stops nothing.
    """
    await run_in_threadpool(views.run, house.ledger, run_id, caller.key_id)
    follower = Follower(house, run_id, cursor=last_event_id or resume_from)
    return EventStream(_lines(follower), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


async def _lines(follower: Follower) -> AsyncIterator[str]:
    yield f"retry: {_RETRY_MS}\n\n"
    said_at = time.monotonic()
    async for event in follower.until_end():
        if event is not None:
            yield _line(event)
        elif time.monotonic() - said_at >= _KEEP_ALIVE:
            yield ": keep-alive\n\n"
        else:
            continue
        said_at = time.monotonic()


def _line(event: Event) -> str:
    data = json.dumps(event.data, ensure_ascii=False, separators=(",", ":"))
    return f"id: {event.id}\nevent: {event.type}\ndata: {data}\n\n"
