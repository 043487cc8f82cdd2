"""A run whose input is a conversation, not something to work on: its step is asked just that, with nothing added.

The input is `messages` as chat completions have them, `max_output_tokens`, and what a Sampling holds, by name.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from goblin.settings import GoblinSettings
from providers.message import Message, Reasoned, ToolCall


def messages_of(given: Mapping[str, Any]) -> tuple[Message, ...] | None:
    """The conversation of a run's input; None when that is none."""
    said = given.get("messages")
    return None if said is None else spoken(said)


def bounded(goblin: GoblinSettings, given: Mapping[str, Any]) -> GoblinSettings:
    """The goblin with the length of answer that the input asks for."""
    wanted = given.get("max_output_tokens")
    return goblin if wanted is None else goblin.model_copy(update={"max_output_tokens": wanted})


def spoken(said: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Messages as values. Raises KeyError for the result of a call that nobody made."""
    calls: dict[str, ToolCall] = {}
    messages = []
    for one in said:
        made = tuple(_call(call) for call in one.get("tool_calls", ()))
        calls |= {call.id: call for call in made}
        answers = calls[one["tool_call_id"]] if one["role"] == "tool" else None
        messages.append(Message(one["role"], one["content"], made, answers, _reasoned(one)))
    return tuple(messages)


def _call(said: Mapping[str, Any]) -> ToolCall:
    google = said.get("extra_content", {}).get("google", {})
    signature = google.get("thought_signature", "")
    return ToolCall(said["id"], said["function"]["name"], said["function"]["arguments"], signature)


def _reasoned(said: Mapping[str, Any]) -> tuple[Reasoned, ...]:
    """Blocks that were signed, or the text alone where nobody signs."""
    blocks = tuple(
        Reasoned("", block["data"], is_hidden=True)
        if block["type"] == "redacted_thinking"
        else Reasoned(block["thinking"], block["signature"])
        for block in said.get("thinking_blocks", ())
    )
    words = said.get("reasoning_content", "")
    return blocks or ((Reasoned(words),) if words else ())
