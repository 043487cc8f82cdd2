"""JSON from strangers: every reader gives a value of the type it names, whatever was sent."""

import json
import re
from typing import Any

from providers.errors import Malformed

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # neither UTF-8 nor a Postgres text can hold these
_MOST = 2**53


def load(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises Malformed for anything else."""
    return _object(_parsed(data))


def load_first(data: bytes) -> dict[str, Any]:
    """The same, or the first object of a list: some put their errors into one."""
    value = _parsed(data)
    return _object(value[0] if isinstance(value, list) and value else value)


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed("the answer holds something that is not JSON") from None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed("the answer holds JSON that is not an object")
    return value


def tree(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def entries(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    return _UNSTORABLE.sub("\ufffd", value) if _UNSTORABLE.search(value) else value


def speech(value: Any) -> str:
    """A piece of an answer: some send one that is only digits as a number."""
    return str(value) if type(value) in (int, float) else text(value)


def counted(value: Any) -> int | None:
    """Tokens, also of vendors whose counts are decimals; None for anything that is not a sensible number of them: what
    cannot be read is unknown, and not nothing."""
    whole = int(value) if isinstance(value, float) and 0 <= value <= _MOST else value
    return whole if type(whole) is int and 0 <= whole <= _MOST else None


def count(value: Any) -> int:
    """The same; 0 where nothing can be read, for what is a part of another count or no tokens."""
    return counted(value) or 0
