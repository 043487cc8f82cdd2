"""Recovery against real servers: every kind of loss brings its run back once, and what is healthy is left alone."""

import uuid
from dataclasses import replace
from typing import Any

import pytest

from goblin.errors import Unavailable
from ledger import attempts, marks, runs
from ledger.states import RunStatus
from scheduler.recover import MARKER
from tests.fakes.racing import at_once, begin, until
from tests.fakes.recovery import CHAIN, NONE, Place, make
from tests.fakes.runs import SUCCESS, accept, claim, one, run_row, step_rows
from tests.fakes.wire import Wire
from workers.stream import key


def test_a_run_that_was_never_published_is_published(place: Place) -> None:
    run = accept(place.ledger, CHAIN)
    assert place.impatient.go()
    assert place.sent() == [(run, 0, 2)]
    row = run_row(place.ledger, run)
    assert (row.epoch, row.published_epoch) == (2, 2)
    place.impatient.go()
    assert len(place.sent()) == 1


def test_a_submitter_is_given_its_time(place: Place) -> None:
    run = accept(place.ledger)
    place.patient.go()
    assert place.sent() == []
    assert run_row(place.ledger, run).epoch == 1


def test_a_run_that_nobody_published_anew_is_found_beside_its_calls_that_go_on(place: Place) -> None:
    run = place.publish("chat: one AND chat: two")
    made = claim(run)
    attempts.open_attempt(place.ledger, made)
    runs.renew_epochs(place.ledger, {run: 1})
    with place.ledger.engine.connect() as connection:
        connection.exec_driver_sql("update runs set renewed_at = renewed_at - interval '10 seconds'")
    attempts.settle(place.ledger, made.attempt, SUCCESS, goblin="chat", key_id=None)
    assert runs.unpublished(place.ledger, patience=3, limit=10) == [(run, 2)]


def test_a_run_that_cannot_be_brought_back_keeps_nobody_else_waiting(place: Place, monkeypatch: Any) -> None:
    broken, sound = accept(place.ledger, CHAIN), accept(place.ledger)
    halves = [place.publish("chat: one"), place.publish("chat: one")]
    for run in halves:
        made = claim(run)
        attempts.open_attempt(place.ledger, made)
        attempts.settle(place.ledger, made.attempt, SUCCESS, goblin="chat", key_id=None)
    with place.ledger.engine.connect() as connection:
        # a plan of more steps than it has
        connection.exec_driver_sql(
            "update runs set plan = other.plan from runs other where runs.id = %s and other.id = %s",
            (halves[0], broken),
        )
    place.lose_messages()
    app = place.impatient.app
    signature = app.signature

    def refuse(*args: Any, **fields: Any) -> Any:
        if broken.hex in fields.get("args", ()):
            raise TypeError("no message can be made of it")
        return signature(*args, **fields)

    monkeypatch.setattr(app, "signature", refuse)
    assert place.impatient.go()
    assert place.sent() == [(sound, 0, 2)]
    assert (run_row(place.ledger, broken).published_epoch, run_row(place.ledger, sound).published_epoch) == (0, 2)
    assert [run_row(place.ledger, run).status for run in halves] == [RunStatus.RUNNING, RunStatus.SUCCEEDED]


def test_only_what_is_left_of_a_run_is_sent(place: Place) -> None:
    run = accept(place.ledger, CHAIN)
    made = claim(run, 0)
    attempts.open_attempt(place.ledger, made)
    attempts.settle(place.ledger, made.attempt, SUCCESS, goblin="chat", key_id=None)
    place.impatient.go()
    assert place.sent() == [(run, 1, 2)]


def test_a_step_whose_worker_went_away_is_sent_again(place: Place) -> None:
    run = place.publish()
    place.lose_messages()
    attempts.open_attempt(place.ledger, claim(run, 0, lease=-1))
    place.patient.go()
    assert place.sent() == [(run, 0, 2)]
    entry = one(place.ledger, "select kind, is_measured, amount_nanousd from entries where run_id = %s", run)
    assert tuple(entry) == ("charge", False, 900)


def test_a_step_whose_worker_lives_is_left_to_it(place: Place) -> None:
    run = place.publish()
    attempts.open_attempt(place.ledger, claim(run, 0))
    place.drain()
    place.impatient.go()
    assert place.sent() == []


def test_nobody_is_given_up_while_postgres_has_just_come_in_reach(place: Place) -> None:
    run = place.publish()
    place.lose_messages()
    attempts.open_attempt(place.ledger, claim(run, 0, lease=-1))
    replace(place.patient, lease=86_400).go()
    assert place.sent() == []


