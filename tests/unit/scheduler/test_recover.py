"""Recovery against real servers: every kind of loss brings its run back once, and what is healthy is left alone."""

import base64
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import redis

from goblin import kv
from goblin.errors import Unavailable
from goblin.settings import load
from ledger import attempts, marks, runs
from ledger.runs import Page
from ledger.session import Ledger
from ledger.states import RunStatus
from routing.waiting import Waiter, WaitingRooms
from scheduler.absent import Absent, Silent
from scheduler.recover import MARKER, Recovery
from tests.fakes.racing import at_once, begin, until
from tests.fakes.runs import SUCCESS, accept, assert_books_balance, claim, one, run_row, step_rows
from tests.fakes.wire import Wire
from workers.app import STEPS, create
from workers.canvas import STEP, publish
from workers.stream import Feed, key
from workflow.plan import Plan

NONE, NEVER = 0.0, 3_600.0  # patience that has run out when it begins, and patience that does not
NEVER_MS = 3_600_000
CHAIN = "chat: one THEN chat: two"


@dataclass(frozen=True)
class Place:
    """A scheduler's surroundings. `impatient` waits for nobody; `patient` waits for everybody."""

    ledger: Ledger
    client: redis.Redis
    patient: Recovery

    @property
    def impatient(self) -> Recovery:
        return replace(self.patient, unpublished_after=NONE, unfinished_after=NONE, stalled_after=NONE)

    def sent(self) -> list[tuple[uuid.UUID, int, int]]:
        """The step messages in the queue, oldest first: run, step, epoch."""
        messages: Any = self.client.lrange(STEPS, 0, -1)
        found = [(one["headers"], one["body"]) for one in map(json.loads, reversed(messages))]
        return [_args(body) for headers, body in found if headers["task"] == STEP]

    def lose_messages(self) -> None:
        self.client.delete(STEPS)

    def publish(self, workflow: str = CHAIN) -> uuid.UUID:
        """A run whose first messages were sent, and noted as sent."""
        run = accept(self.ledger, workflow)
        rest = runs.remainder(self.ledger, run)
        publish(self.patient.app, Plan.from_value(rest.plan), run, 1)
        runs.mark_published(self.ledger, run, 1)
        return run

    def drain(self) -> None:
        """A worker has taken all that was sent so far, and a sounding behind it."""
        self.lose_messages()
        marks.drained(self.ledger, one(self.ledger, "select clock_timestamp()::text as now").now)


def _args(body: str) -> tuple[uuid.UUID, int, int]:
    run, idx, epoch = json.loads(base64.b64decode(body))[0]
    return uuid.UUID(run), idx, epoch


def make(database: str, redis_url: str) -> Place:
    settings = load(environ={"REDIS_URL": redis_url, "DATABASE_URL": database})
    ledger, client = Ledger(database, connections=8), kv.connect(redis_url)
    return Place(
        ledger,
        client,
        Recovery(
            create(settings),
            ledger,
            client,
            Feed(client, settings.limits),
            Absent(ledger, WaitingRooms(client), page=2),
            Silent(ledger, page=2),
            lease=0,
            unpublished_after=NEVER,
            unfinished_after=NEVER,
            stalled_after=NEVER,
        ),
    )


@pytest.fixture
def place(database: str, redis_url: str) -> Iterator[Place]:
    place = make(database, redis_url)
    place.patient.go()  # leaves its marker
    place.lose_messages()
    yield place
    assert_books_balance(place.ledger)
    place.ledger.close()
    place.client.close()


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


def test_nobody_is_given_up_while_postgres_has_just_come_up(place: Place) -> None:
    run = place.publish()
    place.lose_messages()
    attempts.open_attempt(place.ledger, claim(run, 0, lease=-1))
    replace(place.patient, lease=86_400).go()
    assert place.sent() == []


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


def test_a_run_whose_message_was_lost_is_sent_again_once_the_queue_was_drained_past_it(place: Place) -> None:
    run = place.publish()
    place.lose_messages()
    place.impatient.go()
    assert place.sent() == []  # nobody has drained the queue: the message may still lie in it
    place.drain()
    later = place.publish("chat: three")
    place.impatient.go()
    assert (run, 0, 2) in place.sent()
    assert run_row(place.ledger, run).epoch == 2
    assert run_row(place.ledger, later).epoch == 1


