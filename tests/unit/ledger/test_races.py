"""Many workers at once: every guarded statement has one winner, and no interleaving strands a step or loses money."""

import uuid
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from goblin.errors import LeaseLost
from ledger import attempts, runs
from ledger.attempts import Charge, Closed, Ending
from ledger.session import Ledger
from ledger.states import AttemptStatus, RunStatus, StepStatus
from tests.fakes.racing import at_once, begin, until_waiting
from tests.fakes.runs import FAULT, PRICE, SUCCESS, accept, assert_books_balance, claim, one, rows, run_row, step_rows

THREADS = 12
WIDE = " AND ".join(f"chat: say {number}" for number in range(THREADS))


@pytest.fixture(autouse=True)
def balanced(ledger: Ledger) -> Iterator[None]:
    yield
    assert_books_balance(ledger)


def settle(ledger: Ledger, attempt: uuid.UUID, ending: Ending = SUCCESS) -> Closed:
    return attempts.settle(ledger, attempt, ending, goblin="chat", key_id=None)


def abandon(ledger: Ledger) -> list[attempts.Abandoned]:
    return attempts.abandon(ledger, calm=0, limit=500)


def status(ledger: Ledger, run: uuid.UUID, idx: int = 0) -> str:
    return str(step_rows(ledger, run)[idx].status)


def test_a_step_is_claimed_by_one_of_many(ledger: Ledger) -> None:
    run = accept(ledger)
    numbers = at_once(*(partial(attempts.open_attempt, ledger, claim(run)) for _ in range(THREADS)))
    assert sorted(numbers, key=str) == [1] + [None] * (THREADS - 1)
    assert one(ledger, "select count(*) as found from attempts where run_id = %s", run).found == 1


def test_the_steps_of_a_queued_run_are_all_claimed_at_once(ledger: Ledger) -> None:
    run = accept(ledger, WIDE)
    numbers = at_once(*(partial(attempts.open_attempt, ledger, claim(run, idx)) for idx in range(THREADS)))
    assert numbers == [1] * THREADS
    assert run_row(ledger, run).status == RunStatus.RUNNING


def test_a_claim_against_a_cancel_leaves_no_step_open_that_nobody_works_on(ledger: Ledger) -> None:
    for _ in range(10):
        run = accept(ledger, WIDE)
        claims = [claim(run, idx) for idx in range(THREADS - 1)]
        cancelled, *numbers = at_once(
            partial(runs.request_cancel, ledger, run), *(partial(attempts.open_attempt, ledger, one) for one in claims)
        )
        for row, number in zip(step_rows(ledger, run), [*numbers, None], strict=True):
            assert row.status == (StepStatus.RUNNING if number else StepStatus.CANCELLED)
            assert isinstance(cancelled, tuple)
            assert (row.idx in cancelled) == (number is None)


def test_steps_that_settle_at_once_are_all_counted(ledger: Ledger) -> None:
    run = accept(ledger, WIDE)
    claims = [claim(run, idx) for idx in range(THREADS)]
    for made in claims:
        attempts.open_attempt(ledger, made)
    closed = at_once(*(partial(settle, ledger, made.attempt) for made in claims))
    assert sorted(end.open_steps for end in closed if isinstance(end, Closed)) == list(range(THREADS))
    assert run_row(ledger, run).cost_nanousd == THREADS * 700


def test_an_attempt_that_is_settled_by_many_is_settled_once(ledger: Ledger) -> None:
    run = accept(ledger)
    made = claim(run)
    attempts.open_attempt(ledger, made)
    closed = at_once(*(partial(settle, ledger, made.attempt) for _ in range(THREADS)))
    assert closed == [Closed(StepStatus.SUCCEEDED, 0, 1, 700, ())] * THREADS
    assert one(ledger, "select count(*), sum(amount_nanousd) from entries where run_id = %s", run) == (1, 700)


def test_settling_after_another_took_the_step_enters_the_difference(ledger: Ledger) -> None:
    run = accept(ledger)
    late = claim(run, lease=-1)
    attempts.open_attempt(ledger, late)
    abandon(ledger)
    with pytest.raises(LeaseLost):
        settle(ledger, late.attempt)
    with pytest.raises(LeaseLost):
        settle(ledger, late.attempt)  # as a worker does that did not hear the answer
    entries = "select array_agg((kind, amount_nanousd)::text order by id) as lines from entries where run_id = %s"
    assert one(ledger, entries, run).lines == ["(charge,900)", "(correction,-200)"]
    assert status(ledger, run) == StepStatus.PENDING
    assert run_row(ledger, run).cost_nanousd == 700


