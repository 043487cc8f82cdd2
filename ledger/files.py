"""Files of lines: stored as they stream in, in one transaction, and read again page by page. Seen by their key alone.

Nothing here holds more than a page, or the line that is arriving, however long the file is.
"""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from psycopg import Copy
from sqlalchemy import ColumnElement, func, select, tuple_

from goblin.errors import Conflict, NotFound, TooLarge
from ledger.models import File
from ledger.session import Ledger

DAY_S = 86_400.0
_UNSTORABLE = re.compile("[\0-\x1f\ud800-\udfff]")
_LONGEST_NAME = 255  # characters
PAGE_LINES, PAGE_BYTES = 1_000, 4 * 2**20


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that a file may be: bytes in all, bytes of a line, lines."""

    bytes: int
    line_bytes: int
    lines: int


@dataclass(frozen=True, slots=True)
class FileView:
    id: uuid.UUID
    filename: str
    purpose: str
    bytes: int
    lines: int
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Line:
    """`number` counts from 1, as editors do; `body` is what stands before the line's end."""

    number: int
    body: bytes


class Intake:
    """Cuts what arrives into lines and hands them to Postgres. Empty lines at the end of a file are none."""

    def __init__(self, copy: Copy, file: uuid.UUID, bounds: Bounds) -> None:
        self._copy = copy
        self._file = file
        self._bounds = bounds
        self._rest: list[bytes] = []  # of the line that is arriving
        self._rest_bytes = 0
        self._empty = 0  # lines, since the last one that was not
        self.kept_s = DAY_S  # seconds, from now on; whoever writes may say otherwise
        self.bytes = 0
        self.lines = 0

    def write(self, data: bytes) -> None:
        """Raises TooLarge for what passes a bound."""
        self.bytes += len(data)
        if self.bytes > self._bounds.bytes:
            raise TooLarge(f"the file is larger than {self._bounds.bytes} bytes: split it ([batches] file_bytes)")
        first, *others = data.split(b"\n")
        self._hold(first)
        for part in others:
            self._end_line()
            self._hold(part)

    def close(self) -> None:
        """The file ends here, perhaps without the end of its last line."""
        self._end_line()

    def _hold(self, part: bytes) -> None:
        self._rest_bytes += len(part)
        if self._rest_bytes > self._bounds.line_bytes:
            number = self.lines + self._empty + 1
            raise TooLarge(
                f"line {number} is larger than {self._bounds.line_bytes} bytes ([batches] line_bytes)", line=number
            )
        self._rest.append(part)

    def _end_line(self) -> None:
        body = b"".join(self._rest).removesuffix(b"\r")
        self._rest, self._rest_bytes = [], 0
        if not body.strip():
            self._empty += 1
            return
        for _ in range(self._empty):
            self._write(b"")
        self._empty = 0
        self._write(body)

    def _write(self, body: bytes) -> None:
        self.lines += 1
        if self.lines > self._bounds.lines:
            raise TooLarge(f"the file has more than {self._bounds.lines} lines: split it ([batches] lines)")
        self._copy.write_row((self._file, self.lines, body))


@contextmanager
def receive(
    ledger: Ledger, file: uuid.UUID, key_id: uuid.UUID | None, filename: str, bounds: Bounds
) -> Iterator[Intake]:
    """A file that is there, whole, when the block has ended, and not at all when it ends otherwise.

    Raises Unavailable when Postgres cannot be reached, or was lost on the way.
    """
    with ledger.transaction() as transaction:
        with transaction.copy("files.lines") as copy:
            copy.set_types(["uuid", "int4", "bytea"])
            intake = Intake(copy, file, bounds)
            yield intake
            intake.close()
        transaction.run(
            "files.create",
            id=file,
            key=key_id,
            filename=_UNSTORABLE.sub("", filename)[:_LONGEST_NAME],
            bytes=intake.bytes,
            lines=intake.lines,
            expires_s=intake.kept_s,
        )


def view(ledger: Ledger, file: uuid.UUID, key_id: uuid.UUID | None) -> FileView:
    """Raises NotFound for a file that does not exist, was deleted, has expired or is somebody else's."""
    rows = ledger.read(_FILES.where(File.id == file, *_seen_by(key_id)))
    if not rows:
        raise NotFound("there is no such file")
    return FileView(*rows[0])


def listed(
    ledger: Ledger, key_id: uuid.UUID | None, *, purpose: str | None, after: uuid.UUID | None, limit: int, newest: bool
) -> list[FileView]:
    """A page of files behind another one. Raises NotFound when that one is not there."""
    order = (File.created_at.desc(), File.id.desc()) if newest else (File.created_at, File.id)
    query = _FILES.where(*_seen_by(key_id)).order_by(*order).limit(limit)
    if purpose is not None:
        query = query.where(File.purpose == purpose)
    if after is not None:
        place, here = tuple_(File.created_at, File.id), view(ledger, after, key_id)
        last = tuple_(here.created_at, here.id)
        query = query.where(place < last if newest else place > last)
    return [FileView(*row) for row in ledger.read(query)]


def delete(ledger: Ledger, file: uuid.UUID, key_id: uuid.UUID | None) -> None:
    """Raises NotFound, or Conflict while a batch reads it."""
    view(ledger, file, key_id)
    if not ledger.run("files.delete", id=file, key=key_id):
        raise Conflict("a batch that has not ended reads this file: cancel it, or wait for its end")


def page(ledger: Ledger, file: uuid.UUID, *, after: int, limit: int = PAGE_LINES, size: int = PAGE_BYTES) -> list[Line]:
    """The lines behind a number, until they are `limit` or have `size` bytes."""
    rows = ledger.run("files.page", file=file, after=after, limit=limit, bytes=size)
    return [Line(row.number, row.body) for row in rows]


def content(ledger: Ledger, file: FileView) -> Iterator[bytes]:
    """The bytes of a file, in pages. Raises NotFound when it went meanwhile: what was read of it is not all."""
    after = read = 0
    while lines := page(ledger, file.id, after=after):
        yield b"".join(line.body + b"\n" for line in lines)
        after, read = lines[-1].number, read + len(lines)
    if read < file.lines:
        raise NotFound("the file was deleted, or has expired, while it was read")


def _seen_by(key_id: uuid.UUID | None) -> tuple[ColumnElement[bool], ...]:
    mine: ColumnElement[bool] = File.key_id.is_(None) if key_id is None else File.key_id == key_id
    return mine, File.is_whole.is_(True), File.deleted_at.is_(None), File.expires_at > func.now()


_FILES = select(File.id, File.filename, File.purpose, File.bytes, File.lines, File.created_at, File.expires_at)
