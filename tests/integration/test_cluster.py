"""Two `goblin worker` processes as a cluster of pytest-celery: they share the work, answer, and may be killed."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_celery import CeleryBrokerCluster, CeleryWorkerCluster

from tests.processes import Processes
from tests.world import Sim, World, saying, world

RUNS = 12


@pytest.fixture
def place(
    processes: Processes, database: str, celery_broker_cluster: CeleryBrokerCluster, tmp_path: Path
) -> Iterator[World]:
    url = celery_broker_cluster[0].config()["url"]
    sims = (Sim("quick", (saying("done"),)), Sim("slow", (f"{saying('done')}+ttft=1",)))
    extra = "[worker]\nlease = 3\nconcurrency = 4\n"
    with world(processes, tmp_path, database, url, *sims, extra=extra) as made:
        yield made


@pytest.fixture
def worker_environment(place: World) -> dict[str, str]:
    return place.env


def submit(place: World) -> list[uuid.UUID]:
    plan = place.plan("chat@slow: one THEN chat@slow: two AND chat@quick: three")
    return [place.submit(plan) for _ in range(RUNS)]


def owners(place: World) -> set[uuid.UUID]:
    """The worker processes that made calls."""
    return {row.owner for row in place.all("select distinct owner from attempts where owner is not null")}


def answering(place: World) -> set[str]:
    """Who answers a control message."""
    return {name.partition("@")[0] for answer in place.app.control.ping(timeout=1) for name in answer}


def test_both_workers_answer_and_share_the_load(place: World, celery_worker_cluster: CeleryWorkerCluster) -> None:
    names = {node.worker_name for node in celery_worker_cluster}
    place.until(lambda: answering(place) == names)
    made = submit(place)
    assert {place.finished(run).status for run in made} == {"succeeded"}
    assert len(owners(place)) == 2


def test_a_worker_that_is_killed_and_restarted_loses_nothing(
    place: World, celery_worker_cluster: CeleryWorkerCluster
) -> None:
    place.start_scheduler()
    made = submit(place)
    place.until(lambda: len(owners(place)) == 2)
    celery_worker_cluster[0].kill()
    celery_worker_cluster[0].restart()
    made += submit(place)
    assert {place.finished(run, 60).status for run in made} == {"succeeded"}
    assert len(owners(place)) == 3  # a process that was restarted is another owner
    place.until(lambda: answering(place) >= {node.worker_name for node in celery_worker_cluster})
    done = place.all("select run_id, idx from attempts where status = 'succeeded'")
    assert len(done) == len(set(done)) == 3 * len(made)
