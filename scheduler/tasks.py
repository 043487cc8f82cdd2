"""The clock's duties as Celery tasks, on a queue of their own that the scheduler process consumes."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog
from celery import Task, shared_task

from goblin import kv
from goblin.errors import Unavailable
from goblin.settings import Settings, environment
from ledger.session import Ledger
from providers import registry
from routing import memory
from routing.admission import Admission
from routing.breaker import Knobs
from routing.offers import Offers
from routing.rebuild import Rebuild
from routing.script import Scripts
from routing.waiting import WaitingRooms
from scheduler.absent import Absent, Silent
from scheduler.collect import Collector
from scheduler.feed import Feeder
from scheduler.fold import Fold
from scheduler.probe import Probe
from scheduler.prune import Prune
from scheduler.recover import Recovery
from scheduler.watch import Watch
from workers.app import App
from workers.order import Desk
from workers.stream import Feed
from workers.turnstile import longest_of

_DAY_S = 86_400
QUEUE = "scheduler"
RECOVER = "goblin.recover"
REBUILD = "goblin.rebuild"
PROBE = "goblin.probe"
PRUNE = "goblin.prune"
FOLD = "goblin.fold"
FEED = "goblin.feed"
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Duties:
    recovery: Recovery
    rebuild: Rebuild
    probe: Probe
    prune: Prune
    fold: Fold
    feeder: Feeder


class _Process:
    """What this scheduler process owns; made when its first duty is due."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._duties: Duties | None = None

    def duties(self, app: App) -> Duties:
        with self._lock:
            if self._duties is None:
                self._duties = _duties(app, app.settings)
            return self._duties


def _duties(app: App, settings: Settings) -> Duties:
    client = kv.connect(settings.require_redis_url(), connections=20)
    ledger = Ledger(
        settings.require_database_url(), connections=16
    )  # a duty takes one for its turn and one for its work
    scripts, routing = Scripts(client), settings.routing
    offers = Offers(settings, environment())
    offers.start()
    lease = settings.worker.lease
    Watch(Ledger(settings.require_database_url(), connections=1, answer_s=lease / 3), lease).start()
    knobs = Knobs(routing.circuit_breaker_threshold)
    return Duties(
        Recovery(
            app,
            ledger,
            client,
            Feed(client, settings.limits),
            Absent(ledger, WaitingRooms(client)),
            Silent(ledger),
            settings.worker.lease,
        ),
        Rebuild(ledger, scripts, knobs, longest_ms=longest_of(offers.registry.providers.values(), lease)),
        Probe(
            ledger,
            Admission(scripts, knobs, partial(memory.keep, ledger)),
            lambda: registry.load(settings, environment()).providers.values(),
            routing.health_check_interval,
        ),
        Prune(ledger, settings.retention.run_days),
        Fold(ledger),
        Feeder(
            app,
            ledger,
            client,
            lambda: Desk(settings, offers.registry),
            Collector(ledger, _DAY_S * settings.retention.file_days),
            settings.batches.window,
        ),
    )


_process = _Process()


@shared_task(bind=True, name=RECOVER, send_events=False)
def recover(self: Task) -> None:
    _do(RECOVER, lambda: _process.duties(self.app).recovery.go())


@shared_task(bind=True, name=REBUILD, send_events=False)
def rebuild(self: Task) -> None:
    _do(REBUILD, lambda: _process.duties(self.app).rebuild.go())


@shared_task(bind=True, name=PROBE, send_events=False)
def probe(self: Task) -> None:
    _do(PROBE, lambda: _process.duties(self.app).probe.go())


@shared_task(bind=True, name=FEED, send_events=False)
def feed(self: Task) -> None:
    _do(FEED, lambda: _process.duties(self.app).feeder.go())


@shared_task(bind=True, name=PRUNE, send_events=False)
def prune(self: Task) -> None:
    _do(PRUNE, lambda: _process.duties(self.app).prune.go())


@shared_task(bind=True, name=FOLD, send_events=False)
def fold(self: Task) -> None:
    _do(FOLD, lambda: _process.duties(self.app).fold.go())


def _do(name: str, duty: Callable[[], object]) -> None:
    try:
        duty()
    except Unavailable as away:
        _log.warning("duty.postponed", duty=name, reason=away.message)
