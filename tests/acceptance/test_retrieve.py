"""`retrieve: … THEN chat: …`: a question becomes a vector, an index names what is near, the next step is told of it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.embedded import Stack
from cli.servers import free_port
from providers.simulator.vector import embed
from tests.listener import Told, events, text_of
from tests.processes import PATIENCE_S, Processes, WorkerContainer
from tests.world import Sim, World, world

ACCOUNT = "client/v4/accounts/a1/vectorize/v2"
TEXTS = {
    "fox": "the red fox runs through the forest",
    "sky": "the blue sky rains in autumn",
    "bill": "a bill of money is due in march",
}
SIMS = (Sim("parrot", ("sim-instant+echo",)),)
TABLES = """
[worker]
lease = 6
grace = 0.5

[providers.embedder]
base_url = "http://127.0.0.1:{port}/at/embedder/openai/v1"
api_key = "test"
models = []
embedding_models = [{{id = "sim-embed", input_usd_mtok = "0.02"}}]

[providers.cloudflare_vectorize]
base_url = "http://127.0.0.1:{port}/at/store/cloudflare/{account}"
api_key = "test"
variables = {{account_id = "a1"}}
first_token_timeout = 300
stall_timeout = 300

[goblins.retrieve]
retrieve = {{index = "docs", model = "embedder/sim-embed", top_k = 2}}

[goblins.hasty]
task_class = "fast"
instructions = "x"
timeout = 1
retrieve = {{index = "docs", model = "embedder/sim-embed"}}

[goblins.lost]
task_class = "fast"
instructions = "x"
retrieve = {{index = "nowhere", model = "sim-embed"}}

