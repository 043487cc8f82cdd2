"""Runs the simulator: `python -m providers.simulator`.

Prints one line, {"port": N}, when it listens. SIGTERM ends it at once, open streams too.
"""

import argparse
import asyncio
import json
import socket
import struct
from pathlib import Path

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from providers.simulator.app import create
from providers.simulator.line import RESET
from providers.simulator.sheet import Sheet

_DISCARD = struct.pack("ii", 1, 0)  # SO_LINGER: closing discards what is unsent and resets the connection


class Protocol(HttpToolsProtocol):
    """Hands the app, beside each request, the means to reset its connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        serve = self.app

        def abort() -> None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DISCARD)
            transport.abort()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope[RESET] = abort
            await serve(scope, receive, send)

        self.app = app


class Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if sockets:
            print(json.dumps({"port": sockets[0].getsockname()[1]}), flush=True)  # noqa: T201 - the answer to who started us


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m providers.simulator", description="Simulated AI providers over HTTP."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other answers")
    parser.add_argument("--sheet", type=Path, help="models and prices, in the form of sheet.toml")
    options = parser.parse_args()
    listener = socket.create_server((options.host, options.port), backlog=2048)
    # A cut answer and an unfinished one are what this server is for: they are no errors to log.
    config = uvicorn.Config(
        create(Sheet.load(options.sheet, seed=options.seed)),
        http=Protocol,
        lifespan="off",
        log_level="critical",
        access_log=False,
        server_header=False,
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=0,
    )
    Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
