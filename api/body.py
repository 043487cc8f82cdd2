"""How much a request may send: bytes are counted as they come, whether or not their number was announced."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problem import Problem

FILES = "/v1/files"


class BodyLimit:
    """ASGI middleware. A body over `limit` bytes gets 413 before more of it is read.

    Files are streamed: whoever takes them in counts for himself.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"] == "POST" and scope["path"] == FILES):
            await self._app(scope, receive, send)
            return
        if _announced(scope) > self._limit:
            await Problem("too_large", 413, self._complaint)(scope, receive, send)
            return
        received = 0

        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                raise HTTPException(413, self._complaint)  # passes through the framework's reading of the body
            return message

        await self._app(scope, count, send)

    @property
    def _complaint(self) -> str:
        return f"the body is larger than {self._limit} bytes"


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
