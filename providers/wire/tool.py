"""Tools, as dialects other than OpenAI's want them described, and calls of tools put together from their pieces."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from providers.message import Chat, Event, ToolCall
from providers.wire.field import entries, text, tree


def functions(chat: Chat) -> Iterator[dict[str, Any]]:
    """`name`, `description` and `parameters` (a JSON schema) of every tool that is a function; absent is absent."""
    for tool in chat.tools:
        function = tree(tool.get("function"))
        yield {key: function[key] for key in ("name", "description", "parameters") if key in function}


def schema(function: Mapping[str, Any]) -> Any:
    """The parameters of a function; some vendors want a schema where a function takes none."""
    return function.get("parameters") or {"type": "object", "properties": {}}


def whole(call_id: Any, name: Any, arguments: Any) -> ToolCall:
    """A call that came in one piece, its arguments as JSON or as the text of it."""
    said = text(arguments) if isinstance(arguments, str) else json.dumps(tree(arguments))
    return ToolCall(text(call_id), text(name), said or "{}")


class Pieces:
    """Calls whose arguments come in pieces. A call counts once it is closed."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[int, tuple[str, str, list[str]]] = {}

    def add(self, index: Any, call_id: Any = None, name: Any = None, arguments: Any = None) -> None:
        """The first piece of an index brings its id and name."""
        at = index if type(index) is int else len(self._open) - 1 if not name else len(self._open)
        known_id, known_name, said = self._open.get(at, ("", "", []))
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments) if arguments else ""
        said.append(text(arguments))
        self._open[at] = (known_id or text(call_id), known_name or text(name), said)

    def add_all(self, calls: Any) -> None:
        """A list of pieces in the form of chat completions."""
        for call in map(tree, entries(calls)):
            function = tree(call.get("function"))
            self.add(call.get("index"), call.get("id"), function.get("name"), function.get("arguments"))

    def close(self, out: list[Event]) -> bool:
        """All that are open are whole. True when there were any."""
        calls = [ToolCall(call_id, name, "".join(said) or "{}") for call_id, name, said in self._in_order() if name]
        out.extend(calls)
        self._open.clear()
        return bool(calls)

    def _in_order(self) -> list[tuple[str, str, list[str]]]:
        return [self._open[index] for index in sorted(self._open)]
