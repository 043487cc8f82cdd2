"""Reasoning that a model writes into its answer: `<think>…</think>` is split off, however the stream cuts the tags."""

from providers.message import Event, Text, Thought

_OPEN, _CLOSE = "<think>", "</think>"
_QUOTES = ("`", '"', "'")  # a tag right behind one of these is spoken about, not used


class Splitter:
    """Pieces of an answer in, Text and Thought out. Holds back at most an unfinished tag."""

    __slots__ = ("_before", "_held", "_thinking", "_trim")

    def __init__(self) -> None:
        self._held = ""
        self._before = ""  # the character in front of what is held
        self._thinking = False
        self._trim = False  # white space that follows a thought is no answer yet

    def feed(self, piece: str, out: list[Event]) -> None:
        if not self._held and not self._thinking and not self._trim and "<" not in piece:
            self._say(piece, out)
            return
        rest, start = self._held + piece, 0
        self._held = ""
        while start < len(rest):
            tag = _CLOSE if self._thinking else _OPEN
            at = self._find(rest, tag, start)
            if at < 0:
                end = len(rest) - _unfinished(rest[start:], tag)
                self._say(rest[start:end], out)
                self._held = rest[end:]
                return
            self._say(rest[start:at], out)
            start = at + len(tag)
            self._before = ">"
            self._thinking = not self._thinking
            self._trim = not self._thinking

    def end(self, out: list[Event]) -> None:
        held, self._held = self._held, ""
        self._say(held, out)

    def _find(self, rest: str, tag: str, start: int) -> int:
        at = rest.find(tag, start)
        while at >= 0 and tag is _OPEN and (rest[at - 1] if at > start else self._before) in _QUOTES:
            at = rest.find(tag, at + 1)
        return at

    def _say(self, piece: str, out: list[Event]) -> None:
        if self._trim:
            piece = piece.lstrip()
            self._trim = not piece
        if piece:
            self._before = piece[-1]
            out.append(Thought(piece) if self._thinking else Text(piece))


def _unfinished(rest: str, tag: str) -> int:
    """How many characters at the end could be the beginning of a tag."""
    for size in range(min(len(tag) - 1, len(rest)), 0, -1):
        if tag.startswith(rest[-size:]):
            return size
    return 0
