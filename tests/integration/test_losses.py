"""Parts die, messages come twice or never, providers break: nothing is lost and nothing is paid twice."""

import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import runs
from routing.rebuild import Rebuild
from routing.script import Scripts
from routing.waiting import WAITERS
from tests.fakes.wire import Wire
from tests.processes import Processes, WorkerContainer
from tests.world import Sim, World, world
from workers.canvas import publish
from workers.lease import CANCEL

QUICK = "[worker]\nlease = 3\n[routing]\nhealth_check_interval = 600\n"
SLOW = "sim-instant+ttft=1.5"
CUT_S = float(os.environ.get("GOBLIN_CUT_S", "6"))
RACES = 40  # runs
FLOW = "chat@sim: one THEN chat@sim: two AND chat@sim: three THEN chat@sim: four"


@pytest.fixture
def place(processes: Processes, database: str, redis_url: str, tmp_path: Path) -> Iterator[World]:
    sims = (Sim("sim"), Sim("slow", (SLOW,)), Sim("endless", ("sim-instant+ttft=300",), options={"timeout": 600}))
    with world(processes, tmp_path, database, redis_url, *sims, extra=QUICK) as made:
        yield made


def calls_of(place: World, name: str) -> int:
    return sum(call["name"] == name for call in place.sim_get("calls")["calls"])


def attempts_of(place: World, run: uuid.UUID) -> list[tuple[int, str]]:
    rows = place.all("select idx, status from attempts where run_id = %s order by idx, number", run)
    return [(row.idx, row.status) for row in rows]


def test_a_killed_worker_loses_neither_work_nor_money(place: World) -> None:
    first = place.start_worker("w1")
    place.start_scheduler()
    run = place.submit(place.plan("chat@sim: one THEN chat@slow: two THEN chat@sim: three"))
    place.until(lambda: place.one("select 1 from attempts where run_id = %s and idx = 1", run))
    first.kill("SIGKILL")
    place.start_worker("w2")
    assert place.finished(run, 60).status == "succeeded"
    assert attempts_of(place, run) == [(0, "succeeded"), (1, "abandoned"), (1, "succeeded"), (2, "succeeded")]
    entries = place.all("select idx, is_measured, amount_nanousd from entries where run_id = %s order by id", run)
    assert sorted((entry.idx, entry.is_measured) for entry in entries) == [(0, True), (1, False), (1, True), (2, True)]
    assert place.finished(run).cost_nanousd == sum(entry.amount_nanousd for entry in entries)


def test_a_call_that_dies_with_the_only_slot_of_its_worker_and_of_its_provider_holds_up_nobody(
    processes: Processes, database: str, redis_url: str, tmp_path: Path
) -> None:
    """Its step is called again, and those that stand behind it have their turns."""
    alone = QUICK.replace("lease = 3\n", "lease = 3\nconcurrency = 1\n")
    sim = Sim("narrow", (SLOW,), options={"concurrency": 1})
    with world(processes, tmp_path, database, redis_url, sim, extra=alone) as place:
        first = place.start_worker("w1")
        place.start_scheduler()
        made = [place.submit(place.plan("chat@narrow: one THEN chat@narrow: two")) for _ in range(4)]
        place.until(lambda: place.one("select 1 from attempts where status = 'open'"))
        first.kill("SIGKILL")
        place.start_worker("w2")
        assert [place.finished(run, 60).status for run in made] == ["succeeded"] * 4
        ends = place.all("select status, count(*) from attempts group by status order by status")
        assert [tuple(row) for row in ends] == [("abandoned", 1), ("succeeded", 8)]


def test_an_emptied_redis_stops_nothing(place: World) -> None:
    place.start_worker("w1")
    place.start_scheduler()
    place.until(lambda: place.redis.get("goblin:marker"))
    made = [place.submit(place.plan("chat@slow: one THEN chat@sim: two AND chat@sim: three")) for _ in range(10)]
    place.until(lambda: place.one("select 1 from attempts where status = 'open'"))
    place.redis.flushdb()
    assert [place.finished(run, 60).status for run in made] == ["succeeded"] * 10
    assert place.one("select 1 from attempts where status = 'open'") is None
    charges = place.one("select count(*) as n, count(distinct (run_id, idx)) as steps from entries")
    assert charges is not None
    assert (charges.n, charges.steps) == (30, 30)


