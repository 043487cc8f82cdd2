"""The API with all that stands behind it: broker, worker, scheduler, and simulated providers over HTTP."""

import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

import httpx
from websockets.sync.client import connect

from cli.launch import Launch
from tests.listener import Told, events, text_of

CODE = {"code": "function add(a, b) { return a + b; }", "language": "javascript"}
COMPLEX = (
    "docs-writer: document code THEN code-writer: write tests AND analyze: check coverage"
    " THEN IF_SUCCESS deploy: prepare release"
)


def told(client: httpx.Client, run: str, after: str | None = None, most: int | None = None) -> list[Told]:
    """The events of a run: all of them, or the first few before going away."""
    return list(islice(events(client, run, after), most))


def test_a_workflow_runs_and_is_accounted_for(client: httpx.Client) -> None:
    answer = client.post("/v1/runs", json={"workflow": COMPLEX, "input": CODE})
    assert answer.status_code == 202
    url = answer.headers["location"]
    heard = told(client, answer.json()["id"])
    run = client.get(url).json()
    assert (heard[-1][1], heard[-1][2]["outcome"]) == ("run.finished", run["outcome"])
    assert run["outcome"] == "succeeded"
    assert run["output"] == run["steps"][-1]["output"]
    for step in run["steps"]:
        assert text_of(heard, step["id"]) == step["output"]
        assert step["attempts"][-1]["status"] == "succeeded"
        assert step["usage"]["measured"]
    assert Decimal(run["cost_usd"]) == sum(Decimal(step["cost_usd"]) for step in run["steps"]) > 0
    decisions = client.get(f"{url}/decisions").json()
    assert [step["id"] for step in decisions["steps"]] == [step["id"] for step in run["steps"]]


def test_a_reader_that_comes_and_goes_reads_what_one_that_stays_reads(client: httpx.Client) -> None:
    run = client.post("/v1/runs", json={"workflow": "chat: tell me a story THEN summarize: that"}).json()["id"]
    pieces: list[Told] = []
    while not pieces or pieces[-1][1] != "run.finished":
        pieces += told(client, run, pieces[-1][0] if pieces else None, most=3)
    assert pieces == told(client, run)


def test_a_task_is_polled_to_its_end(client: httpx.Client) -> None:
    body = {"task_type": "docs-writer", "payload": CODE, "opts": {"preferLocal": True, "budget": 1.0}}
    started = client.post("/api/route_task_stream_start", json=body).json()
    assert started["provider"] == "ollama"
    said, progress = "", [0.0]
    while True:
        poll = client.get(f"/api/route_task_stream_poll/{started['stream_id']}").json()
        for chunk in poll["chunks"]:
            said = "" if chunk["reset"] else said + chunk["chunk"]
        progress.append(poll["progress"])
        if poll["status"] != "running":
            break
    assert (poll["status"], poll["result"], progress[-1]) == ("completed", said.strip(), 1.0)
    assert progress == sorted(progress)


def test_a_task_is_heard_over_a_socket(client: httpx.Client, launch: Launch) -> None:
    body = {"task_type": "translate", "payload": {"text": "Guten Morgen"}}
    stream = client.post("/api/route_task_stream_start", json=body).json()["stream_id"]
    with connect(f"{launch.url.replace('http', 'ws')}/ws/stream/{stream}") as socket:
        messages = [json.loads(message) for message in socket]
    assert [message["type"] for message in messages] == ["chunk"] * (len(messages) - 1) + ["complete"]
    assert messages[-1]["result"] == "".join(message.get("chunk", "") for message in messages).strip()


def test_a_running_answer_is_cut_when_its_run_is_cancelled(client: httpx.Client) -> None:
    run = client.post("/v1/runs", json={"workflow": "plan: a very long journey THEN chat: say goodbye"}).json()["id"]
    heard = told(client, run, most=2)
    client.post(f"/v1/runs/{run}/cancel")
    heard += told(client, run, heard[-1][0])
    shown = client.get(f"/v1/runs/{run}").json()
    assert (heard[-1][2]["outcome"], shown["status"]) == ("cancelled", "cancelled")
    assert {step["status"] for step in shown["steps"]} == {"cancelled"}


def every_run(client: httpx.Client) -> Iterator[dict[str, Any]]:
    """Page by page: other tests have submitted batches to the same installation."""
    page: dict[str, Any] = {"next_cursor": ""}
    while page["next_cursor"] is not None:
        page = client.get("/v1/runs", params={"limit": 100, "cursor": page["next_cursor"] or None}).json()
        yield from page["data"]


def test_usage_is_what_the_runs_cost(client: httpx.Client) -> None:
    usage = client.get("/v1/usage", params={"group_by": "provider,model"}).json()
    assert Decimal(usage["total"]["cost_usd"]) == sum(Decimal(run["cost_usd"]) for run in every_run(client))
    assert Decimal(usage["total"]["cost_usd"]) == sum(Decimal(row["cost_usd"]) for row in usage["data"])


def test_providers_are_measured_by_the_calls_they_served(client: httpx.Client) -> None:
    known = {one["id"]: one for one in client.get("/providers").json()["providers"]}
    assert client.get("/api/health").json()["status"] == "healthy"
    assert known["ollama"]["ready"]
    assert 0 < known["ollama"]["health"]["success_rate"] <= 1
