"""Leases last while their worker lives, whatever else it waits for, and end with it."""

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

import pytest
from pydantic import SecretStr

from goblin import kv
from goblin.errors import LeaseLost
from goblin.settings import Settings, WorkerSettings
from ledger import attempts, runs
from ledger.session import Ledger
from providers.control import Control
from tests.fakes.racing import begin, until, until_waiting
from tests.fakes.runs import accept, claim, one
from tests.fakes.wire import Wire
from workers.lease import Leases
from workers.runtime import Runtime, build


@pytest.fixture(scope="module")
def ledger(database_url: str) -> Iterator[Ledger]:
    ledger = Ledger(database_url, connections=8)
    yield ledger
    ledger.close()


def lease_until(ledger: Ledger, attempt: uuid.UUID) -> datetime:
    moment: datetime = one(ledger, "select lease_until from attempts where id = %s", attempt).lease_until
    return moment


@dataclass(frozen=True)
class HeldCall:
    wire: Wire
    lease_until: Callable[[], datetime]

    def until_renewed(self) -> None:
        before = self.lease_until()
        until(lambda: self.lease_until() != before, "a renewal")


def test_leases_are_renewed_while_all_others_of_their_worker_wait_for_a_lock(
    ledger: Ledger, database_url: str, redis_url: str
) -> None:
    runtime = runtime_of(database_url, redis_url, lease=1)
    made, locked = claim(accept(ledger), owner=runtime.leases.owner), accept(ledger)
    attempts.open_attempt(ledger, made)

    first = lease_until(ledger, made.attempt)
    with ledger.transaction(idle_s=120) as transaction, runtime.leases.hold(made.attempt, Control(), 0):
        transaction.run("runs.request_cancel", run=locked)
        others = [begin(lambda: runs.request_cancel(runtime.ledger, locked)) for _ in range(2)]
        until_waiting(ledger, len(others))
        runtime.leases.start()
        until(lambda: lease_until(ledger, made.attempt) != first, "a renewal")
        assert not any(other.done() for other in others)
    assert sorted(other.result() for other in others) == [(), (0,)]
    runtime.leases.stop()


def runtime_of(database_url: str, redis_url: str, lease: float) -> Runtime:
    settings = Settings(
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis_url),
        worker=WorkerSettings(concurrency=1, lease=lease),
    )
    return build(settings, (), lambda _: None)


@pytest.fixture
def held(database: str, redis_url: str) -> Iterator[HeldCall]:
    """A call of a worker whose leases are renewed through a wire of its own."""
    ledger = Ledger(database, connections=1)
    with Wire(database) as wire:
        runtime = runtime_of(wire.url, redis_url, lease=3)
        made = claim(accept(ledger), owner=runtime.leases.owner)
        attempts.open_attempt(ledger, made)
        with runtime.leases.hold(made.attempt, Control(), 0):
            runtime.leases.start()
            yield HeldCall(wire, lambda: lease_until(ledger, made.attempt))
        runtime.leases.stop()
    ledger.close()


def test_leases_are_renewed_by_another_connection_when_theirs_hangs(held: HeldCall) -> None:
    held.until_renewed()
    held.wire.hang()
    held.until_renewed()


def test_leases_are_renewed_beside_calls_that_use_up_the_processor(held: HeldCall) -> None:
    is_over = threading.Event()

    def burn() -> None:
        while not is_over.is_set():
            sum(range(10_000))

    burning = [begin(burn) for _ in range(8)]
    held.until_renewed()
    held.until_renewed()
    is_over.set()
    for one_of_them in burning:
        one_of_them.result()


def test_a_call_that_was_about_to_begin_when_its_worker_stopped_is_not_made_and_costs_nothing(
    ledger: Ledger, redis_url: str
) -> None:
    leases, control = Leases(ledger, kv.connect(redis_url), 60), Control()
    made = claim(accept(ledger), owner=leases.owner)
    attempts.open_attempt(ledger, made)
    leases.stop()
    with leases.hold(made.attempt, control, 40), pytest.raises(LeaseLost):
        control.check()
    assert made.run in {lost.run for lost in attempts.abandon(ledger, calm=0, limit=9)}
    assert one(ledger, "select amount_nanousd from entries where run_id = %s", made.run).amount_nanousd == 0
