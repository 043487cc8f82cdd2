"""Time that is over, of a run or a step, and a cancel, seen from both sides: by whoever asked, and by the provider."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cli.embedded import Stack
from goblin.clock import now
from ledger import runs
from tests.fakes.ran import WHOLE, Ran, outcomes
from tests.processes import Processes
from tests.world import Sim, World, world
from workers.app import STEPS, provider_queue
from workers.lease import CANCEL

SIMS = (
    Sim("good", (WHOLE,)),
    Sim("endless", (f"{WHOLE}+speed=1",)),
    Sim("endless-too", (f"{WHOLE}+speed=1",)),
    Sim("cooling", (f"{WHOLE}+fail=429+after=60",)),
    Sim("late", (f"{WHOLE}+speed=1",)),
)
GOBLIN = """
[goblins.{name}]
instructions = "x"
task_class = "fast"
max_output_tokens = 200
"""
QUICK = "[worker]\nlease = 3\n"
GOBLINS = {"chat": "", "hasty": "timeout = 1", "breathless": "timeout = 0.000001"}


@pytest.fixture(scope="module")
def place(
    processes: Processes, stack: Stack, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("deadlines")
    redis_url = f"{stack.redis_url.rpartition('/')[0]}/12"
    extra = "".join(GOBLIN.format(name=name) + more for name, more in GOBLINS.items())
    with world(processes, folder, database_url, redis_url, *SIMS, extra=extra) as made:
        made.redis.flushdb()
        made.start_worker("w1")
        yield made


def test_a_call_is_cut_when_the_run_s_time_is_over(place: World) -> None:
    soon = (now() + timedelta(seconds=2)).isoformat()
    one = Ran(place, place.submit(place.plan("chat@late: one THEN chat@late: two"), deadline=soon))
    assert one.row.status == "failed"
    assert one.tries == [("late", "failed", "deadline_passed")]
    errors = {row.idx: (row.status, (row.error or {}).get("type")) for row in place.all(
        "select idx, status, error from steps where run_id = %s", one.id
    )}  # fmt: skip
    assert errors == {0: ("failed", "deadline_passed"), 1: ("skipped", None)}
    assert one.charges == [("late", False)]
    assert "step.reset" not in one.kinds
    place.until(lambda: outcomes(place, "late") == [(200, "client_gone")])


def test_a_step_that_waits_fails_when_the_run_s_time_is_over(place: World) -> None:
    soon = (now() + timedelta(seconds=3)).isoformat()
    one = Ran(place, place.submit(place.plan("chat@cooling: one"), deadline=soon))
    assert one.row.status == "failed"
    assert one.step.error["type"] == "deadline_passed"
    assert one.kinds == ["step.started", "step.reset", "step.waiting", "step.finished", "run.finished"]
    assert outcomes(place, "cooling") == [(429, "error")]


def test_a_step_has_the_time_that_its_goblin_gives(place: World) -> None:
    one = Ran(place, place.submit(place.plan("hasty@endless-too: one THEN IF_FAILURE chat@good: two")))
    assert one.row.status == "succeeded"
    assert one.tries == [("endless-too", "failed", "deadline_passed"), ("good", "succeeded", None)]


def test_the_time_of_a_step_begins_with_its_first_call(place: World) -> None:
    one = Ran(place, place.submit(place.plan("breathless@good: one")))
    assert one.row.status == "failed"
    assert one.tries == [("good", "failed", "deadline_passed")]


def test_a_cancelled_call_ends_and_is_paid_for(place: World) -> None:
    run = place.submit(place.plan("chat@endless: one"))
    place.until(lambda: "delta" in dict(place.events(run)))
    assert runs.request_cancel(place.ledger, run) == ()
    place.redis.publish(CANCEL, str(run))
    one = Ran(place, run)
    assert one.row.status == "cancelled"
    assert one.kinds == ["step.started", "delta", "step.finished", "run.finished"]
    assert one.tries == [("endless", "failed", "cancelled")]
    assert one.charges == [("endless", False)]
    assert one.row.cost_nanousd == one.entries[0].amount_nanousd > 0
    place.until(lambda: outcomes(place, "endless") == [(200, "client_gone")])


def test_a_call_that_lies_in_its_provider_s_queue_is_called_back_when_the_time_is_over(
    processes: Processes, database: str, redis_url: str, tmp_path: Path
) -> None:
    """Of the run, or of the step: nobody takes the calls of `away`, and what follows has its turn at once."""
    extra = "".join(GOBLIN.format(name=name) + GOBLINS[name] for name in ("chat", "hasty"))
    sims = (Sim("good", (WHOLE,)), Sim("away"))
    with world(processes, tmp_path, database, redis_url, *sims, extra=QUICK + extra) as place:
        place.start_scheduler()
        place.start_worker("w1", queues=(STEPS, provider_queue("good")))
        soon = (now() + timedelta(seconds=2)).isoformat()
        run = place.submit(place.plan("chat@away: one"), deadline=soon)
        step = place.submit(place.plan("hasty@away: one THEN IF_FAILURE chat@good: two"))
        first, second = Ran(place, run), Ran(place, step)
        assert (first.row.status, first.step.error["type"], first.charges) == ("failed", "deadline_passed", [])
        assert first.tries == [("away", "abandoned", "deadline_passed")]
        assert (second.row.status, second.charges) == ("succeeded", [("good", True)])
        assert second.tries == [("away", "abandoned", "deadline_passed"), ("good", "succeeded", None)]
        assert outcomes(place, "away") == []
