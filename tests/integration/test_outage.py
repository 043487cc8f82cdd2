"""A provider is down for a while: those who can go elsewhere do, those who cannot wait, and nobody is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.embedded import Stack
from tests.fakes.load import submit
from tests.fakes.outage import REST_S, break_down, come_back, first_seconds, visits, waves
from tests.processes import Processes
from tests.world import Sim, World, world

EXTRA = """
[worker]
lease = 3
[goblins.chat]
instructions = "x"
task_class = "fast"
max_output_tokens = 50
"""
SIMS = (
    Sim("only"),
    Sim("lonely"),
    Sim("silent", options={"first_token_timeout": 0.5}),
    Sim("locked", ("sim-instant+auth",)),
    Sim("east", options={"priority": 1}),
    Sim("west"),
)


@pytest.fixture(scope="module")
def place(
    processes: Processes, stack: Stack, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("outage")
    redis_url = f"{stack.redis_url.rpartition('/')[0]}/13"
    with world(processes, folder, database_url, redis_url, *SIMS, extra=EXTRA) as made:
        made.redis.flushdb()
        made.start_worker("w1")
        made.start_worker("w2")
        made.start_scheduler()
        yield made


def test_with_one_provider_all_wait_and_then_run(place: World) -> None:
    break_down(place, "only")
    made = submit(place, "chat@only: hello", 8)
    place.until(lambda: waiting(place) == len(made))
    down = visits(place, "only")
    come_back(place, "only")
    assert {place.finished(run).status for run in made} == {"succeeded"}
    calls = visits(place, "only")
    back = calls[len(down) :]
    assert [call.status for call in back] == [200] * len(made)
    assert back[0].at - down[-1].at > REST_S - 1
    assert first_seconds(calls, 2) <= 2


@pytest.mark.parametrize(("name", "fault"), [("lonely", "+fail=503"), ("silent", "+silent")])
def test_a_step_that_has_nobody_else_outlives_a_fault(place: World, name: str, fault: str) -> None:
    place.sim_post("faults", {"name": name, "directives": fault})
    (run,) = submit(place, f"chat@{name}: hello", 1)
    place.until(lambda: place.one("select 1 from steps where run_id = %s and status = 'waiting'", run))
    come_back(place, name)
    assert place.finished(run).status == "succeeded"
    assert {kind for kind, _ in place.events(run)} >= {"step.waiting", "step.finished"}


def test_nobody_waits_for_a_key_that_does_not_work(place: World) -> None:
    first, second = (submit(place, "chat@locked: hello", 1)[0] for _ in range(2))
    assert {place.finished(run).status for run in (first, second)} == {"failed"}
    (third,) = submit(place, "chat@locked: hello", 1)
    assert place.finished(third).status == "failed"
    errors = place.all("select error from steps where run_id = any(%s)", [first, second, third])
    assert [row.error["type"] for row in errors] == ["bad_credentials"] * 3
    assert place.all("select 1 from attempts where run_id = %s", third) == []


def test_who_may_go_elsewhere_does_not_wait(place: World) -> None:
    break_down(place, "east")
    made = submit(place, "chat: hello", 20)
    assert {place.finished(run).status for run in made} == {"succeeded"}
    rows = place.all("select distinct provider from steps where run_id = any(%s)", made)
    assert "east" not in {row.provider for row in rows}
    assert len(waves(visits(place, "east"))) <= 2


def waiting(place: World) -> int:
    row = place.one("select count(*) as n from steps where status = 'waiting'")
    return int(row.n) if row else 0


def test_patience_with_who_is_down_for_good_ends(
    processes: Processes, stack: Stack, database: str, redis_url: str, tmp_path: Path
) -> None:
    extra = f"[routing]\noutage_patience = 4\n{EXTRA}"
    with world(processes, tmp_path, database, redis_url, Sim("gone", ("sim-instant+fail=503",)), extra=extra) as place:
        place.start_worker()
        place.start_scheduler()
        (run,) = submit(place, "chat@gone: hello", 1)
        assert place.finished(run).status == "failed"
        row = place.one("select error from steps where run_id = %s", run)
        assert row is not None
        assert row.error["type"] == "no_candidate"
        assert "answered 503" in row.error["message"]
        assert {kind for kind, _ in place.events(run)} >= {"step.waiting", "run.finished"}
        first, *_, last = visits(place, "gone")
        assert len(visits(place, "gone")) >= 4
        assert last.at - first.at > 2
