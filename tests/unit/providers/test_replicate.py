"""Replicate's predictions: one call of several exchanges, over scripted connections and without any."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from providers.answer import collect
from providers.call import Caller, Control
from providers.errors import BadCredentials, BrokenStream, Malformed, ServerError, Throttled, TimedOut
from providers.limit import Gauge
from providers.message import Event, Finish, Message, Report, Text, Usage
from providers.provider import Deadlines
from providers.sampling import Sampling
from providers.wire.dialect import HttpRequest
from providers.wire.replicate import Decoder, Replicate
from tests.fakes.vendor import KEY, PROMPT, Connection, Vendor, chat, provider

VENDOR = provider("https://api.vendor.example/v1", dialect="replicate")
STREAM = "https://stream.elsewhere.example/p1"


def prediction(status: str, **more: Any) -> bytes:
    urls = {"get": "https://evil.example/p1", "stream": STREAM}
    return json.dumps({"id": "p1", "status": status, "urls": urls, **more}).encode()


def event(name: str, data: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in data.split("\n"))
    return f"event: {name}\nid: 1:0\n{lines}\n".encode()


DONE = event("done", "{}")


def take(decoder: Decoder, *pieces: bytes) -> tuple[list[Event], HttpRequest | None]:
    """One exchange, and the one that follows."""
    events: list[Event] = []
    for piece in pieces:
        decoder.feed(piece, events)
    decoder.end(events)
    return events, decoder.follow()


def test_a_prediction_is_created_then_heard_then_read() -> None:
    decoder = Decoder(VENDOR)
    events, listen = take(decoder, prediction("starting"))
    assert (events, listen is not None and listen.url) == ([], STREAM)
    events, look = take(decoder, event("logs", "warming up") + event("output", "Hel"), event("output", "lo\n☃") + DONE)
    assert events == [Text("Hel"), Text("lo\n☃")]
    assert look is not None
    assert (look.method, look.url) == ("GET", "https://api.vendor.example/v1/predictions/p1")
    metrics = {"input_token_count": 9, "output_token_count": 3}
    events, none = take(decoder, prediction("succeeded", output=["Hel", "lo\n☃"], metrics=metrics))
    assert events == [Finish("stop", "succeeded"), Report(Usage(9, 0, 0, 3, 0))]
    assert (none, decoder.abandon()) == (None, None)


def test_the_key_stays_with_its_own_origin() -> None:
    decoder = Decoder(VENDOR)
    _, listen = take(decoder, prediction("starting"))
    assert listen is not None
    assert KEY not in str(listen.headers)
    _, look = take(decoder, DONE)
    assert look is not None
    assert KEY in str(look.headers)
    own = json.dumps({"id": "p1", "status": "starting", "urls": {"stream": "https://api.vendor.example/v1/s/p1"}})
    _, listen = take(Decoder(VENDOR), own.encode())
    assert listen is not None
    assert KEY in str(listen.headers)


def test_a_stream_at_an_unsafe_address_is_not_asked_for() -> None:
    with pytest.raises(Malformed):
        take(
            Decoder(VENDOR),
            json.dumps({"id": "p", "status": "starting", "urls": {"stream": "http://10.0.0.1/"}}).encode(),
        )


def test_what_the_stream_did_not_say_is_said_at_the_end() -> None:
    decoder = Decoder(VENDOR)
    take(decoder, prediction("starting"))
    take(decoder, event("output", "Hel") + DONE)
    events, _ = take(decoder, prediction("succeeded", output=["Hel", "lo"]))
    assert events[:1] == [Text("lo")]


@pytest.mark.parametrize("output", [{"text": "Hello"}, "Hell", "Hallo, you", ["Hi, ", "Hello"], None])
def test_an_output_in_another_form_is_not_said_twice(output: Any) -> None:
    decoder = Decoder(VENDOR)
    take(decoder, prediction("starting"))
    take(decoder, event("output", "Hello") + DONE)
    events, _ = take(decoder, prediction("succeeded", output=output))
    assert events == [Finish("stop", "succeeded")]


def test_a_model_without_a_stream_is_looked_at_until_it_is_done_and_ever_more_rarely() -> None:
    decoder = Decoder(VENDOR)
    running = b'{"id": "p1", "status": "processing", "urls": {}}'
    pauses = []
    for _ in range(8):
        events, look = take(decoder, running)
        assert not events
        assert look is not None
        pauses.append(look.after_s)
    assert pauses == [0.25, 0.5, 1, 2, 4, 5, 5, 5]
    events, look = take(decoder, b'{"id": "p1", "status": "succeeded", "output": "Hi"}')
    assert (events[0], look) == (Text("Hi"), None)


def test_a_failure_in_the_stream_needs_no_cancelling() -> None:
    decoder = Decoder(VENDOR)
    take(decoder, prediction("starting"))
    with pytest.raises(ServerError):
        decoder.feed(event("error", "out of memory"), [])
    assert decoder.abandon() is None


def test_an_error_in_place_of_a_prediction_means_what_it_says() -> None:
    with pytest.raises(BadCredentials, match="no valid token"):
        take(Decoder(VENDOR), b'{"title": "Unauthenticated", "detail": "no valid token", "status": 401}')


def test_an_event_of_an_unknown_name_is_malformed() -> None:
    decoder = Decoder(VENDOR)
    take(decoder, prediction("starting"))
    with pytest.raises(Malformed):
        decoder.feed(event("surprise", "x"), [])


def test_a_description_without_end_is_not_kept() -> None:
    with pytest.raises(Malformed):
        take(Decoder(VENDOR), *[b" " * 2**16] * 20)


def test_the_prompt_is_one_text() -> None:
    asked = json.loads(Replicate().request(VENDOR, chat(model="o/n", sampling=Sampling(temperature=0.5))).body)
    assert asked == {
        "input": {"prompt": f"be brief\n\n{PROMPT}", "max_tokens": 200, "temperature": 0.5},
        "stream": True,
    }
    turns = (Message("user", "hi"), Message("assistant", "yes?"), Message("user", "ok"))
    asked = json.loads(Replicate().request(VENDOR, chat(model="o/n", messages=turns)).body)
    assert asked["input"]["prompt"] == "User: hi\n\nAssistant: yes?\n\nUser: ok"


def test_a_version_is_asked_by_its_number() -> None:
    version = "0123456789abcdef" * 4
    request = Replicate().request(VENDOR, chat(model=f"o/n:{version}"))
    assert request.url == "https://api.vendor.example/v1/predictions"
    assert json.loads(request.body)["version"] == version
    assert Replicate().request(VENDOR, chat(model="o/n")).url.endswith("/v1/models/o/n/predictions")


# Over connections


def answer(connection: Connection, body: bytes, status: str = "200 OK") -> bytes:
    asked = connection.request()
    connection.send(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    return asked


def at(connection_url: str) -> bytes:
    return json.dumps({"id": "p1", "status": "starting", "urls": {"stream": f"{connection_url}/s"}}).encode()


def test_a_call_is_all_its_exchanges_on_one_connection() -> None:
    seen: list[bytes] = []

    def script(connection: Connection) -> None:
        seen.append(answer(connection, at(vendor.url), "201 Created"))
        seen.append(connection.request())
        connection.stream(event("output", "Hi"), DONE)
        connection.send(b"0\r\n\r\n")
        seen.append(answer(connection, b'{"id":"p1","status":"succeeded","output":["Hi"]}'))

    caller = Caller()
    with Vendor(script) as vendor:
        said = collect(caller.stream(provider(vendor.url, dialect="replicate"), chat(model="o/n"), Control()))
        caller.close()
    assert said == ("Hi", "", Finish("stop", "succeeded"), None)
    assert [one.split()[:2] for one in seen] == [
        [b"POST", b"/models/o/n/predictions"],
        [b"GET", b"/s"],
        [b"GET", b"/predictions/p1"],
    ]


def test_a_call_that_is_left_cancels_its_prediction() -> None:
    cancelled: list[bytes] = []

    def begin(connection: Connection) -> None:
        answer(connection, at(vendor.url))
        connection.request()
        connection.stream(event("output", "Hi"))
        connection.wait_until_gone()

    def cancel(connection: Connection) -> None:
        cancelled.append(answer(connection, b"{}"))

    caller = Caller()
    with Vendor(begin, cancel) as vendor:
        events = caller.stream(provider(vendor.url, dialect="replicate"), chat(model="o/n"), Control())
        assert next(events) == Text("Hi")
        events.close()
        caller.close()
    assert cancelled[0].startswith(b"POST /predictions/p1/cancel ")


def test_a_stream_that_breaks_off_is_broken_and_cancelled() -> None:
    cancelled: list[bytes] = []

    def begin(connection: Connection) -> None:
        answer(connection, at(vendor.url))
        connection.request()
        connection.stream(event("output", "Hi"))

    def cancel(connection: Connection) -> None:
        cancelled.append(answer(connection, b"{}"))

    caller = Caller()
    with Vendor(begin, cancel) as vendor:
        with pytest.raises(BrokenStream):
            list(caller.stream(provider(vendor.url, dialect="replicate"), chat(model="o/n"), Control()))
        caller.close()
    assert cancelled


def test_looking_again_and_again_is_bounded_by_the_limit_for_a_first_token() -> None:
    def script(connection: Connection) -> None:
        while answer(connection, b'{"id":"p1","status":"processing","urls":{}}'):
            pass

    caller, hasty = Caller(), Deadlines(30, 0.4, 30, 60)
    with Vendor(script, script) as vendor:
        with pytest.raises(TimedOut) as caught:
            list(
                caller.stream(provider(vendor.url, dialect="replicate", deadlines=hasty), chat(model="o/n"), Control())
            )
        caller.close()
    assert caught.value.details == {"phase": "first_token"}


# Over connections, the stream at another origin


class Led(httpx.HTTPTransport):
    """Leads to `url` what goes to the stream's host, which has neither name nor certificate on loopback."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = httpx.URL(url)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == httpx.URL(STREAM).host:
            request.url = self._url.copy_with(path=request.url.path)
        return super().handle_request(request)


