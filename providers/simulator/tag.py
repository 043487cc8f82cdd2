"""Reasoning as models write it that have no field for it: `<think>…</think>`, before the answer."""

from providers.simulator.answer import Reply
from providers.simulator.pace import Chunk

_OPEN, _CLOSE = "<think>", "</think>\n\n"


class Tagger:
    """Puts the tags around the chunks of a stream."""

    __slots__ = ("_thinking",)

    def __init__(self) -> None:
        self._thinking = False

    def say(self, chunk: Chunk) -> str:
        before, self._thinking = self._thinking, chunk.thinking
        return ("" if before is chunk.thinking else _OPEN if chunk.thinking else _CLOSE) + chunk.text


def tagged(reply: Reply) -> str:
    """The whole of a reply."""
    thought = reply.thought()
    return f"{_OPEN}{thought}{_CLOSE}{reply.content()}" if thought else reply.content()
