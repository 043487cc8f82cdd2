"""Redis loses everything: the counters are made true before anybody is admitted, and nothing is spent twice."""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from goblin import kv
from goblin.clock import new_id
from goblin.errors import Unavailable
from ledger import attempts, holds, marks, runs
from ledger.holds import Outdated
from ledger.session import Ledger
from routing import budget
from routing.admission import Admission, Admitted, Used
from routing.ask import SPAN_MS, Ask, Rate
from routing.breaker import Told, seen
from routing.rebuild import Rebuild
from routing.refusal import Refused
from routing.script import Scripts
from tests.fakes.askers import call_all, claim_of, counters, place, together
from tests.fakes.asks import NOON
from tests.fakes.holding import LARGE, LEASE, above, ask, counted, settle
from tests.fakes.racing import begin, until, until_waiting
from tests.fakes.runs import accept, one, request
from tests.processes import Processes, ValkeyContainer


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
        gates[0].scripts.client.waitaof(1, 0, 60_000)  # a busy disk may take seconds, and holds up the writing
        valkey.kill("SIGKILL")
        valkey.restart()
        assert gates[0].generation() is not None
        assert [gate.admit(Ask(new_id(), (place(),))) for gate in gates] == [Refused(())] * 2
        rebuild.go()
        assert all(isinstance(gate.admit(Ask(new_id(), (place(),))), Admitted) for gate in gates)
    finally:
        valkey.teardown()


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


def test_what_an_hour_has_spent_that_has_not_begun_yet_for_this_redis_is_paid_by_it(
    ledger: Ledger, gate: Admission, rebuild: Rebuild, client: redis.Redis, key: uuid.UUID
) -> None:
    run = accept(ledger)
    admitted = ask(gate, *above(run, key))
    admitted = replace(admitted, admitted_at=admitted.admitted_at + timedelta(hours=1))  # by a clock that went ahead
    attempts.open_attempt(ledger, claim_of(admitted, run))
    settle(ledger, admitted, 60)
    client.flushdb()
    rebuild.go()
    assert counted(gate, run)["all/hour"] == (60, 0)


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
