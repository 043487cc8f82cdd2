"""Who is calling: bearer keys, and the rule for an API without any, which serves its own machine and nobody else."""

import ipaddress
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection

from goblin.errors import ConfigError, Unauthorized
from goblin.settings import Settings, environment
from ledger import keys
from ledger.keys import ApiKey
from ledger.session import Ledger

VARIABLE = "GOBLIN_API_KEY"  # a secret in the environment that opens the API
_ENV_KEY = "env"  # the name it goes by
_SHORTEST = 16
_FRESH = 5.0  # seconds that a key, or the lack of one, is remembered
_REMEMBERED = 1_024
_scheme = HTTPBearer(auto_error=False, description="An API key. None is needed while the API has none and is local.")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose runs these are; None while the API is open."""

    key_id: uuid.UUID | None
    rpm: int | None = None  # submissions that the key may make in any minute
    budget: int | None = None  # nano-dollars that its runs may cost together


class Doors:
    """Knows keys for a few seconds, so that a request costs no look-up. Safe for many threads."""

    def __init__(self, ledger: Ledger, host: str, secret: str | None = None) -> None:
        """`host` is what the API listens on; `secret`, from the environment, is a key from the first request on."""
        if secret is not None and len(secret) < _SHORTEST:
            raise ConfigError(f"{VARIABLE} is too short to be a secret: use {_SHORTEST} characters or more")
        self._ledger = ledger
        self._host = host
        self._unseeded = secret
        self._known: dict[bytes, tuple[float, ApiKey | None]] = {}
        self._has_keys = secret is not None
        self._asked_at = float("-inf")
        self._lock = threading.Lock()

    async def admit(self, connection: HTTPConnection, secret: str | None) -> Caller:
        """Raises Unauthorized, or Unavailable when the key must be looked up and Postgres cannot be reached."""
        if await self._is_open():
            self._require_local(connection)
            return Caller(None)
        if secret is None:
            raise Unauthorized("an API key is needed: send it as `Authorization: Bearer gob_…`")
        key = await self._find(keys.digest(secret))
        if key is None:
            raise Unauthorized("this API key is not known, or was revoked")
        return Caller(key.id, key.limits.rpm, key.limits.budget)

    async def _is_open(self) -> bool:
        if not self._has_keys and time.monotonic() - self._asked_at > _FRESH:
            self._has_keys = await run_in_threadpool(keys.any_exist, self._ledger)
            self._asked_at = time.monotonic()
        return not self._has_keys

    async def _find(self, digest: bytes) -> ApiKey | None:
        known = self._known.get(digest)
        if known is not None and time.monotonic() - known[0] < _FRESH:
            return known[1]
        key = await run_in_threadpool(self._look_up, digest)
        with self._lock:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[digest] = (time.monotonic(), key)
        return key

    def _look_up(self, digest: bytes) -> ApiKey | None:
        with self._lock:
            secret = self._unseeded
        if secret is not None:
            keys.seed(self._ledger, _ENV_KEY, secret)
            with self._lock:
                self._unseeded = None
        return keys.find(self._ledger, digest)

    def _require_local(self, connection: HTTPConnection) -> None:
        """A page from elsewhere may run in a browser on this machine: what it calls itself must be local, too."""
        client = connection.client.host if connection.client else "localhost"  # a Unix socket has no address
        if not is_loopback(client):
            raise Unauthorized(f"without an API key only this machine is served; {_CURE}")
        origin = connection.headers.get("origin")
        for url in (f"//{connection.headers.get('host', '')}", *([origin] if origin else [])):
            name = _hostname(url)
            if name != self._host and not is_loopback(name):
                raise Unauthorized(f"without an API key only pages of this machine are served, not {name!r}; {_CURE}")


_CURE = f"set {VARIABLE}, or create a key with `goblin keys create NAME`"


def refuse_open_listening(settings: Settings, ledger: Ledger, environ: Mapping[str, str] | None = None) -> None:
    """Raises ConfigError when the API would listen beyond this machine and no key was ever created."""
    given = environment() if environ is None else environ
    if is_loopback(settings.server.host) or given.get(VARIABLE) or keys.any_exist(ledger):
        return
    raise ConfigError(f"the API has no key, so it does not listen on {settings.server.host}: {_CURE}, or use 127.0.0.1")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def bearer(connection: HTTPConnection) -> str | None:
    """The key of a request. A browser's WebSocket cannot send headers: it offers `bearer.<key>` as a subprotocol."""
    scheme, _, secret = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret:
        return secret.strip()
    offered = connection.headers.get("sec-websocket-protocol", "").split(",")
    return next((one.strip().removeprefix("bearer.") for one in offered if one.strip().startswith("bearer.")), None)


async def _caller(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Security(_scheme)]) -> Caller:
    doors: Doors = request.app.state.house.doors
    return await doors.admit(request, given.credentials if given else None)


CallerDep = Annotated[Caller, Depends(_caller)]


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