def test_who_waited_for_the_counters_goes_on_together_once_they_are_counted(place: World) -> None:
    place.start_worker("w1")
    rebuild = Rebuild(place.ledger, Scripts(place.redis))
    place.redis.flushdb()
    made = [place.submit(place.plan("chat@sim: one")) for _ in range(100)]
    place.until(lambda: place.redis.hlen(WAITERS) == len(made))
    rebuild.go()
    place.until(lambda: place.one("select count(*) from runs where finished_at is null having count(*) = 0"))
    assert {place.finished(run).status for run in made} == {"succeeded"}


def test_counters_that_the_ledger_does_not_know_are_not_asked_without_end(place: World) -> None:
    """As after a failover of Postgres that lost its last moments, while no scheduler counts anew."""
    place.start_worker("w1")
    scripts = Scripts(place.redis)
    place.redis.set(f"{scripts.prefix}:generation", "unknown")
    run = place.submit(place.plan("chat@sim: one"))
    place.until(lambda: place.statuses(run) == {0: "waiting"})
    Rebuild(place.ledger, scripts).go()
    assert place.finished(run).status == "succeeded"
    assert attempts_of(place, run) == [(0, "succeeded")]


def test_a_canvas_that_is_sent_twice_calls_each_step_once(place: World) -> None:
    place.start_worker("w1")
    place.start_scheduler()
    plan = place.plan("chat@slow: one THEN chat@sim: two AND chat@slow: three THEN chat@sim: four")
    run = place.submit(plan)
    publish(place.app, plan, run, 1)
    publish(place.app, plan, run, 1)
    assert place.finished(run).status == "succeeded"
    place.until(lambda: place.redis.llen("steps") == 0)
    assert attempts_of(place, run) == [(idx, "succeeded") for idx in range(4)]


def test_of_canvases_that_race_for_each_step_one_goes_on_whoever_wins_which(place: World) -> None:
    """Nobody mends it: no scheduler runs."""
    plan = place.plan(" AND ".join(["chat@sim: one"] * 3) + " THEN IF_FAILURE chat@sim: no THEN chat@sim: last")
    for _ in range(RACES):
        run = place.submit(plan)
        for _ in range(2):
            publish(place.app, plan, run, 1)
    place.start_worker("w1", waits=False)
    place.start_worker("w2")
    place.until(lambda: place.one("select 1 from runs having count(*) = count(finished_at)"))
    calls = place.one("select count(*) as n from attempts where status = 'succeeded'")
    assert calls is not None
    assert calls.n == 4 * RACES


def test_a_message_of_an_old_epoch_ends_at_once(place: World) -> None:
    plan = place.plan(FLOW)
    run = place.submit(plan)
    epoch = runs.renew_epochs(place.ledger, {run: 1})[run]
    assert epoch == 2
    place.start_worker("w1")
    place.until(lambda: place.redis.llen("steps") == 0)
    assert set(place.statuses(run).values()) == {"pending"}
    publish(place.app, plan, run, epoch)
    assert place.finished(run).status == "succeeded"


def test_what_was_never_published_runs_all_the_same(place: World) -> None:
    place.start_worker("w1")
    place.start_scheduler()
    run = place.store(place.plan(FLOW))
    assert place.finished(run).status == "succeeded"


def test_a_message_that_was_lost_on_the_way_is_sent_again(place: World) -> None:
    place.start_scheduler()
    run = place.submit(place.plan(FLOW))
    place.until(lambda: place.redis.llen("steps"))
    place.redis.delete("steps")
    place.start_worker("w1")
    assert place.finished(run, 60).status == "succeeded"
    assert attempts_of(place, run) == [(idx, "succeeded") for idx in range(4)]


def test_a_worker_that_was_frozen_past_its_lease_changes_nothing(place: World) -> None:
    frozen = place.start_worker("w1")
    place.start_scheduler()
    run = place.submit(place.plan("chat@slow: one THEN chat@sim: two"))
    place.until(lambda: place.one("select 1 from attempts where run_id = %s", run))
    os.kill(frozen.pid, signal.SIGSTOP)
    place.start_worker("w2")
    assert place.finished(run, 60).status == "succeeded"
    before = place.statuses(run), attempts_of(place, run)
    os.kill(frozen.pid, signal.SIGCONT)
    assert place.finished(place.submit(place.plan(FLOW))).status == "succeeded"
    frozen.teardown()
    assert (place.statuses(run), attempts_of(place, run)) == before
    assert before[1] == [(0, "abandoned"), (0, "succeeded"), (1, "succeeded")]
    spent = place.one("select sum(amount_nanousd) as amount from entries where run_id = %s", run)
    assert spent is not None
    assert place.finished(run).cost_nanousd == spent.amount


