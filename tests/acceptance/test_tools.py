"""Tools that a run brings along: offered to its steps, called by a model, told to whoever asked. Nobody runs them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.embedded import Stack
from cli.servers import free_port
from tests.listener import Told, events, text_of
from tests.processes import PATIENCE_S, Processes
from tests.world import Sim, World, saying, world

PLACE = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
LOOK = {"type": "function", "function": {"name": "look", "description": "looks at a place", "parameters": PLACE}}
WAIT = {"type": "function", "function": {"name": "wait"}}
CALLING = "+call=2+per=2"
SIMS = (
    Sim("openai-like", (f"sim-instant{CALLING}",)),
    Sim("anthropic-like", (f"{saying('I look first.')}{CALLING}",), "anthropic"),
    Sim("gemini-like", (f"sim-instant{CALLING}",), "gemini"),
    Sim("ollama-like", (f"sim-instant{CALLING}",), "ollama", {"local": True}),
    Sim("breaking", (f"{saying('I look first.')}{CALLING}+cut=6",), options={"retry_count": 0}),
)
GOBLINS = "\n".join(
    f'[goblins.{name}]\ninstructions = "x"\ntask_class = "fast"\nproviders = ["{favourite}"]'
    for name, favourite in (("chat", "openai-like"), ("summarize", "breaking"))
)


@dataclass(frozen=True)
class Served:
    world: World
    client: httpx.Client

    def run(self, workflow: str, **options: Any) -> tuple[dict[str, Any], list[Told]]:
        """A run that has ended, and what listeners were told of it."""
        asked = {"workflow": workflow, "options": {"tools": [LOOK, WAIT], **options}}
        accepted = self.client.post("/v1/runs", json=asked)
        assert accepted.status_code == 202, accepted.text
        told = list(events(self.client, accepted.json()["id"]))
        return self.client.get(accepted.json()["url"]).json(), told


@pytest.fixture(scope="module")
def served(
    processes: Processes, stack: Stack, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("tools")
    redis_url = stack.redis_url.rsplit("/", 1)[0] + "/14"
    with world(processes, folder, database_url, redis_url, *SIMS, extra=GOBLINS) as installed:
        installed.redis.flushdb()
        installed.start_worker()
        port = free_port()
        installed.start_api(port)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False) as client:
            yield Served(installed, client)


def names(output: str) -> list[str]:
    return [call["function"]["name"] for call in json.loads(output)["tool_calls"]]


@pytest.mark.parametrize("provider", ["openai-like", "anthropic-like", "gemini-like", "ollama-like"])
def test_a_call_of_a_tool_is_the_output_of_its_step(served: Served, provider: str) -> None:
    run, told = served.run(f"chat@{provider}: how is the sea?")
    (step,) = run["steps"]
    message = json.loads(step["output"])
    assert (run["status"], step["attempts"][0]["finish"]) == ("succeeded", "tool")
    assert message["content"] == ("I look first." if provider == "anthropic-like" else None)
    assert names(step["output"]) == ["look", "wait"]
    assert json.loads(message["tool_calls"][0]["function"]["arguments"])["place"].startswith("some place")
    assert all(call["id"] for call in message["tool_calls"])
    assert text_of(told, "step1") == step["output"]  # words that came before the calls were taken back
    assert run["output"] == step["output"]


def test_what_is_charged_is_what_the_provider_bills(served: Served) -> None:
    served.world.sim_post("reset", {})
    run, _ = served.run("chat@openai-like: how is the sea?")
    billed = served.world.sim_get("invoice")
    assert run["cost_usd"] == f"{billed['nanousd'] / 1e9:.9f}"
    assert run["steps"][0]["usage"]["output"] == billed["output_tokens"]


def test_tools_are_offered_to_the_steps_that_are_named(served: Served) -> None:
    workflow = "chat@openai-like: look THEN chat@openai-like: tell"
    first, second = served.run(workflow, tools_for=["step1"])[0]["steps"]
    assert names(first["output"]) == ["look", "wait"]
    assert "tool_calls" not in second["output"]
    both = served.run(workflow, tools_for=["chat"])[0]["steps"]
    assert [names(step["output"]) for step in both] == [["look", "wait"], ["look", "wait"]]


def test_half_a_call_is_none_and_another_one_begins_anew(served: Served) -> None:
    run, told = served.run("summarize: the sea", providers=["breaking", "gemini-like"])
    (step,) = run["steps"]
    assert [attempt["status"] for attempt in step["attempts"]] == ["failed", "succeeded"]
    assert names(step["output"]) == ["look", "wait"]
    assert text_of(told, "step1") == step["output"]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"tools": [{"function": {"name": "a b"}}]}, "options.tools.0.function.name"),
        ({"tools": [{"function": {"name": "a"}, "kind": 1}]}, "options.tools.0"),
        ({"tools": [WAIT, WAIT]}, "options.tools"),
        ({"tools": [{"function": {"name": "a", "description": "x" * 70_000}}]}, "options.tools"),
    ],
)
def test_tools_that_cannot_be_are_refused(served: Served, options: dict[str, Any], field: str) -> None:
    answer = served.client.post("/v1/runs", json={"workflow": "chat: hi", "options": options})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


def test_tools_for_nobody_are_refused_with_the_nearest_name(served: Served) -> None:
    answer = served.client.post(
        "/v1/runs", json={"workflow": "chat: hi", "options": {"tools": [WAIT], "tools_for": ["chap"]}}
    )
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/unknown_name")
    assert "did you mean chat?" in answer.json()["detail"]
