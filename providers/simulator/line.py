"""The connection to one client: writes, waits, and knows when the client has gone. Knows nothing of what is said."""

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

RESET = (
    "simulator.reset"  # key in the ASGI scope: a callable that resets the connection, given by the server of __main__
)


class Line:
    """One sleep costs one timer, and no task is made before the first wait: hundreds of streams share one process."""

    __slots__ = ("_gone", "_loop", "_nap", "_receive", "_scope", "_send", "_start", "_watch")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._watch: asyncio.Task[None] | None = None
        self._nap: asyncio.Future[None] | None = None
        self._gone = False

    @property
    def elapsed(self) -> float:
        """Seconds since the request came."""
        return self._loop.time() - self._start

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def write(self, body: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        await self.start(status, {**headers, "content-length": str(len(body))})
        await self.write(body, more=False)

    async def pause(self, seconds: float) -> bool:
        """Waits, at least for the other tasks to have a turn. False as soon as the client has gone."""
        self._listen()
        if seconds <= 0:
            await asyncio.sleep(0)
        elif not self._gone:
            await self._sleep(seconds)
        return not self._gone

    async def until_gone(self) -> None:
        self._listen()
        while not self._gone:
            await self._sleep(None)

    async def reset(self) -> None:
        """Resets the connection. Raises ConnectionResetError under a server that offers no way to do so."""
        abort: Any = self._scope.get(RESET)
        if abort is None:
            raise ConnectionResetError("this server cannot reset a connection")
        abort()
        await self.until_gone()

    def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    def _listen(self) -> None:
        if self._watch is None:
            self._watch = self._loop.create_task(self._wait_for_the_end())

    async def _wait_for_the_end(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._wake()

    async def _sleep(self, seconds: float | None) -> None:
        self._nap = self._loop.create_future()
        timer = None if seconds is None else self._loop.call_later(seconds, self._wake)
        try:
            await self._nap
        finally:
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._nap is not None and not self._nap.done():
            self._nap.set_result(None)
