"""What a worker process owns while it lives: its doors to Postgres, Redis and the providers. Built once, at start."""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from goblin import kv
from goblin.errors import NotFound, Unavailable
from goblin.settings import Settings, environment
from ledger.obstacles import Obstacles
from ledger.session import Ledger
from providers.call import Caller
from routing import memory
from routing.admission import Admission
from routing.breaker import Knobs
from routing.cache import Cache
from routing.candidate import Candidate
from routing.failover import Bounds
from routing.health import Health
from routing.offers import Offers
from routing.rebuild import Rebuild
from routing.route import Router
from routing.script import Scripts
from routing.waiting import WaitingRooms
from workers.app import provider_queue
from workers.cached import Flights
from workers.lease import Leases
from workers.stream import Feed
from workers.turnstile import Turnstile, longest_of
from workers.wake import Waker


@dataclass(frozen=True, slots=True)
class Runtime:
    settings: Settings
    ledger: Ledger
    obstacles: Obstacles
    offers: Offers
    caller: Caller
    health: Health
    router: Router
    turnstile: Turnstile
    feed: Feed
    leases: Leases
    waker: Waker
    flights: Flights
    rebuild: Rebuild
    queues: frozenset[str]

    @property
    def bounds(self) -> Bounds:
        """How much a step may try."""
        routing, known = self.settings.routing, self.offers.registry.providers.values()
        retries = {provider.id: provider.retry_count for provider in known}
        return Bounds(routing.max_attempts, retries, routing.outage_patience)

    def consumes(self, provider: str) -> bool:
        return provider_queue(provider) in self.queues

    def candidate(self, provider: str, model: str) -> Candidate:
        """The candidate that another worker chose. Raises NotFound when this one's configuration does not know it, or
        not what it costs."""
        known = self.offers.registry.get(provider)
        offer = known.embedder(model) or known.model(model)
        if offer.price is None:
            raise NotFound(f"the price of {provider}/{model} is not known")
        return Candidate(known, offer, offer.price, offer.counts)

    def context(self, provider: str, model: str) -> int | None:
        """The window (tokens) of a candidate that may not be on offer any more."""
        known = self.offers.registry.providers.get(provider)
        offer = known.known(model) if known else None
        return offer.context if offer else None

    def start(self) -> None:
        """Begin to work. Counters that Redis lacks are counted at once: no need to wait for a scheduler."""
        with suppress(Unavailable):
            self.rebuild.go()
        self.offers.start()
        self.leases.start()
        self.waker.start()
        self.flights.start()

    def stop(self) -> None:
        self.offers.stop()
        self.waker.stop()
        self.flights.stop()
        self.leases.stop()


def build(
    settings: Settings, queues: Collection[str], send: Callable[[Mapping[str, Any]], None], caller: Caller | None = None
) -> Runtime:
    """`send` publishes a message that has waited; `caller` is given by benchmarks that answer inside the process."""
    client = kv.connect(settings.require_redis_url(), connections=min(24, settings.worker.concurrency + 8))
    ledger = Ledger(settings.require_database_url(), connections=min(20, settings.worker.concurrency + 1))
    # of a connection that says nothing any more a new one is made while the leases still last
    of_leases = Ledger(settings.require_database_url(), connections=1, answer_s=settings.worker.lease / 3)
    offers = Offers(settings, environment())
    health = Health(client)
    scripts, knobs = Scripts(client), Knobs(settings.routing.circuit_breaker_threshold)
    waker = Waker(WaitingRooms(client), send)
    return Runtime(
        settings=settings,
        ledger=ledger,
        obstacles=Obstacles(ledger),
        offers=offers,
        caller=caller or Caller(),
        health=health,
        router=Router(offers, settings.routing, health),
        turnstile=Turnstile(Admission(scripts, knobs, partial(memory.keep, ledger)), settings),
        feed=Feed(client, settings.limits),
        leases=Leases(of_leases, client, settings.worker.lease),
        waker=waker,
        flights=Flights(Cache(scripts, settings.cache), waker, settings.worker.lease),
        rebuild=Rebuild(
            ledger,
            scripts,
            knobs,
            longest_ms=longest_of(offers.registry.providers.values(), settings.worker.lease),
        ),
        queues=frozenset(queues),
    )
