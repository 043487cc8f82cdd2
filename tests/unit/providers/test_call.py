"""The HTTP client against a scripted vendor on loopback: connections that end, answers that break off or are none."""

import socket
import threading
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from goblin.errors import GoblinError
from providers.answer import collect
from providers.call import Caller, Control, Watchdog
from providers.errors import (
    BadCredentials,
    BadRequest,
    BrokenStream,
    Malformed,
    ServerError,
    Throttled,
    Unreachable,
)
from providers.message import Finish, Text
from tests.fakes.said import sse
from tests.fakes.scripts import HELLO, SOON, STOP, answer_always, answer_once, ask, hang_up, limits, say, stream
from tests.fakes.vendor import KEY, PROMPT, Connection, Vendor, chat, chunk, provider


@pytest.fixture
def caller() -> Generator[Caller, None, None]:
    one = Caller(watchdog=Watchdog(interval_s=0.01))
    yield one
    one.close()


def test_an_answer_comes_as_events(caller: Caller) -> None:
    with Vendor(answer_once) as vendor:
        control = Control()
        assert collect(ask(caller, vendor, control))[0] == "Hello"
        assert control.ttft_s is not None
        assert control.ttft_s > 0
        assert control.deadline() is None


def test_a_connection_serves_one_call_after_the_other(caller: Caller) -> None:
    with Vendor(answer_always) as vendor:
        for _ in range(3):
            ask(caller, vendor)
        assert vendor.connections == 1
        caller.close()


def test_calls_at_once_have_a_connection_each(caller: Caller) -> None:
    with Vendor(answer_always, answer_always) as vendor:
        first = caller.stream(provider(vendor.url), chat(), Control())
        assert next(first) == Text("Hello")
        ask(caller, vendor)
        assert [type(event) for event in first] == [Finish]
        assert vendor.connections == 2
        caller.close()


def test_a_kept_connection_that_the_server_closed_is_replaced_in_silence(caller: Caller) -> None:
    def answer_and_drop_the_next(connection: Connection) -> None:
        answer_once(connection)
        connection.request()  # and the connection ends without an answer

    with Vendor(answer_and_drop_the_next, answer_once) as vendor:
        assert collect(ask(caller, vendor))[0] == "Hello"
        assert collect(ask(caller, vendor))[0] == "Hello"
        assert vendor.connections == 2


def test_a_new_connection_that_ends_without_an_answer_is_not_tried_again(caller: Caller) -> None:
    with Vendor(hang_up, answer_once) as vendor:
        with pytest.raises(Unreachable):
            ask(caller, vendor)
        assert vendor.connections == 1


def test_a_connection_that_nobody_needs_is_closed_by_a_call_to_another_origin() -> None:
    has_gone = threading.Event()

    def answer_and_wait(connection: Connection) -> None:
        answer_once(connection)
        connection.wait_until_gone()
        has_gone.set()

    caller = Caller(idle_s=0)
    with Vendor(answer_and_wait) as once, Vendor(answer_always) as often:
        ask(caller, once)
        for _ in range(2):
            ask(caller, often)
        assert has_gone.wait(10)
        assert often.connections == 1
        caller.close()


def test_a_closed_port_is_unreachable(caller: Caller) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(Unreachable):
        list(caller.stream(provider(url), chat(), Control()))


@pytest.mark.parametrize("then", [Connection.reset, lambda _: None], ids=["reset", "closed"])
def test_an_answer_that_breaks_off_is_broken(caller: Caller, then: Callable[[Connection], None]) -> None:
    with Vendor(stream(HELLO, then=then)) as vendor:
        events = caller.stream(provider(vendor.url), chat(), Control())
        with pytest.raises(BrokenStream):
            list(events)


def test_an_answer_without_a_length_that_ends_early_is_broken(caller: Caller) -> None:
    def script(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + HELLO)

    with Vendor(script) as vendor, pytest.raises(BrokenStream):
        ask(caller, vendor)


@pytest.mark.parametrize(
    ("trouble", "fault"),
    [(sse({"error": {"message": "x", "type": "server_error"}}), ServerError), (b"data: {no\n\n", Malformed)],
)
def test_what_came_before_a_fault_is_heard_before_the_fault(
    caller: Caller, trouble: bytes, fault: type[GoblinError]
) -> None:
    with Vendor(stream(HELLO + HELLO + trouble)) as vendor:
        events = caller.stream(provider(vendor.url), chat(), Control())
        assert [next(events), next(events)] == [Text("Hello"), Text("Hello")]
        with pytest.raises(fault):
            next(events)