def test_what_was_written_down_a_moment_ago_may_still_be_sent(place: Place) -> None:
    run = place.publish()
    place.drain()
    place.patient.go()
    assert run_row(place.ledger, run).epoch == 1


def test_the_queue_is_sounded_while_a_run_is_open(place: Place) -> None:
    place.patient.go()
    assert place.client.llen(STEPS) == 0
    accept(place.ledger)
    place.patient.go()
    place.patient.go()
    assert place.client.llen(STEPS) == 1


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
        spoil = "update runs set plan = '{\"v\": 0}', touched_at = 'epoch' where id = any (%s)"
        connection.exec_driver_sql(spoil, ([broken, ended],))
    place.impatient.go()
    assert [sent[0] for sent in place.sent()] == [whole]
    assert run_row(place.ledger, whole).published_epoch == 2
    assert run_row(place.ledger, broken).epoch == 1  # for whoever can read it


def wait(place: Place, run: uuid.UUID, epoch: int = 1) -> Waiter:
    """The first step was refused for capacity: the ledger knows that it waits; no room knows it yet."""
    assert attempts.wait(place.ledger, run, 0, epoch, {})
    return Waiter(run, 0, epoch)


def enter(place: Place, waiter: Waiter) -> None:
    WaitingRooms(place.client).enter(waiter, {"task": STEP}, {"sim": NEVER_MS})


def test_a_step_that_waits_in_a_room_is_left_there(place: Place) -> None:
    run = place.publish()
    enter(place, wait(place, run))
    for _ in range(3):
        place.drain()
        place.impatient.go()
    assert place.sent() == []
    assert run_row(place.ledger, run).epoch == 1


def test_a_step_that_no_room_knows_is_sent_again_once_the_queue_was_drained_past_it(place: Place) -> None:
    run = place.publish()
    wait(place, run)
    scheduler = place.impatient
    place.drain()
    scheduler.go()  # finds it missing
    assert place.sent() == []  # its message may be on its way, behind what was drained
    place.drain()
    scheduler.go()
    assert place.sent() == [(run, 0, 2)]
    row = run_row(place.ledger, run)
    assert (row.epoch, row.published_epoch) == (2, 2)


def test_while_nobody_drains_the_queue_no_waiter_is_lost(place: Place) -> None:
    run = place.publish()
    wait(place, run)
    scheduler = place.impatient
    for _ in range(3):
        scheduler.go()
    assert run_row(place.ledger, run).epoch == 1


def test_a_waiter_that_was_called_a_moment_ago_is_given_its_time(place: Place) -> None:
    run = place.publish()
    wait(place, run)
    for _ in range(3):
        place.drain()
        place.patient.go()
    assert run_row(place.ledger, run).epoch == 1


def test_a_waiter_that_came_back_to_a_room_is_not_lost(place: Place) -> None:
    """It was called, found no room and waits again: since when it is missing begins anew, too."""
    run = place.publish()
    waiter = wait(place, run)
    scheduler = place.impatient
    scheduler.go()
    enter(place, waiter)
    place.drain()
    scheduler.go()
    WaitingRooms(place.client).call(["sim"])
    scheduler.go()
    assert place.sent() == []
    assert run_row(place.ledger, run).epoch == 1


def test_two_lost_waiters_of_one_run_bring_it_back_once(place: Place) -> None:
    run = place.publish("chat: one AND chat: two")
    assert [attempts.wait(place.ledger, run, idx, 1, {}) for idx in range(2)] == [True, True]
    scheduler = place.impatient
    scheduler.go()
    place.drain()
    scheduler.go()
    assert sorted(place.sent()) == [(run, 0, 2), (run, 1, 2)]


def test_a_waiter_is_lost_once_for_each_epoch(place: Place) -> None:
    """Sent again, it is waited for like a new one, and then missed like a new one."""
    run = place.publish()
    wait(place, run)
    scheduler = place.impatient
    scheduler.go()
    place.drain()
    scheduler.go()
    scheduler.go()
    assert place.sent() == [(run, 0, 2)]
    place.drain()
    scheduler.go()
    assert place.sent() == [(run, 0, 3)]


