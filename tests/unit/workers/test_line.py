"""A line of a batch becomes a run that asks what the line asks, or says in one message why it cannot."""

import json
from typing import Any

import pytest

from goblin.settings import Settings, load
from ledger.files import Line
from ledger.runs import NewRun
from providers import registry
from providers.message import Message, ToolCall
from workers.conversation import bounded, messages_of
from workers.line import COMPLETIONS, RUNS, read
from workers.order import Desk
from workflow.plan import Plan

PROVIDERS = """
[providers.sim]
base_url = "http://127.0.0.1:9/v1"
api_key = "test"
models = ["small", "org/large"]
cost_per_token = 0.000001
"""
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    file = tmp_path_factory.mktemp("settings") / "goblin.toml"
    file.write_text(PROVIDERS)
    return load(file, {})


@pytest.fixture(scope="module")
def desk(settings: Settings) -> Desk:
    return Desk(settings, registry.load(settings, {}))


def line(url: str, **body: Any) -> Line:
    return Line(7, json.dumps({"custom_id": "a", "method": "POST", "url": url, "body": body}).encode())


def run(desk: Desk, url: str = COMPLETIONS, **body: Any) -> NewRun:
    made = read(desk, url, line(url, **body))
    assert isinstance(made.run, NewRun), made.run
    assert (made.number, made.name) == (7, "a")
    return made.run


def complaint(desk: Desk, url: str = COMPLETIONS, **body: Any) -> str:
    made = read(desk, url, line(url, **body))
    assert not isinstance(made.run, NewRun)
    return str(made.run["message"])


def test_a_conversation_is_asked_as_it_stands(desk: Desk) -> None:
    said = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "text", "text": "there."}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "A fox."},
    ]
    call = ToolCall("c1", "look", "{}")
    assert messages_of(run(desk, model="small", messages=said, tools=[TOOL]).input) == (
        Message("system", "Be brief."),
        Message("user", "Look\nthere."),
        Message("assistant", "", (call,)),
        Message("tool", "A fox.", (), call),
    )


def test_what_bounds_the_answer_goes_along(desk: Desk, settings: Settings) -> None:
    made = run(
        desk, model="small", messages=HELLO, max_tokens=9, max_completion_tokens=8, temperature=0, n=1, stop=None
    )
    assert made.input["temperature"] == 0
    assert bounded(settings.goblins["chat"], made.input).max_output_tokens == 8
    assert made.options == {"on_budget": "wait", "priority": 10, "cache": False}


@pytest.mark.parametrize(
    ("name", "provider", "model"),
    [
        ("small", None, "small"),
        ("sim/small", "sim", "small"),
        ("org/large", None, "org/large"),
        ("sim/org/large", "sim", "org/large"),
    ],
)
def test_a_model_is_named_alone_or_with_who_serves_it(desk: Desk, name: str, provider: str | None, model: str) -> None:
    (step,) = Plan.from_value(run(desk, model=name, messages=HELLO).plan).steps
    assert (step.goblin, step.provider, step.model) == ("chat", provider, model)


def test_tools_that_are_not_to_be_called_are_not_offered(desk: Desk) -> None:
    assert run(desk, model="small", messages=HELLO, tools=[TOOL]).options["tools"] == [TOOL]
    assert "tools" not in run(desk, model="small", messages=HELLO, tools=[TOOL], tool_choice="none").options


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"top_p": 0.5}, "top_p cannot be honoured"),
        ({"response_format": {"type": "json_object"}}, "response_format cannot be honoured"),
        ({"n": 2}, "n cannot be honoured"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"temperature": 7}, "temperature"),
        ({"temprature": 1}, "did you mean temperature"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "content is missing"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "c9"}]}, "makes the call 'c9'"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "only an assistant"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_its_name(desk: Desk, more: dict[str, Any], reason: str) -> None:
    assert reason in complaint(desk, **{"model": "small", "messages": HELLO, **more})


def test_what_a_line_says_of_its_run_stands_before_what_lines_are_given(desk: Desk) -> None:
    options = {"priority": -5, "on_budget": "fail", "budget_usd": "0.5"}
    made = run(desk, RUNS, workflow="chat: hello THEN translate: it", input={"text": "x"}, options=options)
    assert made.options == {"priority": -5, "on_budget": "fail", "budget_usd": "0.500000000"}
    assert [step.goblin for step in made.steps] == ["chat", "translate"]


def test_a_workflow_that_does_not_parse_says_where_and_how_to_mend_it(desk: Desk) -> None:
    assert "did you mean" in complaint(desk, RUNS, workflow="chta: hello")


def test_a_bad_line_keeps_its_name_if_that_can_be_stored(desk: Desk) -> None:
    assert read(desk, RUNS, Line(1, b'{"custom_id": "a"}')).name == "a"
    for name in ("a\\u0000", "\\ud800", "x" * 600):
        assert read(desk, RUNS, Line(1, f'{{"custom_id": "{name}"}}'.encode())).name is None


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b"NaN", b'{"a": NaN}', b"\xff", b"[" * 100_000, b'"a"'])
def test_no_bytes_harm_the_reader(desk: Desk, body: bytes) -> None:
    assert not isinstance(read(desk, RUNS, Line(1, body)).run, NewRun)
