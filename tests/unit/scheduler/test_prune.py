"""Retention on a real Postgres: what ended long ago is forgotten, its money is not, and nobody waits for it."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from goblin import clock
from goblin.errors import Conflict, NotFound
from ledger import attempts, files, holds, keys, looks, marks, runs, spending, views
from ledger.session import IDLE_S, Ledger
from ledger.states import RunStatus
from scheduler.prune import Prune
from tests.fakes.lines import begin, store
from tests.fakes.runs import SUCCESS, accept, claim, one, request, rows

DAYS = 30.0


@pytest.fixture
def ledger(database: str) -> Iterator[Ledger]:
    ledger = Ledger(database, connections=8)
    yield ledger
    ledger.close()


def aged(ledger: Ledger, days: float, *, ends: bool = True, key: uuid.UUID | None = None) -> uuid.UUID:
    """A run that was accepted, and made a call, so many days ago."""
    run = runs.submit(ledger, replace(request("chat: hello"), key_id=key)).id
    made = claim(run)
    attempts.open_attempt(ledger, made)
    attempts.settle(ledger, made.attempt, SUCCESS, goblin="chat", key_id=key)
    if ends:
        runs.finish(ledger, run, RunStatus.SUCCEEDED)
    older = uuid.UUID(int=run.int - (int(days * 86_400_000) << 80))
    with ledger.engine.connect() as connection:
        for table, column in (("attempts", "run_id"), ("steps", "run_id"), ("runs", "id")):
            connection.exec_driver_sql(f"alter table {table} disable trigger all")
            connection.exec_driver_sql(f"update {table} set {column} = %s where {column} = %s", (older, run))
            connection.exec_driver_sql(f"alter table {table} enable trigger all")
        connection.exec_driver_sql("update entries set run_id = %s where run_id = %s", (older, run))
        moved = "update runs set finished_at = finished_at - make_interval(days => %s) where id = %s"
        connection.exec_driver_sql(moved, (int(days), older))
    return older


def left(ledger: Ledger) -> set[uuid.UUID]:
    return {row.id for row in rows(ledger, "select id from runs")}


def test_a_pass_with_much_to_forget_is_over_before_its_turn_is_taken_away(ledger: Ledger) -> None:
    assert 3 * Prune(ledger, DAYS).at_most < IDLE_S


def test_a_run_that_ended_long_ago_is_forgotten_with_all_but_its_money(ledger: Ledger) -> None:
    old, young = aged(ledger, 31), aged(ledger, 29)
    assert Prune(ledger, DAYS).go() == 1
    assert left(ledger) == {young}
    assert [row.run_id for row in rows(ledger, "select run_id from steps")] == [young]
    assert [row.run_id for row in rows(ledger, "select run_id from attempts")] == [young]
    assert {row.run_id for row in rows(ledger, "select run_id from entries")} == {old, young}
    assert looks.look(ledger, old, 0) is None


def test_what_it_cost_still_counts_in_usage_and_in_the_budget_of_its_key(ledger: Ledger) -> None:
    keys.create(ledger, "somebody", keys.Limits())
    (key,) = keys.all_keys(ledger)
    aged(ledger, 31, key=key.id)
    assert Prune(ledger, DAYS).go() == 1
    (used,) = spending.usage(ledger, key.id, (), limit=10)
    assert (used.calls, used.nanousd) == (1, 700)
    with holds.renew(ledger, "g", now_ms=clock.now_ms(), span_ms=1) as truth:
        assert truth.keys == {key.id: 700}


def test_a_run_that_is_still_open_is_kept_however_old_it_is(ledger: Ledger) -> None:
    waiting = aged(ledger, 90, ends=False)
    assert Prune(ledger, DAYS).go() == 0
    assert left(ledger) == {waiting}


def test_a_scheduler_whose_clock_is_wrong_forgets_nothing_too_early(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged(ledger, 29)
    ahead = clock.now() + timedelta(days=2)
    monkeypatch.setattr(clock, "now", lambda: ahead)
    assert Prune(ledger, DAYS).go() == 0


def test_many_are_forgotten_in_small_statements(ledger: Ledger) -> None:
    for _ in range(7):
        aged(ledger, 40)
    young = accept(ledger)
    assert Prune(ledger, DAYS, at_once=3).go() == 7
    assert left(ledger) == {young}


def test_a_pass_that_has_taken_its_time_leaves_the_rest_to_the_next(ledger: Ledger) -> None:
    for _ in range(5):
        aged(ledger, 40)
    hurried = Prune(ledger, DAYS, at_most=0, at_once=2)
    assert [hurried.go() for _ in range(4)] == [2, 2, 1, 0]


def test_what_somebody_has_locked_is_not_waited_for(ledger: Ledger) -> None:
    locked, free = aged(ledger, 40), aged(ledger, 40)
    with ledger.engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("begin")
        connection.exec_driver_sql("select 1 from runs where id = %s for no key update", (locked,))
        assert Prune(ledger, DAYS).go() == 1
        assert left(ledger) == {locked}
        connection.exec_driver_sql("rollback")
    assert Prune(ledger, DAYS).go() == 1
    assert free not in left(ledger)


def test_a_late_end_of_a_call_of_a_forgotten_run_finds_nothing(ledger: Ledger) -> None:
    run = aged(ledger, 31)
    Prune(ledger, DAYS).go()
    assert not attempts.park(ledger, run, 0, {})
    assert runs.renew_epochs(ledger, {run: 1}) == {}
    assert one(ledger, "select count(*) as n from entries").n == 1


def test_a_run_that_is_forgotten_while_it_is_read_is_not_found(ledger: Ledger) -> None:
    run = aged(ledger, 31)
    assert views.output(ledger, run) == SUCCESS.output
    Prune(ledger, DAYS).go()
    with pytest.raises(NotFound):
        views.output(ledger, run)


def test_one_scheduler_at_a_time_prunes(ledger: Ledger) -> None:
    aged(ledger, 31)
    with marks.duty(ledger, "prune") as is_mine:
        assert is_mine
        assert Prune(ledger, DAYS).go() is None
    assert Prune(ledger, DAYS).go() == 1


def test_a_file_that_was_deleted_or_has_expired_goes_with_its_lines(ledger: Ledger) -> None:
    deleted, expired, kept = (store(ledger, [b"{}"] * 3) for _ in range(3))
    files.delete(ledger, deleted, None)
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql("update files set expires_at = now() where id = %s", (expired,))
    Prune(ledger, DAYS).go()
    assert [row.id for row in rows(ledger, "select id from files")] == [kept]
    assert {row.file_id for row in rows(ledger, "select file_id from file_lines")} == {kept}


def test_what_a_batch_needs_that_has_not_ended_is_kept(ledger: Ledger) -> None:
    batch = begin(ledger, [b"{}"])
    file = one(ledger, "select file_id from batches where id = %s", batch).file_id
    with pytest.raises(Conflict):
        files.delete(ledger, file, None)
    old = aged(ledger, 31)
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql("update runs set batch_id = %s where id = %s", (batch, old))
        connection.exec_driver_sql("update files set expires_at = now() where id = %s", (file,))
    assert Prune(ledger, DAYS).go() == 0
    assert len(rows(ledger, "select 1 from file_lines")) == 1
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql("update batches set status = 'completed', ended_at = now() - interval '31 days'")
    assert Prune(ledger, DAYS).go() == 1
    assert rows(ledger, "select 1 from file_lines") == rows(ledger, "select 1 from batches") == []
