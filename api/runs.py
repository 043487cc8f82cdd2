"""Runs over HTTP: submit and look. What happens in between is the workers' business."""

import base64
import binascii
import uuid
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Response

from api import present
from api.auth import CallerDep
from api.deps import HouseDep
from api.schemas import (
    Accepted,
    Parsed,
    ParsedStep,
    ParseRequest,
    RunDecisions,
    RunOut,
    RunPage,
)
from api.submit import desk, submit
from goblin.errors import NotFound, UsageError
from ledger import decisions, views
from ledger.states import RunStatus
from ledger.views import Place
from workers.order import Order
from workers.request import RunRequest

router = APIRouter(tags=["runs"])


def _run_id(run_id: Annotated[str, Path(description="as the submission returned it")]) -> uuid.UUID:
    try:
        return uuid.UUID(run_id)
    except ValueError:
        raise NotFound(f"no run {run_id[:100]!r}") from None


RunId = Annotated[uuid.UUID, Depends(_run_id)]


@router.post("/v1/runs", status_code=202, summary="Submit a workflow")
def submit_run(
    request: RunRequest,
    house: HouseDep,
    caller: CallerDep,
    response: Response,
    idempotency_key: Annotated[
        str | None, Header(min_length=1, max_length=255, description="the same key and request give the same run")
    ] = None,
) -> Accepted:
    """202 means that the run is stored and will run."""
    submitted = submit(
        house,
        Order(
            workflow=request.workflow,
            default_goblin=request.default_goblin,
            input=request.input.model_dump(exclude_none=True),
            options=request.options.as_value(),
            key_id=caller.key_id,
            rpm=caller.rpm,
            idempotency_key=idempotency_key,
        ),
    )
    url = f"/v1/runs/{submitted.id}"
    response.headers["Location"] = url
    status = RunStatus.QUEUED
    if not submitted.is_new:
        response.headers["Idempotent-Replayed"] = "true"
        status = views.run(house.ledger, submitted.id, caller.key_id).status
    return Accepted(id=submitted.id, status=status, workflow=request.workflow, url=url, events_url=f"{url}/events")


@router.get("/v1/runs", summary="List runs, newest first")
def list_runs(
    house: HouseDep,
    caller: CallerDep,
    status: RunStatus | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before")] = None,
) -> RunPage:
    after = _place(cursor) if cursor else None
    found = views.page(house.ledger, caller.key_id, status=status, after=after, limit=limit + 1)
    shown, has_more = found[:limit], len(found) > limit
    return RunPage(
        data=[present.summary(run) for run in shown],
        has_more=has_more,
        next_cursor=_cursor(shown[-1].place) if has_more else None,
    )


@router.get("/v1/runs/{run_id}", summary="One run with its steps and their attempts")
def get_run(run_id: RunId, house: HouseDep, caller: CallerDep) -> RunOut:
    run = views.run(house.ledger, run_id, caller.key_id)
    output = views.output(house.ledger, run_id) if run.status.is_final else None
    return present.whole(run, views.steps(house.ledger, run_id), views.attempts(house.ledger, run_id), output)


@router.get("/v1/runs/{run_id}/decisions", summary="Why each step went where it went")
def get_decisions(run_id: RunId, house: HouseDep, caller: CallerDep) -> RunDecisions:
    views.run(house.ledger, run_id, caller.key_id)
    return present.decisions(run_id, decisions.of_run(house.ledger, run_id))


@router.post("/parse", tags=["workflows"], summary="What a workflow would do")
def parse_workflow(request: ParseRequest, house: HouseDep, _: CallerDep) -> Parsed:
    plan = desk(house).read(request.text, request.default_goblin)
    steps = [
        ParsedStep(
            id=step.id,
            goblin=step.goblin,
            task=step.task,
            dependencies=[present.step_id(idx) for idx in plan.dependencies(step.idx)],
            provider=step.provider,
            model=step.model,
        )
        for step in plan.steps
    ]
    return Parsed(steps=steps, total_batches=1, max_parallel=plan.max_parallel, depth=plan.depth)


def _cursor(place: Place) -> str:
    return base64.urlsafe_b64encode(f"{place.created_at.isoformat()} {place.id.hex}".encode()).decode().rstrip("=")


def _place(cursor: str) -> Place:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        created_at, run_id = text.rsplit(" ", 1)
        return Place(datetime.fromisoformat(created_at), uuid.UUID(run_id))
    except (ValueError, binascii.Error):
        raise UsageError("the cursor is not one that a page of runs came with", field="cursor") from None
