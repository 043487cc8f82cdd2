"""Workers die or sleep between two writes: what they hold is settled, given back or handed on, and counted once."""

import uuid
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from goblin.clock import new_id
from goblin.errors import LeaseLost
from ledger import attempts, marks, runs
from ledger.session import Ledger
from routing import budget
from routing.admission import Admission, Used
from routing.breaker import seen
from routing.rebuild import Mended, Rebuild
from routing.waiting import LONGEST_MS, PAUSES, Called, Waiter, WaitingRooms
from tests.fakes.askers import claim_of
from tests.fakes.holding import LEASE, ONE_AT_ONCE, above, ask, counted, has_slot, settle
from tests.fakes.runs import accept, request


@pytest.mark.parametrize("is_counted_before", [True, False])
def test_what_a_late_worker_really_spent_reaches_the_counters(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, key: uuid.UUID, is_counted_before: bool
) -> None:
    run = runs.submit(ledger, request("chat: a", key_id=key)).id
    late = ask(gate, *above(run, key))
    attempts.open_attempt(ledger, replace(claim_of(late, run), lease=-1))
    attempts.abandon(ledger, calm=0, limit=10)
    if is_counted_before:
        assert rebuild.reconcile() == (1, 0, 0)
        assert counted(gate, run)["run"] == (late.place.hold, 0)
    with pytest.raises(LeaseLost) as lost:
        settle(ledger, late, 60, key)
    gate.correct(late.attempt, lost.value.details["charged"])
    assert rebuild.reconcile() == (0, 0, 0)
    assert counted(gate, run)["run"] == (60, 0)
    assert set(counted(gate, run).values()) == {(60, 0)}


def test_a_hold_whose_call_has_ended_is_settled_by_the_ledger(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, key: uuid.UUID
) -> None:
    run = runs.submit(ledger, request("chat: a AND chat: b", key_id=key)).id
    ended, running = ask(gate, *above(run, key)), ask(gate, *above(run, key))
    attempts.open_attempt(ledger, claim_of(ended, run, 0))
    attempts.open_attempt(ledger, claim_of(running, run, 1))
    settle(ledger, ended, 60, key)
    assert rebuild.reconcile() == (1, 0, 0)
    assert counted(gate, run)["run"] == (60, 100)
    assert rebuild.reconcile() == (0, 0, 0)


def test_whoever_waits_for_what_a_dead_worker_held_is_called_at_once(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, key: uuid.UUID
) -> None:
    """However seldom the clock looks into the room by now: no worker will tell that there is a place."""
    run, rooms = accept(ledger), WaitingRooms(gate.scripts.client)
    held = ask(gate, *above(run, key), rate=ONE_AT_ONCE)
    attempts.open_attempt(ledger, claim_of(held, run))
    rooms.enter(Waiter(new_id(), 0, 1), {"name": "one"}, {"sim": 3_600_000})
    gate.scripts.client.hset(PAUSES, "sim", LONGEST_MS)
    assert rebuild.go() == Mended(is_rebuilt=False, settled=0, released=0, vacated=0)
    assert rooms.call_due() == []
    settle(ledger, held, 60, key)
    assert rebuild.go() == Mended(is_rebuilt=False, settled=1, released=0, vacated=0)
    assert rooms.call_due() == [Called({"name": "one"}, "sim")]


def test_a_hold_that_nobody_opened_is_given_back_once_it_is_old(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, key: uuid.UUID
) -> None:
    run, impatient = accept(ledger), replace(rebuild, unopened_ms=-1)
    marks.watch(ledger, LEASE)
    ask(gate, *above(run, key))
    assert rebuild.reconcile() == (0, 0, 0)
    assert replace(impatient, vacant_ms=60_000).reconcile() == (0, 0, 0), "Postgres was not in reach for so long"
    assert replace(impatient, vacant_ms=-1).reconcile() == (0, 1, 0)
    assert counted(gate, run)["run"] == (0, 0)


def test_a_hold_that_was_given_back_and_whose_call_was_made_all_the_same_is_counted(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, key: uuid.UUID
) -> None:
    """As when a worker sleeps for minutes between the two writes."""
    run = accept(ledger)
    late = ask(gate, *above(run, key))
    gate.release(late.attempt)
    assert attempts.open_attempt(ledger, claim_of(late, run)) == 1
    settle(ledger, late, 60, key)
    gate.conclude(late, Used(60), seen(None))
    assert set(counted(gate, run).values()) == {(60, 0)}


def test_a_call_that_has_just_ended_is_left_to_its_worker(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, key: uuid.UUID
) -> None:
    """Which tells the breakers how it ended and listeners of budgets that are nearly spent, by the same settlement."""
    run = accept(ledger)
    low = (budget.of_key(key, 100),)
    admitted = ask(gate, *low)
    attempts.open_attempt(ledger, claim_of(admitted, run))
    settle(ledger, admitted, 90, key)
    assert replace(rebuild, ended_ms=60_000).reconcile() == (0, 0, 0)
    assert gate.conclude(admitted, Used(90), seen(None)) == (f"key:{key}",)
    assert gate.contacts([("sim", "")])[0].has_worked


def test_of_a_budget_that_is_nearly_spent_by_a_call_whose_worker_went_away_the_log_tells(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, key: uuid.UUID
) -> None:
    admitted = ask(gate, budget.of_key(key, 100))
    attempts.open_attempt(ledger, claim_of(admitted, accept(ledger)))
    settle(ledger, admitted, 90, key)
    with capture_logs() as logs:
        assert rebuild.reconcile() == (1, 0, 0)
    assert {"event": "budget.nearly_spent", "budget": f"key:{key}", "log_level": "warning"} in logs


def test_a_place_that_nobody_opened_goes_to_others_and_its_money_does_not(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, key: uuid.UUID
) -> None:
    """As when a worker dies or freezes between the two writes: it had the only slot of its provider."""
    run, impatient = accept(ledger), replace(rebuild, vacant_ms=-1)
    marks.watch(ledger, LEASE)
    admitted = ask(gate, *above(run, key), rate=ONE_AT_ONCE)
    assert not has_slot(gate)
    assert impatient.reconcile() == (0, 0, 1)
    assert impatient.reconcile() == (0, 0, 0)
    assert has_slot(gate)
    assert counted(gate, run)["run"] == (0, 100)
    assert attempts.open_attempt(ledger, claim_of(admitted, run)) == 1
    gate.settle(admitted.attempt, Used(30))
    assert counted(gate, run)["run"] == (30, 0)


def test_a_place_is_left_to_who_was_just_admitted_and_to_who_has_opened(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, key: uuid.UUID
) -> None:
    run = accept(ledger)
    marks.watch(ledger, LEASE)
    admitted = ask(gate, *above(run, key), rate=ONE_AT_ONCE)
    assert rebuild.reconcile() == (0, 0, 0)
    attempts.open_attempt(ledger, claim_of(admitted, run))
    assert replace(rebuild, vacant_ms=-1).reconcile() == (0, 0, 0)
    assert not has_slot(gate)


def test_a_place_is_left_to_who_could_not_open_because_postgres_was_away(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, key: uuid.UUID
) -> None:
    ask(gate, *above(accept(ledger), key), rate=ONE_AT_ONCE)
    impatient = replace(rebuild, vacant_ms=-1)
    marks.watch(ledger, LEASE)
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("update marks set set_at = now() - interval '20 s' where name = 'watched'")
    assert impatient.reconcile() == (0, 0, 0)
    marks.watch(ledger, LEASE)
    assert impatient.reconcile() == (0, 0, 1)
