"""Submitting, looking at and cancelling runs over HTTP."""

import uuid
from dataclasses import replace
from typing import Any

import httpx
import pytest

from goblin import kv
from goblin.settings import RoutingSettings, Settings
from ledger import attempts, keys
from ledger.attempts import Charge
from ledger.obstacles import Obstacles
from ledger.states import RunStatus, StepStatus
from routing.route import Route, order
from routing.score import Measure
from scheduler.prune import Prune
from tests.fakes.offers import candidate, need
from tests.fakes.runs import FAULT, SUCCESS, claim


def test_a_submitted_run_is_stored_and_can_be_looked_at(api: Any) -> None:
    answer = api.client.post("/v1/runs", json={"workflow": "docs-writer: document THEN chat: greet"})
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"/v1/runs/{body['id']}"
    assert body["status"] == "queued"
    run = api.run(body["id"])
    assert run["workflow"] == "docs-writer: document THEN chat: greet"
    assert [(step["id"], step["goblin"], step["task"], step["dependencies"]) for step in run["steps"]] == [
        ("step1", "docs-writer", "document", []),
        ("step2", "chat", "greet", ["step1"]),
    ]
    assert (run["outcome"], run["cost_usd"], run["finished_at"]) == (None, "0.000000000", None)


def test_a_submitted_run_is_published_to_the_broker(api: Any, settings: Settings) -> None:
    api.submit()
    with kv.connect(settings.require_redis_url()) as client:
        assert client.llen("steps") == 1


def test_options_and_metadata_come_back_as_they_were_given(api: Any) -> None:
    options = {"budget_usd": "0.50", "prefer_local": True, "metadata": {"ticket": "G-1"}, "fail_fast": False}
    run = api.run(api.submit(options=options))
    assert run["options"] == {**options, "budget_usd": "0.500000000"}
    assert run["metadata"] == {"ticket": "G-1"}


def test_a_finished_run_shows_outputs_attempts_and_money(api: Any) -> None:
    run = api.submit()
    attempt = api.hand.begin(run)
    api.hand.end(run, attempt, "Hello!")
    api.hand.finish(run)
    shown = api.run(run)
    assert (shown["status"], shown["outcome"], shown["output"]) == ("succeeded", "succeeded", "Hello!")
    assert shown["cost_usd"] == "0.000004000"
    (step,) = shown["steps"]
    assert (step["outcome"], step["output"], step["provider"], step["model"]) == ("succeeded", "Hello!", "sim", "small")
    assert (step["usage"]["output"], step["usage"]["measured"]) == (2, True)
    (tried,) = step["attempts"]
    assert (tried["number"], tried["status"], tried["ttft_ms"], tried["cost_usd"]) == (
        1,
        "succeeded",
        12,
        "0.000004000",
    )


def test_the_output_of_a_run_is_what_its_last_steps_wrote(api: Any) -> None:
    run = api.submit("chat: a THEN chat: b AND chat: c")
    for idx, text in enumerate(("first", "left", "right")):
        api.hand.end(run, api.hand.begin(run, idx), text, idx)
    api.hand.finish(run)
    assert api.run(run)["output"] == "left\n\nright"


def test_the_same_idempotency_key_gives_the_same_run(api: Any) -> None:
    key = {"Idempotency-Key": "order-7"}
    first = api.client.post("/v1/runs", json={"workflow": "chat: hi"}, headers=key)
    again = api.client.post("/v1/runs", json={"workflow": "chat: hi"}, headers=key)
    assert again.status_code == 202
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers


def test_an_idempotency_key_of_another_request_is_a_conflict(api: Any) -> None:
    key = {"Idempotency-Key": "order-7"}
    api.client.post("/v1/runs", json={"workflow": "chat: hi"}, headers=key)
    other = api.client.post("/v1/runs", json={"workflow": "chat: bye"}, headers=key)
    assert other.status_code == 409
    assert other.json()["type"] == "/problems/conflict"


