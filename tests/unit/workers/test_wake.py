"""Who calls those who wait: a release at once, the clock at a room's moment, and nobody when nobody waits."""

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from goblin import kv
from goblin.errors import Unavailable
from routing.waiting import NAMED, Waiter, WaitingRooms
from tests.fakes.racing import until
from tests.fakes.wire import Wire
from workers.wake import ROOM, Waker

FAR = 3_600_000


@pytest.fixture
def sent() -> list[str]:
    return []


@pytest.fixture
def waker(redis_url: str, sent: list[str]) -> Iterator[Waker]:
    waker = Waker(WaitingRooms(kv.connect(redis_url)), lambda message: sent.append(message["name"]))
    yield waker
    waker.stop()


def enter(waker: Waker, name: str, room: str, after_ms: int | None) -> None:
    waker.rooms.enter(Waiter(uuid.uuid4(), 0, 1), {"name": name}, {room: after_ms})


def test_the_clock_calls_when_the_moment_has_come(waker: Waker, sent: list[str]) -> None:
    enter(waker, "later", "far", FAR)
    enter(waker, "now", "near", 0)
    waker.start()
    until(lambda: sent, "called by the clock")
    assert sent == ["now"]


def test_a_release_calls_the_next_of_its_room_at_once(waker: Waker, sent: list[str]) -> None:
    enter(waker, "one", "a", FAR)
    enter(waker, "other", "b", FAR)
    waker.start()

    def is_called() -> bool:
        waker.freed(["a", "nobody's"])
        return bool(sent)

    until(is_called, "called by a release")
    assert sent == ["one"]


def test_a_release_calls_also_while_the_rooms_are_too_many_to_be_known(waker: Waker, sent: list[str]) -> None:
    for nr in range(NAMED):
        enter(waker, "private", f"private {nr}", FAR)
    enter(waker, "one", "shared", FAR)
    waker.start()

    def is_called() -> bool:
        waker.freed(["shared"])
        return bool(sent)

    until(is_called, "called by a release")
    assert sent == ["one"]


def test_a_message_says_which_room_its_step_was_called_out_of(redis_url: str) -> None:
    sent: list[Mapping[str, Any]] = []
    waker = Waker(WaitingRooms(kv.connect(redis_url)), sent.append)
    message = {"task": "step", "options": {"queue": "steps", "headers": {"trace": "1"}}}
    waker.rooms.enter(Waiter(uuid.uuid4(), 0, 1), message, {"a": FAR, "b": FAR})
    waker.call(["b"])
    assert sent == [{"task": "step", "options": {"queue": "steps", "headers": {"trace": "1", ROOM: "b"}}}]


def test_a_message_that_cannot_be_sent_ends_nothing(redis_url: str) -> None:
    tried: list[str] = []

    def send(message: Mapping[str, Any]) -> None:
        tried.append(message["name"])
        if len(tried) == 1:
            raise Unavailable("the broker is away")

    waker = Waker(WaitingRooms(kv.connect(redis_url)), send)
    waker.start()
    enter(waker, "lost on the way", "a", 0)
    until(lambda: len(tried) == 1, "tried")
    enter(waker, "sent", "b", 0)
    until(lambda: len(tried) == 2, "tried again")
    waker.stop()
    assert tried == ["lost on the way", "sent"]


def test_a_redis_that_was_away_is_asked_again(redis_url: str, sent: list[str]) -> None:
    with Wire(redis_url) as wire:
        waker = Waker(WaitingRooms(kv.connect(wire.url)), lambda message: sent.append(message["name"]))
        wire.shut()
        waker.start()
        waker.freed(["a"])
        WaitingRooms(kv.connect(redis_url)).enter(Waiter(uuid.uuid4(), 0, 1), {"name": "one"}, {"a": 0})
        assert sent == []
        wire.mend()
        until(lambda: sent, "called after all")
        waker.stop()
