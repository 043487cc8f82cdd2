"""Calls that are cut: by silence, by their limits, by whoever made them. Nobody waits longer than was said."""

import threading
import time
from collections.abc import Callable, Generator

import pytest

from providers.call import Caller, Control, Watchdog
from providers.errors import Cancelled, TimedOut
from providers.message import Finish, Text
from tests.fakes.scripts import HELLO, SOON, STOP, answer_always, answer_once, ask, limits, stream
from tests.fakes.vendor import END, Connection, Vendor, chat, chunk, provider


@pytest.fixture
def caller() -> Generator[Caller, None, None]:
    one = Caller(watchdog=Watchdog(interval_s=0.01))
    yield one
    one.close()


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


def test_the_time_to_connect_is_measured_where_a_connection_is_made(caller: Caller) -> None:
    first, second = Control(), Control()
    with Vendor(answer_always) as vendor:
        began = time.monotonic()
        ask(caller, vendor, first)
        assert first.connect_s is not None
        assert 0 < first.connect_s <= time.monotonic() - began
        ask(caller, vendor, second)
        assert second.connect_s is None
        caller.close()


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


def test_the_watchdog_sleeps_and_wakes_with_its_calls(caller: Caller) -> None:
    for _ in range(2):  # the socket's own limit is far away
        with Vendor(Connection.wait_until_gone) as vendor, pytest.raises(TimedOut):
            ask(caller, vendor, deadlines=limits(first_token=SOON))
