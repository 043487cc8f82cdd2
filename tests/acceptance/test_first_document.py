"""Every call of the product's first document, as it is written there, made with curl (or httpx where there is none)."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from cli.launch import Launch

CURL = shutil.which("curl")
START = {
    "task_type": "docs-writer",
    "payload": {"code": "function add(a, b) { return a + b; }", "language": "javascript"},
    "opts": {"preferLocal": True, "budget": 1.0},
}
TWO_STEPS = {"text": "docs-writer: document code THEN code-writer: write tests", "default_goblin": "docs-writer"}
ONE_STEP = {"text": "docs-writer: test", "default_goblin": "docs-writer"}
NUMBER = (int, float)


@pytest.fixture
def url(launch: Launch) -> str:
    return launch.url


def call(url: str, body: Mapping[str, Any] | None = None) -> Any:
    """The JSON that a shell would get."""
    if CURL is None:
        answer = httpx.get(url, trust_env=False) if body is None else httpx.post(url, json=body, trust_env=False)
        return answer.raise_for_status().json()
    posted = [] if body is None else ["-X", "POST", "-H", "Content-Type: application/json", "-d", json.dumps(body)]
    command = [CURL, "--silent", "--show-error", "--fail-with-body", "--noproxy", "*", *posted, url]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)


def fits(value: Any, shape: Any) -> bool:
    """Whether a value has what the shape has: its fields (more are welcome), types, patterns, items, exact values."""
    match shape:
        case dict():
            return isinstance(value, dict) and all(name in value and fits(value[name], shape[name]) for name in shape)
        case [only]:
            return isinstance(value, list) and bool(value) and all(fits(one, only) for one in value)
        case type() | tuple():
            return isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
        case re.Pattern():
            return isinstance(value, str) and shape.fullmatch(value) is not None
        case _:
            return bool(value == shape)


HEALTH = {"status": "healthy", "version": "2.0.0", "providers": int, "uptime": re.compile(r"\d+h \d+m")}
PROVIDERS = {
    "providers": [
        {
            "id": str,
            "name": str,
            "enabled": bool,
            "models": list,
            "health": {"latency": NUMBER, "success_rate": NUMBER, "cost_per_token": (*NUMBER, type(None))},
        }
    ]
}
STARTED = {"stream_id": re.compile(r"stream_\w+"), "provider": "ollama", "model": str}
POLLED = {
    "status": re.compile("running|completed"),
    "chunks": [{"chunk": str, "token_count": int, "cost": NUMBER}],
    "total_cost": NUMBER,
    "progress": NUMBER,
}
STEP_1 = {"id": "step1", "goblin": "docs-writer", "task": "document code", "dependencies": []}
STEP_2 = {"id": "step2", "goblin": "code-writer", "task": "write tests", "dependencies": ["step1"]}


@pytest.mark.parametrize(
    ("path", "body", "shape"),
    [
        ("/api/health", None, HEALTH),
        ("/providers", None, PROVIDERS),
        ("/api/route_task_stream_start", START, STARTED),
        ("/parse", ONE_STEP, {"steps": [{"id": "step1", "goblin": "docs-writer", "task": "test", "dependencies": []}]}),
        ("/parse", TWO_STEPS, {"total_batches": 1, "max_parallel": 1}),
    ],
)
def test_a_call_answers_with_the_documented_fields(url: str, path: str, body: Any, shape: Any) -> None:
    answer = call(url + path, body)
    assert fits(answer, shape), answer


def test_parsed_steps_name_goblin_task_and_dependencies(url: str) -> None:
    steps = call(f"{url}/parse", TWO_STEPS)["steps"]
    assert [fits(step, shape) for step, shape in zip(steps, (STEP_1, STEP_2), strict=True)] == [True, True]


def test_a_polled_stream_hands_out_chunks_until_it_is_completed(url: str) -> None:
    stream = call(f"{url}/api/route_task_stream_start", START)["stream_id"]
    polled = {"status": "running"}
    while polled["status"] == "running":
        polled = call(f"{url}/api/route_task_stream_poll/{stream}")
        assert fits(polled | {"chunks": polled["chunks"] or [{"chunk": "", "token_count": 0, "cost": 0}]}, POLLED)
    assert (polled["status"], polled["progress"]) == ("completed", 1.0)


def test_a_socket_hears_chunks_and_the_result(url: str) -> None:
    stream = call(f"{url}/api/route_task_stream_start", START)["stream_id"]
    with connect(f"{url.replace('http', 'ws')}/ws/stream/{stream}", proxy=None) as socket:
        *chunks, end = [json.loads(message) for message in socket]
    assert all(fits(message, {"type": "chunk", "chunk": str}) for message in chunks)
    assert chunks
    assert fits(end, {"type": "complete", "result": str})
