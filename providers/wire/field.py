"""JSON from strangers: every reader gives a value of the type it names, whatever was sent."""

import json
import re
from typing import Any

from providers.errors import Malformed

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # neither UTF-8 nor a Postgres text can hold these
_MOST = 2**53


def load(data: bytes) -> dict[str, Any]:
    """A JSON object. Raises Malformed for anything else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed("the answer holds something that is not JSON") from None
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


def count(value: Any) -> int:
    """Tokens; 0 for anything that is not a sensible number of them."""
    return value if type(value) is int and 0 <= value <= _MOST else 0


def tokens(value: Any) -> int:
    """The same for vendors whose counts are decimals."""
    return count(int(value)) if isinstance(value, float) and 0 <= value <= _MOST else count(value)
