"""A vendor on loopback whose every byte is scripted: one function per connection, in the order in which they come."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from pydantic import SecretStr

from providers.message import Chat, Message
from providers.provider import Deadlines, Provider

KEY = "sk-very-secret-0123456789"
PROMPT = "the secret recipe of the house"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class Connection:
    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._file = link.makefile("rb")

    def request(self) -> bytes:
        """The next request, whole; empty when the client has gone."""
        head = b""
        while line := self._file.readline():
            head += line
            if line == b"\r\n":
                break
        length = next((int(row[15:]) for row in head.lower().split(b"\r\n") if row.startswith(b"content-length:")), 0)
        return head + self._file.read(length)

    def send(self, data: bytes) -> None:
        self._link.sendall(data)

    def stream(self, *events: bytes) -> None:
        self.send(HEAD + b"".join(map(chunk, events)))

    def wait_until_gone(self) -> None:
        with contextlib.suppress(OSError):
            self._file.read()

    def reset(self) -> None:
        self._link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._file.close()
        self._link.close()


class Vendor:
    def __init__(self, *scripts: Callable[[Connection], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._scripts = scripts
        self._threads: list[threading.Thread] = []
        self.connections = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "Vendor":
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        for script in self._scripts:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._serve, link, script)

    def _serve(self, link: socket.socket, script: Callable[[Connection], None]) -> None:
        with link, contextlib.suppress(OSError, ValueError):
            script(Connection(link))

    def _start(self, run: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


def provider(base_url: str = "https://vendor.example", dialect: str = "openai", **facts: Any) -> Provider:
    """A provider with a key, and limits that no test reaches unless it means to."""
    auth = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}.get(dialect, "bearer")
    known = {
        "key": SecretStr(KEY),
        "auth": auth,
        "deadlines": Deadlines(30, 30, 30, 60),
        "models_path": "/models",
        **facts,
    }
    return Provider(id="vendor", name="Vendor", dialect=dialect, base_url=base_url, **known)


def chat(**wishes: Any) -> Chat:
    said = (Message("system", "be brief"), Message("user", PROMPT))
    return Chat(**{"model": "m-1", "messages": said, "max_output_tokens": 200, **wishes})
