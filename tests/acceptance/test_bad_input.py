"""What bad input gets: an answer that names the mistake and the cure, and nothing that is stored."""

import json
import os
import subprocess
import sys
from typing import Any

import httpx
import pytest

from cli.launch import Launch

GOBLIN = [sys.executable, "-P", "-m", "cli.main"]
HUGE = "x" * (9 * 2**20)
BAD: list[tuple[Any, int, str, tuple[str, ...]]] = [
    ({"workflow": "chat: a THEN"}, 422, "workflow_syntax", ('"line":1', '"column":13', "^")),
    ({"workflow": "chat: write add(a, b THEN chat: x"}, 422, "workflow_syntax", ("quote",)),
    ({"workflow": "sumarize: it"}, 422, "workflow_syntax", ("did you mean summarize?",)),
    ({"workflow": ""}, 422, "workflow_syntax", ('"column":1',)),
    ({"workflow": "chat@opena1: it"}, 422, "unknown_name", ("openai",)),
    ({"workflow": "chat@openai/sim-gtp: it"}, 422, "unknown_name", ("sim-gpt",)),
    ({"workflow": "it", "default_goblin": "chatt"}, 422, "unknown_name", ("default_goblin", "did you mean chat?")),
    ({"workflow": "chat: it", "options": {"providers": ["olama"]}}, 422, "unknown_name", ("ollama",)),
    ({"workflow": "chat: it", "options": {"providers": ["groq"]}}, 422, "no_candidate", ("groq", "disabled")),
    ({"workflow": "chat: it", "options": {"prefer_locl": True}}, 422, "invalid", ("prefer_local",)),
    ({"workflow": "chat: it", "options": {"budget_usd": "much"}}, 422, "invalid", ("budget_usd",)),
    ({"workflow": 7}, 422, "invalid", ("workflow",)),
    ({}, 422, "invalid", ("workflow",)),
    ([], 422, "invalid", ()),
    (b"{", 400, "bad_json", ()),
    (b"\xff\xfe", 400, "bad_json", ()),
    ({"workflow": "chat: it", "input": {"text": HUGE}}, 413, "too_large", ("8388608",)),
    ({"workflow": "chat: it", "input": {"text": HUGE[: 5 * 2**20]}}, 413, "too_large", ("4194304",)),
]


def newest(client: httpx.Client) -> list[str]:
    return [run["id"] for run in client.get("/v1/runs", params={"limit": 1}).json()["data"]]


@pytest.mark.parametrize(
    ("body", "status", "kind", "words"), BAD, ids=[f"{kind}-{i}" for i, (_, _, kind, _) in enumerate(BAD)]
)
def test_a_body_that_cannot_be_run_is_answered_and_not_stored(
    client: httpx.Client, body: Any, status: int, kind: str, words: tuple[str, ...]
) -> None:
    before = newest(client)
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post("/v1/runs", content=sent, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{kind}")
    assert answer.headers["content-type"] == "application/problem+json"
    assert [word for word in words if word not in answer.text] == []
    assert newest(client) == before


def test_a_command_line_gets_the_same_and_exit_2(launch: Launch) -> None:
    done = subprocess.run(
        [*GOBLIN, "run", "docs-writer: a THEN sumarize: b"],
        env={**os.environ, "GOBLIN_URL": launch.url, "GOBLIN_API_KEY": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "did you mean summarize?" in done.stderr
    lines = done.stderr.splitlines()
    caret = next(line for line in lines if "^" in line)
    assert lines[lines.index(caret) - 1][caret.index("^") :].startswith("sumarize")
