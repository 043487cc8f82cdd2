"""A wire between a client and a server that can be cut, shut, fall silent, or be made to lose an answer."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from sqlalchemy import make_url

PIECE = 16_384  # bytes that are handed on at a time


class Wire:
    """Forwards loopback TCP to the server of a URL.

    Until `mend`: `shut` closes all connections and lets none in; `silence` keeps them, and nothing arrives. `hang` is
    silence for good, of the connections that there are.
    """

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._is_shut = False
        self._flows = _flowing()
        self._hung: list[threading.Event] = []
        self._loses_answer = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Leads to the same database through the wire."""
        through = self._url.set(host="127.0.0.1", port=self.port, query={})
        return through.render_as_string(hide_password=False)

    def cut(self) -> None:
        """Close every connection, as a restart of the server does."""
        for end in list(self._open):
            _end(end)

    def lead(self, url: str) -> None:
        """To another server from now on, as an address that moves in a failover."""
        self._url = make_url(url)
        self.cut()

    def shut(self) -> None:
        self._is_shut = True
        self.cut()

    def silence(self) -> None:
        """As a network that loses everything: what is sent is held back."""
        self._flows.clear()

    def hang(self) -> None:
        """As a proxy that keeps its connections and hands nothing on any more."""
        self._flows.clear()
        self._hung.append(self._flows)
        self._flows = _flowing()

    def mend(self) -> None:
        self._is_shut = False
        self._flows.set()

    def lose_answer(self) -> None:
        """Hand on the next request, and close its connection instead of handing on the answer."""
        self._loses_answer = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut()
        for flows in (self._flows, *self._hung):
            flows.set()
        _end(self._listener)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._is_shut:
                    _end(client)
                    continue
                try:
                    server = self._connect()
                except OSError:  # the server is down
                    _end(client)
                    continue
                self._open |= {client, server}
                threading.Thread(target=self._forward, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._forward, args=(server, client, True), daemon=True).start()

    def _connect(self) -> socket.socket:
        folder = self._url.query.get("host")
        if folder is None:
            return socket.create_connection((self._url.host or "", self._url.port or 0))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{folder}/.s.PGSQL.{self._url.query['port']}")
        return server

    def _forward(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        flows = self._flows
        piece = memoryview(bytearray(PIECE))  # one for all, as thousands of these are alive for an hour
        with contextlib.suppress(OSError):
            while size := source.recv_into(piece):
                if is_answer and self._loses_answer:
                    self._loses_answer = False
                    break
                flows.wait()
                target.sendall(piece[:size])
        for end in (source, target):
            self._open.discard(end)
            _end(end)


def _flowing() -> threading.Event:
    flows = threading.Event()
    flows.set()
    return flows


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
