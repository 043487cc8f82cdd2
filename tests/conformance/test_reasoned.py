"""Loops of tools with a model that reasons: vendors refuse the second turn without what led to the calls."""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from providers.call import Caller, Control
from providers.errors import BadRequest
from providers.message import Chat, Message, Reasoned, Text, Thought, ToolCall
from providers.provider import Provider
from tests.conformance.test_tools import TOOLS
from tests.conformance.ways import REASONER, Simulator, ask, vendor_at
from workers.conversation import spoken
from workers.tool import as_output

THINKS: dict[str, Any] = {"thinking": {"type": "enabled", "budget_tokens": 200}}
WAYS: Mapping[str, Mapping[str, Any]] = {
    "anthropic": {"reasoning_on": THINKS},
    "bedrock": {"reasoning_on": {"additionalModelRequestFields": THINKS}, "reasoning_off": {}},
    "openai": {"reasoning_on": THINKS, "reasoning_back": "reasoning_content"},
    "gemini": {},
}
SIGNING = ("anthropic", "bedrock")


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    one = Caller()
    yield one
    one.close()


@pytest.fixture(params=WAYS)
def vendor(request: pytest.FixtureRequest, simulator: Simulator) -> Provider:
    ways = {**WAYS[request.param], "reasoning_always": True}
    return replace(vendor_at(simulator.url, request.param), quirks=ways)


def heard(caller: Caller, vendor: Provider, call: Chat) -> tuple[str, str, Message]:
    """What was said and thought, and the message of the assistant in which it stands."""
    said, thought, calls, reasoned = "", "", [], []
    for event in caller.stream(vendor, call, Control()):
        match event:
            case Text(words):
                said += words
            case Thought(words):
                thought += words
            case ToolCall():
                calls.append(event)
            case Reasoned():
                reasoned.append(event)
    return said, thought, Message("assistant", said, tuple(calls), reasoned=tuple(reasoned))


def asked() -> Chat:
    return ask(f"{REASONER}+call=2", "How is the sea?", tools=TOOLS, reasoning=True)


def told(chat: Chat, message: Message) -> Chat:
    results = tuple(Message("tool", f"result {number}", answers=call) for number, call in enumerate(message.calls))
    return replace(chat, messages=(*chat.messages, message, *results))


def test_what_led_to_calls_goes_back_with_them(caller: Caller, vendor: Provider) -> None:
    _, thought, message = heard(caller, vendor, asked())
    assert thought
    assert "".join(one.text for one in message.reasoned) in ("", thought)
    assert all(bool(one.signature) is (vendor.dialect in SIGNING) for one in message.reasoned)
    said, thought_on, _ = heard(caller, vendor, told(asked(), message))
    assert said
    assert thought_on


def test_it_goes_back_also_through_the_words_of_chat_completions(caller: Caller, vendor: Provider) -> None:
    _, _, message = heard(caller, vendor, asked())
    output = json.loads(as_output(message.content, message.calls, uuid.uuid4(), message.reasoned))
    assert bool(output.get("thinking_blocks")) is (vendor.dialect in SIGNING)
    calls = [{"role": "tool", "content": "sunny", "tool_call_id": one["id"]} for one in output["tool_calls"]]
    asking = [{"role": "user", "content": "How is the sea?"}, {**output, "content": ""}, *calls]
    back = spoken(asking)
    assert back[1].reasoned == message.reasoned
    said, thought_on, _ = heard(caller, vendor, replace(asked(), messages=back))
    assert said
    assert thought_on


@pytest.mark.parametrize("vendor", SIGNING, indirect=True)
def test_a_block_that_was_changed_is_refused_by_its_vendor(caller: Caller, vendor: Provider) -> None:
    _, _, message = heard(caller, vendor, asked())
    changed = tuple(replace(one, text=f"{one.text} And more.") for one in message.reasoned)
    with pytest.raises(BadRequest, match="signature"):
        heard(caller, vendor, told(asked(), replace(message, reasoned=changed)))


@pytest.mark.parametrize("vendor", ["anthropic", "bedrock", "openai"], indirect=True)
def test_calls_of_another_vendor_are_gone_on_from_without_thinking_or_with_nothing_to_read(
    caller: Caller, vendor: Provider
) -> None:
    _, _, message = heard(caller, vendor, asked())
    said, thought, _ = heard(caller, vendor, told(asked(), replace(message, reasoned=())))
    assert said
    assert bool(thought) is (vendor.dialect not in SIGNING)


@pytest.mark.parametrize(("dialect", "complaint"), [("anthropic", "thinking"), ("openai", "reasoning_content")])
def test_the_vendor_refuses_calls_that_come_without_it(
    simulator: Simulator, dialect: str, complaint: str, caller: Caller
) -> None:
    """As the request would be without what this house adds: the simulator is as strict as the vendors."""
    forced = replace(vendor_at(simulator.url, dialect), quirks={"body": THINKS})
    _, _, message = heard(caller, forced, replace(asked(), reasoning=False))
    with pytest.raises(BadRequest, match=complaint):
        heard(caller, forced, told(replace(asked(), reasoning=False), replace(message, reasoned=())))
