"""A line of a batch becomes a run that asks what the line asks, or says in one message why it cannot."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage

from goblin.settings import Settings, load
from ledger.files import Line
from ledger.runs import NewRun
from providers import registry
from providers.message import Message, ToolCall
from providers.sampling import Sampling
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
[providers.claude]
dialect = "anthropic"
base_url = "http://127.0.0.1:9"
api_key = "test"
models = ["claude"]
cost_per_token = 0.000001
"""
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
FORM: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {"name": "place", "schema": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
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


def test_an_answer_goes_into_the_next_conversation_as_the_client_has_it(desk: Desk) -> None:
    answer = ChatCompletionMessage(role="assistant", content="Hi.").model_dump()
    for turn in (answer, {**answer, "annotations": []}):
        made = run(desk, model="small", messages=[*HELLO, turn, *HELLO])
        assert messages_of(made.input) == (
            Message("user", "hello"),
            Message("assistant", "Hi."),
            Message("user", "hello"),
        )
    assert "audio" in complaint(desk, model="small", messages=[*HELLO, {**answer, "audio": {"id": "a"}}])


def test_a_line_is_told_of_its_first_bad_message_and_no_further_one_is_looked_at(desk: Desk) -> None:
    bad = [{"rola": "user"}] * 60_000
    assert complaint(desk, model="small", messages=[*HELLO, *bad]).startswith("messages.1: unknown key 'rola'")


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
        ({"reasoning_effort": "low"}, "reasoning_effort cannot be honoured"),
        ({"logit_bias": {"50256": -100}}, "logit_bias cannot be honoured"),
        ({"top_p": 1.5}, "top_p"),
        ({"stop": list("abcde")}, "stop"),
        ({"seed": "7"}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, "schema"),
        ({"response_format": FORM | {"json_schema": {"name": "a", "schema": {"x": "\0"}}}}, "U+0000"),
        ({"response_format": FORM | {"json_schema": {"name": "a", "schema": {"x": "y" * 70_000}}}}, "65536"),
        ({"model": "claude/claude", "seed": 7}, "claude/claude: takes no seed: its dialect has no word for it"),
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


def test_how_an_answer_is_drawn_and_its_form_go_along(desk: Desk) -> None:
    wished = {"top_p": 0.5, "stop": "END", "seed": 7, "frequency_penalty": -1, "presence_penalty": 2}
    made = run(desk, model="small", messages=HELLO, response_format=FORM, **wished)
    sampling = Sampling.of(made.input)
    assert sampling == Sampling(None, 0.5, ("END",), 7, -1, 2, FORM)
    assert sampling.schema == FORM["json_schema"]["schema"]
    assert "cache" not in made.options
    assert Sampling.of(json.loads(json.dumps(sampling.as_value()))) == sampling
    assert run(desk, model="small", messages=HELLO, stop=["a", "b"]).input["stop"] == ["a", "b"]


def test_values_that_ask_for_nothing_are_wishes_of_nobody(desk: Desk) -> None:
    idle = {"top_p": 1, "stop": [], "frequency_penalty": 0, "presence_penalty": 0, "response_format": {"type": "text"}}
    made = run(desk, model="claude", messages=HELLO, seed=None, **idle)
    assert set(made.input) == {"messages"}


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


@pytest.mark.parametrize("text", ["\U0001f98a", "\\u0000", "\\ud800", "é"])
def test_what_is_described_may_hold_every_character_that_can_be_stored(desk: Desk, text: str) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"description": text}}}
    assert run(desk, model="small", messages=HELLO, tools=[tool]).options["tools"] == [tool]


@pytest.mark.parametrize("url", [COMPLETIONS, RUNS])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ('{"a": 1e999}', "too large"),
        ('{"a": -1e999}', "too large"),
        ('{"a": "\\u0000"}', "U+0000"),
        ('{"\\ud800": 1}', "U+D800"),
        ('{"a":' * 120 + "1" + "}" * 120, "nested"),
        ('{"a":' * 300 + "1" + "}" * 300, "nested"),
        ("[" * 900 + "]" * 900, "tools"),
        ('{"a":' * 900 + "1" + "}" * 900, "nested"),
    ],
)
def test_what_is_described_and_cannot_be_stored_refuses_its_line_alone(
    desk: Desk, url: str, value: str, reason: str
) -> None:
    tools = f'[{{"type": "function", "function": {{"name": "look", "parameters": {value}}}}}]'
    wanted = {
        COMPLETIONS: f'{{"model": "small", "messages": [{{"role": "user", "content": "hi"}}], "tools": {tools}}}',
        RUNS: f'{{"workflow": "chat: hi", "options": {{"tools": {tools}}}}}',
    }
    body = f'{{"custom_id": "a", "method": "POST", "url": "{url}", "body": {wanted[url]}}}'
    made = read(desk, url, Line(1, body.encode()))
    assert not isinstance(made.run, NewRun)
    assert reason in made.run["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"workflow": "chat: hi", "options": {"metadata": {"\0": "x"}}},
        {"workflow": "chat: hi", "options": {"metadata": {"k" * 100_000: "x"}}},
    ],
)
def test_an_error_holds_nothing_of_its_line_that_cannot_be_stored(desk: Desk, body: dict[str, Any]) -> None:
    told = json.dumps(read(desk, RUNS, line(RUNS, **body)).run)
    assert "options.metadata" in told
    assert "\\u0000" not in told
    assert len(told) < 2_000


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b"NaN", b'{"a": NaN}', b"\xff", b"[" * 100_000, b'"a"'])
def test_no_bytes_harm_the_reader(desk: Desk, body: bytes) -> None:
    assert not isinstance(read(desk, RUNS, Line(1, body)).run, NewRun)
