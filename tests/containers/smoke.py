"""The compose file as whoever deploys it has it: built, started, used from outside, and taken down with its volumes.

`make containers` runs this; the other test runs do not collect it, as it needs Docker and minutes. The project's name
and ports are its own, so it leaves a stack that is already up alone.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.client import Answered, Api
from cli.events import FINISHED, events
from goblin.money import from_usd

HERE = Path(__file__).parent
PROJECT = ["docker", "compose", "--project-name", "goblin-smoke", "--profile", "demo", "--env-file", os.devnull]
ENVIRONMENT = {**os.environ, "GOBLIN_CONFIG": str(HERE / "goblin.toml"), "GOBLIN_PORT": "0", "FLOWER_PORT": "0"}
PATIENCE_S = 60
FAST, SLOW = "sim/sim-instant", "sim/sim-instant+ttft=3"
ONCE = {"keys", "migrate"}


def compose(*arguments: str) -> str:
    """What the command printed. What it says of its progress goes to the terminal."""
    done = subprocess.run(
        [*PROJECT, *arguments], cwd=HERE.parents[1], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


def secret(name: str) -> str:
    return compose("exec", "-T", "api", "cat", f"/keys/{name}")


def url(service: str, port: int) -> str:
    """Where a service of the stack is published."""
    return f"http://{compose('port', service, str(port))}"


def ledger(sql: str) -> list[str]:
    rows = compose("exec", "-T", "postgres", "psql", "-qtAU", "goblin", "-d", "goblin", "-c", sql)
    return rows.splitlines()


def until(found: Callable[[], Any]) -> Any:
    give_up = time.monotonic() + PATIENCE_S
    while not (value := found()):
        if time.monotonic() > give_up:
            raise TimeoutError(f"nothing after {PATIENCE_S} s")
        time.sleep(0.2)
    return value


@pytest.fixture(scope="module", autouse=True)
def containers() -> Iterator[None]:
    compose("config", "--quiet")
    try:
        compose("up", "--detach", "--build", "--wait")
        yield
    finally:
        print(compose("logs", "--no-color", "--tail", "50"))  # noqa: T201 - shown with a failure
        compose("down", "--volumes", "--timeout", "5")


@pytest.fixture
def api() -> Iterator[Api]:
    with Api(url("api", 3001), key=secret("api")) as made:
        yield made


def test_every_service_is_up_and_runs_as_nobody_special() -> None:
    shown = [json.loads(line) for line in compose("ps", "--all", "--format", "json").splitlines()]
    assert {one["Service"]: one["ExitCode"] for one in shown if one["State"] == "exited"} == dict.fromkeys(ONCE, 0)
    running = {one["Service"]: one["Health"] for one in shown if one["State"] == "running"}
    expected = {"api", "flower", "postgres", "redis", "scheduler", "simulator", "worker"}
    assert running == dict.fromkeys(expected, "healthy")
    for service in expected - {"postgres", "redis"}:
        assert compose("exec", "-T", service, "id", "-u") == "1000"


def test_nobody_gets_in_without_the_key_or_the_password(api: Api) -> None:
    with Api(api.url) as stranger, pytest.raises(Answered, match="API key"):
        stranger.runs(limit=1, status=None)
    assert api.runs(limit=1, status=None) == []
    flower = url("flower", 5555)
    assert httpx.get(f"{flower}/workers", trust_env=False).status_code == 401
    known = httpx.get(f"{flower}/workers", auth=("goblin", secret("flower")), trust_env=False)
    assert "celery@" in known.raise_for_status().text


def test_a_workflow_is_followed_to_its_end_and_its_cost_is_in_the_ledger(api: Api) -> None:
    run = api.submit({"workflow": f"docs-writer@{FAST}: write THEN chat@{FAST}: one AND translate@{FAST}: two"})
    told = list(events(api, run))
    assert told[-1].type == FINISHED
    assert [one.type for one in told].count("step.finished") == 3
    ended = api.run(run)
    assert ended["status"] == "succeeded"
    assert all(step["output"] for step in ended["steps"])
    charges = [int(row) for row in ledger(f"select amount_nanousd from entries where run_id = '{run}'")]
    assert len(charges) == 3
    assert 0 < sum(charges) == from_usd(ended["cost_usd"])


def test_a_worker_that_is_killed_comes_back_and_the_run_ends(api: Api) -> None:
    run = api.submit({"workflow": f"chat@{FAST}: one THEN chat@{SLOW}: two THEN chat@{FAST}: three"})
    until(lambda: ledger(f"select 1 from attempts where run_id = '{run}' and idx = 1 and status = 'open'"))
    compose("exec", "-T", "worker", "sh", "-c", "kill -KILL -1")  # all but the init that notices
    until(lambda: api.run(run)["finished_at"])
    assert api.run(run)["status"] == "succeeded"
    assert [one.type for one in events(api, run)].count(FINISHED) == 1
    attempts = ledger(f"select idx, status from attempts where run_id = '{run}' order by idx, number")
    assert attempts == ["0|succeeded", "1|abandoned", "1|succeeded", "2|succeeded"]
