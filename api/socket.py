"""A task over a WebSocket: chunks as they come, then `complete` or `error`. Messages of the client are not read."""

import asyncio

from fastapi import APIRouter, WebSocket
from fastapi.concurrency import run_in_threadpool

from api.auth import bearer
from api.compat import chunk_of, end_of, run_of
from api.deps import House, HouseDep
from api.follow import Follower
from goblin.errors import GoblinError, NotFound, Unauthorized
from goblin.money import NANO
from ledger import views
from ledger.states import RunStatus

router = APIRouter()
_PROTOCOL = "goblin"  # offered beside `bearer.<key>` by clients that cannot send headers
_UNAUTHORIZED, _NOT_FOUND, _TRY_AGAIN = 4401, 4404, 1013
_LONGEST_REASON = 123  # bytes that a close has room for


@router.websocket("/ws/stream/{stream_id}")
async def stream(socket: WebSocket, stream_id: str, house: HouseDep, after: str | None = None) -> None:
    """A socket that closes without `complete` or `error` was cut; `?after=` takes the `id` of the last message."""
    await socket.accept(_PROTOCOL if _PROTOCOL in socket.scope["subprotocols"] else None)
    try:
        caller = await house.doors.admit(socket, bearer(socket))
        run = await run_in_threadpool(views.run, house.ledger, run_of(stream_id), caller.key_id)
    except GoblinError as error:
        await socket.close(_code(error), error.message.encode()[:_LONGEST_REASON].decode(errors="ignore"))
        return
    talking = asyncio.create_task(_talk(socket, house, Follower(house, run.id, cursor=after)))
    leaving = asyncio.create_task(_left(socket))
    done, rest = await asyncio.wait({talking, leaving}, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    if leaving not in done:
        talking.result()


async def _talk(socket: WebSocket, house: House, follower: Follower) -> None:
    run_id = follower.run
    async for event in follower.until_end():
        if event is None:
            continue
        if (chunk := chunk_of(event)) is not None:
            kind = "reset" if chunk.reset else "chunk"
            await socket.send_json({"type": kind, **chunk.model_dump(exclude={"reset"}), "id": event.id})
        elif event.type == "run.finished":
            end = await run_in_threadpool(end_of, house, run_id, RunStatus(event.data["outcome"]))
            cost = (await run_in_threadpool(views.progress, house.ledger, run_id)).cost_nanousd / NANO
            told = {"result": end.result} if end.error is None else {"error": end.error}
            await socket.send_json({"type": "complete" if end.error is None else "error", **told, "total_cost": cost})
    await socket.close()


async def _left(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


def _code(error: GoblinError) -> int:
    match error:
        case Unauthorized():
            return _UNAUTHORIZED
        case NotFound():
            return _NOT_FOUND
        case _:
            return _TRY_AGAIN
