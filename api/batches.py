"""`/v1/batches`, in OpenAI's shape: the lines of a file become runs, behind those that somebody waits for."""

import re
import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field

from api.auth import CallerDep
from api.deps import HouseDep
from api.files import file_id, file_of
from api.schemas import Usd
from goblin.errors import Conflict, NotFound, UsageError
from goblin.money import from_usd, to_usd
from ledger import batches, files
from ledger.batches import BatchView, NewBatch
from ledger.states import BatchStatus
from workers.halt import halt
from workers.request import BudgetUsd, Metadata, Request, Text

router = APIRouter(tags=["batches"])
_PREFIX = "batch_"
_WINDOW = re.compile(r"([1-9][0-9]{0,5})([mhd])")
_UNITS_S = {"m": 60, "h": 3_600, "d": 86_400}
_LONGEST_S = 14 * 86_400
_ENDED = (BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED)


class BatchRequest(Request):
    input_file_id: Text = Field(examples=["file-0199c2f46f0e7c3a9d0b2f6f1f1f7a10"])
    endpoint: Literal["/v1/chat/completions", "/v1/runs"] = Field(description="the url of every line")
    completion_window: Text = Field(
        "24h", description="minutes, hours or days, up to 14d: afterwards nothing more is done", examples=["24h"]
    )
    metadata: Metadata | None = None
    budget_usd: BudgetUsd | None = Field(
        None, description="the most that all its lines may cost together", examples=["5.00"]
    )


class BatchError(BaseModel):
    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchErrors(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchError]


class RequestCounts(BaseModel):
    total: int
    completed: int
    failed: int


class BatchOut(BaseModel):
    id: str = Field(examples=["batch_0199c2f46f0e7c3a9d0b2f6f1f1f7a10"])
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None
    error_file_id: str | None
    created_at: int = Field(description="Unix seconds")
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None
    budget_usd: Usd | None


class BatchPage(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchOut]
    first_id: str | None
    last_id: str | None
    has_more: bool


def _batch_of(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text.removeprefix(_PREFIX) if text.startswith(_PREFIX) else "")
    except ValueError:
        raise NotFound(f"no batch {text[:100]!r}") from None


def _path_id(batch_id: Annotated[str, Path(description="as the creation returned it")]) -> uuid.UUID:
    return _batch_of(batch_id)


BatchId = Annotated[uuid.UUID, Depends(_path_id)]


@router.post("/v1/batches", summary="Run the lines of a file")
def create_batch(request: BatchRequest, house: HouseDep, caller: CallerDep) -> BatchOut:
    """Once this is answered every line will be run, or told why not."""
    window_s = _seconds(request.completion_window)
    file = file_of(request.input_file_id)
    known = files.view(house.ledger, file, caller.key_id)
    if known.purpose != "batch":
        raise UsageError("input_file_id: this file was not uploaded with purpose=batch", field="input_file_id")
    if known.lines == 0:
        raise UsageError("input_file_id: this file has no lines", field="input_file_id")
    house.knocks.knock(caller.key_id, caller.rpm)
    made = batches.create(
        house.ledger,
        NewBatch(
            file=file,
            endpoint=request.endpoint,
            window=request.completion_window,
            window_s=window_s,
            key_id=caller.key_id,
            budget=None if request.budget_usd is None else from_usd(request.budget_usd),
            metadata=request.metadata,
        ),
    )
    return _out(batches.view(house.ledger, made, caller.key_id))


@router.get("/v1/batches", summary="List batches, newest first")
def list_batches(
    house: HouseDep,
    caller: CallerDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=100, description="the `last_id` of the page before")] = None,
) -> BatchPage:
    behind = _batch_of(after) if after else None
    found = batches.listed(house.ledger, caller.key_id, after=behind, limit=limit + 1)
    shown = [_out(one) for one in found[:limit]]
    return BatchPage(
        data=shown,
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
        has_more=len(found) > limit,
    )


@router.get("/v1/batches/{batch_id}", summary="How far a batch is")
def get_batch(batch_id: BatchId, house: HouseDep, caller: CallerDep) -> BatchOut:
    return _out(batches.view(house.ledger, batch_id, caller.key_id))


@router.post("/v1/batches/{batch_id}/cancel", summary="Stop a batch")
def cancel_batch(batch_id: BatchId, house: HouseDep, caller: CallerDep) -> BatchOut:
    """No further line is begun and calls under way are cut; the results so far are in its files once it is cancelled.

    Again is the same; a batch that has ended otherwise gives 409.
    """
    before = batches.view(house.ledger, batch_id, caller.key_id)
    if batches.request_cancel(house.ledger, batch_id) or before.status is BatchStatus.CANCELLING:
        halt(house.ledger, house.redis, batch_id)
    elif before.status is not BatchStatus.CANCELLED:
        raise Conflict(f"nothing of this batch is left to cancel: it is {before.status}", status=before.status)
    return _out(batches.view(house.ledger, batch_id, caller.key_id))


def _seconds(window: str) -> int:
    parts = _WINDOW.fullmatch(window)
    seconds = int(parts[1]) * _UNITS_S[parts[2]] if parts else 0
    if not 0 < seconds <= _LONGEST_S:
        raise UsageError(
            "completion_window: write minutes, hours or days, such as 90m, 24h or 7d; 14d at most",
            field="completion_window",
        )
    return seconds


def _out(batch: BatchView) -> BatchOut:
    ended = {status: _unix(batch.ended_at) if batch.status is status else None for status in _ENDED}
    return BatchOut(
        id=f"{_PREFIX}{batch.id.hex}",
        endpoint=batch.endpoint,
        errors=BatchErrors(data=[_error(batch.error)]) if batch.error else None,
        input_file_id=file_id(batch.file_id),
        completion_window=batch.window,
        status=batch.status,
        output_file_id=file_id(batch.output_file_id) if batch.output_file_id else None,
        error_file_id=file_id(batch.error_file_id) if batch.error_file_id else None,
        created_at=int(batch.created_at.timestamp()),
        in_progress_at=_unix(batch.in_progress_at),
        expires_at=int(batch.expires_at.timestamp()),
        finalizing_at=_unix(batch.finalizing_at),
        completed_at=ended[BatchStatus.COMPLETED],
        failed_at=ended[BatchStatus.FAILED],
        expired_at=ended[BatchStatus.EXPIRED],
        cancelling_at=_unix(batch.cancelling_at),
        cancelled_at=ended[BatchStatus.CANCELLED],
        request_counts=RequestCounts(
            total=batch.counts.total, completed=batch.counts.completed, failed=batch.counts.failed
        ),
        metadata=dict(batch.metadata) if batch.metadata is not None else None,
        budget_usd=to_usd(batch.budget) if batch.budget is not None else None,
    )


def _error(error: Any) -> BatchError:
    return BatchError(code=error["type"], message=error["message"], line=error.get("line"))


def _unix(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
