"""Calls of tools, for every dialect that has them: our own client against the simulator, and back with the results."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from providers.call import Caller, Control
from providers.errors import BadRequest, BrokenStream, Malformed, ProviderFault, ServerError
from providers.message import Chat, Finish, Message, Report, Text, Thought, ToolCall
from providers.provider import Provider
from tests.conformance.ways import HOUSES, WAYS, Simulator, ask, saying, vendor_at

LOOK: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "looks at a place",
        "parameters": {
            "type": "object",
            "properties": {
                "at": {"type": "string", "enum": ["sea", "sky"]},
                "note": {"type": "string"},
                "often": {"type": "integer"},
                "deep": {"type": "object", "properties": {"ok": {"type": "boolean"}}},
                "list": {"type": "array", "items": {"type": "number"}},
            },
        },
    },
}
WAIT: dict[str, Any] = {"type": "function", "function": {"name": "wait"}}
TOOLS = (LOOK, WAIT)
SEEN = {"at": "sea", "note": "some note – naïve ☃", "often": 7, "deep": {"ok": True}, "list": [7]}


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    one = Caller()
    yield one
    one.close()


@pytest.fixture(params=[*(name for name in WAYS if name != "replicate"), *HOUSES])
def vendor(request: pytest.FixtureRequest, simulator: Simulator) -> Provider:
    return vendor_at(simulator.url, request.param)


def heard(caller: Caller, vendor: Provider, call: Chat) -> tuple[str, list[ToolCall], str]:
    """Text or plan, calls, and the reason for the end."""
    said, calls, finish = "", [], ""
    for event in caller.stream(vendor, call, Control()):
        match event:
            case Text(words) | Thought(words):
                said += words
            case ToolCall():
                calls.append(event)
            case Finish(reason, _):
                finish = reason
    return said, calls, finish


@pytest.mark.parametrize("per", [1, 3, 1000])
def test_a_call_comes_whole_however_it_was_streamed(caller: Caller, vendor: Provider, per: int) -> None:
    said, (call,), finish = heard(caller, vendor, ask(f"sim-instant+call=1+per={per}", tools=TOOLS))
    assert (said, call.name, json.loads(call.arguments), finish) == ("", "look", SEEN, "tool")


def test_calls_side_by_side_keep_their_order(caller: Caller, vendor: Provider) -> None:
    _, calls, finish = heard(caller, vendor, ask("sim-instant+call=3+per=1", tools=TOOLS))
    assert [call.name for call in calls] == ["look", "wait", "look"]
    assert [json.loads(call.arguments) for call in calls] == [SEEN, {}, SEEN]
    assert finish == "tool"


def test_words_may_come_before_a_call(caller: Caller, vendor: Provider) -> None:
    said, (call,), _ = heard(caller, vendor, ask(f"sim-instant+call=1{saying('I look first.')}", tools=TOOLS))
    assert (said, call.name) == ("I look first.", "look")


def test_a_result_brings_an_answer(caller: Caller, vendor: Provider) -> None:
    asked = ask("sim-instant+call=2", "How is the sea?", tools=TOOLS)
    _, calls, _ = heard(caller, vendor, asked)
    results = tuple(Message("tool", f"result {number}", answers=call) for number, call in enumerate(calls))
    told = (*asked.messages, Message("assistant", "", calls=tuple(calls)), *results)
    said, later, finish = heard(caller, vendor, replace(asked, messages=told))
    assert said
    assert (later, finish) == ([], "stop")


@pytest.mark.parametrize("vendor", ["gemini"], indirect=True)
def test_a_call_that_lost_its_signature_is_refused_on_its_way_back(caller: Caller, vendor: Provider) -> None:
    asked = ask("sim-instant+call=2", tools=TOOLS)
    _, (first, second), _ = heard(caller, vendor, asked)
    assert first.signature
    assert not second.signature
    told = (Message("assistant", "", calls=(replace(first, signature=""),)), Message("tool", "x", answers=first))
    with pytest.raises(BadRequest, match="thought_signature"):
        heard(caller, vendor, replace(asked, messages=(*asked.messages, *told)))


@pytest.mark.parametrize("vendor", ["openai", "anthropic", "gemini", "cohere", "bedrock"], indirect=True)
def test_a_result_of_a_call_that_nobody_made_is_refused(caller: Caller, vendor: Provider) -> None:
    made, stray = ToolCall("c1", "look", "{}"), ToolCall("c2", "nobody", "{}")
    told = (Message("user", "hi"), Message("assistant", "", calls=(made,)), Message("tool", "x", answers=stray))
    with pytest.raises(BadRequest):
        heard(caller, vendor, ask("sim-instant", messages=told, tools=TOOLS))


def test_tools_and_calls_are_counted(caller: Caller, vendor: Provider, simulator: Simulator) -> None:
    heard(caller, vendor, ask("sim-instant"))
    without = simulator.last_call()["input_tokens"]
    events = list(caller.stream(vendor, ask("sim-instant+call=1", tools=TOOLS), Control()))
    booked = simulator.last_call()
    (usage,) = (event.usage for event in events[-1:] if isinstance(event, Report))
    assert (usage.input, usage.output) == (booked["input_tokens"], booked["output_tokens"])
    assert booked["input_tokens"] > without + 40


@pytest.mark.parametrize(
    ("directive", "fault"), [("cut", BrokenStream), ("malformed", Malformed), ("midfail", ServerError)]
)
def test_a_call_that_breaks_off_is_none(caller: Caller, vendor: Provider, directive: str, fault: Any) -> None:
    overloaded = directive == "midfail" and vendor.dialect in ("anthropic", "gemini")
    calls: list[Any] = []
    with pytest.raises(ProviderFault if overloaded else fault):
        calls.extend(caller.stream(vendor, ask(f"sim-instant+call=1+per=1+{directive}=4", tools=TOOLS), Control()))
    assert not [event for event in calls if isinstance(event, ToolCall)]


def test_a_call_that_the_output_limit_cuts_is_not_told_as_one(caller: Caller, vendor: Provider) -> None:
    _, _, finish = heard(caller, vendor, ask("sim-instant+call=1", tools=TOOLS, max_output_tokens=3))
    assert finish == ("stop" if vendor.dialect == "cloudflare" else "length")
