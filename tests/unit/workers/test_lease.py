"""Leases last while their worker lives, whatever else it waits for, and end with it."""

from collections.abc import Iterator
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
from workers.lease import Leases
from workers.runtime import build


@pytest.fixture(scope="module")
def ledger(database_url: str) -> Iterator[Ledger]:
    ledger = Ledger(database_url, connections=8)
    yield ledger
    ledger.close()


def test_leases_are_renewed_while_all_others_of_their_worker_wait_for_a_lock(
    ledger: Ledger, database_url: str, redis_url: str
) -> None:
    runtime = build(
        Settings(
            database_url=SecretStr(database_url),
            redis_url=SecretStr(redis_url),
            worker=WorkerSettings(concurrency=1, lease=1),
        ),
        (),
        lambda _: None,
    )
    made, locked = claim(accept(ledger), owner=runtime.leases.owner), accept(ledger)
    attempts.open_attempt(ledger, made)

    def lease_until() -> datetime:
        moment: datetime = one(ledger, "select lease_until from attempts where id = %s", made.attempt).lease_until
        return moment

    first = lease_until()
    with ledger.transaction(idle_s=120) as transaction, runtime.leases.hold(made.attempt, Control(), 0):
        transaction.run("runs.request_cancel", run=locked)
        others = [begin(lambda: runs.request_cancel(runtime.ledger, locked)) for _ in range(2)]
        until_waiting(ledger, len(others))
        runtime.leases.start()
        until(lambda: lease_until() != first, "a renewal")
        assert not any(other.done() for other in others)
    assert sorted(other.result() for other in others) == [(), (0,)]
    runtime.leases.stop()


def test_a_call_that_was_about_to_begin_when_its_worker_stopped_is_not_made_and_costs_nothing(
    ledger: Ledger, redis_url: str
) -> None:
    leases, control = Leases(ledger, kv.connect(redis_url), 60), Control()
    made = claim(accept(ledger), owner=leases.owner)
    attempts.open_attempt(ledger, made)
    leases.stop()
    with leases.hold(made.attempt, control, 40), pytest.raises(LeaseLost):
        control.check()
    (lost,) = attempts.abandon(ledger, calm=0, limit=9)
    assert lost.run == made.run
    assert one(ledger, "select amount_nanousd from entries where run_id = %s", made.run).amount_nanousd == 0
