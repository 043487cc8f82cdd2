"""Tools that were offered, and calls of them made up from their schemas. How a dialect words them is the dialect's."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from providers.simulator import tokens
from providers.simulator.refusal import Kind, Refused

_DEPTH = 4  # of objects in objects that are made up


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Called:
    """A call, its arguments in tokens; one that an output limit has cut is not whole."""

    id: str
    name: str
    pieces: tuple[str, ...]
    is_whole: bool = True

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    @property
    def values(self) -> Any:
        """The arguments as an object; empty while they are not whole."""
        return json.loads(self.arguments) if self.is_whole else {}


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the arguments of call number `index`."""

    index: int
    call: Called
    is_first: bool
    is_last: bool


def offered(rows: Any, name: str = "name", schema: str = "parameters") -> tuple[Tool, ...]:
    """The tools in a list of their descriptions. Raises Refused."""
    found = rows or []
    if not isinstance(found, list) or not all(
        isinstance(row, dict) and isinstance(row.get(name), str) for row in found
    ):
        raise Refused(Kind.BAD_REQUEST, "tools: a list of described functions expected")
    return tuple(Tool(row[name], row.get(schema) or {}) for row in found)


def functions(rows: Any) -> tuple[Tool, ...]:
    """The same in the form of chat completions, or flat."""
    if isinstance(rows, list):
        rows = [row.get("function", row) if isinstance(row, dict) else row for row in rows]
    return offered(rows)


def check(known: Iterable[Any], answered: Iterable[Any]) -> None:
    """Results belong to calls that were made. Raises Refused."""
    made = set(known)
    if stray := [one for one in answered if one not in made]:
        raise Refused(Kind.BAD_REQUEST, f"tool result for {stray[0]!r}, which no message before it has called")


def make(tools: Sequence[Tool], count: int, mark: str) -> list[Called]:
    """So many calls of the tools in turn; `mark` makes their ids."""
    made = enumerate(islice(cycle(tools), count))
    return [
        Called(
            f"call_{mark}{number}", tool.name, tuple(tokens.split(json.dumps(_value(tool.schema), ensure_ascii=False)))
        )
        for number, tool in made
    ]


def within(calls: Iterable[Called], limit: int) -> Iterator[Called]:
    """What of these calls an output limit (tokens) leaves."""
    for call in calls:
        kept = call.pieces[:limit]
        limit -= len(kept)
        if kept:
            yield Called(call.id, call.name, kept, is_whole=len(kept) == len(call.pieces))


def _value(schema: Any, name: str = "value", depth: int = _DEPTH) -> Any:
    told = schema if isinstance(schema, Mapping) else {}
    if told.get("enum"):
        return told["enum"][0]
    kind = str(told.get("type") or ("object" if depth == _DEPTH else "string")).lower()
    match kind:
        case "object":
            properties = told.get("properties") or {}
            return {key: _value(inner, key, depth - 1) for key, inner in properties.items()} if depth else {}
        case "array":
            return [_value(told.get("items"), name, depth - 1)] if depth else []
        case "integer" | "number":
            return 7
        case "boolean":
            return True
        case _:
            return f"some {name} – naïve ☃"
