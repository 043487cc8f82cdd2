"""A key is in a header and nowhere else, whatever is asked with it and whatever becomes of that."""

import json
import logging
from collections.abc import Callable, Iterator

import pytest

from goblin.errors import GoblinError
from providers.call import Caller, Control
from providers.discover import discover, list_models
from providers.provider import Provider
from providers.vectorize import Index, Query, Record
from providers.wire.embedding import EMBEDDING
from providers.wire.spoken import SPOKEN
from tests.fakes.vendor import KEY, PROMPT, Connection, Vendor, provider

QUOTING = json.dumps({"error": {"message": f"{KEY} is no key of ours"}, "success": False, "errors": [{"message": KEY}]})
ANSWERS = {
    "refused": ("401 No", QUOTING),
    "failed": ("500 Oops", QUOTING),
    "moved": ("302 Moved\r\nlocation: https://elsewhere.example/", QUOTING),
    "refused with success": ("200 OK", QUOTING),
    "no JSON": ("200 OK", f"this is no dialect, {KEY}"),
}


class Listening:
    """Answers one request, and remembers it."""

    def __init__(self, status: str, body: str) -> None:
        self._answer = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode()
        self.asked = b""

    def __call__(self, connection: Connection) -> None:
        self.asked = connection.request()
        connection.send(self._answer)


@pytest.fixture
def caller() -> Iterator[Caller]:
    one = Caller()
    yield one
    one.close()


def told(ask: Callable[[Provider], object], dialect: str, answer: str, log: pytest.LogCaptureFixture) -> str:
    """All that anybody may see of a request and its end: its address, its body, the log, and the error."""
    log.set_level(logging.DEBUG)
    listening, shown = Listening(*ANSWERS[answer]), ""
    with Vendor(listening) as vendor:
        try:
            ask(provider(vendor.url, dialect=dialect))
        except GoblinError as error:
            shown = f"{error} {error.as_value()!r} {error.__cause__!r} {error.__context__!r}"
    head, _, body = listening.asked.decode().partition("\r\n\r\n")
    first, _, headers = head.partition("\r\n")
    assert KEY in headers
    return "\n".join((first, body, log.text, shown))


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("dialect", EMBEDDING)
def test_the_key_for_vectors_stays_in_its_header(
    dialect: str, answer: str, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    seen = told(lambda one: caller.embed(one, "e-1", [PROMPT], Control()), dialect, answer, caplog)
    assert KEY not in seen


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize(
    "ask",
    [
        lambda index: index.upsert([Record("1", (1.0,))], Control()),
        lambda index: index.query(Query((1.0,)), Control()),
        lambda index: index.info(Control()),
    ],
    ids=["upsert", "query", "info"],
)
def test_the_key_of_an_index_stays_in_its_header(
    ask: Callable[[Index], object], answer: str, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    seen = told(lambda one: ask(Index(caller, one, "docs")), "vectorize", answer, caplog)
    assert KEY not in seen


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("dialect", SPOKEN)
@pytest.mark.parametrize("ask", [list_models, discover])
def test_the_key_for_a_list_of_models_stays_in_its_header(
    ask: Callable[[Provider], object], dialect: str, answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert KEY not in told(ask, dialect, answer, caplog)