def test_an_answer_that_breaks_off_after_its_end_is_whole(caller: Caller) -> None:
    with Vendor(stream(HELLO, STOP, then=Connection.reset)) as vendor:
        assert collect(ask(caller, vendor))[0] == "Hello"


def test_a_server_that_keeps_a_whole_answer_open_holds_nobody_up(caller: Caller) -> None:
    with Vendor(stream(HELLO, STOP)) as vendor:
        assert collect(ask(caller, vendor, deadlines=limits(stall=SOON)))[0] == "Hello"


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        (say("401 Unauthorized", b'{"error":{"message":"no"}}'), BadCredentials),
        (say("429 Too Many Requests\r\nRetry-After: 7", b""), Throttled),
        (say("500 Oops", b"<html>"), ServerError),
        (say("301 Moved\r\nlocation: http://elsewhere.example/"), Malformed),
        (say("200 OK", b"this is no dialect"), Malformed),
        (say("200 OK"), BrokenStream),
        (say("200 OK\r\ncontent-encoding: gzip", b"this is no gzip"), Malformed),
    ],
)
def test_an_answer_that_is_none_raises_its_meaning(
    caller: Caller, script: Callable[[Connection], None], fault: type[GoblinError]
) -> None:
    with Vendor(script) as vendor, pytest.raises(fault) as caught:
        ask(caller, vendor)
    if fault is Throttled:
        assert caught.value.retry_after == 7


THROTTLED = b'{"error": {"message": "slow down", "code": 429}}'


@pytest.mark.parametrize("body", [THROTTLED, b"data: " + THROTTLED + b"\n\n"], ids=["flat", "in the stream"])
def test_an_error_inside_a_success_may_name_its_delay_in_the_head(caller: Caller, body: bytes) -> None:
    with Vendor(say("200 OK\r\nRetry-After: 7", body)) as vendor, pytest.raises(Throttled) as caught:
        ask(caller, vendor)
    assert caught.value.retry_after == 7


@pytest.mark.parametrize("clock", ["", "\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT"], ids=["none", "its own"])
def test_a_date_to_wait_for_is_read_by_the_clock_of_the_server_or_else_by_ours(caller: Caller, clock: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC) if clock else datetime.now(UTC)
    until = format_datetime(now + timedelta(hours=1), usegmt=True)
    with Vendor(say(f"429 Too Many{clock}\r\nRetry-After: {until}")) as vendor, pytest.raises(Throttled) as caught:
        ask(caller, vendor)
    assert caught.value.retry_after == pytest.approx(3600, abs=60)


def test_a_complaint_that_breaks_off_still_has_its_status(caller: Caller) -> None:
    def script(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 503 Busy\r\ncontent-length: 500\r\n\r\nhalf")

    with Vendor(script) as vendor, pytest.raises(GoblinError) as caught:
        ask(caller, vendor)
    assert caught.value.slug == "overloaded"


def test_an_answer_that_never_ends_is_not_read_for_ever() -> None:
    def talk(connection: Connection) -> None:
        connection.request()
        connection.stream(HELLO)
        while True:
            connection.send(chunk(HELLO))

    caller = Caller(largest_answer=2**16)
    with Vendor(talk) as vendor, pytest.raises(Malformed):
        ask(caller, vendor)
    caller.close()


def test_no_message_repeats_the_key_or_the_prompt(caller: Caller) -> None:
    body = f'{{"error":{{"message":"cannot read {PROMPT} with {KEY}"}}}}'.encode()
    with Vendor(say("400 Bad Request", body)) as vendor, pytest.raises(BadRequest) as caught:
        ask(caller, vendor)
    shown = f"{caught.value} {caught.value.as_value()}"
    assert PROMPT not in shown
    assert KEY not in shown


def test_what_httpx_raises_stays_inside(caller: Caller) -> None:
    with Vendor(Connection.reset) as vendor, pytest.raises(GoblinError) as caught:
        ask(caller, vendor)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_transport_may_answer_inside_the_process() -> None:
    caller = Caller(transport=lambda: httpx.MockTransport(lambda _: httpx.Response(200, content=HELLO + STOP)))
    assert collect(caller.stream(provider(), chat(), Control()))[0] == "Hello"
    caller.close()