@pytest.fixture
def deploying(processes: Processes, database: str, redis_url: str, tmp_path: Path) -> Iterator[World]:
    """Leases that last for longer than anybody here waits, and little grace for calls when a worker stops."""
    sims = (Sim("breaks", ("sim-instant+cut=5+ttft=2",)), Sim("sim"), Sim("endless", ("sim-instant+ttft=300",)))
    extra = (
        "[worker]\nlease = 120\ngrace = 4\n[routing]\nhealth_check_interval = 600\n"
        "[goblins.chat]\ninstructions = 'Answer.'\nproviders = ['breaks']\n"
    )
    with world(processes, tmp_path, database, redis_url, *sims, extra=extra) as made:
        yield made


def begin_to_stop(worker: WorkerContainer, place: World, run: uuid.UUID) -> None:
    place.until(lambda: place.one("select 1 from attempts where run_id = %s", run))
    os.kill(worker.pid, signal.SIGTERM)
    place.until(lambda: worker.status == "exited", 60)


def test_a_stopping_worker_gives_back_the_calls_that_do_not_end_in_time(deploying: World) -> None:
    place = deploying
    run = place.submit(place.plan("chat@endless: one"))
    begin_to_stop(place.start_worker("w1"), place, run)
    given = place.one(
        "select status, lease_until <= now() as is_free, hold_nanousd = spent_nanousd as is_known from attempts"
    )
    assert given is not None
    assert tuple(given) == ("open", True, True)


def test_a_stopping_worker_claims_nothing_more_and_passes_its_message_on(deploying: World) -> None:
    """No recovery is needed: nobody publishes the run anew."""
    place = deploying
    run = place.submit(place.plan("chat: one"), providers=["breaks", "sim"])
    begin_to_stop(place.start_worker("w1"), place, run)
    assert attempts_of(place, run) == [(0, "failed")]
    place.start_worker("w2")
    assert place.finished(run, 60).status == "succeeded"
    row = place.one("select epoch, (select count(distinct owner) from attempts) as owners from runs")
    assert row is not None
    assert (row.epoch, row.owners) == (1, 2)


def test_a_step_that_is_cancelled_in_the_middle_of_its_call_is_cut_and_the_run_goes_on(place: World) -> None:
    place.start_worker("w1")
    run = place.submit(place.plan("chat@endless: one THEN IF_FAILURE chat@sim: two"))
    place.until(lambda: place.one("select 1 from attempts where run_id = %s", run))
    cancelled = runs.cancel_step(place.ledger, run, 0, {"type": "cancelled", "message": "it was cancelled"})
    assert cancelled is not None
    assert cancelled.status == "running"
    place.redis.publish(CANCEL, str(run))
    assert place.finished(run).status == "succeeded"
    assert place.statuses(run) == {0: "cancelled", 1: "succeeded"}
    assert [kind for kind, _ in place.events(run)].count("step.finished") == 2
    spent = place.all("select idx, is_measured from entries where run_id = %s order by idx", run)
    assert [tuple(entry) for entry in spent] == [(0, False), (1, True)]


@pytest.mark.parametrize("how", ["refused", "silent, then closed"])
def test_a_worker_that_was_cut_off_from_redis_for_a_while_takes_messages_again(place: World, how: str) -> None:
    place.start_scheduler()
    with Wire(place.env["REDIS_URL"]) as wire:
        worker = place.start_worker("w1", env={**place.env, "REDIS_URL": wire.url})
        assert place.finished(place.submit(place.plan(FLOW))).status == "succeeded"
        if how == "refused":
            wire.shut()
        else:
            wire.silence()
        stuck = place.submit(place.plan(FLOW))
        until_past(place, CUT_S)
        wire.cut()
        wire.mend()
        assert place.finished(stuck, 60).status == "succeeded"
        assert place.finished(place.submit(place.plan(FLOW))).status == "succeeded"
        worker.teardown()


def until_past(place: World, seconds: float) -> None:
    end = time.monotonic() + seconds
    place.until(lambda: time.monotonic() >= end, seconds + 5)
