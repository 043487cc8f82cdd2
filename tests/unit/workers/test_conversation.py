"""Conversations: what chat completions say of tools and of reasoning is carried, and what fits no role is refused."""

import json
import uuid
from typing import Any

import pytest
from pydantic import ValidationError

from providers.message import Reasoned, ToolCall
from workers.completion import CompletionRequest
from workers.conversation import spoken
from workers.tool import as_output

CALL = ToolCall("c1", "look", '{"at": "sea"}', "c2ln")
BLOCKS = (Reasoned("I look.", "c2ln"), Reasoned("", "aGlk", is_hidden=True))
ASKED = {"role": "user", "content": "How is the sea?"}
TOLD = {"role": "tool", "content": "calm", "tool_call_id": "c1"}


def heard(*messages: Any) -> list[Any]:
    """As a line of a batch brings them, through what is stored of it."""
    request = CompletionRequest.model_validate({"model": "m", "messages": messages})
    return list(spoken(json.loads(json.dumps([turn.as_value() for turn in request.messages]))))


@pytest.mark.parametrize("reasoned", [BLOCKS, (Reasoned("I look."),), ()], ids=["signed", "open", "none"])
def test_a_step_that_calls_tools_says_what_the_next_request_may_bring_back(reasoned: tuple[Reasoned, ...]) -> None:
    output = json.loads(as_output("", [CALL], uuid.uuid4(), reasoned))
    _, message, result = heard(ASKED, output, TOLD)
    assert message.calls == (CALL,)
    assert message.reasoned == reasoned
    assert result.answers == CALL


@pytest.mark.parametrize(
    "said",
    [
        {"reasoning_content": "hm"},
        {"thinking_blocks": [{"type": "redacted_thinking", "data": "aGlk"}]},
    ],
)
def test_only_an_assistant_has_reasoned(said: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="only an assistant has reasoned"):
        heard({**ASKED, **said})


@pytest.mark.parametrize(
    "block",
    [
        {"type": "thinking", "thinking": "hm"},
        {"type": "redacted_thinking", "data": ""},
        {"type": "musing", "thinking": "hm"},
    ],
)
def test_a_block_that_no_vendor_has_made_is_refused(block: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        heard(ASKED, {"role": "assistant", "content": "Well.", "thinking_blocks": [block]})
