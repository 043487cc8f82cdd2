"""The clock's duties as the scheduler process does them: called every second, one at a time, postponed in an outage."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis
from celery import Celery

from cli.embedded import Stack
from goblin import kv
from goblin.clock import new_id
from goblin.settings import load
from ledger import attempts, holds, marks
from ledger.session import Ledger
from routing.admission import Admission, Admitted
from routing.ask import Ask, Place, Rate
from routing.refusal import Refused
from routing.script import Scripts
from scheduler.beat import EVERY, app
from scheduler.recover import MARKER
from scheduler.tasks import FEED, FOLD, PROBE, PRUNE, QUEUE, REBUILD, RECOVER
from tests.fakes.racing import at_once, until
from tests.fakes.runs import SUCCESS, accept, claim
from tests.fakes.wire import Wire


@dataclass(frozen=True)
class Scheduler:
    """The process under test, whose Redis is at the far end of a wire."""

    app: Celery
    ledger: Ledger
    client: redis.Redis
    wire: Wire

    @property
    def admission(self) -> Admission:
        return Admission(Scripts(self.client))

    def do(self, duty: str) -> None:
        """As its worker does when the clock has called."""
        self.app.tasks[duty].apply(throw=True)


@pytest.fixture(scope="module")
def process(stack: Stack, database_url: str) -> Iterator[Scheduler]:
    """One for the module: a process keeps its connections."""
    redis_url = f"{stack.redis_url.rpartition('/')[0]}/15"
    with Wire(redis_url) as wire, kv.connect(redis_url) as client:
        ledger = Ledger(database_url)
        settings = load(environ={"REDIS_URL": wire.url, "DATABASE_URL": database_url})
        yield Scheduler(app(settings), ledger, client, wire)
        ledger.close()


@pytest.fixture
def scheduler(process: Scheduler) -> Scheduler:
    process.client.flushdb()
    return process


def ask() -> Ask:
    return Ask(new_id(), (Place("sim", "sim/small", 900, 10, Rate(concurrency=1), 60_000),))


def test_every_duty_is_called_in_its_time_and_expires_when_nobody_takes_it(scheduler: Scheduler) -> None:
    entries = scheduler.app.conf.beat_schedule.values()
    assert {(one["task"], one["schedule"], one["options"]["queue"]) for one in entries} == {
        (RECOVER, EVERY, QUEUE),
        (REBUILD, EVERY, QUEUE),
        (FEED, EVERY, QUEUE),
        (PROBE, 60, QUEUE),
        (PRUNE, 60, QUEUE),
        (FOLD, 60, QUEUE),
    }
    assert all(one["options"]["expires"] > one["schedule"] for one in entries)


def test_counters_that_redis_lacks_are_counted_anew(scheduler: Scheduler) -> None:
    assert scheduler.admission.admit(ask()) == Refused(())
    scheduler.do(REBUILD)
    assert scheduler.admission.generation() == holds.current(scheduler.ledger)
    assert isinstance(scheduler.admission.admit(ask()), Admitted)


def test_counters_that_are_true_are_left_alone(scheduler: Scheduler) -> None:
    scheduler.do(REBUILD)
    before = scheduler.admission.generation()
    scheduler.do(REBUILD)
    assert scheduler.admission.generation() == before


def test_a_call_under_way_is_counted_after_the_loss(scheduler: Scheduler) -> None:
    made = claim(accept(scheduler.ledger))
    assert attempts.open_attempt(scheduler.ledger, made)
    scheduler.do(REBUILD)
    assert isinstance(scheduler.admission.admit(ask()), Refused)  # the one slot is taken
    attempts.settle(scheduler.ledger, made.attempt, SUCCESS, goblin="chat", key_id=None)

    def is_free() -> bool:
        scheduler.do(REBUILD)
        return isinstance(scheduler.admission.admit(ask()), Admitted)

    until(is_free, "the slot of a call whose worker has had its time to give it back")


def test_while_another_scheduler_counts_this_one_does_not(scheduler: Scheduler) -> None:
    with marks.duty(scheduler.ledger, "rebuild") as is_mine:
        assert is_mine
        scheduler.do(REBUILD)
    assert scheduler.admission.generation() is None


def test_the_duties_do_not_wait_for_each_other(scheduler: Scheduler) -> None:
    with marks.duty(scheduler.ledger, "recover"):
        scheduler.do(REBUILD)
    assert scheduler.admission.generation() is not None
    with marks.duty(scheduler.ledger, "rebuild"):
        scheduler.do(RECOVER)
    assert scheduler.client.get(MARKER) == marks.get(scheduler.ledger, "marker")


def test_both_duties_at_once_mend_an_emptied_redis(scheduler: Scheduler) -> None:
    scheduler.do(RECOVER)
    scheduler.client.flushdb()
    assert at_once(*(lambda duty=duty: scheduler.do(duty) for duty in (RECOVER, REBUILD))) == [None, None]
    assert scheduler.admission.generation() is not None
    assert scheduler.client.get(MARKER) == marks.get(scheduler.ledger, "marker")


@pytest.mark.parametrize("duty", [RECOVER, REBUILD])
def test_a_duty_that_a_part_is_away_for_is_postponed(scheduler: Scheduler, duty: str) -> None:
    scheduler.wire.shut()
    scheduler.do(duty)
    scheduler.wire.mend()
    scheduler.do(duty)
    assert scheduler.client.exists(MARKER if duty == RECOVER else "{goblin}:generation")