def test_a_late_worker_that_spent_what_was_charged_corrects_nothing(ledger: Ledger) -> None:
    run = accept(ledger)
    late = claim(run, lease=-1)
    attempts.open_attempt(ledger, late)
    abandon(ledger)
    with pytest.raises(LeaseLost):
        settle(ledger, late.attempt, Ending(*_FAILED, charge=Charge(900, is_measured=True, price=PRICE)))
    with pytest.raises(LeaseLost):
        settle(ledger, late.attempt, Ending(*_FAILED))
    assert one(ledger, "select count(*) as found from entries where run_id = %s", run).found == 1


@pytest.mark.parametrize(("amount", "is_measured", "cost"), [(950, False, 950), (40, False, 900), (40, True, 40)])
def test_what_is_only_estimated_takes_nothing_back(ledger: Ledger, amount: int, is_measured: bool, cost: int) -> None:
    run = accept(ledger)
    late = claim(run, lease=-1)
    attempts.open_attempt(ledger, late)
    abandon(ledger)
    with pytest.raises(LeaseLost):
        settle(ledger, late.attempt, Ending(*_FAILED, charge=Charge(amount, is_measured=is_measured, price=PRICE)))
    assert run_row(ledger, run).cost_nanousd == cost


def test_a_late_worker_changes_nothing_of_the_step_that_another_has_now(ledger: Ledger) -> None:
    run = accept(ledger)
    late = claim(run, lease=-1)
    attempts.open_attempt(ledger, late)
    (lost,) = [one for one in abandon(ledger) if one.run == run]
    assert attempts.open_attempt(ledger, claim(run, epoch=lost.epoch)) == 2
    with pytest.raises(LeaseLost):
        settle(ledger, late.attempt)
    (step,) = step_rows(ledger, run)
    assert (step.status, step.output, step.attempts) == (StepStatus.RUNNING, None, 2)


def test_settling_against_a_scheduler_has_one_winner(ledger: Ledger) -> None:
    for _ in range(5):
        run = accept(ledger, WIDE)
        claims = [claim(run, idx, lease=-1) for idx in range(THREADS - 2)]
        for made in claims:
            attempts.open_attempt(ledger, made)
        lost, lost_too, *closed = at_once(
            partial(abandon, ledger),
            partial(abandon, ledger),
            *(partial(settle, ledger, one.attempt) for one in claims),
        )
        assert isinstance(lost, list)
        assert isinstance(lost_too, list)
        taken = sum(one.attempts for one in [*lost, *lost_too])
        assert sum(isinstance(end, LeaseLost) for end in closed) == taken
        assert sum(isinstance(end, Closed) for end in closed) == len(claims) - taken
        abandon(ledger)


def test_two_schedulers_never_take_the_same_attempt(ledger: Ledger) -> None:
    many = [accept(ledger, "chat: one AND chat: two") for _ in range(10)]
    for run in many:
        for idx in (0, 1):
            attempts.open_attempt(ledger, claim(run, idx, lease=-1))
    results = at_once(*(partial(abandon, ledger) for _ in range(4)))
    lost = [one for result in [*results, abandon(ledger)] if isinstance(result, list) for one in result]
    assert not [result for result in results if isinstance(result, Exception)]
    assert sum(one.attempts for one in lost) == 20
    assert abandon(ledger) == []
    for run in many:
        assert [row.status for row in step_rows(ledger, run)] == [StepStatus.PENDING] * 2
        assert run_row(ledger, run).cost_nanousd == 1_800


def test_a_lease_that_is_renewed_in_time_is_not_taken(ledger: Ledger) -> None:
    run = accept(ledger)
    made = claim(run, lease=-1)
    attempts.open_attempt(ledger, made)
    assert made.owner is not None
    ours, cancelled = attempts.renew(ledger, made.owner, 60, {made.attempt: 55})
    assert (ours, cancelled) == (frozenset({made.attempt}), frozenset())
    assert abandon(ledger) == []
    runs.request_cancel(ledger, run)
    assert attempts.renew(ledger, made.owner, -1, {made.attempt: 60})[1] == {made.attempt}
    (lost,) = abandon(ledger)
    assert (lost.run, lost.open_steps) == (run, 0)
    assert status(ledger, run) == StepStatus.CANCELLED
    assert run_row(ledger, run).cost_nanousd == made.hold
    assert attempts.renew(ledger, made.owner, 60, {made.attempt: 70}) == (frozenset(), frozenset())