def test_nobody_is_given_up_before_he_could_renew_when_postgres_was_out_of_reach(place: Place) -> None:
    """It went on meanwhile, as one does that froze, was cut off, or took over from another one."""
    run = place.publish()
    place.lose_messages()
    attempts.open_attempt(place.ledger, claim(run, 0, lease=-1))
    cut_off = "update marks set set_at = now() - interval '20 s', value = '2020-01-01 00:00+00' where name = 'watched'"
    with place.ledger.engine.connect() as connection:
        connection.exec_driver_sql(cut_off)
    assert attempts.abandon(place.ledger, calm=30, limit=9) == []  # sent before, and read by Postgres now
    waiting = replace(place.patient, lease=30)
    waiting.go()
    assert place.sent() == []
    with place.ledger.engine.connect() as connection:
        connection.exec_driver_sql("update marks set value = (now() - interval '31 s')::text where name = 'watched'")
    waiting.go()
    assert place.sent() == [(run, 0, 2)]


def test_a_cancelled_run_whose_worker_went_away_ends(place: Place) -> None:
    run = place.publish()
    place.lose_messages()
    attempts.open_attempt(place.ledger, claim(run, 0, lease=-1))
    runs.request_cancel(place.ledger, run)
    place.impatient.go()
    assert place.sent() == []
    assert run_row(place.ledger, run).status == RunStatus.CANCELLED


def test_a_run_that_nobody_lived_to_finish_is_finished_and_told(place: Place) -> None:
    run = place.publish("chat: one")
    made = claim(run)
    attempts.open_attempt(place.ledger, made)
    attempts.settle(place.ledger, made.attempt, SUCCESS, goblin="chat", key_id=None)
    place.patient.go()
    assert run_row(place.ledger, run).status == RunStatus.RUNNING
    place.impatient.go()
    assert run_row(place.ledger, run).status == RunStatus.SUCCEEDED
    events: Any = place.client.xrange(key(run))
    assert [entry["type"] for _, entry in events] == ["run.finished"]


def test_a_redis_that_was_emptied_costs_no_run(place: Place) -> None:
    published, unpublished = [place.publish() for _ in range(3)], accept(place.ledger)
    finished = accept(place.ledger)
    runs.request_cancel(place.ledger, finished)
    runs.finish(place.ledger, finished, RunStatus.CANCELLED)
    place.client.flushdb()
    place.patient.go()  # all is lost for certain, so nobody is given time
    assert sorted(place.sent()) == sorted([*((run, 0, 3) for run in published), (unpublished, 0, 2)])
    assert place.client.get(MARKER) == marks.get(place.ledger, "marker")
    place.impatient.go()
    assert len(place.sent()) == 4


def test_runs_for_which_no_call_is_under_way_come_first(place: Place) -> None:
    made = [place.publish() for _ in range(3)]
    attempts.open_attempt(place.ledger, claim(made[0], 0))
    runs.outdate_all(place.ledger)
    found = [run for run, _ in runs.unpublished(place.ledger, patience=NONE, limit=3)]
    assert (found[2], set(found[:2])) == (made[0], set(made[1:]))


def test_a_redis_that_was_replaced_is_one_that_was_emptied(place: Place) -> None:
    run = place.publish()
    place.client.flushdb()
    place.client.set(MARKER, "another installation's")
    place.impatient.go()
    assert [sent[0] for sent in place.sent()] == [run]


def test_a_first_start_takes_nothing_for_lost(database: str, redis_url: str) -> None:
    place = make(database, redis_url)
    run = place.publish()
    place.patient.go()
    assert place.sent() == [(run, 0, 1)]
    assert run_row(place.ledger, run).epoch == 1
    assert place.client.get(MARKER) == marks.get(place.ledger, "marker")
    place.ledger.close()


def test_two_schedulers_at_once_send_everything_once(place: Place, database: str, redis_url: str) -> None:
    lost = [accept(place.ledger) for _ in range(5)]
    for _ in range(5):
        run = place.publish()
        attempts.open_attempt(place.ledger, claim(run, 0, lease=-1))
        lost.append(run)
    place.lose_messages()
    other = make(database, redis_url)
    results = at_once(place.impatient.go, other.impatient.go, place.impatient.go, other.impatient.go)
    assert set(results) <= {True, False}
    assert True in results
    assert sorted(place.sent()) == sorted((run, 0, 2) for run in lost)
    other.ledger.close()


def test_a_scheduler_whose_turn_it_is_not_does_nothing(place: Place) -> None:
    accept(place.ledger)
    with marks.duty(place.ledger, "recover") as is_mine:
        assert is_mine
        assert not place.impatient.go()
    assert place.sent() == []


def test_a_broker_that_is_away_is_waited_for(place: Place, database: str, redis_url: str) -> None:
    with Wire(redis_url) as wire:
        far = make(database, wire.url)
        run = accept(far.ledger)
        wire.shut()
        with pytest.raises(Unavailable):
            far.impatient.go()
        wire.mend()
        assert far.impatient.go()
        assert {sent[0] for sent in place.sent()} == {run}
        far.ledger.close()


