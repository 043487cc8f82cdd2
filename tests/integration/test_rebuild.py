"""Redis loses everything, workers die between two writes: the counters are made true, and nothing is spent twice."""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from goblin import kv
from goblin.clock import new_id
from goblin.errors import LeaseLost, Unavailable
from ledger import attempts, holds, keys, marks, runs
from ledger.attempts import Charge, Ending
from ledger.holds import Outdated
from ledger.session import Ledger
from ledger.states import AttemptStatus, StepStatus
from routing import budget
from routing.admission import Admission, Admitted, Used
from routing.ask import SPAN_MS, Ask, Rate
from routing.breaker import Told, seen
from routing.budget import Budget
from routing.rebuild import Mended, Rebuild
from routing.refusal import Refused
from routing.script import Scripts
from routing.waiting import LONGEST_MS, PAUSES, Called, Waiter, WaitingRooms
from tests.fakes.askers import call_all, claim_of, counters, place, together
from tests.fakes.asks import NOON
from tests.fakes.racing import begin, until, until_waiting
from tests.fakes.runs import accept, one, request
from tests.processes import Processes, ValkeyContainer

LARGE = 10**9
LEASE = 12.0
ONE_AT_ONCE = Rate(concurrency=1)


@pytest.fixture
def key(ledger: Ledger) -> uuid.UUID:
    keys.create(ledger, "somebody")
    return uuid.UUID(str(one(ledger, "select id from keys").id))


def above(run: uuid.UUID, key: uuid.UUID) -> tuple[Budget, ...]:
    return (
        budget.everything("hour", LARGE),
        budget.everything("day", LARGE),
        budget.of_run(run, LARGE),
        budget.of_key(key, LARGE),
    )


def ask(gate: Admission, *budgets: Budget, rate: Rate = Rate()) -> Admitted:  # noqa: B008
    own = (budget.of_provider("sim", "hour", LARGE), budget.of_provider("sim", "day", LARGE))
    answer = gate.admit(Ask(new_id(), (place(budgets=own, rate=rate),), budgets))
    assert isinstance(answer, Admitted)
    return answer


def has_slot(gate: Admission) -> bool:
    return isinstance(gate.admit(Ask(new_id(), (place(rate=ONE_AT_ONCE),))), Admitted)


def settle(ledger: Ledger, admitted: Admitted, cost: int, key: uuid.UUID | None = None) -> None:
    """In the ledger alone."""
    charge = Charge(cost, is_measured=True, price={}, input=4, output=3)
    ending = Ending(AttemptStatus.SUCCEEDED, StepStatus.SUCCEEDED, charge=charge)
    attempts.settle(ledger, admitted.attempt, ending, goblin="chat", key_id=key)


def counted(gate: Admission, run: uuid.UUID) -> dict[str, tuple[int, int]]:
    """Spent and held of every budget, the run's too."""
    found = {state.name: (state.spent, state.held) for state in counters(gate)}
    text = gate.scripts.client.hget(f"{gate.scripts.root(gate.generation() or '')}money", f"run:{run}")
    state = budget.read(f"run:{run}", text or "0 0 -1 -1")
    return {**found, "run": (state.spent, state.held)}


def test_what_was_lost_is_counted_anew_to_the_nano_dollar(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, client: redis.Redis, key: uuid.UUID
) -> None:
    run = runs.submit(ledger, request("chat: a AND chat: b AND chat: c", key_id=key)).id
    for idx, cost in enumerate([70, 30, None]):
        admitted = ask(gate, *above(run, key))
        assert attempts.open_attempt(ledger, claim_of(admitted, run, idx)) is not None
        if cost is not None:
            settle(ledger, admitted, cost, key)
            gate.settle(admitted.attempt, Used(cost))
    before = counted(gate, run)
    assert before["all/hour"] == (100, 100)
    client.flushdb()
    refused = gate.admit(Ask(new_id(), (place(),)))
    assert isinstance(refused, Refused)
    assert refused.as_error().slug == "unavailable"
    assert rebuild.go() is not None
    assert counted(gate, run) == before
    settle(ledger, admitted, 5, key)
    gate.settle(admitted.attempt, Used(5))
    assert counted(gate, run) == dict.fromkeys(before, (105, 0))