def test_a_call_that_was_admitted_for_a_queue_is_taken_once(ledger: Ledger) -> None:
    run = accept(ledger)
    made = claim(run, owner=None)
    attempts.open_attempt(ledger, made)
    taken = at_once(*(partial(attempts.take, ledger, made.attempt, uuid.uuid4(), 60) for _ in range(THREADS)))
    assert [one for one in taken if one is not None] == [attempts.Taken(1, "sim", "small", 900)]


def test_who_takes_a_call_knows_what_it_was_admitted_for(ledger: Ledger) -> None:
    told = {"is_probe": True, "counters": ["all/hour@1767225600"], "generation": "ab"}
    made = claim(accept(ledger), owner=None, decision={"admitted": told})
    attempts.open_attempt(ledger, made)
    expected = attempts.Taken(1, "sim", "small", 900, True, ("all/hour@1767225600",), "ab")
    assert attempts.take(ledger, made.attempt, uuid.uuid4(), 60) == expected


def test_a_call_that_lay_in_its_queue_too_long_is_not_taken(ledger: Ledger) -> None:
    made = claim(accept(ledger), owner=None, lease=-1)
    attempts.open_attempt(ledger, made)
    assert attempts.take(ledger, made.attempt, uuid.uuid4(), 60) is None
    assert [one.run for one in abandon(ledger)] == [made.run]
    assert run_row(ledger, made.run).cost_nanousd == 0  # nobody was called


def test_a_failed_call_of_a_cancelled_run_frees_no_step(ledger: Ledger) -> None:
    run = accept(ledger)
    made = claim(run)
    attempts.open_attempt(ledger, made)
    assert runs.request_cancel(ledger, run) == ()
    assert settle(ledger, made.attempt, FAULT) == Closed(StepStatus.CANCELLED, 0, 1, 0, ())


def test_a_cancel_that_comes_while_a_failed_call_settles_is_heard(ledger: Ledger) -> None:
    """Whichever gets the run first: the step that is to be free again is cancelled by one of the two."""
    for first, second in (("cancel", "settle"), ("settle", "cancel")):
        run = accept(ledger)
        made = claim(run)
        attempts.open_attempt(ledger, made)
        do: dict[str, Callable[[], object]] = {
            "cancel": partial(runs.request_cancel, ledger, run),
            "settle": partial(settle, ledger, made.attempt, FAULT),
        }
        with ledger.transaction() as locked:
            locked.run("runs.mark_published", runs=[run], epochs=[1])
            ahead = begin(do[first])
            until_waiting(ledger)
            behind = begin(do[second])
            until_waiting(ledger, 2)
        ahead.result()
        behind.result()
        assert status(ledger, run) == StepStatus.CANCELLED
        assert run_row(ledger, run).open_steps == 0


def test_a_cancel_that_comes_while_a_step_is_claimed_waits_for_nothing_that_waits_for_it(ledger: Ledger) -> None:
    run = accept(ledger)
    with ledger.transaction() as transaction:
        transaction.run("runs.request_cancel", run=run)
        opening = begin(partial(attempts.open_attempt, ledger, claim(run)))
        until_waiting(ledger)
        assert [row.idx for row in transaction.run("runs.cancel_steps", run=run)] == [0]
    assert opening.result() is None


def test_a_message_that_is_parked_while_its_step_settles_is_woken(ledger: Ledger) -> None:
    run = accept(ledger)
    made = claim(run)
    attempts.open_attempt(ledger, made)
    with ledger.transaction() as parking:
        assert parking.run("steps.park", run=run, idx=0, signature='{"task": "late"}')
        settling = begin(partial(settle, ledger, made.attempt))
        until_waiting(ledger)
    assert settling.result().woken == ({"task": "late"},)


def test_a_message_is_parked_or_told_that_it_need_not_be(ledger: Ledger) -> None:
    for _ in range(10):
        run = accept(ledger)
        made = claim(run)
        attempts.open_attempt(ledger, made)
        closed, *parked = at_once(
            partial(settle, ledger, made.attempt),
            *(partial(attempts.park, ledger, run, 0, {"number": number}) for number in range(THREADS)),
        )
        assert isinstance(closed, Closed)
        woken = sorted(one["number"] for one in closed.woken)
        assert woken == [number for number, is_parked in enumerate(parked) if is_parked]