@contextmanager
def two_hosts(own: Callable[[Connection], None], other: Callable[[Connection], None]) -> Iterator[tuple[Caller, str]]:
    """A caller, and the address of the provider whose streams are at the other host."""
    with Vendor(own, own) as vendor, Vendor(other) as host:
        caller = Caller(transport=lambda: Led(host.url))
        try:
            yield caller, vendor.url
        finally:
            caller.close()


@pytest.mark.parametrize("status", ["302 Found", "401 No", "403 No", "404 No", "410 Gone", "429 Slow", "500 Oops"])
def test_a_prediction_whose_stream_is_refused_elsewhere_is_read_at_its_end(status: str) -> None:
    def create(connection: Connection) -> None:
        answer(connection, prediction("starting"), "201 Created")
        answer(connection, prediction("succeeded", output=["Hel", "lo"]))

    def refuse(connection: Connection) -> None:
        answer(connection, b'{"title": "Unauthenticated", "status": 401}', status)

    with two_hosts(create, refuse) as (caller, url):
        said = collect(caller.stream(provider(url, dialect="replicate"), chat(model="o/n"), Control()))
    assert said == ("Hello", "", Finish("stop", "succeeded"), None)


def test_a_key_that_its_own_origin_refuses_is_refused_also_between_the_parts_of_a_call() -> None:
    def script(connection: Connection) -> None:
        answer(connection, at(vendor.url), "201 Created")
        answer(connection, b"{}", "401 Unauthorized")
        answer(connection, b"{}")

    caller = Caller()
    with Vendor(script) as vendor:
        with pytest.raises(BadCredentials):
            list(caller.stream(provider(vendor.url, dialect="replicate"), chat(model="o/n"), Control()))
        caller.close()


