"""Identical requests on real workers: one call and one bill, whatever dies or is lost meanwhile."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import keys, runs
from ledger.runs import NewRun, NewStep
from routing.cache import Cache, Seat
from routing.replay import replay
from routing.script import Scripts
from tests.processes import Processes
from tests.world import Sim, World, saying, world
from workers.app import STEPS, provider_queue
from workers.canvas import publish
from workflow.text import text

CONFIG = """
[worker]
lease = 3
[goblins.chat]
instructions = "x"
task_class = "fast"
max_output_tokens = 100
[goblins.parrot]
instructions = "say it again"
task_class = "fast"
cache = true
[goblins.judge]
instructions = "x"
task_class = "fast"
verdict = true
cache = true
"""
SIMS = (
    Sim("sim"),
    Sim("slow", ("sim-instant+ttft=2",)),
    Sim("narrow", ("sim-instant+ttft=0.3",), options={"concurrency": 1}),
    Sim("stern", (saying("Not good enough.\nVERDICT: FAIL"),)),
    Sim("cut", ("sim-instant+tokens=500",)),
)


@pytest.fixture(scope="module")
def place(
    processes: Processes, database_url: str, stack: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("cache")
    redis_url = f"{stack.redis_url.rpartition('/')[0]}/13"  # type: ignore[attr-defined]
    with world(processes, folder, database_url, redis_url, *SIMS, extra=CONFIG) as made:
        made.redis.flushdb()
        made.start_worker("w1")
        made.start_worker("w2")
        made.start_scheduler()
        yield made


@pytest.fixture
def alone(processes: Processes, database: str, redis_url: str, tmp_path: Path) -> Iterator[World]:
    """A place whose workers the test starts, and kills."""
    with world(processes, tmp_path, database, redis_url, *SIMS, extra=CONFIG) as made:
        yield made


def calls(place: World, name: str) -> int:
    return sum(call["name"] == name for call in place.sim_get("calls"))


def outlast_a_flight(place: World) -> None:
    """Returns when a flight has ended that began now and that nobody renewed."""
    lease = place.settings.worker.lease
    other = Cache(Scripts(place.redis), place.settings.cache)
    other.recall("another request", "nobody", lease)
    place.until(lambda: other.recall("another request", "somebody", lease) is Seat.FLY)


def outputs(place: World, made: list[uuid.UUID]) -> set[str]:
    return {row.output for row in place.all("select output from steps where run_id = any (%s)", made)}


def paid(place: World, made: list[uuid.UUID]) -> list[int]:
    """What each of the entries is about, the dearest first."""
    rows = place.all("select amount_nanousd as amount from entries where run_id = any (%s) order by 1 desc", made)
    return [row.amount for row in rows]


def statuses(place: World, made: list[uuid.UUID]) -> list[str]:
    return [place.finished(run, 60).status for run in made]


def test_of_many_identical_requests_at_once_one_is_asked(place: World) -> None:
    plan = place.plan("chat@slow: hello")
    made = [place.submit(plan, cache=True) for _ in range(20)]
    assert statuses(place, made) == ["succeeded"] * 20
    assert calls(place, "slow") == 1
    assert len(outputs(place, made)) == 1
    first, *others = paid(place, made)
    assert first == place.sim_get("invoice")["names"]["slow"]["nanousd"]
    assert others == [0] * 19
    kept = place.all("select * from entries where run_id = any (%s) and price ->> 'source' = 'cache'", made)
    assert {(row.kind, row.is_measured, row.provider) for row in kept} == {("charge", True, "slow")}
    assert len(kept) == 19
    told = [dict(place.events(row.run_id)) for row in kept]
    assert all(events["step.finished"]["cached"] and events["run.finished"] for events in told)


def test_a_run_that_does_not_want_it_makes_a_call_of_its_own(place: World) -> None:
    plan = place.plan("parrot@sim: polly")
    before = calls(place, "sim")
    made = [place.submit(plan), place.submit(plan, cache=False)]
    assert statuses(place, made) == ["succeeded"] * 2
    assert calls(place, "sim") == before + 2
    again = place.submit(plan)
    assert statuses(place, [again]) == ["succeeded"]
    assert calls(place, "sim") == before + 2


def test_another_key_has_no_part_in_it(place: World) -> None:
    before = calls(place, "sim")
    for name in ("one", "two"):
        keys.create(place.ledger, name)
    made = [submit_as(place, "chat@sim: a secret", one.id) for one in keys.all_keys(place.ledger) for _ in range(2)]
    made.append(place.submit(place.plan("chat@sim: a secret"), cache=True))
    assert statuses(place, made) == ["succeeded"] * 5
    assert calls(place, "sim") == before + 3


def submit_as(place: World, workflow: str, key: uuid.UUID) -> uuid.UUID:
    plan = place.plan(workflow)
    steps = [NewStep(step.goblin, step.task, plan.dependencies(step.idx)) for step in plan.steps]
    run = runs.submit(place.ledger, NewRun(text(plan), plan.as_value(), {}, {"cache": True}, steps, key)).id
    publish(place.app, plan, run, 1)
    runs.mark_published(place.ledger, run, 1)
    return run


def test_those_who_wait_for_capacity_wait_for_no_flight(place: World) -> None:
    other = [place.submit(place.plan(f"chat@narrow: other {nr}")) for nr in range(3)]
    made = [place.submit(place.plan("chat@narrow: same"), cache=True) for _ in range(10)]
    assert statuses(place, other + made) == ["succeeded"] * 13
    assert calls(place, "narrow") == 4


@pytest.mark.parametrize(
    ("workflow", "name", "status"),
    [
        ("judge@stern: this THEN IF_FAILURE chat@sim: so be it", "stern", "failed"),
        ("chat@cut: go on", "cut", "succeeded"),
    ],
)
def test_an_answer_that_is_not_good_or_not_whole_is_given_to_nobody_else(
    place: World, workflow: str, name: str, status: str
) -> None:
    made = [place.submit(place.plan(workflow), cache=True) for _ in range(4)]
    assert statuses(place, made) == ["succeeded"] * 4
    assert {place.statuses(run)[0] for run in made} == {status}
    assert calls(place, name) == 4


def test_every_choice_follows_again_from_what_was_kept_of_it(place: World) -> None:
    among = {"providers": ["narrow", "sim", "cut"]}
    made = [place.submit(place.plan("chat: hello THEN chat: and again"), **among) for _ in range(10)]
    assert statuses(place, made) == ["succeeded"] * 10
    calls = place.all("select provider, model, decision from attempts where not decision ? 'cache'")
    assert len(calls) > 20
    for call in calls:
        again = replay(call.decision)
        assert again is not None
        assert again.leads_to(call.provider, call.model, call.decision["short"]), call


def test_a_flight_that_was_killed_is_flown_by_another(alone: World) -> None:
    first = alone.start_worker("w1")
    alone.start_scheduler()
    alone.sim_post("faults", {"name": "slow", "directives": "+ttft=100"})
    made = [alone.submit(alone.plan("chat@slow: hello"), cache=True)]
    alone.until(lambda: alone.one("select 1 from attempts where status = 'open'"))
    made += [alone.submit(alone.plan("chat@slow: hello"), cache=True) for _ in range(9)]
    alone.until(lambda: alone.one("select 1 from steps where status = 'waiting' having count(*) = 9"))
    first.kill("SIGKILL")
    alone.sim_post("faults", {"name": "slow", "directives": ""})
    alone.start_worker("w2")
    assert statuses(alone, made) == ["succeeded"] * 10
    assert calls(alone, "slow") <= 2
    assert alone.one("select count(*) as n from attempts where status = 'abandoned'").n == 1  # type: ignore[union-attr]
    measured = alone.one("select sum(amount_nanousd) as amount from entries where is_measured")
    assert measured is not None
    assert 0 < measured.amount <= alone.sim_get("invoice")["nanousd"]


def test_a_flight_goes_on_where_another_worker_makes_the_call(alone: World) -> None:
    """Also when that one takes it later than a flight lasts which nobody renews."""
    alone.start_worker("w1", queues=(STEPS,))
    made = [alone.submit(alone.plan("chat@slow: hello"), cache=True) for _ in range(10)]
    alone.until(lambda: alone.one("select 1 from attempts where owner is null"))
    outlast_a_flight(alone)
    alone.start_worker("w2", queues=(provider_queue("slow"),))
    assert statuses(alone, made) == ["succeeded"] * 10
    assert calls(alone, "slow") == 1


def test_a_message_that_comes_twice_ends_no_flight(alone: World) -> None:
    """Both fly for the same step, and one of them is first: the flight is that one's, as is the call."""
    alone.start_worker("w1")
    alone.finished(alone.submit(alone.plan("chat@sim: hello")))  # the counters are there: neither waits for them
    plan = alone.plan("chat@slow: hello")
    made = [alone.store(plan, cache=True)]
    blocked = "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with alone.ledger.engine.connect().execution_options(isolation_level="READ COMMITTED") as lock, lock.begin():
        lock.exec_driver_sql("select 1 from runs for update")
        for _ in range(2):
            publish(alone.app, plan, made[0], 1)
        alone.until(lambda: len(alone.all(blocked)) == 2)
        made += [alone.submit(plan, cache=True) for _ in range(4)]
        alone.until(lambda: alone.one("select 1 from steps where status = 'waiting' having count(*) = 4"))
    assert statuses(alone, made) == ["succeeded"] * 5
    assert calls(alone, "slow") == 1


def test_an_emptied_redis_costs_a_call_at_most(alone: World) -> None:
    alone.start_worker("w1")
    alone.start_scheduler()
    alone.until(lambda: alone.redis.get("goblin:marker"))
    made = [alone.submit(alone.plan("chat@slow: hello"), cache=True) for _ in range(10)]
    alone.until(lambda: alone.one("select 1 from attempts where status = 'open'"))
    alone.redis.flushdb()
    assert statuses(alone, made) == ["succeeded"] * 10
    assert calls(alone, "slow") <= 2
    assert sum(paid(alone, made)) == alone.sim_get("invoice")["nanousd"]
    assert len(outputs(alone, made)) == 1