def test_a_postgres_that_is_away_is_waited_for(place: Place, database: str, redis_url: str) -> None:
    with Wire(database) as wire:
        far = make(wire.url, redis_url)
        run = accept(far.ledger)
        wire.shut()
        with pytest.raises(Unavailable):
            far.impatient.go()
        wire.mend()
        assert far.impatient.go()
        assert place.sent() == [(run, 0, 2)]
        far.ledger.close()


def test_a_run_that_cannot_be_read_keeps_no_other_from_coming_back(place: Place) -> None:
    broken, ended, whole = accept(place.ledger), accept(place.ledger), accept(place.ledger)
    runs.request_cancel(place.ledger, ended)
    with place.ledger.engine.connect() as connection:
        spoil = "update runs set plan = '{\"v\": 0}', renewed_at = 'epoch' where id = any (%s)"
        connection.exec_driver_sql(spoil, ([broken, ended],))
    place.impatient.go()
    assert [sent[0] for sent in place.sent()] == [whole]
    assert run_row(place.ledger, whole).published_epoch == 2
    assert run_row(place.ledger, broken).epoch == 1  # for whoever can read it


def test_a_call_that_lay_in_the_queue_of_an_emptied_redis_is_given_up_at_no_cost(place: Place) -> None:
    run = place.publish("chat: one")
    attempts.open_attempt(place.ledger, claim(run, owner=None, lease=60))
    place.client.flushdb()
    place.impatient.go()
    place.impatient.go()
    assert step_rows(place.ledger, run)[0].status == "pending"
    assert run_row(place.ledger, run).cost_nanousd == 0
    assert (run, 0, run_row(place.ledger, run).epoch) in place.sent()


def test_a_scan_in_whose_middle_postgres_goes_away_forgets_nobody(place: Place, database: str, redis_url: str) -> None:
    lost = [accept(place.ledger) for _ in range(20)]
    for _ in range(20):
        run = place.publish()
        attempts.open_attempt(place.ledger, claim(run, 0, lease=-1))
        lost.append(run)
    place.lose_messages()
    with Wire(database) as wire:
        far = make(wire.url, redis_url)
        scan = begin(far.impatient.go)
        until(lambda: len(place.sent()) >= 5, "a scan that is under way")
        wire.shut()
        assert isinstance(scan.exception(), Unavailable)
        wire.mend()
        assert far.impatient.go()
        far.ledger.close()
    assert len(place.sent()) >= 40
    for run in lost:
        row = run_row(place.ledger, run)
        assert row.published_epoch == row.epoch
        assert (run, 0, row.epoch) in place.sent()


def hand_over(place: Place, run: uuid.UUID) -> None:
    """The first step's call was admitted for whoever takes the provider's queue."""
    attempts.open_attempt(place.ledger, claim(run, owner=None, lease=60))


def test_a_call_that_was_handed_over_and_lost_is_given_up_at_no_cost_once_its_queue_was_drained(place: Place) -> None:
    run = place.publish("chat: one")
    hand_over(place, run)
    place.lose_messages()
    place.impatient.go()
    assert place.client.llen("provider.sim") == 1  # a sounding
    assert place.sent() == []
    place.drain("sim")
    place.patient.go()
    assert place.sent() == []  # who has taken it may not have claimed it yet
    place.impatient.go()
    assert place.sent() == [(run, 0, 2)]
    error = one(place.ledger, "select error ->> 'message' as said from attempts where run_id = %s", run)
    assert (error.said, run_row(place.ledger, run).cost_nanousd) == ("its message was lost", 0)


def test_a_call_that_was_handed_over_after_the_sounding_may_still_lie_in_its_queue(place: Place) -> None:
    run = place.publish("chat: one")
    place.drain("sim")
    hand_over(place, run)
    place.lose_messages()
    place.impatient.go()
    assert place.sent() == []


def test_a_call_that_was_taken_is_its_taker_s(place: Place) -> None:
    run = place.publish("chat: one")
    attempts.open_attempt(place.ledger, made := claim(run, owner=None, lease=60))
    assert attempts.take(place.ledger, made.attempt, uuid.uuid4(), 60) is not None
    place.lose_messages()
    place.drain("sim")
    place.impatient.go()
    assert place.sent() == []
    assert place.client.llen("provider.sim") == 0


def test_a_call_that_nobody_took_in_time_says_so(place: Place) -> None:
    run = place.publish("chat: one")
    attempts.open_attempt(place.ledger, claim(run, owner=None, lease=-1))
    place.lose_messages()
    place.patient.go()
    assert place.sent() == [(run, 0, 2)]
    error = one(place.ledger, "select error from attempts where run_id = %s", run).error
    assert (error["type"], error["message"]) == ("untaken", "no worker took the call from the queue of sim")
    assert one(place.ledger, "select count(*) as n from entries").n == 0
