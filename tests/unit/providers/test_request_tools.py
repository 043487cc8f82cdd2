"""Requests with tools: how every dialect is told of tools, of calls, of what led to them and of what they brought."""

import json
from typing import Any

import pytest

from providers.errors import UnknownModel
from providers.message import Chat, Message, Reasoned, ToolCall
from providers.provider import Provider
from providers.wire.spoken import SPOKEN
from tests.fakes.vendor import chat, provider


def body(vendor: Provider, call: Chat) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(SPOKEN[vendor.dialect].request(vendor, call).body)
    return value


PARAMETERS = {"type": "object", "properties": {"at": {"type": "string"}}}
NOTHING = {"type": "object", "properties": {}}
TOOLS = (
    {"type": "function", "function": {"name": "look", "description": "looks", "parameters": PARAMETERS}},
    {"type": "function", "function": {"name": "wait"}},
)


@pytest.mark.parametrize(
    ("dialect", "said"),
    [
        *((dialect, {"tools": list(TOOLS)}) for dialect in ("openai", "ollama", "cohere", "cloudflare")),
        (
            "anthropic",
            {
                "tools": [
                    {"name": "look", "description": "looks", "input_schema": PARAMETERS},
                    {"name": "wait", "input_schema": NOTHING},
                ]
            },
        ),
        (
            "gemini",
            {
                "tools": [
                    {
                        "functionDeclarations": [
                            {"name": "look", "description": "looks", "parameters": PARAMETERS},
                            {"name": "wait"},
                        ]
                    }
                ]
            },
        ),
        (
            "bedrock",
            {
                "toolConfig": {
                    "tools": [
                        {"toolSpec": {"name": "look", "description": "looks", "inputSchema": {"json": PARAMETERS}}},
                        {"toolSpec": {"name": "wait", "inputSchema": {"json": NOTHING}}},
                    ]
                }
            },
        ),
    ],
)
def test_tools_are_described_as_the_dialect_wants_them(dialect: str, said: dict[str, Any]) -> None:
    without, asked = body(provider(dialect=dialect), chat()), body(provider(dialect=dialect), chat(tools=TOOLS))
    assert {key: value for key, value in asked.items() if key not in without} == said


def test_a_vendor_without_tools_is_not_asked_to_call_them() -> None:
    with pytest.raises(UnknownModel):
        body(provider(dialect="replicate"), chat(tools=TOOLS))


CALLS = (ToolCall("c1", "look", '{"at": "sea"}'), ToolCall("c2", "wait", "{}"))
TOLD = (
    Message("user", "How is it?"),
    Message("assistant", "I look.", calls=CALLS),
    Message("tool", "calm", answers=CALLS[0]),
    Message("tool", "done", answers=CALLS[1]),
)
IN_COMPLETIONS = [
    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sea"}'}},
    {"id": "c2", "type": "function", "function": {"name": "wait", "arguments": "{}"}},
]
RESULTS = [
    {"role": "tool", "content": "calm", "tool_call_id": "c1"},
    {"role": "tool", "content": "done", "tool_call_id": "c2"},
]


