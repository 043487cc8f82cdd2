"""What a running API owns: its doors to Postgres, Redis and the broker, opened at start and closed at the end."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from starlette.requests import HTTPConnection

from api.auth import VARIABLE, Doors
from api.broker import Broker
from goblin import kv
from goblin.settings import Settings
from ledger.session import Ledger
from providers.call import Caller
from providers.registry import Registry
from routing import memory
from routing.admission import Admission
from routing.breaker import Knobs
from routing.health import Health
from routing.knock import Knocks
from routing.offers import Offers
from routing.route import Router
from routing.script import Scripts
from routing.waiting import WaitingRooms
from workers.stream import Feed
from workers.turnstile import Turnstile
from workers.wake import Waker

_VECTOR_CALLS = 32  # at once, of one process
_ANSWER_S = 10.0  # longest that a request waits for Postgres to say something


@dataclass(frozen=True, slots=True)
class House:
    settings: Settings
    ledger: Ledger
    redis: Redis
    events: AsyncRedis
    broker: Broker
    offers: Offers
    health: Health
    router: Router
    feed: Feed
    knocks: Knocks
    admission: Admission
    turnstile: Turnstile
    caller: Caller
    vector_calls: CapacityLimiter  # they last as long as a vendor takes, and must not hold up the rest
    uploads: CapacityLimiter
    waker: Waker
    doors: Doors
    started_at: float  # on the monotonic clock

    @property
    def registry(self) -> Registry:
        return self.offers.registry


@contextmanager
def opened(settings: Settings, environ: Mapping[str, str]) -> Iterator[House]:
    """Nothing is connected before it is used, so an API starts while its servers are away, and says so."""
    client = kv.connect(settings.require_redis_url())
    ledger = Ledger(settings.require_database_url(), answer_s=_ANSWER_S)
    offers = Offers(settings, environ)
    health = Health(client)
    knobs = Knobs(settings.routing.circuit_breaker_threshold)
    admission = Admission(Scripts(client), knobs, partial(memory.keep, ledger))
    caller = Caller()
    broker = Broker(settings, ledger)
    offers.start()
    try:
        yield House(
            settings=settings,
            ledger=ledger,
            redis=client,
            events=kv.connect_async(settings.require_redis_url()),
            broker=broker,
            offers=offers,
            health=health,
            router=Router(offers, settings.routing, health),
            feed=Feed(client, settings.limits),
            knocks=Knocks(client),
            admission=admission,
            turnstile=Turnstile(admission, settings),
            caller=caller,
            vector_calls=CapacityLimiter(_VECTOR_CALLS),
            uploads=CapacityLimiter(settings.batches.uploads),
            waker=Waker(WaitingRooms(client), broker.send),
            doors=Doors(ledger, settings.server.host, environ.get(VARIABLE) or None),
            started_at=time.monotonic(),
        )
    finally:
        offers.stop()
        broker.close()
        caller.close()
        client.close()
        ledger.close()


def _house(connection: HTTPConnection) -> House:
    house: House = connection.app.state.house
    return house


HouseDep = Annotated[House, Depends(_house)]