def test_rooms_that_were_lost_with_redis_bring_their_steps_back_by_the_marker(place: Place) -> None:
    run = place.publish()
    enter(place, wait(place, run))
    place.client.flushdb()
    place.impatient.go()
    assert place.sent() == [(run, 0, 3)]  # outdated, then published


def test_a_waiter_of_a_cancelled_run_is_nobody_s_loss(place: Place) -> None:
    run = place.publish()
    wait(place, run)
    runs.request_cancel(place.ledger, run)
    scheduler = place.impatient
    for _ in range(2):
        scheduler.go()
        place.drain()
    scheduler.go()
    assert place.sent() == []
    assert run_row(place.ledger, run).status == RunStatus.CANCELLED


def test_a_message_that_was_lost_beside_a_step_that_waits_is_sent_again(place: Place) -> None:
    run = place.publish("chat: one AND chat: two THEN chat: three")
    enter(place, wait(place, run))
    place.drain()
    place.impatient.go()
    assert sorted(place.sent()) == [(run, 0, 2), (run, 1, 2)]


def test_a_message_that_was_lost_beside_a_call_is_sent_again(place: Place) -> None:
    run = place.publish("chat: one AND chat: two THEN chat: three")
    attempts.open_attempt(place.ledger, claim(run, 0))
    place.drain()
    place.impatient.go()
    assert sorted(place.sent()) == [(run, 0, 2), (run, 1, 2)]


def test_a_step_whose_turn_has_not_come_is_nobody_s_loss(place: Place) -> None:
    run = place.publish("chat: one AND chat: two THEN chat: three")
    attempts.open_attempt(place.ledger, claim(run, 0))
    enter(place, Waiter(run, 1, 1))
    assert attempts.wait(place.ledger, run, 1, 1, {})
    for _ in range(3):
        place.drain()
        place.impatient.go()
    assert place.sent() == []
    assert run_row(place.ledger, run).epoch == 1


def test_lost_waiters_are_found_behind_many_that_are_not(place: Place) -> None:
    """Pages hold two of them; a look takes several pages, and the next one goes on from there."""
    waiting = [place.publish("chat: one AND chat: two AND chat: three") for _ in range(9)]
    for run in waiting:
        for idx in range(3):
            assert attempts.wait(place.ledger, run, idx, 1, {})
            enter(place, Waiter(run, idx, 1))
    lost = place.publish()
    wait(place, lost)
    scheduler = place.impatient
    for _ in range(6):
        place.drain()
        scheduler.go()
    assert {sent[0] for sent in place.sent()} <= {lost}
    assert run_row(place.ledger, lost).epoch > 1
    assert {run_row(place.ledger, run).epoch for run in waiting} == {1}


def test_a_sounding_that_was_lost_is_followed_by_another(place: Place) -> None:
    run = place.publish()
    place.patient.go()
    place.lose_messages()
    with place.ledger.engine.connect() as connection:
        connection.exec_driver_sql("update marks set set_at = set_at - interval '6 seconds' where name = 'sounded'")
    place.patient.go()
    assert place.client.llen(STEPS) == 1
    assert run_row(place.ledger, run).epoch == 1


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


def test_a_run_that_moved_on_since_it_was_found_lost_is_left_alone(place: Place) -> None:
    """Found by one scheduler that was then frozen, brought back by another: the first one does nothing more."""
    run = place.publish()
    place.lose_messages()
    place.drain()
    (found,) = runs.stalled(place.ledger, Page(), patience=0, limit=10)
    place.impatient.go()
    assert place.sent() == [(run, 0, 2)]
    assert runs.renew_epochs(place.ledger, dict([found])) == {}


def test_a_loss_of_long_ago_is_found_behind_many_that_wait(place: Place) -> None:
    """Only a page of two is looked at in each pass, and then the next one."""
    waiting = [place.publish() for _ in range(9)]
    for run in waiting:
        enter(place, wait(place, run))
    lost = place.publish()
    with place.ledger.engine.connect() as connection:
        connection.exec_driver_sql("update runs set touched_at = touched_at - interval '1 hour'")
    scheduler = place.impatient
    for _ in range(5):
        place.drain()
        scheduler.go()
    assert run_row(place.ledger, lost).epoch > 1
    assert {run_row(place.ledger, run).epoch for run in waiting} == {1}
