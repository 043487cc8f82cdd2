"""A cluster for pytest-celery: one Valkey and two workers per test, processes that may be killed and restarted; and
an admission whose counters are those of its ledger."""

import sys
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import redis
from pytest_celery import (
    CeleryBackendCluster,
    CeleryBrokerCluster,
    CeleryTestBackend,
    CeleryTestBroker,
    CeleryTestWorker,
    CeleryWorkerCluster,
)

from goblin import kv
from ledger import keys
from ledger.session import Ledger
from routing import memory
from routing.admission import Admission
from routing.rebuild import Rebuild
from routing.script import Scripts
from tests.fakes.runs import one
from tests.processes import Processes, ValkeyContainer, WorkerContainer

WORKERS = ("w1", "w2")


def worker_command(name: str) -> list[str]:
    return [sys.executable, "-m", "cli.main", "worker", "--name", f"{name}@%h"]


@pytest.fixture
def worker_environment(celery_broker_cluster: CeleryBrokerCluster, database: str) -> dict[str, str]:
    """Where the workers find their servers; a test that needs more overrides it."""
    return {"DATABASE_URL": database, "REDIS_URL": celery_broker_cluster[0].config()["url"]}


@pytest.fixture
def celery_broker_cluster(processes: Processes, tmp_path: Path) -> Iterator[CeleryBrokerCluster]:
    broker = CeleryTestBroker(ValkeyContainer(processes, tmp_path))
    broker.ready()
    yield CeleryBrokerCluster(broker)
    broker.teardown()


@pytest.fixture
def celery_backend_cluster(celery_broker_cluster: CeleryBrokerCluster) -> CeleryBackendCluster:
    return CeleryBackendCluster(CeleryTestBackend(celery_broker_cluster[0].container))


@pytest.fixture
def celery_worker_cluster(
    processes: Processes, tmp_path: Path, worker_environment: dict[str, str]
) -> Iterator[CeleryWorkerCluster]:
    containers = [
        WorkerContainer(
            processes,
            name,
            worker_command(name),
            log=tmp_path / f"{name}.log",
            env=worker_environment,
            ready_prompt=" ready.",
        )
        for name in WORKERS
    ]
    cluster = CeleryWorkerCluster(*[CeleryTestWorker(container, None) for container in containers])
    cluster.ready()
    yield cluster
    for node in cluster:
        node.teardown()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    client = kv.connect(redis_url)
    yield client
    client.close()


@pytest.fixture
def ledger(database: str) -> Iterator[Ledger]:
    ledger = Ledger(database)
    yield ledger
    ledger.close()


@pytest.fixture
def gate(client: redis.Redis, ledger: Ledger) -> Admission:
    return Admission(Scripts(client), keep=partial(memory.keep, ledger))


@pytest.fixture
def rebuild(ledger: Ledger, gate: Admission) -> Rebuild:
    rebuild = Rebuild(ledger, gate.scripts, ended_ms=0)
    assert rebuild.go() is not None
    return rebuild


@pytest.fixture
def key(ledger: Ledger) -> uuid.UUID:
    """The id of an API key."""
    keys.create(ledger, "somebody")
    return uuid.UUID(str(one(ledger, "select id from keys").id))
