"""Forms are read the same wherever their bytes are cut, and what is no form is told so."""

from collections.abc import Iterable
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.multipart import BadForm, Event, FileBegin, FileData, Form, Value
from goblin.errors import TooLarge

CONTENT = b'{"a": 1}\r\n--boundary\n{"b": 2}\n' + bytes(range(256))


def request(fields: dict[str, str], content: bytes = CONTENT, name: str = 'naïve "x".jsonl') -> tuple[str, bytes]:
    made = httpx.Request("POST", "http://x", data=fields, files={"file": (name, content)})
    return made.headers["content-type"], made.read()


def read(content_type: str, pieces: Iterable[bytes]) -> tuple[list[Event], bytes]:
    """The events, with the data of files put together."""
    form, events, data = Form(content_type), list[Event](), b""
    for piece in pieces:
        for event in form.feed(piece):
            if isinstance(event, FileData):
                data += event.data
            else:
                events.append(event)
    form.end()
    return events, data


@given(st.lists(st.integers(0, 700), max_size=12))
def test_a_form_is_the_same_wherever_it_is_cut(places: list[int]) -> None:
    content_type, body = request({"purpose": "batch"})
    cuts = [0, *sorted(min(place, len(body)) for place in places), len(body)]
    pieces = [body[start:end] for start, end in pairwise(cuts)]
    events, data = read(content_type, pieces)
    assert events[0] == Value("purpose", "batch")
    assert isinstance(events[1], FileBegin)
    assert events[1].name == "file"
    assert data == CONTENT


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", "", "multipart/mixed; boundary=x"])
def test_another_kind_of_body_is_refused(content_type: str) -> None:
    with pytest.raises(BadForm, match="multipart/form-data"):
        Form(content_type)


@pytest.mark.parametrize(
    "boundary",
    ["boundary=" + "x" * 300, "boundary*" + "9" * 5_000 + "*=x", "boundary*=utf-8''%ff", "boundary*1=x; boundary*=y"],
)
def test_a_boundary_that_cannot_be_one_is_refused(boundary: str) -> None:
    with pytest.raises(BadForm):
        Form(f"multipart/form-data; {boundary}")


@pytest.mark.parametrize("name", ["filename*=idna''%ff", "filename*=\0''x", "filename*1=x; filename*=y"])
def test_a_part_whose_name_cannot_be_read_is_refused(name: str) -> None:
    head = f'--x\r\nContent-Disposition: form-data; name="file"; {name}\r\n\r\n'
    with pytest.raises(BadForm, match="content-disposition"):
        read("multipart/form-data; boundary=x", [head.encode()])


def test_a_form_that_was_cut_is_not_whole() -> None:
    content_type, body = request({"purpose": "batch"})
    with pytest.raises(BadForm, match="ended"):
        read(content_type, [body[:-10]])


def test_what_is_no_form_is_refused() -> None:
    with pytest.raises(BadForm, match="not a multipart form"):
        read("multipart/form-data; boundary=x", [b"hello"])


def test_a_field_is_bounded() -> None:
    content_type, body = request({"purpose": "x" * 5_000})
    with pytest.raises(TooLarge, match="4096"):
        read(content_type, [body])