def test_asking_again_with_an_idempotency_key_does_not_count_as_a_submission(api: Any) -> None:
    secret = keys.create(api.hand.ledger, "slow", keys.Limits(rpm=1))
    headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": "order-7"}
    answers = [api.client.post("/v1/runs", json={"workflow": "chat: hi"}, headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert len({answer.json()["id"] for answer in answers}) == 1
    headers["Idempotency-Key"] = "order-8"
    assert api.client.post("/v1/runs", json={"workflow": "chat: hi"}, headers=headers).status_code == 429


def test_an_idempotency_key_gives_its_run_also_when_nobody_could_serve_it_any_more(
    api: Any, settings: Settings, serve: Any
) -> None:
    key, body = {"Idempotency-Key": "order-7"}, {"workflow": "chat@sim/small: hi", "options": {"models": ["small"]}}
    first = api.client.post("/v1/runs", json=body, headers=key)
    without = settings.model_copy(update={"providers": {}})
    with serve(without, {}) as url, httpx.Client(base_url=url, timeout=20) as client:
        again = client.post("/v1/runs", json=body, headers=key)
        assert (again.status_code, again.json().get("id")) == (202, first.json()["id"])
        assert client.post("/v1/runs", json={**body, "input": {"text": "x"}}, headers=key).status_code == 409
        assert client.post("/v1/runs", json=body).status_code == 422


def test_pages_of_runs_are_newest_first_and_miss_nothing(api: Any) -> None:
    submitted = [api.submit(f"chat: number {n}") for n in range(5)]
    listed, cursor = [], None
    while True:
        page = api.client.get("/v1/runs", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        listed += [run["id"] for run in page["data"]]
        cursor = page["next_cursor"]
        assert page["has_more"] is (cursor is not None)
        if cursor is None:
            break
    assert listed == submitted[::-1]


def test_runs_are_listed_by_status(api: Any) -> None:
    done, waiting = api.submit(), api.submit()
    api.hand.end(done, api.hand.begin(done), "x")
    api.hand.finish(done)
    page = api.client.get("/v1/runs", params={"status": "queued"}).json()
    assert [run["id"] for run in page["data"]] == [waiting]


def test_a_cursor_of_nowhere_is_refused(api: Any) -> None:
    answer = api.client.get("/v1/runs", params={"cursor": "nonsense"})
    assert answer.status_code == 422
    assert answer.json()["field"] == "cursor"


def test_cancelling_a_waiting_run_ends_it_at_once(api: Any) -> None:
    run = api.submit("chat: a THEN chat: b")
    answer = api.client.post(f"/v1/runs/{run}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
    assert [step["status"] for step in api.run(run)["steps"]] == ["cancelled", "cancelled"]
    assert [kind for _, kind, _ in api.events(run)] == ["step.finished", "step.finished", "run.finished"]


def test_a_step_that_ends_with_its_run_is_told_with_what_its_calls_have_cost(api: Any) -> None:
    run = api.submit()
    api.hand.end(run, api.hand.begin(run), None, step=StepStatus.PENDING, error=FAULT.error, tells=False)
    api.client.post(f"/v1/runs/{run}/cancel")
    (ended,) = [data for _, kind, data in api.events(run) if kind == "step.finished"]
    assert ended["cost_usd"] == api.run(run)["steps"][0]["cost_usd"] == "0.000004000"


def test_cancelling_again_is_the_same(api: Any) -> None:
    run = api.submit()
    api.client.post(f"/v1/runs/{run}/cancel")
    assert api.client.post(f"/v1/runs/{run}/cancel").status_code == 202


def test_cancelling_a_running_step_asks_and_does_not_end_the_run(api: Any) -> None:
    run = api.submit("chat: a THEN chat: b")
    api.hand.begin(run)
    shown = api.client.post(f"/v1/runs/{run}/cancel").json()
    assert shown["status"] == "running"
    assert shown["cancel_requested_at"] is not None
    assert [step["status"] for step in api.run(run)["steps"]] == ["running", "cancelled"]


def test_a_cancel_reaches_the_workers_at_once(api: Any, settings: Settings) -> None:
    with kv.connect(settings.require_redis_url()) as client, client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe("goblin:cancel")
        channel.get_message(timeout=5)
        run = api.submit()
        api.client.post(f"/v1/runs/{run}/cancel")
        message = channel.get_message(timeout=5)
    assert message is not None
    assert message["data"] == run


def test_cancelling_a_run_that_succeeded_is_a_conflict(api: Any) -> None:
    run = api.submit()
    api.hand.end(run, api.hand.begin(run), "x")
    api.hand.finish(run)
    answer = api.client.post(f"/v1/runs/{run}/cancel")
    assert (answer.status_code, answer.json()["detail"]) == (409, "the run has succeeded already")


def test_a_cancel_does_not_take_the_word_from_the_worker_that_closed_the_last_step(api: Any) -> None:
    run = api.submit()
    api.hand.end(run, api.hand.begin(run), "x")
    assert api.client.post(f"/v1/runs/{run}/cancel").json()["status"] == "running"
    api.hand.finish(run)
    assert api.run(run)["status"] == "succeeded"


def test_decisions_are_shown_for_every_attempt_and_every_refusal(api: Any) -> None:
    run = api.submit("chat: a AND chat: b")
    api.hand.end(run, api.hand.begin(run), None, step=StepStatus.PENDING, error={"type": "unreachable", "message": "x"})
    api.hand.end(run, api.hand.begin(run, model="large"), "ok")
    attempts.close_step(api.hand.ledger, uuid.UUID(run), 1, 1, StepStatus.FAILED, {"type": "x"}, {"no": 1})
    shown = api.client.get(f"/v1/runs/{run}/decisions").json()["steps"]
    assert [
        (step["id"], [(one["number"], one["model"], one["status"]) for one in step["decisions"]]) for step in shown
    ] == [
        ("step1", [(1, "small", "failed"), (2, "large", "succeeded")]),
        ("step2", [(None, None, "failed")]),
    ]


def test_a_decision_is_shown_with_its_terms_and_replayed(api: Any) -> None:
    offers = [(candidate("near/small", 1.0), Measure(1, 0.9, 50)), (candidate("far/large", 3.0), Measure(2, 1, 100))]
    settings = RoutingSettings()
    ranked = order(offers, need(), settings.weights, settings.required_bandwidth, ())
    route = Route(need(), tuple(ranked), {"dear": "no key", "far/tiny": "too small"}, {}, settings)
    kept = {**route.as_value(), "short": {"near/small": "no slot"}, "key": "of a key"}
    assert "no key" not in str(kept)
    Obstacles(api.hand.ledger).keep(kept["obstacles"], route.obstacles)
    run = api.submit()
    for provider, model in (("near", "small"), ("far", "large")):
        attempt = claim(uuid.UUID(run), provider=provider, model=model, decision=kept)
        assert attempts.open_attempt(api.hand.ledger, attempt)
        attempts.settle(api.hand.ledger, attempt.attempt, FAULT, goblin="chat", key_id=None)
    first, second = api.client.get(f"/v1/runs/{run}/decisions").json()["steps"][0]["decisions"]
    assert (first["reproduced"], second["reproduced"]) == (False, True)
    assert second["hold_usd"] == "0.000000900"
    assert second["decision"]["refused"] == {"dear": "no key", "far/tiny": "too small"}
    assert {"obstacles", "key"}.isdisjoint(second["decision"])
    near, far = second["decision"]["candidates"]
    assert (near["provider"], near["latency"], near["success"], near["score"]) == ("near", 0.5, 0.9, 0.68)
    assert (far["model"], far["cost"], far["bandwidth"], far["worst_case_usd"]) == ("large", 0.0, 1.0, "0.004500000")


def test_an_answer_from_the_cache_says_so_and_counts_as_no_call(api: Any) -> None:
    run = api.submit()
    kept = claim(uuid.UUID(run), decision={"cache": {"run": "ab", "step": "step1"}}, hold=0)
    assert attempts.open_attempt(api.hand.ledger, kept)
    free = replace(SUCCESS, charge=Charge(0, is_measured=True, price={"source": "cache"}))
    attempts.settle(api.hand.ledger, kept.attempt, free, goblin="chat", key_id=None)
    (step,) = api.run(run)["steps"]
    assert step["cached"] is True
    assert step["attempts"][0]["cached"] is True
    assert step["cost_usd"] == "0.000000000"
    assert api.client.get("/v1/usage").json()["total"]["calls"] == 0


def test_tools_that_cannot_be_stored_are_refused_and_leave_nothing(api: Any) -> None:
    for value in ('{"a":' * 300 + "1" + "}" * 300, '{"a": 1e999}'):
        tools = f'[{{"function": {{"name": "look", "parameters": {value}}}}}]'
        body = f'{{"workflow": "chat: hi", "options": {{"tools": {tools}}}}}'
        answer = api.client.post("/v1/runs", content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "options.tools")
    assert api.client.get("/v1/runs").json()["data"] == []


@pytest.mark.parametrize("path", ["", "/decisions", "/events"])
@pytest.mark.parametrize("run", ["0199c2f4-6f0e-7c3a-9d0b-2f6f1f1f7a10", "nonsense"])
def test_a_run_that_does_not_exist_is_not_found(api: Any, run: str, path: str) -> None:
    answer = api.client.get(f"/v1/runs/{run}{path}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not_found")


def test_a_workflow_is_parsed_in_the_shape_of_the_first_document(api: Any) -> None:
    body = {"text": "docs-writer: document code THEN write tests AND analyze: check", "default_goblin": "code-writer"}
    parsed = api.client.post("/parse", json=body).json()
    assert [{name: step[name] for name in ("id", "goblin", "task", "dependencies")} for step in parsed["steps"]] == [
        {"id": "step1", "goblin": "docs-writer", "task": "document code", "dependencies": []},
        {"id": "step2", "goblin": "code-writer", "task": "write tests", "dependencies": ["step1"]},
        {"id": "step3", "goblin": "analyze", "task": "check", "dependencies": ["step1"]},
    ]
    assert (parsed["total_batches"], parsed["max_parallel"], parsed["depth"]) == (1, 2, 0)


def test_a_run_survives_the_api_that_took_it(api: Any, settings: Settings, serve: Any) -> None:
    run = api.submit()
    with serve(settings, {}) as other:
        assert httpx.get(f"{other}/v1/runs/{run}").json()["status"] == RunStatus.QUEUED


def test_a_run_that_was_pruned_is_not_found_and_its_money_still_counts(api: Any) -> None:
    run = api.submit()
    api.hand.end(run, api.hand.begin(run), "x")
    api.hand.finish(run)
    assert Prune(api.hand.ledger, days=1e-9).go() == 1
    for path in ("", "/decisions", "/events"):
        assert api.client.get(f"/v1/runs/{run}{path}").status_code == 404
    assert api.client.post(f"/v1/runs/{run}/cancel").status_code == 404
    total = api.client.get("/v1/usage").json()["total"]
    assert (total["calls"], total["cost_usd"]) == (1, "0.000004000")
