"""Tools, as dialects other than OpenAI's want them described, and calls of tools put together from their pieces."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO
from itertools import groupby
from typing import Any

from providers.errors import Malformed, ToolsRefused
from providers.message import Chat, Event, Message, ToolCall
from providers.wire.complaint import rule
from providers.wire.field import entries, text, tree

MOST_CALLS = 256  # that are open at once
LONGEST_CALLS = 2**20  # characters of all that are open, with their ids and names

NO_TOOLS = rule(
    ToolsRefused,
    status=(400, 404, 422),
    contains=(
        "not support tool", "doesn't support tool", "not support function call", "endpoints found that support tool",
        "tools is not supported", "tools are not supported", "tool use is not supported",
        "tool calling is not supported", "function calling is not enabled",
    ),
)  # fmt: skip


def functions(chat: Chat) -> Iterator[dict[str, Any]]:
    """`name`, `description` and `parameters` (a JSON schema) of every tool that is a function; absent is absent."""
    for tool in chat.tools:
        function = tree(tool.get("function"))
        yield {key: function[key] for key in ("name", "description", "parameters") if key in function}


def schema(function: Mapping[str, Any]) -> Any:
    """The parameters of a function; some vendors want a schema where a function takes none."""
    return function.get("parameters") or {"type": "object", "properties": {}}


def said(message: Message) -> dict[str, Any]:
    """A message in the form of chat completions."""
    form: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        form["content"] = message.content or None
        form["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.calls
        ]
    if message.answers is not None:
        form["tool_call_id"] = message.answers.id
    return form


def turns(messages: Iterable[Message]) -> Iterator[tuple[Message, ...]]:
    """Messages without the system's, one by one, but results of tools that follow each other as one turn."""
    spoken = (message for message in messages if message.role != "system")
    for is_result, group in groupby(spoken, key=lambda message: message.role == "tool"):
        if is_result:
            yield tuple(group)
        else:
            yield from ((message,) for message in group)


def arguments(call: ToolCall) -> dict[str, Any]:
    """As an object, for those who do not take the text of it; what is no object is an empty one."""
    try:
        return tree(json.loads(call.arguments))
    except (ValueError, RecursionError):
        return {}


def whole(call_id: Any, name: Any, arguments: Any) -> ToolCall:
    """A call that came in one piece, its arguments as JSON or as the text of it."""
    said = text(arguments) if isinstance(arguments, str) else json.dumps(tree(arguments))
    return ToolCall(text(call_id), text(name), said or "{}")


@dataclass(slots=True)
class _Piecework:
    index: int
    id: str = ""
    name: str = ""
    said: StringIO = field(default_factory=StringIO)

    def is_other(self, call_id: str, name: str) -> bool:
        return call_id != self.id if call_id and self.id else self.name not in ("", name)

    @property
    def size(self) -> int:
        return len(self.id) + len(self.name) + self.said.tell()


class Pieces:
    """Calls whose arguments come in pieces. A call counts once it is closed."""

    __slots__ = ("_at", "_open", "_size")

    def __init__(self) -> None:
        self._open: list[_Piecework] = []
        self._at: dict[int, _Piecework] = {}  # the last one under an index
        self._size = 0

    def add(self, index: Any, call_id: Any = None, name: Any = None, arguments: Any = None) -> None:
        """The first piece of an index brings its id and name. Raises Malformed for more than anybody would call."""
        at = index if type(index) is int else self._place(text(call_id), text(name))
        call = self._under(at, text(call_id), text(name))
        if isinstance(arguments, dict):
            arguments = json.dumps(arguments) if arguments else ""
        self._size += call.said.write(text(arguments))
        if len(self._open) > MOST_CALLS or self._size > LONGEST_CALLS:
            raise Malformed("the answer calls more tools, or with more words, than anybody would")

    def _place(self, call_id: str, name: str) -> int:
        """Where a piece without an index belongs: to the call of its id, else to the last one; a name begins one."""
        known = next((call.index for call in self._open if call_id and call.id == call_id), None)
        if known is not None:
            return known
        last = self._open[-1].index if self._open else -1
        return last + 1 if name else last

    def _under(self, index: int, call_id: str, name: str) -> _Piecework:
        """Some begin every call under the same index: another id, with a name, is another call, and another name is
        where there are no ids."""
        call = self._at.get(index)
        if call is None or (name and call.is_other(call_id, name)):
            call = self._at[index] = _Piecework(index)
            self._open.append(call)
        before = len(call.id) + len(call.name)
        call.id, call.name = call.id or call_id, call.name or name
        self._size += len(call.id) + len(call.name) - before
        return call

    def add_all(self, calls: Any) -> None:
        """A list of pieces in the form of chat completions."""
        for call in map(tree, entries(calls)):
            function = tree(call.get("function"))
            self.add(call.get("index"), call.get("id"), function.get("name"), function.get("arguments"))

    @property
    def are_open(self) -> bool:
        return bool(self._open)

    def close(self, out: list[Event], index: Any = None) -> bool:
        """All that are open, or open under an index, are whole. True when there were any."""
        calls = sorted(self._open, key=lambda call: call.index)
        ended = [call for call in calls if type(index) is not int or call.index == index]
        called = [ToolCall(call.id, call.name, call.said.getvalue() or "{}") for call in ended if call.name]
        out.extend(called)
        for call in ended:
            self._open.remove(call)
            self._at.pop(call.index, None)
            self._size -= call.size
        return bool(called)
