"""What a worker process owns while it lives: its doors to Postgres, Redis and the providers. Built once, at start."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from goblin import kv
from goblin.settings import Settings, environment
from ledger.session import Ledger
from providers.call import Caller
from providers.price import FREE
from routing.admit import Admission
from routing.candidate import Candidate
from routing.health import Health
from routing.offers import Offers
from routing.route import Router
from workers.app import provider_queue
from workers.lease import Leases
from workers.stream import Feed


@dataclass(frozen=True, slots=True)
class Runtime:
    settings: Settings
    ledger: Ledger
    offers: Offers
    caller: Caller
    health: Health
    router: Router
    admission: Admission
    feed: Feed
    leases: Leases
    queues: frozenset[str]

    @property
    def retries(self) -> Mapping[str, int]:
        """Per provider, how often a candidate may be asked again after a fault that allows it."""
        return {provider.id: provider.retry_count for provider in self.offers.registry.providers.values()}

    def consumes(self, provider: str) -> bool:
        return provider_queue(provider) in self.queues

    def candidate(self, provider: str, model: str) -> Candidate:
        """The candidate that another worker chose. Raises NotFound when this one's configuration does not know it."""
        known = self.offers.registry.get(provider)
        offer = known.model(model)
        return Candidate(known, offer, offer.price or FREE)

    def start(self) -> None:
        self.offers.start()
        self.leases.start()

    def stop(self) -> None:
        self.offers.stop()
        self.leases.stop()


def build(settings: Settings, queues: Collection[str], caller: Caller | None = None) -> Runtime:
    """`caller` is given by benchmarks that answer calls inside the process."""
    client = kv.connect(settings.require_redis_url(), connections=settings.worker.concurrency + 20)
    ledger = Ledger(settings.require_database_url(), connections=min(20, settings.worker.concurrency))
    offers = Offers(settings, environment())
    health = Health(client, settings.routing)
    return Runtime(
        settings=settings,
        ledger=ledger,
        offers=offers,
        caller=caller or Caller(),
        health=health,
        router=Router(offers, settings.routing, health),
        admission=Admission(),
        feed=Feed(client, settings.limits),
        leases=Leases(ledger, client, settings.worker.lease),
        queues=frozenset(queues),
    )
