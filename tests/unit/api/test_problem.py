"""What bad input gets, and what it never gets: a trace, a stored run."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from structlog.testing import capture_logs

from api.problem import Crashes


def refused(api: Any, **body: Any) -> tuple[int, dict[str, Any]]:
    answer = api.client.post("/v1/runs", json={"workflow": "chat: hi", **body})
    assert answer.headers["content-type"] == "application/problem+json"
    assert api.client.get("/v1/runs").json()["data"] == []
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == answer.status_code
    return answer.status_code, problem


def test_a_workflow_that_does_not_parse_is_pointed_at(api: Any) -> None:
    status, problem = refused(api, workflow="chat: hi THEN docs-witer: x")
    assert (status, problem["type"]) == (422, "/problems/workflow_syntax")
    assert (problem["line"], problem["column"]) == (1, 15)
    assert "docs-writer" in problem["suggestion"]
    assert problem["pointer"].endswith("^")


def test_an_unknown_pin_names_the_nearest_provider(api: Any) -> None:
    status, problem = refused(api, workflow="chat@simm: hi")
    assert (status, problem["type"], problem["step"]) == (422, "/problems/unknown_name", "step1")
    assert problem["detail"] == "unknown provider 'simm'; did you mean sim?"


def test_an_unknown_pinned_model_names_the_nearest_one_of_its_provider(api: Any) -> None:
    status, problem = refused(api, workflow="chat@sim/smal: hi")
    assert (status, problem["detail"]) == (422, "unknown model of sim 'smal'; did you mean small?")


def test_an_unknown_provider_in_the_options_names_the_nearest(api: Any) -> None:
    status, problem = refused(api, options={"providers": ["sim", "keyles"]})
    assert (status, problem["field"]) == (422, "options.providers")
    assert "did you mean keyless?" in problem["detail"]


def test_an_unknown_default_goblin_names_the_nearest(api: Any) -> None:
    status, problem = refused(api, workflow="hi", default_goblin="chatt")
    assert (status, problem["type"], problem["field"]) == (422, "/problems/unknown_name", "default_goblin")
    assert problem["detail"] == "unknown goblin 'chatt'; did you mean chat?"


@pytest.mark.parametrize(
    ("workflow", "reason"),
    [("chat@keyless: hi", "disabled"), ("chat@unpriced: hi", "its price is not known: set one in goblin.toml")],
)
def test_a_step_that_nobody_can_ever_serve_is_refused_with_the_reasons(api: Any, workflow: str, reason: str) -> None:
    status, problem = refused(api, workflow=workflow)
    assert (status, problem["type"]) == (422, "/problems/no_candidate")
    assert reason in problem["reasons"].values()


def test_an_unknown_key_names_the_nearest_one(api: Any) -> None:
    status, problem = refused(api, options={"budgt_usd": 1})
    assert (status, problem["type"]) == (422, "/problems/invalid")
    assert problem["detail"].startswith("options: unknown key 'budgt_usd'; did you mean budget_usd")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"workflow": 7}, "workflow"),
        ({"workflow": "chat: a\0b"}, "workflow"),
        ({"workflow": "chat: a\ud800b"}, "workflow"),
        ({"input": {"text": "a\0b"}}, "input.text"),
        ({"input": {"code": "a\udfffb"}}, "input.code"),
        ({"input": []}, "input"),
        ({"options": {"budget_usd": "-1"}}, "options.budget_usd"),
        ({"options": {"budget_usd": float("nan")}}, "options.budget_usd"),
        ({"options": {"fail_fast": "perhaps"}}, "options.fail_fast"),
        ({"options": {"on_budget": "pray"}}, "options.on_budget"),
        ({"options": {"deadline": "2030-01-01T00:00:00"}}, "options.deadline"),
        ({"options": {"metadata": {"a": 1}}}, "options.metadata.a"),
        ({"options": {"providers": []}}, "options.providers"),
    ],
)
def test_a_field_of_the_wrong_kind_is_named(api: Any, body: dict[str, Any], field: str) -> None:
    content = json.dumps({"workflow": "chat: hi", **body})
    answer = api.client.post("/v1/runs", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field
    assert api.client.get("/v1/runs").json()["data"] == []


MUCH = {str(number): number for number in range(17)}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/runs", {"workflow": "chat: hi", "options": {"metadata": MUCH}}, "options.metadata"),
        ("/v1/batches", {"input_file_id": "file-1", "endpoint": "/v1/runs", "metadata": MUCH}, "metadata"),
    ],
)
def test_of_too_much_metadata_nothing_is_read(api: Any, path: str, body: dict[str, Any], field: str) -> None:
    answer = api.client.post(path, json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"field": field, "message": "must not have more than 16 entries"}]


@pytest.mark.parametrize("content", [b"{", b'{"workflow": "chat: hi"', b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_not_json_gets_400(api: Any, content: bytes) -> None:
    answer = api.client.post("/v1/runs", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_that_is_not_sent_as_json_is_told_so(api: Any) -> None:
    """Browsers send such bodies across sites without asking."""
    answer = api.client.post("/v1/runs", content=b'{"workflow": "chat: hi"}', headers={"Content-Type": "text/plain"})
    assert answer.status_code == 422
    assert "application/json" in answer.json()["detail"]


def test_a_body_that_announces_too_much_gets_413(api: Any, settings: Any) -> None:
    body = b'"' + b"x" * settings.limits.body_bytes + b'"'
    answer = api.client.post("/v1/runs", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too_large")


def test_a_body_that_never_says_how_long_it_is_gets_413_when_it_is_too_long(api: Any, settings: Any) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(settings.limits.body_bytes // 2**20 + 1):
            yield b" " * 2**20

    answer = api.client.post("/v1/runs", content=pieces(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too_large")


def test_an_input_that_is_too_large_gets_413(api: Any, settings: Any) -> None:
    status, problem = refused(api, input={"text": "x" * settings.limits.input_bytes})
    assert (status, problem["type"]) == (413, "/problems/too_large")


def test_unknown_paths_and_methods_are_problems_too(api: Any) -> None:
    assert api.client.get("/nowhere").json()["type"] == "/problems/not_found"
    answer = api.client.delete("/v1/runs")
    assert (answer.status_code, answer.json()["type"]) == (405, "/problems/method_not_allowed")
    assert answer.headers["allow"]


@pytest.mark.parametrize(("error", "is_told"), [(ClientDisconnect(), False), (KeyError("x"), True)])
def test_who_goes_away_in_the_middle_of_a_body_is_no_fault_of_ours(error: Exception, is_told: bool) -> None:
    sent: list[Any] = []

    async def app(*_: Any) -> None:
        raise error

    async def send(message: Any) -> None:
        sent.append(message)

    with capture_logs() as logs:
        asyncio.run(Crashes(app)({"type": "http", "path": "/v1/files"}, None, send))  # type: ignore[arg-type]
    assert (bool(sent), bool(logs)) == (is_told, is_told)


def test_the_api_describes_itself(api: Any) -> None:
    described = api.client.get("/openapi.json").json()
    assert {"/v1/runs", "/v1/runs/{run_id}/events", "/parse", "/api/route_task_stream_start"} <= described[
        "paths"
    ].keys()
    assert described["components"]["schemas"]["RunRequest"]["examples"]
    assert api.client.get("/docs").status_code == 200
