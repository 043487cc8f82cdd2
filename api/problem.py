"""Every error as application/problem+json (RFC 9457): a stable `type`, and never a trace, a key or a prompt."""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from goblin.errors import GoblinError, Unauthorized
from goblin.log import crash
from workers.result import as_openai

MEDIA_TYPE = "application/problem+json"
_SLUGS = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
_OPENAI = ("/v1/files", "/v1/batches", "/v1/embeddings")
_LISTED = 20  # mistakes named in one answer
_log = structlog.get_logger()


class Problem(JSONResponse):
    """`details` become members of their own; they never replace the standard ones."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        slug: str,
        status: int,
        detail: str,
        *,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        standard = {
            "type": f"/problems/{slug}",
            "title": slug.replace("_", " ").capitalize(),
            "status": status,
            "detail": detail,
        }
        super().__init__({**(details or {}), **standard}, status_code=status, headers=headers)


def install(app: FastAPI) -> None:
    app.add_exception_handler(GoblinError, _of_error)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)


def of_error(error: GoblinError, also: Mapping[str, Any] | None = None) -> Problem:
    """`also` are members beside those of the error."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    details = {**error.details, **(also or {})}
    return Problem(error.slug, error.http_status, error.message, details=details, headers=headers)


async def _of_error(request: Request, error: Exception) -> Problem:
    if not isinstance(error, GoblinError):
        raise error
    return of_error(error, _for_openai(request, error.as_value(), error.http_status))


async def _of_http(request: Request, error: Exception) -> Problem:
    """What the framework says no to: unknown paths, wrong methods, bodies that cannot be read."""
    if not isinstance(error, HTTPException):
        raise error
    phrase = HTTPStatus(error.status_code).phrase
    slug = _SLUGS.get(error.status_code, phrase.lower().replace(" ", "_"))
    detail = error.detail or phrase
    also = _for_openai(request, {"type": slug, "message": detail}, error.status_code)
    return Problem(slug, error.status_code, detail, details=also, headers=error.headers)


async def _of_validation(request: Request, error: Exception) -> Problem:
    if not isinstance(error, RequestValidationError):
        raise error
    first, *_rest = found = error.errors()
    if first["type"] == "json_invalid":
        where = f"{first['ctx']['error']} at character {first['loc'][-1]}"
        told = f"the body is not JSON: {where}"
        return Problem("bad_json", 400, told, details=_for_openai(request, {"type": "bad_json", "message": told}, 400))
    mistakes = [{"field": _field(one["loc"]), "message": _message(one)} for one in found[:_LISTED]]
    detail = ": ".join(part for part in mistakes[0].values() if part)
    also = _for_openai(request, {"type": "invalid", "message": detail, "details": {"field": mistakes[0]["field"]}}, 422)
    return Problem("invalid", 422, detail, details={"errors": mistakes, **also})


def _for_openai(request: Request, error: Mapping[str, Any], status: int) -> dict[str, Any]:
    """Where OpenAI's client calls, it finds its own form of an error, too."""
    return {"error": as_openai(error, status)} if request.url.path.startswith(_OPENAI) else {}


def _field(place: tuple[int | str, ...]) -> str:
    """Where in the request: the path inside the body, or the name of a parameter."""
    return ".".join(str(part) for part in place[1:]) or str(place[0])


def _message(mistake: Mapping[str, Any]) -> str:
    if mistake["loc"] == ("body",) and mistake["type"] == "model_attributes_type":
        return "must be a JSON object, sent as application/json"
    message = str(mistake["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


class Crashes:
    """ASGI middleware, outermost: an exception that nobody expected is answered with 500.

    It is logged without its text, which may hold what a caller sent.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def watch(message: Message) -> None:
            nonlocal has_started
            has_started = has_started or message["type"] in {"http.response.start", "websocket.accept"}
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except ClientDisconnect:
            return  # who went away in the middle of a body is told nothing
        except Exception as error:
            if scope["type"] not in {"http", "websocket"}:
                raise
            _log.error("request.crashed", path=scope["path"], **crash(error))
            if scope["type"] == "http" and not has_started:
                problem = Problem("internal", 500, "an internal error; the server's log has it")
                await problem(scope, receive, send)
