"""`/v1/files`, in OpenAI's shape: files of lines for batches, and the files that batches write."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from api.auth import CallerDep
from api.body import FILES
from api.deps import House, HouseDep
from api.multipart import BadForm, FileBegin, FileData, Form, Value
from goblin.clock import new_id
from goblin.errors import NotFound, RateLimited, TooLarge, UsageError
from ledger import files
from ledger.files import Bounds, FileView, Intake
from providers.name import nearest
from workers.request import Text

router = APIRouter(tags=["batches"])
_PREFIX = "file-"
_HOUR_S, _DAY_S = 3_600, 86_400
_SILENCE_S = 60.0  # that an upload may be silent
_BESIDE = 2**20  # bytes of a form beside its file
_FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")


class FileOut(BaseModel):
    id: str = Field(examples=["file-0199c2f46f0e7c3a9d0b2f6f1f1f7a10"])
    object: Literal["file"] = "file"
    bytes: int
    created_at: int = Field(description="Unix seconds")
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    lines: int


class FilePage(BaseModel):
    object: Literal["list"] = "list"
    data: list[FileOut]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


def file_id(file: uuid.UUID) -> str:
    return f"{_PREFIX}{file.hex}"


def file_of(text: str) -> uuid.UUID:
    """Raises NotFound for what is no id of a file."""
    try:
        return uuid.UUID(text.removeprefix(_PREFIX) if text.startswith(_PREFIX) else "")
    except ValueError:
        raise NotFound(f"no file {text[:100]!r}") from None


def _path_id(file_id: Annotated[str, Path(description="as the upload returned it")]) -> uuid.UUID:
    return file_of(file_id)


FileId = Annotated[uuid.UUID, Depends(_path_id)]


@router.post(
    FILES,
    summary="Upload a file of lines",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["purpose", "file"],
                        "properties": {
                            "purpose": {"type": "string", "enum": ["batch"]},
                            "file": {"type": "string", "format": "binary", "description": "JSON lines"},
                            "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                            "expires_after[seconds]": {"type": "integer"},
                        },
                    }
                }
            },
        }
    },
)
async def upload(request: Request, house: HouseDep, caller: CallerDep) -> FileOut:
    """Streamed into the ledger in one transaction: an upload that is cut leaves nothing behind."""
    if house.uploads.available_tokens < 1:
        raise RateLimited("as many files as are taken in at once are arriving: try again soon", retry_after=5)
    async with house.uploads:
        file = await _take(request, house, caller.key_id)
    return _out(await run_in_threadpool(files.view, house.ledger, file, caller.key_id))


@router.get(FILES, summary="List files")
def list_files(
    house: HouseDep,
    caller: CallerDep,
    purpose: Annotated[Text | None, Query(max_length=50)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    after: Annotated[str | None, Query(max_length=100, description="the `last_id` of the page before")] = None,
    order: Literal["asc", "desc"] = "desc",
) -> FilePage:
    behind = file_of(after) if after else None
    found = files.listed(
        house.ledger, caller.key_id, purpose=purpose, after=behind, limit=limit + 1, newest=order == "desc"
    )
    shown = [_out(one) for one in found[:limit]]
    return FilePage(
        data=shown,
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
        has_more=len(found) > limit,
    )


@router.get("/v1/files/{file_id}", summary="One file")
def get_file(file_id: FileId, house: HouseDep, caller: CallerDep) -> FileOut:
    return _out(files.view(house.ledger, file_id, caller.key_id))


@router.get("/v1/files/{file_id}/content", summary="The lines of a file", response_class=StreamingResponse)
def get_content(file_id: FileId, house: HouseDep, caller: CallerDep) -> StreamingResponse:
    """Read page by page as the client takes it; cut, not ended, when the file goes meanwhile."""
    known = files.view(house.ledger, file_id, caller.key_id)
    headers = {"Content-Disposition": f'attachment; filename="{file_id}.jsonl"', "X-Lines": str(known.lines)}
    return StreamingResponse(files.content(house.ledger, known), media_type="application/jsonl", headers=headers)


@router.delete("/v1/files/{file_id}", summary="Delete a file")
def delete_file(file_id: FileId, house: HouseDep, caller: CallerDep) -> Deleted:
    """409 while a batch reads it."""
    files.delete(house.ledger, file_id, caller.key_id)
    return Deleted(id=f"{_PREFIX}{file_id.hex}")


def _out(file: FileView) -> FileOut:
    return FileOut(
        id=file_id(file.id),
        bytes=file.bytes,
        created_at=int(file.created_at.timestamp()),
        expires_at=int(file.expires_at.timestamp()),
        filename=file.filename,
        purpose=file.purpose,
        lines=file.lines,
    )


async def _take(request: Request, house: House, key_id: uuid.UUID | None) -> uuid.UUID:
    """The file of a form. Raises what the form or the bounds refuse, and Unavailable without Postgres: then it is not
    there."""
    form, fields, file = Form(request.headers.get("content-type", "")), dict[str, str](), new_id()
    intake: Intake | None = None
    async with AsyncExitStack() as stack:
        async for chunk in _chunks(request, house.settings.batches.file_bytes + _BESIDE):
            for event in form.feed(chunk):
                match event:
                    case Value(name, text):
                        fields[name] = text
                    case FileBegin(name, filename):
                        if name != "file" or intake is not None:
                            raise BadForm("the form must hold one file, in the field `file`")
                        receiving = files.receive(house.ledger, file, key_id, filename, _bounds(house))
                        intake = await stack.enter_async_context(contextmanager_in_threadpool(receiving))
                    case FileData(data) if intake is not None:
                        await run_in_threadpool(intake.write, data)
        form.end()
        if intake is None:
            raise BadForm("the form holds no file: send it in the field `file`")
        intake.kept_s = _kept_s(house, fields)
    return file


async def _chunks(request: Request, most: int) -> AsyncIterator[bytes]:
    """What arrives, up to so many bytes: a form may have no end."""
    pieces, received = aiter(request.stream()), 0
    while True:
        try:
            async with asyncio.timeout(_SILENCE_S):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise BadForm(f"nothing of the file arrived for {_SILENCE_S:.0f} s") from None
        received += len(piece)
        if received > most:
            raise TooLarge(f"the form is larger than {most} bytes")
        yield piece


def _bounds(house: House) -> Bounds:
    limits = house.settings.batches
    return Bounds(limits.file_bytes, limits.line_bytes, limits.lines)


def _kept_s(house: House, fields: Mapping[str, str]) -> float:
    """Seconds that the file is kept. Raises UsageError for fields that say something else than can be done."""
    for name in fields:
        if name not in _FIELDS:
            raise UsageError(f"unknown field {name[:100]!r}{nearest(name[:100], _FIELDS)}", field=name[:100])
    if fields.get("purpose") != "batch":
        raise UsageError("purpose must be batch", field="purpose")
    longest = house.settings.retention.file_days * _DAY_S
    wanted = fields.get("expires_after[seconds]")
    if wanted is None:
        return longest
    if not wanted.isascii() or not wanted.isdigit() or not _HOUR_S <= int(wanted) <= longest:
        raise UsageError(
            f"expires_after[seconds] must be from {_HOUR_S} to {longest:.0f}", field="expires_after[seconds]"
        )
    return float(wanted)
