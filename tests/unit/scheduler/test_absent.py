"""Messages that were lost from the queue of steps or from the rooms, while nothing died: who is missing, who is not."""

import uuid

import pytest

from ledger import attempts, runs
from ledger.attempts import Ending
from ledger.runs import Page
from ledger.states import RunStatus
from routing.waiting import Waiter, WaitingRooms
from tests.fakes.recovery import Place
from tests.fakes.runs import FAULT, SUCCESS, accept, claim, run_row
from workers.app import STEPS
from workers.canvas import STEP

NEVER_MS = 3_600_000


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
    assert all(attempts.wait(place.ledger, run, idx, 1, {}) for idx in range(2))
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


def test_a_message_that_was_lost_beside_steps_that_go_on_is_sent_again(place: Place) -> None:
    run = place.publish("(chat: one THEN chat: two) AND chat: three")
    place.drain()
    settle(place, run)
    place.impatient.go()
    assert (run, 2, 2) in place.sent()


def test_a_step_that_is_due_since_a_moment_is_given_its_time(place: Place) -> None:
    run = place.publish()
    place.drain()
    settle(place, run)
    place.impatient.go()
    assert place.sent() == []
    place.drain()
    place.impatient.go()
    assert place.sent() == [(run, 1, 2)]


def test_a_step_whose_call_has_just_failed_is_left_to_its_worker(place: Place) -> None:
    run = place.publish()
    place.drain()
    settle(place, run, FAULT)
    place.impatient.go()
    assert place.sent() == []
    place.drain()
    place.impatient.go()
    assert place.sent() == [(run, 0, 2)]


def settle(place: Place, run: uuid.UUID, ending: Ending = SUCCESS) -> None:
    """The first step is called, and the call ends."""
    made = claim(run)
    attempts.open_attempt(place.ledger, made)
    attempts.settle(place.ledger, made.attempt, ending, goblin="chat", key_id=None)


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


@pytest.mark.parametrize(("lag_s", "follows"), [(15, True), (40, False)])
def test_a_sounding_in_a_long_queue_is_followed_by_another_after_a_tenth_of_its_way(
    place: Place, lag_s: int, follows: bool
) -> None:
    place.publish()
    place.drain()
    place.patient.go()
    with place.ledger.engine.connect() as connection:
        connection.exec_driver_sql("update marks set set_at = set_at - interval '2.5 seconds' where name = 'sounded'")
        lag = "update marks set value = (now() - make_interval(secs => %s))::text where name = 'drained'"
        connection.exec_driver_sql(lag, (lag_s,))
    place.patient.go()
    assert place.client.llen(STEPS) == 1 + follows


def test_a_sounding_that_was_lost_is_followed_by_another(place: Place) -> None:
    run = place.publish()
    place.patient.go()
    place.lose_messages()
    with place.ledger.engine.connect() as connection:
        connection.exec_driver_sql("update marks set set_at = set_at - interval '6 seconds' where name = 'sounded'")
    place.patient.go()
    assert place.client.llen(STEPS) == 1
    assert run_row(place.ledger, run).epoch == 1


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
        connection.exec_driver_sql("update runs set touched_at = now() - interval '1 hour', published_at = touched_at")
    scheduler = place.impatient
    for _ in range(5):
        place.drain()
        scheduler.go()
    assert run_row(place.ledger, lost).epoch > 1
    assert {run_row(place.ledger, run).epoch for run in waiting} == {1}
