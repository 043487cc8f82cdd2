"""What LiteLLM's proxy sends, and what it says: recorded from release 1.106.2, and shortened."""

from typing import Any

from providers.message import Finish, Reasoned, Report, Text, Thought, ToolCall, Usage
from tests.fakes.said import DONE, Transcript, sse

ID = "chatcmpl-000000000009"


def piece(finish: str | None = None, **said: Any) -> dict[str, Any]:
    """It leaves out what is null."""
    choice = {"index": 0, "delta": said} | ({"finish_reason": finish} if finish else {})
    return {"id": ID, "object": "chat.completion.chunk", "created": 1795417325, "model": "m-1", "choices": [choice]}


def counts(output: int, **more: Any) -> dict[str, Any]:
    """Usage comes with an empty choice, after the end."""
    usage = {"completion_tokens": output, "prompt_tokens": 2, "total_tokens": 2 + output, **more}
    return {
        "id": ID,
        "created": 1795417325,
        "model": "m-1",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {}}],
        "usage": usage,
    }


def thinking(words: str) -> dict[str, Any]:
    blocks = [{"type": "thinking", "thinking": words}]
    return {
        "reasoning_content": words,
        "thinking_blocks": blocks,
        "content": "",
        "role": "assistant",
        "provider_specific_fields": {"thinking_blocks": blocks},
    }


SAID = (
    Transcript(
        "LiteLLM: usage after the end, with an empty choice",
        "openai",
        sse(
            piece(role="assistant", content=""),
            piece(content="A"),
            piece(content=" short"),
            piece("stop"),
            counts(27, prompt_tokens_details={"cached_tokens": 1}, completion_tokens_details={"reasoning_tokens": 0}),
            end=DONE,
        ),
        (
            Text("A"),
            Text(" short"),
            Finish("stop", "stop"),
            Report(Usage(input=2, cache_read=1, output=27), "m-1"),
        ),
    ),
    Transcript(
        "LiteLLM: thoughts of Anthropic's, twice in each piece",
        "openai",
        sse(
            piece(**thinking("The")),
            piece(**thinking(" task")),
            piece(content="Gladly"),
            piece("length"),
            counts(50, completion_tokens_details={"reasoning_tokens": 38, "text_tokens": 12}),
            end=DONE,
        ),
        (
            Thought("The"),
            Thought(" task"),
            Text("Gladly"),
            Finish("length", "length"),
            Report(Usage(input=2, output=50, reasoning=38), "m-1"),
        ),
    ),
    Transcript(
        "LiteLLM: signed thoughts that lead to a call",
        "openai",
        sse(
            piece(**thinking("h")),
            piece(**thinking("m")),
            piece(thinking_blocks=[{"type": "thinking", "thinking": "", "signature": "c2ln"}], content=""),
            piece(thinking_blocks=[{"type": "redacted_thinking", "data": "aGlk"}], content=""),
            piece(tool_calls=[{"id": "c1", "function": {"arguments": "{}", "name": "look"}, "index": 0}]),
            piece("tool_calls"),
            end=DONE,
        ),
        (
            Thought("h"),
            Thought("m"),
            Reasoned("hm", "c2ln"),
            Reasoned("", "aGlk", is_hidden=True),
            ToolCall("c1", "look", "{}"),
            Finish("tool", "tool_calls"),
        ),
    ),
    Transcript(
        "LiteLLM: calls of tools in pieces that all have an index",
        "openai",
        sse(
            piece(role="assistant", content=""),
            piece(tool_calls=[{"id": "c1", "function": {"arguments": "{", "name": "look"}, "index": 0}]),
            piece(tool_calls=[{"function": {"arguments": '"q": 1}'}, "type": "function", "index": 0}]),
            piece("tool_calls"),
            counts(13),
            end=DONE,
        ),
        (ToolCall("c1", "look", '{"q": 1}'), Finish("tool", "tool_calls"), Report(Usage(input=2, output=13), "m-1")),
    ),
)