[goblins.unkeyed]
task_class = "fast"
instructions = "x"
retrieve = {{index = "docs", model = "sim-embed", store = "voyage"}}
"""


@dataclass(frozen=True)
class Served:
    world: World
    worker: WorkerContainer
    client: httpx.Client

    def run(self, workflow: str, **body: Any) -> tuple[dict[str, Any], list[Told]]:
        accepted = self.client.post("/v1/runs", json={"workflow": workflow, **body})
        assert accepted.status_code == 202, accepted.text
        told = list(events(self.client, accepted.json()["id"]))
        return self.client.get(accepted.json()["url"]).json(), told

    def store(self, path: str, content: bytes) -> None:
        url = f"http://127.0.0.1:{self.world.port}/at/store/cloudflare/{ACCOUNT}/indexes{path}"
        headers = {"authorization": "Bearer test"}
        httpx.post(url, content=content, headers=headers, trust_env=False).raise_for_status()


@pytest.fixture(scope="module")
def served(
    processes: Processes, stack: Stack, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("retrieve")
    redis_url = stack.redis_url.rsplit("/", 1)[0] + "/12"
    with world(processes, folder, database_url, redis_url, *SIMS) as installed:
        config = folder / "goblin.toml"
        config.write_text(config.read_text() + TABLES.format(port=installed.port, account=ACCOUNT))
        installed.redis.flushdb()
        worker = installed.start_worker(queues=("steps", "provider.parrot", "provider.embedder"))
        installed.start_scheduler()
        port = free_port()
        installed.start_api(port)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False) as client:
            yield Served(installed, worker, client)


@pytest.fixture(autouse=True)
def _index(served: Served) -> None:
    served.world.sim_post("reset", {})
    served.store("", json.dumps({"name": "docs", "config": {"dimensions": 64, "metric": "cosine"}}).encode())
    rows = [{"id": name, "values": embed(text, 64), "metadata": {"text": text}} for name, text in TEXTS.items()]
    served.store("/docs/upsert", "\n".join(map(json.dumps, rows)).encode())


def test_what_is_near_is_handed_to_the_next_step(served: Served) -> None:
    run, told = served.run("retrieve: find what is known THEN chat: answer", input={"text": "when is the money due"})
    first, second = run["steps"]
    assert run["status"] == "succeeded"
    assert first["output"].startswith("[1] bill (0.")
    assert TEXTS["bill"] in first["output"]
    assert first["output"].count("\n\n") == 1  # as many hits as were wanted
    assert TEXTS["bill"] in second["output"]
    assert (first["provider"], first["model"]) == ("embedder", "sim-embed")
    assert text_of(told, "step1") == first["output"]


def test_the_vector_is_paid_for_to_the_nano_dollar(served: Served) -> None:
    run, _ = served.run("retrieve: red fox in the forest " + "and more " * 300)
    (step,) = run["steps"]
    billed = served.world.sim_get("invoice")
    assert run["cost_usd"] == f"{billed['nanousd'] / 1e9:.9f}" != "0.000000000"
    assert billed["names"]["store"]["nanousd"] > 0  # its index was searched
    assert step["usage"]["input"] == billed["input_tokens"]
    assert step["usage"]["measured"] is True


def test_an_index_that_cannot_be_searched_is_a_failed_step(served: Served) -> None:
    run, told = served.run("lost: find it THEN IF_FAILURE chat: what went wrong")
    first, second = run["steps"]
    assert (first["status"], first["error"]["type"]) == ("failed", "index_failed")
    assert "nowhere" in first["error"]["message"]
    assert (run["status"], second["status"]) == ("succeeded", "succeeded")
    assert len(first["attempts"]) == 1
    assert first["cost_usd"] > "0"  # its vector was made
    assert "step.reset" in [kind for _, kind, _ in told]


def test_a_moments_fault_of_the_index_is_asked_again(served: Served) -> None:
    served.world.sim_post("faults", {"name": "store", "model": "*", "directives": "+flaky=1"})
    run, _ = served.run("retrieve: red fox")
    assert (run["status"], len(run["steps"][0]["attempts"])) == ("succeeded", 1)


def test_a_cancel_cuts_the_search_of_the_index(served: Served) -> None:
    served.world.sim_post("faults", {"name": "store", "model": "*", "directives": "+silent"})
    run = served.client.post("/v1/runs", json={"workflow": "retrieve: red fox"}).json()
    served.world.until(lambda: is_searching(served))
    served.client.post(f"/v1/runs/{run['id']}/cancel")
    served.world.finished(run["id"])
    ended = served.client.get(run["url"]).json()
    assert (ended["status"], ended["steps"][0]["status"]) == ("cancelled", "cancelled")
    assert ended["cost_usd"] == f"{served.world.sim_get('invoice')['nanousd'] / 1e9:.9f}" != "0.000000000"
    served.world.until(lambda: gone(served))


def test_a_step_whose_time_is_over_waits_for_no_index(served: Served) -> None:
    served.world.sim_post("faults", {"name": "store", "model": "*", "directives": "+silent"})
    run = served.client.post("/v1/runs", json={"workflow": "hasty: red fox"}).json()
    served.world.finished(run["id"])
    ended = served.client.get(run["url"]).json()
    assert (ended["status"], ended["steps"][0]["error"]["type"]) == ("failed", "deadline_passed")
    served.world.until(lambda: gone(served))


def test_a_stopping_worker_waits_for_no_index(served: Served) -> None:
    """It gives the step back, and another one searches."""
    served.world.sim_post("faults", {"name": "store", "model": "*", "directives": "+silent"})
    run = served.client.post("/v1/runs", json={"workflow": "retrieve: red fox"}).json()
    served.world.until(lambda: is_searching(served))
    served.worker.kill("SIGTERM")
    served.world.sim_post("faults", {"name": "store", "model": "*", "directives": ""})
    served.world.until(lambda: gone(served))
    served.worker.restart()
    assert served.world.finished(run["id"]).status == "succeeded"


def is_searching(served: Served) -> bool:
    return bool(served.world.sim_get("limits").get("store", {}).get("concurrent"))


def gone(served: Served) -> bool:
    """Whether a search was cut off by whoever made it."""
    return "client_gone" in [call["outcome"] for call in served.world.sim_get("calls") if call["name"] == "store"]


def test_who_makes_the_vector_fails_as_any_provider_does(served: Served) -> None:
    served.world.sim_post("faults", {"name": "embedder", "model": "*", "directives": "+auth"})
    run, _ = served.run("retrieve: red fox")
    assert (run["status"], run["steps"][0]["error"]["type"]) == ("failed", "bad_credentials")


def test_an_index_without_a_key_is_refused_at_once(served: Served) -> None:
    answer = served.client.post("/v1/runs", json={"workflow": "unkeyed: find it"})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/no_candidate")
    assert "VOYAGE_API_KEY" in answer.json()["detail"]