def test_a_prediction_that_can_be_neither_heard_nor_read_is_cancelled_and_may_be_billed() -> None:
    seen: list[bytes] = []

    def create(connection: Connection) -> None:
        answer(connection, prediction("starting"), "201 Created")
        answer(connection, b"{}", "429 Slow down")
        seen.append(answer(connection, prediction("canceled")))

    def refuse(connection: Connection) -> None:
        answer(connection, b"", "404 Not Found")

    control = Control()
    with two_hosts(create, refuse) as (caller, url), pytest.raises(Throttled) as caught:
        list(caller.stream(provider(url, dialect="replicate"), chat(model="o/n"), control))
    assert seen[0].startswith(b"POST /predictions/p1/cancel ")
    assert control.may_be_billed(caught.value)


def test_limits_of_a_host_that_gets_no_key_are_not_those_of_the_key() -> None:
    def create(connection: Connection) -> None:
        answer(connection, prediction("starting"), "201 Created\r\nx-ratelimit-limit-requests: 600")
        answer(connection, prediction("succeeded", output="Hi"))

    def stream(connection: Connection) -> None:
        answer(connection, event("output", "Hi") + DONE, "200 OK\r\nx-ratelimit-limit-requests: 3")

    control = Control()
    with two_hosts(create, stream) as (caller, url):
        assert collect(caller.stream(provider(url, dialect="replicate"), chat(model="o/n"), control))[0] == "Hi"
    assert control.limits is not None
    assert control.limits.requests == Gauge(600)
