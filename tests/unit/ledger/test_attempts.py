"""What a worker reads before a call and writes after it."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from ledger import attempts, looks, marks, runs
from ledger.looks import Neighbour, Tried
from ledger.session import Ledger
from ledger.states import RunStatus, StepStatus
from tests.fakes.runs import FAULT, SUCCESS, accept, assert_books_balance, claim, one, request, step_rows

CHAIN = "chat: one AND chat: two THEN chat: three THEN chat: four"
CANCELLED = {"type": "cancelled", "message": "it was cancelled"}
CUT = replace(FAULT, output="half an ans", error={"type": "broken_stream", "message": "it broke"})


def run_step(ledger: Ledger, run: uuid.UUID, idx: int, ending: attempts.Ending = SUCCESS) -> None:
    made = claim(run, idx)
    attempts.open_attempt(ledger, made)
    attempts.settle(ledger, made.attempt, ending, goblin="chat", key_id=None)


def test_a_look_shows_what_has_settled_and_the_texts_of_the_steps_just_before(ledger: Ledger) -> None:
    run = accept(ledger, CHAIN)
    run_step(ledger, run, 0, replace(SUCCESS, output="first"))
    error = {"type": "failed_verdict", "message": "the verdict was FAIL"}
    run_step(ledger, run, 1, replace(SUCCESS, step=StepStatus.FAILED, output="second", error=error))
    seen = looks.look(ledger, run, 2)
    assert seen is not None
    assert (seen.run_status, seen.epoch, seen.is_cancelled, seen.status) == (RunStatus.RUNNING, 1, False, "pending")
    assert sorted(seen.settled, key=lambda near: near.idx) == [
        Neighbour(0, StepStatus.SUCCEEDED, "first", None),
        Neighbour(1, StepStatus.FAILED, "second", error),
    ]
    far = looks.look(ledger, run, 3)
    assert far is not None
    assert {near.output for near in far.settled} == {None}
    assert looks.outputs(ledger, run, [0, 1, 2]) == {0: "first", 1: "second"}


def test_a_look_shows_what_was_tried_in_its_order(ledger: Ledger) -> None:
    run = accept(ledger)
    run_step(ledger, run, 0, FAULT)
    attempts.open_attempt(ledger, claim(run, provider="other", lease=-1))
    attempts.abandon(ledger, calm=0, limit=10)
    seen = looks.look(ledger, run, 0)
    assert seen is not None
    assert seen.tried[0] == Tried("sim", "small", FAULT.error)
    assert (seen.tried[1].provider, (seen.tried[1].error or {}).get("type")) == ("other", "abandoned")
    assert (seen.epoch, seen.status) == (2, StepStatus.PENDING)


def test_a_pass_takes_no_more_than_its_limit_and_the_oldest_first(ledger: Ledger) -> None:
    leases = {lease: accept(ledger) for lease in (-1, -9, -5)}
    for lease, run in leases.items():
        attempts.open_attempt(ledger, claim(run, lease=lease))
    assert [one.run for one in attempts.abandon(ledger, calm=0, limit=1)] == [leases[-9]]
    assert {one.run for one in attempts.abandon(ledger, calm=0, limit=5)} == {leases[-5], leases[-1]}


def test_a_stopping_worker_gives_back_what_it_holds_and_nothing_else(ledger: Ledger) -> None:
    stopping, running = claim(accept(ledger)), claim(accept(ledger))
    for made in (stopping, running):
        attempts.open_attempt(ledger, made)
    assert stopping.owner is not None
    attempts.release(ledger, stopping.owner, {stopping.attempt: 7})
    assert [one.run for one in attempts.abandon(ledger, calm=0, limit=10)] == [stopping.run]
    entry = one(ledger, "select * from entries where run_id = %s", stopping.run)
    assert (entry.amount_nanousd, entry.is_measured) == (7, False)


def test_a_call_whose_end_nobody_saw_is_charged_the_most_that_it_may_have_cost(ledger: Ledger) -> None:
    run = accept(ledger)
    lost = claim(run, hold=900)
    attempts.open_attempt(ledger, lost)
    assert lost.owner is not None
    attempts.renew(ledger, lost.owner, -1, {lost.attempt: 55})
    attempts.abandon(ledger, calm=0, limit=10)
    entry = one(ledger, "select * from entries where run_id = %s", run)
    assert (entry.amount_nanousd, entry.is_measured) == (900, False)


def test_an_entry_holds_tokens_price_and_whose_money_it_was(ledger: Ledger) -> None:
    run, owner = accept(ledger), uuid.uuid4()
    made = claim(run)
    attempts.open_attempt(ledger, made)
    charge = attempts.Charge(77, is_measured=False, price={"input": 5}, input=1, cache_read=2, output=3, reasoning=4)
    attempts.settle(ledger, made.attempt, replace(SUCCESS, charge=charge), goblin="chat", key_id=owner)
    entry = one(ledger, "select * from entries where run_id = %s", run)
    assert (entry.kind, entry.key_id, entry.goblin, entry.provider, entry.model) == (
        "charge", owner, "chat", "sim", "small",
    )  # fmt: skip
    assert (entry.amount_nanousd, entry.is_measured, entry.price) == (77, False, {"input": 5})
    assert (entry.input_tokens, entry.cache_read_tokens, entry.output_tokens, entry.reasoning_tokens) == (1, 2, 3, 4)


def test_a_call_that_never_reached_its_provider_is_not_charged(ledger: Ledger) -> None:
    run = accept(ledger)
    run_step(ledger, run, 0, FAULT)
    assert one(ledger, "select count(*) as found from entries where run_id = %s", run).found == 0


def test_a_call_is_missed_by_the_ledger_s_clock_whatever_the_clock_says_that_admitted_it(ledger: Ledger) -> None:
    def hand_over(hours: int) -> attempts.Claim:
        made = claim(accept(ledger), owner=None, admitted_at=datetime.now(UTC) + timedelta(hours=hours))
        attempts.open_attempt(ledger, made)
        return made

    before = hand_over(hours=1)
    (sent_at,) = marks.sound_calls(ledger, lease=60, calm=0).values()
    after = hand_over(hours=-1)
    marks.drained(ledger, sent_at, "sim")
    attempts.call_back_lost(ledger, lease=60, calm=0)
    owner = uuid.uuid4()
    assert [attempts.take(ledger, one.attempt, owner, 60) is None for one in (before, after)] == [True, False]


def handed_over(ledger: Ledger, deadline: str | None = None) -> attempts.Claim:
    """A call that lies in its provider's queue, of a run that has time until then."""
    options = {} if deadline is None else {"deadline": deadline}
    made = claim(runs.submit(ledger, replace(request(), options=options)).id, owner=None)
    attempts.open_attempt(ledger, made)
    return made


