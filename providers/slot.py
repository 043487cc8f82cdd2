"""One HTTP connection to one origin: sends, lets another thread cut it, and names in our words what httpx raises.
Between two calls it is kept among the idle.
"""

import math
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from itertools import chain
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

IDLE_S = 60.0  # that an unused connection is kept; while there are calls it is closed within as long again
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


class Idle:
    """The slots that no call uses, taken last in first out. Threads may share it.

    What was not needed for `idle_s` seconds is closed at the next sweep, whatever its origin: where each answer names
    another host, no call would come by again.
    """

    __slots__ = ("_idle_s", "_lock", "_slots", "_sweep_at")

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._slots: dict[Origin, list[Slot]] = {}
        self._sweep_at = 0.0

    def take(self, origin: Origin) -> Slot | None:
        with self._lock:
            slots = self._slots.get(origin)
            return slots.pop() if slots else None

    def give_back(self, slot: Slot) -> None:
        slot.idle_since = now = time.monotonic()
        with self._lock:
            self._slots.setdefault(slot.origin, []).append(slot)
            is_due = now > self._sweep_at
            if is_due:
                self._sweep_at = now + self._idle_s
        if is_due:
            self._sweep(now - self._idle_s)

    def close(self) -> None:
        self._sweep(math.inf)

    def _sweep(self, before: float) -> None:
        """Closes what has been idle since before that moment (time.monotonic)."""
        old: list[Slot] = []
        with self._lock:
            slots, self._slots = self._slots, {}
            for slot in chain.from_iterable(slots.values()):
                if slot.idle_since < before:
                    old.append(slot)
                else:
                    self._slots.setdefault(slot.origin, []).append(slot)
        for slot in old:
            slot.close()


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
