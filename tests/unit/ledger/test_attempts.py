"""What a worker reads before a call and writes after it."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ledger import attempts, looks, marks
from ledger.looks import Neighbour, Tried
from ledger.session import Ledger
from ledger.states import RunStatus, StepStatus
from tests.fakes.runs import FAULT, SUCCESS, accept, claim, one

CHAIN = "chat: one AND chat: two THEN chat: three THEN chat: four"


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
