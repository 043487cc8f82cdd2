"""One HTTP connection to one origin: sends, lets another thread cut it, and names in our words what httpx raises."""

import time
from collections.abc import Callable, Mapping
from functools import cache
from ssl import SSLContext
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import httpx

from providers.control import Control
from providers.errors import BrokenStream, Malformed, ProviderFault, Unreachable
from providers.provider import Provider
from providers.wire.dialect import HttpRequest

Transport: TypeAlias = Callable[[], httpx.BaseTransport]
Origin: TypeAlias = tuple[str, str]

IDLE_S = 60.0  # that an unused connection is kept
STALE_S = 1.0  # a kept connection that ends this soon after a request had ended before the request came
_HEADERS = {"accept-encoding": "identity", "user-agent": "goblin-assistant"}  # a compressor would hold tokens back


class Slot:
    """One HTTP client that holds one connection to one origin, for one call at a time."""

    __slots__ = ("_client", "_is_new", "_socket", "idle_since", "origin")

    def __init__(self, origin: Origin, transport: Transport | None) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self._socket: Any = None
        self._is_new = False
        self._client = httpx.Client(
            transport=transport() if transport is not None else None,
            verify=_tls(),
            trust_env=False,
            headers=_HEADERS,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE_S),
        )

    def send(self, wanted: HttpRequest, provider: Provider, control: Control) -> httpx.Response | None:
        """The answer's head; None when a kept connection had ended before the request reached the server."""
        self._is_new = False
        limits = provider.deadlines
        silence = max(limits.first_token, limits.stall) + 1  # the watchdog is first, if it runs
        began = time.monotonic()
        try:
            return self._client.send(
                self._client.build_request(
                    wanted.method,
                    wanted.url,
                    headers=dict(wanted.headers),
                    content=wanted.body,
                    timeout=httpx.Timeout(connect=limits.connect, read=silence, write=silence, pool=limits.connect),
                    extensions={"trace": self._tracer(control)},
                ),
                stream=True,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            failure = error
        if control.error is None and self._was_stale(failure, time.monotonic() - began):
            return None
        raise control.error or fault_of(failure, provider, control, Unreachable)

    def close(self) -> None:
        self._client.close()

    def _was_stale(self, failure: Exception, took_s: float) -> bool:
        broken = isinstance(failure, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError)
        return broken and self._socket is not None and not self._is_new and took_s < STALE_S

    def _tracer(self, control: Control) -> Callable[[str, Mapping[str, Any]], None]:
        """Follows the connection for `control`, which needs its socket and its phase."""

        def trace(event: str, info: Mapping[str, Any]) -> None:
            if event == "connection.connect_tcp.started":
                self._is_new = True
                control.attach(None)
                control.enter("connect")
            elif event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
                self._socket = info["return_value"].get_extra_info("socket")
                control.connected()
                control.attach(self._socket)
            elif event == "http11.send_request_headers.started":
                control.attach(self._socket)
                control.asked()

        return trace


def fault_of(error: Exception, provider: Provider, control: Control, broken: type[ProviderFault]) -> ProviderFault:
    """Our name for what httpx raised; `broken` is what a lost connection means at this point."""
    if isinstance(error, httpx.TimeoutException):
        return control.late()
    if isinstance(error, httpx.DecodingError):
        return Malformed(f"{provider.name} answered in an encoding that was not asked for")
    how = "broke off" if broken is BrokenStream else "cannot be reached"
    return broken(f"{provider.name} {how}: {str(error)[:200] or type(error).__name__}")


def origin_of(request: HttpRequest) -> Origin:
    parts = urlsplit(request.url)
    return parts.scheme, parts.netloc


@cache
def _tls() -> SSLContext:
    """One for all connections: each of its own would cost tens of milliseconds and megabytes."""
    return httpx.create_ssl_context()
