"""The flights of a process: renewed while they last, and not a moment longer."""

import threading
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
import redis

from goblin import kv
from goblin.settings import CacheSettings
from routing.cache import Cache, Seat
from routing.script import Scripts
from routing.waiting import WaitingRooms
from tests.fakes.racing import PATIENCE_S
from tests.fakes.runs import plan_of
from workers.cached import Asker, Flights
from workers.wake import Waker

LEASE = 1.5
REQUEST = "what was asked"


class Slow(Cache):
    """Lets a flight land while it is about to be renewed, if anybody can."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.renewing, self.landed, self.renewed = threading.Event(), threading.Event(), threading.Event()

    def renew(self, flyers: Mapping[str, str], lease: float) -> None:
        self.renewing.set()
        self.landed.wait(0.2)
        super().renew(flyers, lease)
        self.renewed.set()

    def land(self, request: str, flyer: str, *, alone: float = 0) -> None:
        super().land(request, flyer, alone=alone)
        self.landed.set()


@pytest.fixture
def client(redis_url: str) -> redis.Redis:
    return kv.connect(redis_url)


def test_a_flight_that_lands_while_it_is_renewed_is_over(client: redis.Redis) -> None:
    cache = Slow(Scripts(client), CacheSettings())
    flights = Flights(cache, Waker(WaitingRooms(client), lambda _: None), LEASE)
    asker = Asker(uuid.uuid4(), 1, plan_of("chat: hello").steps[0], None)
    assert flights.recall(REQUEST, asker) is Seat.FLY
    flights.start()
    with flights.fly(REQUEST, asker):
        assert cache.renewing.wait(PATIENCE_S)
    assert cache.renewed.wait(PATIENCE_S)
    flights.stop()
    assert cache.recall(REQUEST, "another one", LEASE) is Seat.FLY
