"""The HTTP client against a scripted vendor on loopback: limits, cuts, connections that end, answers too large."""

import socket
import threading
import time
from collections.abc import Callable, Generator

import httpx
import pytest

from goblin.errors import GoblinError
from providers.answer import collect
from providers.call import Caller, Control, Watchdog
from providers.errors import (
    BadCredentials,
    BadRequest,
    BrokenStream,
    Cancelled,
    Malformed,
    ServerError,
    Throttled,
    TimedOut,
    Unreachable,
)
from providers.message import Event, Finish, Text
from providers.provider import Deadlines
from tests.fakes.said import DONE, delta, sse
from tests.fakes.vendor import END, KEY, PROMPT, Connection, Vendor, chat, chunk, provider

HELLO, STOP = sse(delta(content="Hello")), sse(delta("stop"), end=DONE)
SOON = 0.05  # seconds


def answer_once(connection: Connection) -> None:
    connection.request()
    connection.stream(HELLO, STOP)
    connection.send(END)


def answer_always(connection: Connection) -> None:
    while connection.request():
        connection.stream(HELLO, STOP)
        connection.send(END)


def say(head: str, body: bytes = b"") -> Callable[[Connection], None]:
    def script(connection: Connection) -> None:
        connection.request()
        connection.send(f"HTTP/1.1 {head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)

    return script


def stream(
    *events: bytes, then: Callable[[Connection], None] = Connection.wait_until_gone
) -> Callable[[Connection], None]:
    def script(connection: Connection) -> None:
        connection.request()
        connection.stream(*events)
        then(connection)

    return script


@pytest.fixture
def caller() -> Generator[Caller, None, None]:
    one = Caller(watchdog=Watchdog(interval_s=0.01))
    yield one
    one.close()


def ask(caller: Caller, vendor: Vendor, control: Control | None = None, **facts: object) -> list[Event]:
    return list(caller.stream(provider(vendor.url, **facts), chat(), control or Control()))


def limits(**seconds: float) -> Deadlines:
    return Deadlines(**{"connect": 30, "first_token": 30, "stall": 30, "total": 60, **seconds})


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
    def hang_up(connection: Connection) -> None:
        connection.request()

    with Vendor(hang_up, answer_once) as vendor:
        with pytest.raises(Unreachable):
            ask(caller, vendor)
        assert vendor.connections == 1


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
    ("script", "phase"),
    [
        (Connection.wait_until_gone, "first_token"),
        (stream(b": still here\n\n"), "first_token"),
        (stream(HELLO), "stall"),
    ],
    ids=["no head", "comments only", "one token"],
)
def test_silence_is_cut(caller: Caller, script: Callable[[Connection], None], phase: str) -> None:
    with Vendor(script) as vendor, pytest.raises(TimedOut) as caught:
        ask(caller, vendor, deadlines=limits(first_token=SOON, stall=SOON))
    assert caught.value.details == {"phase": phase}


def test_comments_do_not_count_as_an_answer() -> None:
    def keep_alive(connection: Connection) -> None:
        connection.request()
        connection.stream(HELLO)
        while True:
            connection.send(chunk(b": keep-alive\n\n"))

    unwatched = Caller(watchdog=Watchdog(interval_s=3600))
    with Vendor(keep_alive) as vendor, pytest.raises(TimedOut) as caught:
        ask(unwatched, vendor, deadlines=limits(stall=SOON))
    assert caught.value.details == {"phase": "stall"}
    unwatched.close()


def test_an_endless_answer_is_cut_at_the_total_limit(caller: Caller) -> None:
    def talk(connection: Connection) -> None:
        connection.request()
        connection.stream(HELLO)
        while True:
            connection.send(chunk(HELLO))

    with Vendor(talk) as vendor, pytest.raises(TimedOut) as caught:
        ask(caller, vendor, deadlines=limits(total=0.2))
    assert caught.value.details == {"phase": "total"}


def test_the_socket_itself_keeps_the_limits_when_nobody_watches() -> None:
    sleepy = Caller(watchdog=Watchdog(interval_s=3600))
    with Vendor(Connection.wait_until_gone) as vendor:
        call_limits = limits(connect=SOON, first_token=SOON, stall=SOON)
        with pytest.raises(TimedOut):
            ask(sleepy, vendor, deadlines=call_limits)
    sleepy.close()


def test_a_slow_reader_of_the_answer_is_not_taken_for_a_stalled_vendor(caller: Caller) -> None:
    with Vendor(stream(HELLO, HELLO, STOP)) as vendor:
        control = Control()
        events = caller.stream(provider(vendor.url, deadlines=limits(stall=5)), chat(), control)
        assert [next(events), next(events)] == [Text("Hello"), Text("Hello")]
        limit = control.deadline()
        assert limit is not None
        assert limit > time.monotonic() + 20  # the total limit alone
        events.close()