def test_an_ended_call_that_is_settled_after_the_rebuild_counts_once(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, client: redis.Redis, key: uuid.UUID
) -> None:
    run = runs.submit(ledger, request(key_id=key)).id
    admitted = ask(gate, *above(run, key))
    attempts.open_attempt(ledger, claim_of(admitted, run))
    settle(ledger, admitted, 60, key)
    client.flushdb()
    rebuild.go()
    gate.settle(admitted.attempt, Used(60), generation=admitted.generation, counters=admitted.counters)
    assert counted(gate, run)["all/day"] == (60, 0)


def test_what_was_admitted_before_a_rebuild_cannot_be_opened_after_it(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, client: redis.Redis
) -> None:
    run = accept(ledger)
    admitted = ask(gate)
    client.flushdb()
    rebuild.go()
    with pytest.raises(Outdated):
        attempts.open_attempt(ledger, claim_of(admitted, run))
    again = ask(gate)
    assert attempts.open_attempt(ledger, claim_of(again, run)) == 1


def test_an_attempt_that_opens_during_a_rebuild_waits_and_is_refused(
    ledger: Ledger, gate: Admission, rebuild: Rebuild
) -> None:
    run = accept(ledger)
    admitted = ask(gate)
    with holds.renew(ledger, "next", now_ms=NOON, span_ms=SPAN_MS) as truth:
        opening = begin(partial(attempts.open_attempt, ledger, claim_of(admitted, run)))
        until_waiting(ledger)
        assert not truth.holds
    with pytest.raises(Outdated):
        opening.result(30)


def test_counters_that_were_lost_while_they_were_loaded_are_not_used(
    ledger: Ledger, rebuild: Rebuild, client: redis.Redis
) -> None:
    class Emptied(Scripts):
        """A Redis that is emptied just before the counters are taken into use."""

        def run(self, verb: str, *values: Mapping[str, Any]) -> list[Any]:
            if verb == "use":
                client.flushdb()
            return super().run(verb, *values)

    unlucky = Emptied(client)
    with pytest.raises(Unavailable):
        Rebuild(ledger, unlucky).rebuild()
    assert Admission(unlucky).generation() is None
    assert getattr(rebuild.go(), "is_rebuilt", False)


def test_a_scheduler_that_sleeps_over_its_rebuild_forgets_nothing_that_was_counted_since(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, client: redis.Redis, key: uuid.UUID
) -> None:
    class Overtaken(Scripts):
        """A scheduler whose counters are in use, and lost, and counted anew by another one before its next command."""

        def run(self, verb: str, *values: Mapping[str, Any]) -> list[Any]:
            answer = super().run(verb, *values)
            if verb == "use":
                client.flushdb()
                rebuild.rebuild()
            return answer

    run = runs.submit(ledger, request(key_id=key)).id
    admitted = ask(gate, *above(run, key))
    attempts.open_attempt(ledger, claim_of(admitted, run))
    settle(ledger, admitted, 60, key)
    Rebuild(ledger, Overtaken(client)).rebuild()
    assert set(counted(gate, run).values()) == {(60, 0)}


def test_counters_of_older_generations_are_forgotten(gate: Admission, rebuild: Rebuild, client: redis.Redis) -> None:
    ask(gate, budget.everything("day", LARGE))
    older = gate.scripts.root(str(gate.generation()))
    rebuild.rebuild()
    assert client.keys(f"{older}*") == []


def test_calls_of_the_last_minute_still_count_after_a_rebuild(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, client: redis.Redis
) -> None:
    rate = Rate(rpm=2, tpm=100, concurrency=9)
    for _ in range(2):
        attempts.open_attempt(ledger, claim_of(ask(gate, rate=rate), accept(ledger)))
    client.flushdb()
    rebuild.go()
    answer = gate.admit(Ask(new_id(), (place(rate=rate),)))
    assert isinstance(answer, Refused)
    assert answer.reasons[0].reason == "requests"


