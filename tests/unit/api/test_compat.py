"""The first document's task endpoints: start, poll, and the WebSocket."""

import json
import uuid
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from goblin import kv
from goblin.settings import Settings
from ledger import keys
from ledger.states import RunStatus, StepStatus

CODE = {"code": "function add(a, b) { return a + b; }", "language": "javascript"}


def started(api: Any, **body: Any) -> tuple[str, str]:
    """A task as its stream and its run."""
    answer = api.client.post("/api/route_task_stream_start", json={"task_type": "chat", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["stream_id"], answer.json()["run_id"]


def polled(api: Any, stream: str, **params: str) -> dict[str, Any]:
    answer = api.client.get(f"/api/route_task_stream_poll/{stream}", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def chunks(answer: dict[str, Any]) -> list[str]:
    return [one["chunk"] for one in answer["chunks"]]


def test_a_task_is_started_as_a_run_and_says_who_is_ranked_first(api: Any) -> None:
    body = {"task_type": "docs-writer", "payload": CODE, "opts": {"preferLocal": True, "budget": 1.0}}
    answer = api.client.post("/api/route_task_stream_start", json=body).json()
    assert answer["stream_id"] == f"stream_{uuid.UUID(answer['run_id']).hex}"
    assert (answer["provider"], answer["model"]) == ("sim", "large")
    run = api.run(answer["run_id"])
    assert run["workflow"] == "docs-writer: document this code"
    assert run["options"] == {"prefer_local": True, "budget_usd": "1.0"}


def test_the_payload_may_say_what_is_to_be_done(api: Any) -> None:
    _, run = started(api, payload={"task": "say hi THEN leave", "text": "x", "temperature": 3})
    (step,) = api.run(run)["steps"]
    assert step["task"] == "say hi THEN leave"


def test_an_unknown_task_type_names_the_nearest(api: Any) -> None:
    answer = api.client.post("/api/route_task_stream_start", json={"task_type": "docs-riter"})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("unknown goblin 'docs-riter'; did you mean docs-writer")


def test_misspelled_options_are_not_passed_over(api: Any) -> None:
    answer = api.client.post("/api/route_task_stream_start", json={"task_type": "chat", "opts": {"buget": 1}})
    assert (answer.status_code, "budget" in answer.json()["detail"]) == (422, True)


def test_a_poll_hands_out_what_was_said_since_the_last_one(api: Any) -> None:
    stream, run = started(api)
    nothing = polled(api, stream)
    assert (nothing["status"], nothing["chunks"], nothing["total_cost"], nothing["progress"]) == ("running", [], 0, 0)
    attempt = api.hand.begin(run)
    api.hand.say(run, "This function ")
    first = polled(api, stream)
    assert first["chunks"] == [
        {"chunk": "This function ", "token_count": 2, "cost": 0.000002, "step": "step1", "reset": False}
    ]
    assert (first["status"], first["total_cost"]) == ("running", 0.000002)
    assert 0 < first["progress"] < 1
    api.hand.say(run, "adds")
    assert chunks(polled(api, stream)) == ["adds"]
    assert chunks(polled(api, stream)) == []
    api.hand.end(run, attempt, "This function adds")
    api.hand.finish(run)
    last = polled(api, stream)
    assert (last["status"], last["chunks"], last["progress"]) == ("completed", [], 1.0)
    assert (last["result"], last["total_cost"]) == ("This function adds", 0.000004)
    assert polled(api, stream)["result"] == "This function adds"


def test_a_poll_may_say_itself_where_it_stands(api: Any) -> None:
    stream, run = started(api)
    api.hand.begin(run)
    api.hand.say(run, "one ")
    place = polled(api, stream)["next"]
    api.hand.say(run, "two")
    assert chunks(polled(api, stream, after=place)) == ["two"]
    assert chunks(polled(api, stream, after=place)) == ["two"]


def test_withdrawn_text_is_marked(api: Any) -> None:
    stream, run = started(api)
    api.hand.begin(run)
    api.hand.say(run, "half an")
    api.hand.emit(run, "step.reset", 0, reason="broken")
    assert [(one["chunk"], one["reset"]) for one in polled(api, stream)["chunks"]] == [("half an", False), ("", True)]


def test_a_failed_task_says_why(api: Any) -> None:
    stream, run = started(api)
    error = {"type": "unreachable", "message": "nobody answers"}
    api.hand.end(run, api.hand.begin(run), None, step=StepStatus.FAILED, error=error)
    api.hand.finish(run, RunStatus.FAILED)
    answer = polled(api, stream)
    assert (answer["status"], answer["result"], answer["error"]) == ("failed", None, "nobody answers")


def test_a_task_whose_events_are_gone_is_polled_from_the_ledger(api: Any, settings: Settings) -> None:
    stream, run = started(api)
    api.hand.end(run, api.hand.begin(run), "Hello")
    api.hand.finish(run)
    with kv.connect(settings.require_redis_url()) as client:
        client.flushdb()
    answer = polled(api, stream)
    assert (answer["status"], chunks(answer), answer["result"]) == ("completed", ["Hello"], "Hello")


@pytest.mark.parametrize("stream", ["stream_nonsense", "stream_0199c2f46f0e7c3a9d0b2f6f1f1f7a10"])
def test_a_stream_that_does_not_exist_is_not_found(api: Any, stream: str) -> None:
    assert api.client.get(f"/api/route_task_stream_poll/{stream}").status_code == 404


def opened(api: Any, stream: str, **options: Any) -> ClientConnection:
    return connect(f"{api.url.replace('http', 'ws')}/ws/stream/{stream}", **options)


def heard(socket: ClientConnection) -> list[dict[str, Any]]:
    """All messages up to the close, without their ids."""
    messages = [json.loads(message) for message in socket]
    for message in messages:
        message.pop("id", None)
    return messages


def test_a_socket_carries_chunks_and_the_result(api: Any) -> None:
    stream, run = started(api)
    with opened(api, stream) as socket:
        attempt = api.hand.begin(run)
        api.hand.say(run, "Hel")
        assert json.loads(socket.recv(timeout=10))["chunk"] == "Hel"
        api.hand.say(run, "lo")
        api.hand.end(run, attempt, "Hello")
        api.hand.finish(run)
        assert heard(socket) == [
            {"type": "chunk", "chunk": "lo", "token_count": 2, "cost": 0.000002, "step": "step1"},
            {"type": "complete", "result": "Hello", "total_cost": 0.000004},
        ]


def test_a_socket_tells_of_withdrawn_text_and_of_failure(api: Any) -> None:
    stream, run = started(api)
    error = {"type": "unreachable", "message": "nobody answers"}
    attempt = api.hand.begin(run)
    api.hand.say(run, "half")
    api.hand.emit(run, "step.reset", 0, reason="broken")
    api.hand.end(run, attempt, None, step=StepStatus.FAILED, error=error)
    api.hand.finish(run, RunStatus.FAILED)
    with opened(api, stream) as socket:
        messages = heard(socket)
    assert [message["type"] for message in messages] == ["chunk", "reset", "error"]
    assert messages[-1]["error"] == "nobody answers"


def test_a_socket_resumes(api: Any) -> None:
    stream, run = started(api)
    api.hand.begin(run)
    api.hand.say(run, "one ")
    with opened(api, stream) as socket:
        place = json.loads(socket.recv(timeout=10))["id"]
    api.hand.say(run, "two")
    with opened(api, f"{stream}?after={place}") as socket:
        assert json.loads(socket.recv(timeout=10))["chunk"] == "two"


@pytest.mark.parametrize("stream", ["stream_nonsense", "stream_0199c2f46f0e7c3a9d0b2f6f1f1f7a10", "%C3%A9" * 100])
def test_a_socket_to_nowhere_is_closed_with_4404(api: Any, stream: str) -> None:
    with opened(api, stream) as socket, pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4404


def test_a_socket_needs_the_key_in_a_header_or_as_a_subprotocol(api: Any) -> None:
    secret = keys.create(api.hand.ledger, "ci")
    header = {"Authorization": f"Bearer {secret}"}
    answer = api.client.post("/api/route_task_stream_start", json={"task_type": "chat"}, headers=header).json()
    api.hand.begin(answer["run_id"])
    api.hand.say(answer["run_id"], "Hello")
    with opened(api, answer["stream_id"]) as socket, pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401
    ways: list[dict[str, Any]] = [{"additional_headers": header}, {"subprotocols": ["goblin", f"bearer.{secret}"]}]
    for way in ways:
        with opened(api, answer["stream_id"], **way) as socket:
            assert json.loads(socket.recv(timeout=10))["chunk"] == "Hello"
