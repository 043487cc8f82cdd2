"""`goblin flower` over real workers: who gets in, and what an operator reads there, asked of Flower's own HTTP API."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from cli.commands import app
from cli.servers import free_port
from tests.processes import PATIENCE_S, ProcessContainer, Processes, ValkeyContainer
from tests.world import Sim, World, saying, world
from workers.app import STEPS, provider_queue
from workers.canvas import publish

USER, PASSWORD = "goblin", "a-password:of-the-tests"
SECRET_TASK = "the code word is mandragora"
SIMS = (
    Sim("good", (saying("fine"),)),
    Sim("slow", ("sim-instant+ttft=2",)),
    Sim("strict", ("sim-instant+filtered=400",)),
    Sim("gone", ("no-such-model",)),
    Sim("idle"),
)


@dataclass(frozen=True, slots=True)
class Flower:
    """A running Flower, and what it watches."""

    client: httpx.Client
    process: ProcessContainer
    place: World

    def tasks(self, **wanted: str) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self.client.get("/api/tasks", params=wanted).raise_for_status().json()
        return list(found.values())

    def of_run(self, run: object) -> dict[str, tuple[str, str]]:
        """Name and state of the run's rows, under the step that their arguments name."""
        rows = [row for row in self.tasks() if str(row["args"]).startswith(f"run {run} ")]
        return {row["args"].removeprefix(f"run {run} "): (row["name"], row["state"]) for row in rows}

    def shows(self, run: object, rows: Mapping[str, tuple[str, str]]) -> None:
        """Waits for the run's rows to be these."""
        with suppress(TimeoutError):
            self.place.until(lambda: self.of_run(run) == rows, PATIENCE_S)
        assert self.of_run(run) == rows

    def states(self, run: object) -> list[str]:
        return sorted(row["state"] for row in self.tasks() if str(run) in str(row["args"]))

    def queues(self) -> dict[str, int]:
        shown = self.client.get("/api/queues/length").raise_for_status().json()
        return {queue["name"]: queue["messages"] for queue in shown["active_queues"]}

    def until(self, found: Callable[[], Any]) -> Any:
        return self.place.until(found, PATIENCE_S)


@pytest.fixture(scope="module")
def flower(processes: Processes, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    folder = tmp_path_factory.mktemp("flower")
    valkey = ValkeyContainer(processes, folder)
    valkey.ready()
    with world(processes, folder, database_url, valkey.celeryconfig["url"], *SIMS) as place:
        place.start_worker(queues=(STEPS, *(provider_queue(sim.name) for sim in SIMS if sim.name != "idle")))
        process, url = start_flower(processes, place)
        with httpx.Client(base_url=url, auth=(USER, PASSWORD), trust_env=False, timeout=PATIENCE_S) as client:
            watched = Flower(client, process, place)
            watched.until(lambda: provider_queue("good") in watched.queues())
            yield watched
        process.teardown()
    valkey.teardown()


def start_flower(processes: Processes, place: World) -> tuple[ProcessContainer, str]:
    port = free_port()
    process = ProcessContainer(
        processes,
        "flower",
        [sys.executable, "-m", "cli.main", "flower", "--port", str(port)],
        log=place.folder / "flower.log",
        env={**os.environ, **place.env, "FLOWER_BASIC_AUTH": f"{USER}:{PASSWORD}"},
        ready_prompt="Visit me at",
    )
    process.ready()
    return process, f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    "page", ["/", "/workers", "/tasks", "/broker", "/api/tasks", "/api/workers", "/api/queues/length"]
)
@pytest.mark.parametrize("auth", [None, (USER, "wrong"), (USER, PASSWORD.partition(":")[0])])
def test_nobody_gets_in_without_the_password(flower: Flower, page: str, auth: tuple[str, str] | None) -> None:
    with httpx.Client(base_url=flower.client.base_url, auth=auth, trust_env=False) as stranger:
        assert stranger.get(page).status_code == 401
    assert flower.client.get(page, follow_redirects=True).status_code == 200


