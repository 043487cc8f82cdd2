"""An API whose servers are away: what it still takes, and how it says what it does not."""

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from goblin.settings import Settings

Serve = Callable[[Settings, Mapping[str, str]], AbstractContextManager[str]]
NOWHERE = "127.0.0.1:9"


@pytest.fixture
def without_redis(settings_of: Any, database: str, serve: Serve) -> Iterator[httpx.Client]:
    with (
        serve(settings_of(database, f"redis://{NOWHERE}/0"), {}) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        yield client


@pytest.fixture
def without_postgres(settings_of: Any, redis_url: str, serve: Serve) -> Iterator[httpx.Client]:
    settings = settings_of(f"postgresql://goblin@{NOWHERE}/goblin", redis_url)
    with serve(settings, {}) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def test_a_redis_that_hangs_keeps_nobody_from_submitting_and_looking(
    settings_of: Any, database: str, serve: Serve
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = settings_of(database, f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        with serve(settings, {}) as url, httpx.Client(base_url=url, timeout=60) as client:
            answer = client.post("/v1/runs", json={"workflow": "chat: a AND chat: b THEN chat: c"})
            assert answer.status_code == 202
            assert client.get(answer.headers["location"]).json()["status"] == "queued"


@pytest.mark.parametrize("workflow", ["chat: hi", "chat: a AND chat: b THEN chat: c", "chat: a AND chat: b"])
def test_without_redis_runs_are_accepted_and_wait(without_redis: httpx.Client, workflow: str) -> None:
    answer = without_redis.post("/v1/runs", json={"workflow": workflow})
    assert answer.status_code == 202, answer.text
    assert without_redis.get(answer.headers["location"]).json()["status"] == "queued"


def test_without_redis_tasks_are_started_and_polled(without_redis: httpx.Client) -> None:
    started = without_redis.post("/api/route_task_stream_start", json={"task_type": "chat"}).json()
    assert started["provider"] == "sim"
    polled = without_redis.get(f"/api/route_task_stream_poll/{started['stream_id']}").json()
    assert (polled["status"], polled["chunks"]) == ("running", [])


def test_without_redis_a_run_is_cancelled_and_followed_to_its_end(without_redis: httpx.Client) -> None:
    run = without_redis.post("/v1/runs", json={"workflow": "chat: hi"}).json()["id"]
    assert without_redis.post(f"/v1/runs/{run}/cancel").json()["status"] == "cancelled"
    assert "event: run.finished" in without_redis.get(f"/v1/runs/{run}/events").text


def test_without_redis_the_health_is_degraded(without_redis: httpx.Client) -> None:
    answer = without_redis.get("/api/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["parts"] == {"postgres": "up", "redis": "down"}


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/runs"), ("GET", "/v1/runs"), ("GET", "/v1/runs/0199c2f4-6f0e-7c3a-9d0b-2f6f1f1f7a10/events")],
)
def test_without_postgres_callers_are_asked_to_come_back(
    without_postgres: httpx.Client, method: str, path: str
) -> None:
    body = {"json": {"workflow": "chat: hi"}} if method == "POST" else {}
    answer = without_postgres.request(method, path, **body)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    assert int(answer.headers["retry-after"]) > 0


def test_without_postgres_the_health_says_so(without_postgres: httpx.Client) -> None:
    answer = without_postgres.get("/api/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "unhealthy")


def test_a_crash_is_a_500_that_gives_nothing_away(api: Any) -> None:
    with api.hand.ledger.engine.connect() as connection:
        connection.exec_driver_sql("drop table steps cascade")
    answer = api.client.post("/v1/runs", json={"workflow": "chat: a-secret-task"})
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal")
    assert "secret" not in answer.text
    assert "select" not in answer.text.lower()
