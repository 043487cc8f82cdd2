"""When a vendor may send a bill for a call that brought nothing: somebody has to have entered it then."""

import json
from collections.abc import Callable

import pytest

from providers.call import Caller, Control
from providers.errors import ProviderFault
from tests.fakes.said import sse
from tests.fakes.scripts import ask, say, stream
from tests.fakes.vendor import END, Connection, Vendor, provider

GARBAGE = b"data: {no\n\n"
TROUBLE = sse({"error": {"message": "The server had an error", "type": "server_error"}})
LIMITED = sse({"error": {"message": "Slow down", "type": "rate_limit_error", "code": "rate_limit_exceeded"}})


def end(connection: Connection) -> None:
    connection.send(END)


@pytest.mark.parametrize(
    ("script", "fault", "may_be_billed"),
    [
        (say("500 Oops"), "server_error", False),
        (say("503 Busy"), "overloaded", False),
        (say("429 Slow down"), "throttled", False),
        (stream(LIMITED, then=end), "throttled", False),
        (stream(TROUBLE, then=end), "server_error", True),
        (stream(GARBAGE, then=end), "malformed", True),
        (stream(then=Connection.reset), "broken_stream", True),
        (lambda connection: connection.request() and connection.reset(), "unreachable", True),
    ],
)
def test_a_call_without_a_word_may_be_billed_unless_it_was_declined(
    script: Callable[[Connection], None], fault: str, may_be_billed: bool
) -> None:
    caller, control = Caller(), Control()
    with Vendor(script, script) as vendor, pytest.raises(ProviderFault) as caught:
        ask(caller, vendor, control)
    caller.close()
    assert caught.value.slug == fault
    assert control.may_be_billed(caught.value) is may_be_billed


def test_who_was_not_reached_sends_no_bill() -> None:
    with Vendor() as vendor:
        pass
    caller, control = Caller(), Control()
    with pytest.raises(ProviderFault) as caught:
        ask(caller, vendor, control)
    assert not control.may_be_billed(caught.value)


@pytest.mark.parametrize("status", [429, 500])
def test_vectors_that_came_before_others_were_declined_may_be_billed(status: int) -> None:
    def serve(connection: Connection) -> None:
        texts = json.loads(connection.request().partition(b"\r\n\r\n")[2])["texts"]
        body = json.dumps({"embeddings": {"float": [[1.0] for _ in texts]}}).encode()
        connection.send(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        connection.request()
        connection.send(f"HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n".encode())

    caller, control = Caller(), Control()
    with Vendor(serve) as vendor, pytest.raises(ProviderFault) as caught:
        caller.embed(provider(vendor.url, dialect="cohere"), "e-1", ["x"] * 97, control)
    caller.close()
    assert control.may_be_billed(caught.value)
