"""Bytes to lines, lines to server-sent events. Lines end with LF or CRLF (no server in the field sends a lone CR)."""

from typing import TypeAlias

from providers.errors import Malformed

LONGEST_LINE = 2**20  # bytes
_MARK = b"\xef\xbb\xbf"  # a byte order mark, where a server sends one
Event: TypeAlias = tuple[bytes, bytes]  # name (empty when it has none), data


class Lines:
    """Splits a stream at its line ends, wherever it was cut. Linear in the bytes; holds at most one line."""

    __slots__ = ("_held", "_size")

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that end in `data`, without their ends. Raises Malformed for a line over 1 MiB."""
        *lines, tail = data.split(b"\n")
        if lines and self._held:
            lines[0] = b"".join((*self._held, lines[0]))
            self._held.clear()
            self._size = 0
        if tail:
            self._held.append(tail)
            self._size += len(tail)
        if self._size > LONGEST_LINE or any(len(line) > LONGEST_LINE for line in lines):
            raise Malformed(f"a line of the answer is longer than {LONGEST_LINE} bytes")
        return [line[:-1] if line.endswith(b"\r") else line for line in lines]

    def end(self) -> list[bytes]:
        """A last line that has no end."""
        last = b"".join(self._held)
        self._held.clear()
        return [last.removesuffix(b"\r")] if last else []


class Stream:
    """Server-sent events (WHATWG), leniently: an event whose blank line the end of the stream cuts off still counts.

    An event without a name and without data is a sign of life and no event. Lines that are no field at all are kept
    while no event came: what a server sends when it answers without streaming.
    """

    __slots__ = ("_data", "_has_begun", "_lines", "_name", "_size", "_stray")

    def __init__(self) -> None:
        self._lines = Lines()
        self._data: list[bytes] = []
        self._size = 0
        self._name = b""
        self._has_begun = False
        self._stray = bytearray()

    def feed(self, data: bytes) -> list[Event]:
        return self._events(self._lines.feed(data))

    def end(self) -> list[Event]:
        return self._events([*self._lines.end(), b""])

    @property
    def bare(self) -> bytes:
        """What came in place of a stream; empty when one has begun."""
        return b"" if self._has_begun else bytes(self._stray)

    def _events(self, lines: list[bytes]) -> list[Event]:
        events: list[Event] = []
        for line in lines:
            if line[:3] == _MARK:
                line = line[3:]
            if line.startswith(b"data:"):
                self._has_begun = True
                self._add(line[6:] if line[5:6] == b" " else line[5:])
            elif not line:
                data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                if (self._name and self._data) or data.strip():
                    events.append((self._name, data))
                self._data.clear()
                self._size = 0
                self._name = b""
            elif line.startswith(b"event:"):
                self._has_begun = True
                self._name = line[6:].strip()
            elif not line.startswith((b":", b"id:", b"retry:")) and len(self._stray) < LONGEST_LINE:
                self._stray += line + b"\n"
        return events

    def _add(self, data: bytes) -> None:
        self._data.append(data)
        self._size += len(data) + 1
        if self._size > LONGEST_LINE:
            raise Malformed(f"an event of the answer is longer than {LONGEST_LINE} bytes")