@pytest.mark.parametrize(
    ("dialect", "field", "later"),
    [
        ("openai", "messages", [{"role": "assistant", "content": "I look.", "tool_calls": IN_COMPLETIONS}, *RESULTS]),
        ("cohere", "messages", [{"role": "assistant", "tool_plan": "I look.", "tool_calls": IN_COMPLETIONS}, *RESULTS]),
        (
            "ollama",
            "messages",
            [
                {
                    "role": "assistant",
                    "content": "I look.",
                    "tool_calls": [
                        {"function": {"name": "look", "arguments": {"at": "sea"}}},
                        {"function": {"name": "wait", "arguments": {}}},
                    ],
                },
                {"role": "tool", "content": "calm", "tool_name": "look"},
                {"role": "tool", "content": "done", "tool_name": "wait"},
            ],
        ),
        (
            "anthropic",
            "messages",
            [
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": "I look."},
                        {"type": "tool_use", "id": "c1", "name": "look", "input": {"at": "sea"}},
                        {"type": "tool_use", "id": "c2", "name": "wait", "input": {}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "c1", "content": "calm"},
                        {"type": "tool_result", "tool_use_id": "c2", "content": "done"},
                    ],
                },
            ],
        ),
        (
            "gemini",
            "contents",
            [
                {
                    "role": "model",
                    "parts": [
                        {"text": "I look."},
                        {"functionCall": {"id": "c1", "name": "look", "args": {"at": "sea"}}},
                        {"functionCall": {"id": "c2", "name": "wait", "args": {}}},
                    ],
                },
                {
                    "role": "user",
                    "parts": [
                        {"functionResponse": {"id": "c1", "name": "look", "response": {"result": "calm"}}},
                        {"functionResponse": {"id": "c2", "name": "wait", "response": {"result": "done"}}},
                    ],
                },
            ],
        ),
        (
            "bedrock",
            "messages",
            [
                {
                    "role": "assistant",
                    "content": [
                        {"text": "I look."},
                        {"toolUse": {"toolUseId": "c1", "name": "look", "input": {"at": "sea"}}},
                        {"toolUse": {"toolUseId": "c2", "name": "wait", "input": {}}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"toolResult": {"toolUseId": "c1", "content": [{"text": "calm"}]}},
                        {"toolResult": {"toolUseId": "c2", "content": [{"text": "done"}]}},
                    ],
                },
            ],
        ),
    ],
)
def test_calls_and_their_results_are_told_as_the_dialect_wants_them(
    dialect: str, field: str, later: list[dict[str, Any]]
) -> None:
    told = body(provider(dialect=dialect), chat(messages=TOLD))[field]
    assert told[1:] == later


BLOCKS = (Reasoned("I look.", "c2ln"), Reasoned("", "aGlk", is_hidden=True))
SIGNED = [
    {"type": "thinking", "thinking": "I look.", "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "aGlk"},
]


@pytest.mark.parametrize(
    ("dialect", "quirks", "said"),
    [
        ("openai", {}, {}),
        ("openai", {"reasoning_back": "reasoning_content"}, {"reasoning_content": "I look."}),
        ("openai", {"reasoning_back": "reasoning"}, {"reasoning": "I look."}),
        (
            "openai",
            {"reasoning_back": "thinking_blocks"},
            {"thinking_blocks": SIGNED, "reasoning_content": "I look."},
        ),
    ],
)
def test_reasoning_goes_back_under_the_name_that_the_row_says(
    dialect: str, quirks: dict[str, Any], said: dict[str, Any]
) -> None:
    told = (Message("user", "hi"), Message("assistant", "", CALLS, reasoned=BLOCKS), *TOLD[2:])
    vendor = provider(dialect=dialect, quirks=quirks)
    answered = body(vendor, chat(messages=told))["messages"][1]
    assert {key: answered[key] for key in answered if key not in ("role", "content", "tool_calls")} == said
    plain = body(vendor, chat(messages=(*told, Message("assistant", "done", reasoned=BLOCKS))))["messages"][-1]
    assert plain == {"role": "assistant", "content": "done"}


@pytest.mark.parametrize(
    ("dialect", "first"),
    [
        ("anthropic", SIGNED),
        (
            "bedrock",
            [
                {"reasoningContent": {"reasoningText": {"text": "I look.", "signature": "c2ln"}}},
                {"reasoningContent": {"redactedContent": "aGlk"}},
            ],
        ),
    ],
)
def test_signed_reasoning_stands_before_its_calls_and_unsigned_is_left_out(
    dialect: str, first: list[dict[str, Any]]
) -> None:
    blocks = (*BLOCKS, Reasoned("Another vendor's."))
    told = (Message("user", "hi"), Message("assistant", "", CALLS, reasoned=blocks), *TOLD[2:])
    content = body(provider(dialect=dialect), chat(messages=told))["messages"][1]["content"]
    assert content[:2] == first
    assert len(content) == len(first) + len(CALLS)