def test_a_message_stays_parked_while_its_step_is_called_for_again(ledger: Ledger) -> None:
    run = accept(ledger)
    made = claim(run)
    attempts.open_attempt(ledger, made)
    attempts.park(ledger, run, 0, {"task": "waits"})
    assert settle(ledger, made.attempt, FAULT).woken == ()
    assert not attempts.park(ledger, run, 0, {"task": "need not wait"})
    closed = attempts.close_step(ledger, run, 0, 1, StepStatus.FAILED, {"type": "no_candidate", "message": "nobody"})
    assert closed is not None
    assert closed.woken == ({"task": "waits"},)


def test_a_step_is_closed_by_one_of_many(ledger: Ledger) -> None:
    run = accept(ledger)
    closed = at_once(*(partial(attempts.close_step, ledger, run, 0, 1, StepStatus.SKIPPED) for _ in range(THREADS)))
    assert [end for end in closed if end is not None] == [Closed(StepStatus.SKIPPED, 0, 1, 0, ())]


def test_a_message_of_an_old_epoch_claims_and_closes_nothing(ledger: Ledger) -> None:
    run = accept(ledger)
    assert runs.renew_epochs(ledger, {run: 1}) == {run: 2}
    assert attempts.open_attempt(ledger, claim(run)) is None
    assert attempts.close_step(ledger, run, 0, 1, StepStatus.SKIPPED) is None
    assert status(ledger, run) == StepStatus.PENDING
    assert attempts.open_attempt(ledger, claim(run, epoch=2)) == 1


def test_a_healthy_call_of_an_old_epoch_keeps_its_result(ledger: Ledger) -> None:
    run = accept(ledger)
    made = claim(run)
    attempts.open_attempt(ledger, made)
    runs.renew_epochs(ledger, {run: 1})
    assert settle(ledger, made.attempt) == Closed(StepStatus.SUCCEEDED, 0, 2, 700, ())


def test_every_epoch_is_renewed_by_one_of_many_whatever_their_order(ledger: Ledger) -> None:
    known = dict.fromkeys([accept(ledger) for _ in range(50)], 1)
    back = dict(reversed(known.items()))
    renewed = at_once(*(partial(runs.renew_epochs, ledger, known if n % 2 else back) for n in range(THREADS)))
    assert sorted(run for found in renewed for run in found) == sorted(known)
    assert {epoch for found in renewed for epoch in found.values()} == {2}


def test_who_notes_several_runs_as_published_locks_them_in_the_order_of_their_ids(ledger: Ledger) -> None:
    first, last = sorted([accept(ledger), accept(ledger)])
    known = {last: 1, first: 1}
    for run in known:
        runs.mark_published(ledger, run, 1)  # written down behind the other one
    with ledger.transaction() as locked:
        locked.run("runs.mark_published", runs=[first], epochs=[1])
        noting = begin(partial(runs.mark_all_published, ledger, known))
        until_waiting(ledger)
        free = rows(ledger, "select id from runs where id = %s for no key update skip locked", last)
        assert [row.id for row in free] == [last]
    noting.result()


def test_a_run_is_finished_by_one_of_many_and_only_when_its_steps_have_settled(ledger: Ledger) -> None:
    run = accept(ledger)
    made = claim(run)
    attempts.open_attempt(ledger, made)
    assert runs.finish(ledger, run, RunStatus.SUCCEEDED) is None
    settle(ledger, made.attempt)
    costs = at_once(*(partial(runs.finish, ledger, run, RunStatus.SUCCEEDED) for _ in range(THREADS)))
    assert sorted(costs, key=str) == [700] + [None] * (THREADS - 1)
    assert runs.request_cancel(ledger, run) == ()
    assert run_row(ledger, run).cancel_requested_at is None


def test_everything_at_once_never_locks_itself_up(ledger: Ledger) -> None:
    for _ in range(5):
        run = accept(ledger, WIDE)
        claims = [claim(run, idx, lease=-1) for idx in range(THREADS // 2)]
        for made in claims:
            attempts.open_attempt(ledger, made)
        results = at_once(
            *(partial(settle, ledger, made.attempt, FAULT) for made in claims),
            *(partial(attempts.open_attempt, ledger, claim(run, idx)) for idx in range(THREADS)),
            partial(runs.request_cancel, ledger, run),
            partial(abandon, ledger),
            partial(runs.renew_epochs, ledger, {run: 1}),
        )
        errors = [error for error in results if isinstance(error, Exception) and not isinstance(error, LeaseLost)]
        assert not errors
    abandon(ledger)


_FAILED = (AttemptStatus.FAILED, StepStatus.PENDING)
