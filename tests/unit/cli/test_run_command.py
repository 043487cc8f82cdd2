"""What `goblin run` asks of an API: the input from files, text and pipes, the options, and how it ends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

Goblin = Callable[..., Result]
STEP = {
    "id": "step1", "goblin": "chat", "task": "hi", "dependencies": [], "status": "succeeded", "outcome": "succeeded",
    "provider": "openai", "model": "m", "output": "hello", "error": None, "cost_usd": "0.000000050",
    "usage": {"input": 3, "cache_read": 0, "cache_write": 0, "output": 2, "reasoning": 0, "measured": True},
    "attempts": [{"number": 1, "provider": "openai", "model": "m", "status": "succeeded", "duration_ms": 1500,
                  "cost_usd": "0.000000050"}],
}  # fmt: skip
EVENTS = (
    'id: 1-0\nevent: delta\ndata: {"step":"step1","text":"hello","tokens":1,"cost":"0.000000050"}\n\n'
    'id: 1-1\nevent: run.finished\ndata: {"outcome":"succeeded","cost_usd":"0.000000050"}\n\n'
)


def whole(ended: str = "succeeded", **step: Any) -> str:
    run = {"id": "r", "status": ended, "output": "hello", "cost_usd": "0.000000050", "steps": [{**STEP, **step}]}
    return json.dumps(run)


@pytest.fixture
def served(api: Any) -> Any:
    api.answer("POST", "/v1/runs", (202, '{"id": "r"}'))
    api.answer("GET", "/v1/runs/r", (200, whole()))
    api.answer("GET", "/v1/runs/r/events", (200, EVENTS))
    return api


def submitted(api: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(next(one.body for one in api.asked if one.method == "POST"))
    return body


def test_a_run_that_succeeds_exits_0_with_its_text_and_its_bill(goblin: Goblin, served: Any) -> None:
    result = goblin("run", "chat: hi", GOBLIN_URL=served.url)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "hello"
    row = next(line for line in lines if line.startswith("step1"))
    assert row.split() == ["step1", "chat", "openai/m", "✔", "succeeded", "3", "2", "1.5", "s", "$0.000000050"]
    assert lines[-1] == "run r succeeded, $0.000000050 in all"


def test_a_run_that_fails_exits_1_and_says_why(goblin: Goblin, served: Any) -> None:
    error = {"message": "nobody can", "details": {"reasons": {"openai": "no key"}}}
    served.answer("GET", "/v1/runs/r", (200, whole("failed", status="failed", error=error)))
    result = goblin("run", "chat: hi", GOBLIN_URL=served.url)
    assert result.exit_code == 1
    assert "step1 (chat): nobody can" in result.stdout
    assert "openai: no key" in result.stdout


def test_several_attempts_get_a_row_each(goblin: Goblin, served: Any) -> None:
    failed = {**STEP["attempts"][0], "status": "failed", "provider": "groq"}  # type: ignore[index]
    answered = {**STEP["attempts"][0], "number": 2}  # type: ignore[index]
    served.answer("GET", "/v1/runs/r", (200, whole(attempts=[failed, answered])))
    shown = goblin("run", "chat: hi", GOBLIN_URL=served.url).stdout
    for part in ("2 attempts", "1. groq/m", "✘ failed", "2. openai/m"):
        assert part in shown


def test_json_is_a_line_for_each_event_and_one_for_the_run(goblin: Goblin, served: Any) -> None:
    lines = [
        json.loads(line) for line in goblin("run", "chat: hi", "--json", GOBLIN_URL=served.url).stdout.splitlines()
    ]
    assert [line.get("event") for line in lines] == ["delta", "run.finished", None]
    assert lines[-1]["id"] == "r"


def test_detached_it_prints_the_id_and_watches_nothing(goblin: Goblin, served: Any) -> None:
    result = goblin("run", "chat: hi", "--detach", GOBLIN_URL=served.url)
    assert (result.exit_code, result.stdout) == (0, "r\n")
    assert len(served.asked) == 1


@pytest.mark.parametrize(
    ("name", "more", "expected"),
    [
        ("add.py", [], {"code": "x", "language": "python"}),
        ("add.TS", [], {"code": "x", "language": "typescript"}),
        ("add.unheard-of", [], {"code": "x"}),
        ("notes.md", [], {"text": "x"}),
        ("notes.md", ["--language", "markdown"], {"code": "x", "language": "markdown"}),
    ],
)
def test_the_suffix_of_a_file_tells_what_it_is(
    goblin: Goblin, served: Any, name: str, more: list[str], expected: dict[str, str]
) -> None:
    Path(name).write_text("x")
    goblin("run", "chat: hi", "--file", name, *more, GOBLIN_URL=served.url)
    assert submitted(served)["input"] == expected


def test_options_are_those_that_were_given(goblin: Goblin, served: Any) -> None:
    goblin("run", "chat: hi", GOBLIN_URL=served.url)
    assert submitted(served)["options"] == {}
    served.asked.clear()
    given = ["--budget", "0.5", "--prefer-local", "--provider", "ollama", "--provider", "groq", "--model", "m"]
    goblin("run", "chat: hi", *given, GOBLIN_URL=served.url)
    assert submitted(served)["options"] == {
        "budget_usd": "0.5",
        "prefer_local": True,
        "providers": ["ollama", "groq"],
        "models": ["m"],
    }


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (["--file", "missing.py"], "cannot read missing.py"),
        (["--file", "a.py", "--text", "b"], "not both"),
        (["--budget", "much"], "as in 0.50"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_sent(
    goblin: Goblin, served: Any, arguments: list[str], cure: str
) -> None:
    result = goblin("run", "chat: hi", *arguments, GOBLIN_URL=served.url)
    assert result.exit_code == 2
    assert cure in result.stderr
    assert not served.asked


def test_a_mistake_that_the_api_found_is_shown_with_its_caret(goblin: Goblin, served: Any) -> None:
    problem = {
        "type": "/problems/workflow_syntax", "status": 422, "detail": "unknown goblin", "line": 1, "column": 1,
        "pointer": "caht: hi\n^", "expected": "a goblin", "suggestion": "did you mean chat?",
    }  # fmt: skip
    served.answer("POST", "/v1/runs", (422, json.dumps(problem)))
    result = goblin("run", "caht: hi", GOBLIN_URL=served.url)
    assert result.exit_code == 2
    assert "  caht: hi\n  ^\n" in result.stderr
    assert "did you mean chat?" in result.stderr


def test_costs_by_several_things_end_with_the_total(goblin: Goblin, api: Any) -> None:
    sums = {"calls": 1, "usage": STEP["usage"], "cost_usd": "0.000000050", "estimated_usd": "0.000000000"}
    page = {"data": [{"provider": "openai", "day": "2030-01-31", **sums}], "total": sums, "truncated": False}
    api.answer("GET", "/v1/usage", (200, json.dumps(page)))
    api.answer("GET", "/v1/budgets", (503, '{"type": "/problems/unavailable", "status": 503}'))
    lines = goblin("costs", "--by", "provider,day", GOBLIN_URL=api.url).stdout.splitlines()
    assert lines[1].split()[:3] == ["openai", "2030-01-31", "1"]
    assert lines[-1].startswith("total")
    assert "group_by=provider%2Cday" in api.asked[0].path
    assert goblin("costs", "--by", "colour", GOBLIN_URL=api.url).exit_code == 2


def test_costs_show_what_is_left_of_each_budget(goblin: Goblin, api: Any) -> None:
    sums = {"calls": 0, "usage": STEP["usage"], "cost_usd": "0.000000000", "estimated_usd": "0.000000000"}
    api.answer("GET", "/v1/usage", (200, json.dumps({"data": [], "total": sums, "truncated": False})))
    left = {
        "name": "all/hour", "limit_usd": "10.000000000", "spent_usd": "1.500000000", "held_usd": "0.500000000",
        "remaining_usd": "8.000000000", "resets_at": "2030-01-31T01:00:00Z",
    }  # fmt: skip
    api.answer("GET", "/v1/budgets", (200, json.dumps({"data": [left, {**left, "name": "key", "resets_at": None}]})))
    *_, hour, key = goblin("costs", GOBLIN_URL=api.url).stdout.splitlines()
    amounts = ["$10.000000000", "$1.500000000", "$0.500000000", "$8.000000000"]
    assert hour.split() == ["all/hour", *amounts, "2030-01-31T01:00:00Z"]
    assert key.split() == ["key", *amounts, "never"]
    assert json.loads(goblin("costs", "--json", GOBLIN_URL=api.url).stdout)["budgets"][0] == left
