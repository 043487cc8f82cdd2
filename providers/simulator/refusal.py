"""A refusal before a dialect puts it into its own words: the kind decides, the status may be overridden."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    BAD_REQUEST = "bad_request"
    AUTH = "auth"
    PERMISSION = "permission"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    QUOTA = "quota"  # the account is empty: waiting does not help
    RATE = "rate"
    OVERLOADED = "overloaded"
    CONTEXT = "context"
    FILTERED = "filtered"
    SERVER = "server"
    TIMEOUT = "timeout"


_BY_STATUS = {
    400: Kind.BAD_REQUEST,
    401: Kind.AUTH,
    402: Kind.QUOTA,
    403: Kind.PERMISSION,
    404: Kind.NOT_FOUND,
    413: Kind.TOO_LARGE,
    429: Kind.RATE,
    503: Kind.OVERLOADED,
    504: Kind.TIMEOUT,
    529: Kind.OVERLOADED,
}

_MESSAGE = {
    Kind.BAD_REQUEST: "The request is not valid.",
    Kind.AUTH: "The API key is missing or not valid.",
    Kind.PERMISSION: "This key may not use this resource.",
    Kind.NOT_FOUND: "The model does not exist.",
    Kind.TOO_LARGE: "The request is too large.",
    Kind.QUOTA: "You exceeded your current quota, please check your plan and billing details.",
    Kind.RATE: "Rate limit reached. Please try again later.",
    Kind.OVERLOADED: "The engine is currently overloaded, please try again later.",
    Kind.CONTEXT: "The prompt is longer than the context window of this model.",
    Kind.FILTERED: "The request was blocked by the content policy.",
    Kind.SERVER: "The server had an error while processing your request.",
    Kind.TIMEOUT: "The request timed out.",
}


@dataclass(slots=True)
class Refused(Exception):
    """Ends a call before any token. `retry_after` is in seconds; without `status` or `code` the dialect has its own."""

    kind: Kind
    message: str = ""
    status: int | None = None
    retry_after: float | None = None
    code: int | None = None  # of vendors who number their errors
    is_ok: bool = False  # says so in its words only: HTTP 200

    def text(self) -> str:
        return self.message or _MESSAGE[self.kind]


def kind_of(status: int) -> Kind:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Kind.SERVER if status >= 500 else Kind.BAD_REQUEST


def error_type(refused: Refused, by_kind: Mapping[Kind, tuple[int, str]]) -> tuple[int, str]:
    """The status and the dialect's name for a refusal, from the dialect's own table."""
    status, name = by_kind[refused.kind]
    return refused.status or status, name