def left(ledger: Ledger, *made: attempts.Claim) -> list[bool]:
    """Which of these calls can still be taken."""
    return [attempts.take(ledger, one.attempt, uuid.uuid4(), 60) is not None for one in made]


def test_a_call_that_nobody_took_before_its_run_s_deadline_is_called_back_at_no_cost(ledger: Ledger) -> None:
    now = datetime.now(UTC)
    past, future = (now + timedelta(seconds=s) for s in (-1, 60))
    far = timezone(timedelta(hours=-8))
    late = [handed_over(ledger, one) for one in (f"{past:%Y-%m-%dT%H:%M:%S.%fZ}", past.astimezone(far).isoformat())]
    early = [handed_over(ledger, one) for one in (future.isoformat(), future.astimezone(far).isoformat(), None)]
    attempts.call_back_late(ledger, {})
    assert {one.run for one in attempts.abandon(ledger, calm=0, limit=100)} >= {one.run for one in late}
    for made in late:
        row = one(ledger, "select status, error, spent_nanousd from attempts where id = %s", made.attempt)
        assert (row.status, row.error["type"], row.spent_nanousd) == ("abandoned", "deadline_passed", 0)
    assert left(ledger, *late, *early) == [False, False, True, True, True]


def test_a_call_that_nobody_took_in_the_time_that_its_goblin_gives_is_called_back(ledger: Ledger) -> None:
    late, early = handed_over(ledger), handed_over(ledger)
    with ledger.engine.connect() as connection:
        begun = "update steps set started_at = now() - interval '9 s' where run_id = %s"
        connection.exec_driver_sql(begun, (late.run,))
    attempts.call_back_late(ledger, {"code": 1, "chat": 10})
    attempts.call_back_late(ledger, {"chat": 8})
    assert left(ledger, late, early) == [False, True]