def without_length(connection: Connection) -> None:
    connection.request()
    connection.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + HELLO)
    connection.wait_until_gone()


@pytest.mark.parametrize("script", [Connection.wait_until_gone, stream(HELLO), stream(b": here\n\n")])
def test_a_cut_call_raises_what_it_was_cut_with(caller: Caller, script: Callable[[Connection], None]) -> None:
    control = Control()
    arrived = threading.Event()

    def arrive(connection: Connection) -> None:
        arrived.set()
        script(connection)

    def cut() -> None:
        arrived.wait()
        control.cut(Cancelled("enough"))

    with Vendor(arrive) as vendor:
        cutter = threading.Thread(target=cut)
        cutter.start()
        with pytest.raises(Cancelled, match="enough"):
            ask(caller, vendor, control)
        cutter.join()


def test_an_answer_without_a_length_is_not_taken_for_ended_when_it_is_cut(caller: Caller) -> None:
    control = Control()
    with Vendor(without_length) as vendor:
        events = caller.stream(provider(vendor.url), chat(), control)
        next(events)
        threading.Timer(SOON, control.cut, [Cancelled("enough")]).start()
        with pytest.raises(Cancelled):
            next(events)


def test_a_call_cut_before_its_start_does_not_start(caller: Caller) -> None:
    control = Control()
    control.cut(Cancelled("never mind"))
    control.cut(Cancelled("the second is not heard"))
    with Vendor(answer_once) as vendor:
        with pytest.raises(Cancelled, match="never mind"):
            ask(caller, vendor, control)
        assert vendor.connections == 0


@pytest.mark.parametrize("script", [Connection.wait_until_gone, stream(HELLO)], ids=["no head", "one token"])
def test_a_call_ends_when_its_caller_has_no_more_time(caller: Caller, script: Callable[[Connection], None]) -> None:
    control = Control()
    control.end_at(time.monotonic() + SOON, Cancelled("time is over"))
    with Vendor(script) as vendor, pytest.raises(Cancelled, match="time is over"):
        ask(caller, vendor, control)
    assert control.is_asked


def test_a_caller_without_time_calls_nobody(caller: Caller) -> None:
    control = Control()
    control.end_at(time.monotonic() - 1, Cancelled("time is over"))
    with Vendor(answer_once) as vendor:
        with pytest.raises(Cancelled, match="time is over"):
            ask(caller, vendor, control)
        assert (vendor.connections, control.is_asked) == (0, False)


def test_the_longest_silence_between_two_pieces_is_measured(caller: Caller) -> None:
    heard = threading.Event()

    def hesitate(connection: Connection) -> None:
        connection.request()
        connection.stream(HELLO)
        heard.wait()
        connection.send(chunk(STOP) + END)

    control = Control()
    with Vendor(hesitate) as vendor:
        events = caller.stream(provider(vendor.url), chat(), control)
        next(events)
        began = time.monotonic()
        threading.Timer(SOON, heard.set).start()
        list(events)
        assert 0 < control.silence_s <= time.monotonic() - began


def test_a_call_cut_between_two_events_stops_there(caller: Caller) -> None:
    control = Control()
    with Vendor(stream(HELLO)) as vendor:
        events = caller.stream(provider(vendor.url), chat(), control)
        next(events)
        control.cut(Cancelled("enough"))
        with pytest.raises(Cancelled):
            next(events)


def test_cutting_an_ended_call_does_not_touch_the_next_one_on_its_connection(caller: Caller) -> None:
    with Vendor(answer_always) as vendor:
        ended = Control()
        ask(caller, vendor, ended)
        events = caller.stream(provider(vendor.url), chat(), Control())
        next(events)
        ended.cut(Cancelled("too late"))
        assert [type(event) for event in events] == [Finish]
        assert vendor.connections == 1
        caller.close()


def test_an_abandoned_call_lets_the_vendor_go(caller: Caller) -> None:
    gone = threading.Event()

    def script(connection: Connection) -> None:
        connection.request()
        connection.stream(HELLO)
        connection.wait_until_gone()
        gone.set()

    with Vendor(script) as vendor:
        events = caller.stream(provider(vendor.url), chat(), Control())
        next(events)
        events.close()
        assert gone.wait(10)


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


def test_the_watchdog_sleeps_and_wakes_with_its_calls(caller: Caller) -> None:
    for _ in range(2):  # the socket's own limit is far away
        with Vendor(Connection.wait_until_gone) as vendor, pytest.raises(TimedOut):
            ask(caller, vendor, deadlines=limits(first_token=SOON))
