"""A multipart body as it streams in: small fields, then the pieces of files, none of them gathered."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from typing import TypeAlias

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from goblin.errors import TooLarge, UsageError

_LONGEST_FIELD = 4_096  # bytes, of a field and of a part's head
_MOST_PARTS = 32
_UNREADABLE = (ValueError, TypeError)  # how the libraries stumble over parameters


class BadForm(UsageError):
    """A body that is no multipart form."""

    slug = "bad_form"
    http_status = 400


@dataclass(frozen=True, slots=True)
class Value:
    """A field that is no file."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class FileBegin:
    name: str
    filename: str


@dataclass(frozen=True, slots=True)
class FileData:
    data: bytes


Event: TypeAlias = Value | FileBegin | FileData


@dataclass(slots=True)
class _Part:
    """The part that is arriving."""

    head: dict[str, str] = field(default_factory=dict)
    header: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    text: bytearray = field(default_factory=bytearray)
    name: str = ""
    filename: str | None = None


class Form:
    """Fed in pieces. Raises BadForm, and TooLarge for fields that are longer than anybody needs."""

    def __init__(self, content_type: str) -> None:
        self._part = _Part()
        self._parts = 0
        self._events: list[Event] = []
        self._is_whole = False
        try:
            self._parser = self._made(_boundary(content_type))
        except _UNREADABLE:  # a boundary without end, say
            raise BadForm("the content-type of the form cannot be read") from None

    def _made(self, boundary: str) -> MultipartParser:
        return MultipartParser(
            boundary.encode(),
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._add(self._part.header, data[start:end]),
                "on_header_value": lambda data, start, end: self._add(self._part.value, data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_head,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._close,
            },
        )

    def feed(self, data: bytes) -> Iterator[Event]:
        """What a piece of the body brings."""
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise BadForm(f"the body is not a multipart form: {error}") from None
        events, self._events = self._events, []
        yield from events

    def end(self) -> None:
        """Raises BadForm when the body ended before the form did."""
        if not self._is_whole:
            raise BadForm("the body ended before its form did")

    def _begin(self) -> None:
        self._part = _Part()
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise TooLarge(f"the form has more than {_MOST_PARTS} parts")

    def _end_header(self) -> None:
        part = self._part
        part.head[part.header.decode("latin-1").lower()] = part.value.decode("utf-8", "replace")
        part.header.clear()
        part.value.clear()

    def _end_head(self) -> None:
        part = self._part
        said = _header("content-disposition", part.head.get("content-disposition", ""))
        try:
            part.name, part.filename = str(said.get_param("name", "", "content-disposition")), said.get_filename()
        except _UNREADABLE:  # a name in an encoding that is none, say
            raise BadForm("the content-disposition of a part cannot be read") from None
        if part.filename is not None:
            self._events.append(FileBegin(part.name, part.filename))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.filename is None:
            self._add(self._part.text, data[start:end])
        else:
            self._events.append(FileData(data[start:end]))

    def _end(self) -> None:
        part = self._part
        if part.filename is None:
            self._events.append(Value(part.name, part.text.decode("utf-8", "replace")))

    def _close(self) -> None:
        self._is_whole = True

    @staticmethod
    def _add(held: bytearray, piece: bytes) -> None:
        held += piece
        if len(held) > _LONGEST_FIELD:
            raise TooLarge(f"a field of the form is longer than {_LONGEST_FIELD} bytes")


def _boundary(content_type: str) -> str:
    said = _header("content-type", content_type)
    boundary = said.get_param("boundary")
    if said.get_content_type() != "multipart/form-data" or not isinstance(boundary, str) or not boundary:
        raise BadForm("the body must be multipart/form-data: purpose=batch and a file")
    return boundary


def _header(name: str, text: str) -> Message:
    """A header with parameters, as the mail library reads it."""
    message = Message()
    message[name] = " ".join(text.splitlines())
    return message