def test_a_call_that_was_taken_is_not_called_back_when_its_time_is_over(ledger: Ledger) -> None:
    made = handed_over(ledger, "2020-01-01T00:00:00Z")
    owner = uuid.uuid4()
    assert attempts.take(ledger, made.attempt, owner, 60)
    attempts.call_back_late(ledger, {"chat": 0.0})
    assert attempts.renew(ledger, owner, 60, {made.attempt: 0})[0] == {made.attempt}


def test_a_deadline_that_postgres_cannot_read_keeps_no_other_call_from_being_called_back(ledger: Ledger) -> None:
    nobodys, late = (handed_over(ledger, f"2020-01-01T00:00:00{offset}") for offset in ("+20:00", "+10:00"))
    attempts.call_back_late(ledger, {})
    assert left(ledger, nobodys, late) == [True, False]


def cancel_all(ledger: Ledger, run: uuid.UUID) -> None:
    runs.request_cancel(ledger, run)


def cancel_one(ledger: Ledger, run: uuid.UUID) -> None:
    runs.cancel_step(ledger, run, 0, CANCELLED)


@pytest.mark.parametrize("cancel", [cancel_all, cancel_one])
@pytest.mark.parametrize("is_settled", [True, False])
def test_a_step_that_is_cancelled_in_a_call_that_frees_it_says_so_and_has_no_half_answer(
    ledger: Ledger, cancel: Callable[[Ledger, uuid.UUID], None], is_settled: bool
) -> None:
    run = accept(ledger)
    run_step(ledger, run, 0, CUT)
    made = claim(run)
    attempts.open_attempt(ledger, made)
    cancel(ledger, run)
    if is_settled:
        assert attempts.settle(ledger, made.attempt, CUT, goblin="chat", key_id=None).status == "cancelled"
    else:
        assert made.owner is not None
        attempts.release(ledger, made.owner, {made.attempt: 0})
        attempts.abandon(ledger, calm=0, limit=100)
    (step,) = step_rows(ledger, run)
    assert (step.status, step.output, step.error) == ("cancelled", None, CANCELLED)
    assert_books_balance(ledger)


def test_what_a_call_had_said_that_was_cut_is_kept_for_the_next_one(ledger: Ledger) -> None:
    run = accept(ledger)
    run_step(ledger, run, 0, CUT)
    (step,) = step_rows(ledger, run)
    assert (step.status, step.output, step.error) == ("pending", CUT.output, CUT.error)


def test_a_call_that_was_cut_by_a_cancel_says_what_it_says_itself(ledger: Ledger) -> None:
    run, error = accept(ledger), {**CANCELLED, "details": {"streamed": True}}
    made = claim(run)
    attempts.open_attempt(ledger, made)
    cancel_one(ledger, run)
    ending = replace(FAULT, step=StepStatus.CANCELLED, error=error)
    attempts.settle(ledger, made.attempt, ending, goblin="chat", key_id=None)
    assert step_rows(ledger, run)[0].error == error


def test_an_answer_that_came_whole_before_the_cut_is_kept(ledger: Ledger) -> None:
    run = accept(ledger)
    made = claim(run)
    attempts.open_attempt(ledger, made)
    cancel_one(ledger, run)
    attempts.settle(ledger, made.attempt, SUCCESS, goblin="chat", key_id=None)
    (step,) = step_rows(ledger, run)
    assert (step.status, step.output, step.error) == ("succeeded", "done", None)
