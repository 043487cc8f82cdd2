"""What a scripted vendor does with a call, and a caller to ask it with."""

from collections.abc import Callable

from providers.call import Caller, Control
from providers.message import Event
from providers.provider import Deadlines
from tests.fakes.said import DONE, delta, sse
from tests.fakes.vendor import END, Connection, Vendor, chat, provider

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


def hang_up(connection: Connection) -> None:
    connection.request()


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


def ask(caller: Caller, vendor: Vendor, control: Control | None = None, **facts: object) -> list[Event]:
    return list(caller.stream(provider(vendor.url, **facts), chat(), control or Control()))


def limits(**seconds: float) -> Deadlines:
    return Deadlines(**{"connect": 30, "first_token": 30, "stall": 30, "total": 60, **seconds})