def test_a_limit_that_a_vendor_told_holds_through_a_rebuild(ledger: Ledger, gate: Admission, rebuild: Rebuild) -> None:
    told = Told(requests=2, used_requests=1, requests_free_ms=60_000)
    for outcome in (seen(None, told), seen(None)):
        admitted = ask(gate)
        attempts.open_attempt(ledger, claim_of(admitted, accept(ledger)))
        gate.conclude(admitted, Used(0), outcome)
    rebuild.rebuild()
    answer = gate.admit(Ask(new_id(), (place(),)))
    assert isinstance(answer, Refused)
    assert (answer.reasons[0].reason, answer.reasons[0].what) == ("requests", "sim/small")


def test_a_redis_that_was_started_anew_is_not_believed(gate: Admission, rebuild: Rebuild, client: redis.Redis) -> None:
    before = gate.generation()
    assert not getattr(rebuild.go(), "is_rebuilt", True)
    client.set("{goblin}:server", "an earlier start")
    assert getattr(rebuild.go(), "is_rebuilt", False)
    assert gate.generation() not in (None, before)
    assert not list(client.scan_iter(gate.scripts.root(before or "") + "*"))


def test_a_worker_that_loads_its_scripts_beside_a_rebuild_takes_it_for_no_outage(
    client: redis.Redis, redis_url: str
) -> None:
    def loading() -> int:
        gates = [Admission(Scripts(kv.connect(redis_url))) for _ in range(40)]
        return len([gate.admit(Ask(new_id(), (place(),))) for gate in gates])

    workers = begin(loading)
    until(lambda: client.set("{goblin}:server", "as a rebuild does") and workers.done(), "their answers")
    assert workers.result() == 40


def test_what_comes_back_from_disk_is_not_believed_for_a_moment(
    processes: Processes, tmp_path: Path, ledger: Ledger
) -> None:
    valkey = ValkeyContainer(processes, tmp_path, durable=True)
    try:
        valkey.ready()
        gates = [Admission(Scripts(kv.connect(valkey.celeryconfig["url"]))) for _ in range(2)]
        rebuild = Rebuild(ledger, gates[0].scripts)
        rebuild.go()
        assert isinstance(gates[0].admit(Ask(new_id(), (place(),))), Admitted)
        valkey.kill("SIGKILL")
        valkey.restart()
        assert gates[0].generation() is not None
        assert [gate.admit(Ask(new_id(), (place(),))) for gate in gates] == [Refused(())] * 2
        rebuild.go()
        assert all(isinstance(gate.admit(Ask(new_id(), (place(),))), Admitted) for gate in gates)
    finally:
        valkey.teardown()


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


def test_a_call_of_a_day_that_has_begun_for_redis_and_not_yet_for_postgres_is_paid_by_it(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, key: uuid.UUID
) -> None:
    run = accept(ledger)
    admitted = replace(ask(gate, *above(run, key)), admitted_at=datetime(2031, 1, 1, tzinfo=UTC))
    attempts.open_attempt(ledger, claim_of(admitted, run))
    settle(ledger, admitted, 60)
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("update entries set created_at = '2030-12-31 23:59:59Z'")
    new_year_ms = round(admitted.admitted_at.timestamp() * 1000)
    with holds.renew(ledger, "next", now_ms=new_year_ms + 1_000, span_ms=SPAN_MS) as truth:
        assert truth.hours == (holds.Spending("sim", new_year_ms, 60),)


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


def test_many_processes_spend_a_budget_to_its_end_through_a_loss_of_redis(
    redis_url: str,
    database: str,
    ledger: Ledger,
    gate: Admission,
    rebuild: Rebuild,
    client: redis.Redis,
    key: uuid.UUID,
) -> None:
    limit = budget.of_key(key, 30_000)
    calling = begin(partial(together, 6, call_all, redis_url, database, key, limit))
    for share in (60, 120):
        until(lambda share=share: one(ledger, "select count(*) from entries").count >= share, "calls")
        client.flushdb()
        rebuild.go()
    hasty = replace(rebuild, vacant_ms=0, unopened_ms=1_000)  # those who die before they open hold the rest
    until(lambda: (marks.watch(ledger, LEASE), hasty.go() and calling.done())[1], "the end of the budget")
    paid = one(ledger, "select count(*), sum(amount_nanousd) from entries")
    assert sum(calling.result()) == paid.count
    assert paid.sum == 30_000
    assert [(state.spent, state.held) for state in counters(gate) if state.name == limit.name] == [(30_000, 0)]