def test_a_row_says_who_did_which_step_of_which_run(flower: Flower) -> None:
    place = flower.place
    run = place.submit(place.plan("docs-writer@good: write THEN translate@good: to German AND chat@good: about it"))
    assert place.finished(run).status == "succeeded"
    flower.shows(
        run,
        {
            "step 1": ("docs-writer @ good", "SUCCESS"),
            "step 2": ("translate @ good", "SUCCESS"),
            "step 3": ("chat @ good", "SUCCESS"),
        },
    )


@pytest.mark.parametrize("who", ["strict", "gone"])
def test_failed_and_skipped_steps_look_so_and_tell_why_in_plain_words(flower: Flower, who: str) -> None:
    place = flower.place
    plan = place.plan(f'chat@{who}: "{SECRET_TASK}" THEN IF_SUCCESS chat@good: two THEN IF_FAILURE chat@good: three')
    run = place.submit(plan)
    assert place.finished(run).status == "succeeded"
    flower.shows(
        run,
        {
            "step 1": (f"chat @ {who}", "FAILURE"),
            "step 2": ("chat", "SKIPPED"),
            "step 3": ("chat @ good", "SUCCESS"),
        },
    )
    [failed] = [row for row in flower.tasks(state="FAILURE") if str(run) in str(row["args"])]
    step = place.one("select error from steps where run_id = %s and idx = 0", run)
    assert step is not None
    assert failed["exception"] == step.error["message"]
    assert not failed["traceback"]


def test_a_message_that_waits_for_a_running_step_is_waiting(flower: Flower) -> None:
    place = flower.place
    plan = place.plan("chat@slow: one")
    run = place.submit(plan)
    place.until(lambda: place.one("select 1 from steps where run_id = %s and status = 'running'", run))
    publish(place.app, plan, run, 1)
    flower.until(lambda: flower.states(run) == ["STARTED", "WAITING"])
    assert place.finished(run).status == "succeeded"
    flower.until(lambda: flower.states(run) == ["STALE", "SUCCESS"])


def test_no_prompt_answer_or_key_is_to_be_seen(flower: Flower) -> None:
    place = flower.place
    run = place.submit(place.plan(f"chat@good: {SECRET_TASK} THEN chat@strict: {SECRET_TASK}"))
    place.finished(run)
    flower.until(lambda: len(flower.of_run(run)) == 2 and flower.of_run(run)["step 2"][1] == "FAILURE")
    shown = json.dumps(flower.tasks()) + flower.process.logs()
    shown += "".join(flower.client.get(f"/task/{row['uuid']}").raise_for_status().text for row in flower.tasks())
    for secret in (SECRET_TASK, "fine", PASSWORD, place.settings.require_redis_url().split("@")[0]):
        assert secret not in shown


def test_names_stay_few_however_many_runs_there_are(flower: Flower) -> None:
    place = flower.place
    plan = place.plan("plan@good: one THEN review@good: two")
    runs = [place.submit(plan) for _ in range(20)]
    for run in runs:
        place.finished(run)
        flower.until(lambda run=run: {state for _, state in flower.of_run(run).values()} == {"SUCCESS"})
    names = {row["name"] for row in flower.tasks() if any(str(run) in str(row["args"]) for run in runs)}
    assert names == {"plan @ good", "review @ good"}


def test_the_length_of_each_providers_queue_is_shown(flower: Flower) -> None:
    place = flower.place
    late = place.start_worker("late", queues=(provider_queue("idle"),))
    flower.until(lambda: provider_queue("idle") in flower.queues())
    assert flower.queues().keys() == {STEPS, *(provider_queue(sim.name) for sim in SIMS)}
    late.kill("SIGKILL")
    for _ in range(3):
        place.app.send_task("goblin.join", queue=provider_queue("idle"))
    assert flower.queues()[provider_queue("idle")] == 3


def test_it_starts_and_serves_without_a_complaint(flower: Flower) -> None:
    said = [json.loads(line) for line in flower.process.logs().splitlines() if line.startswith("{")]
    assert {line["level"] for line in said} == {"info"}


def test_a_password_that_flower_would_cut_at_its_comma_is_refused(flower: Flower) -> None:
    done = CliRunner().invoke(app, ["flower", "--port", "0"], env={"FLOWER_BASIC_AUTH": "me:one,two"})
    assert done.exit_code == 2
    assert "comma" in done.output
