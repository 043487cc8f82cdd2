"""The form that an answer has to have: JSON, of a schema if there is one, and no further than what stops it."""

import json
from collections.abc import Iterable
from typing import Any

_PLAIN: dict[str, Any] = {"integer": 1, "number": 1.5, "boolean": True, "null": None, "array": [], "object": {}}


def as_json(text: str, schema: dict[str, Any]) -> str:
    """An object with the schema's own properties, whose texts are the answer; without any, the answer as one."""
    properties = schema.get("properties") or {"answer": {"type": "string"}}
    return json.dumps({name: _value(of, text) for name, of in properties.items()}, ensure_ascii=False)


def until(text: str, stops: Iterable[str]) -> str:
    """What comes before the first of `stops`."""
    ends = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


def _value(of: Any, text: str) -> Any:
    if not isinstance(of, dict):
        return text
    if of.get("enum"):
        return of["enum"][0]
    return _PLAIN.get(str(of.get("type")), text)
