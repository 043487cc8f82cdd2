"""What cohere sends, and what it says. Written by hand from the wire format."""

from providers.message import Finish, Report, Text, Thought, ToolCall, Usage
from tests.fakes.said import DONE, Transcript, content, ended, named, sse

SAID = (
    Transcript(
        "blocks, and counts that are billed",
        "cohere",
        named(
            {"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant", "content": []}}},
            {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "thinking"}}}},
            content(thinking="hm"),
            {"type": "content-end", "index": 0},
            content(text="Hel"),
            content(text="lo ☃"),
            {"type": "citation-start", "index": 0, "delta": {"message": {"citations": {"text": "no text"}}}},
            ended(
                "COMPLETE",
                usage={
                    "billed_units": {"input_tokens": 9.0, "output_tokens": 3.0},
                    "tokens": {"input_tokens": 70.0, "output_tokens": 5.0},
                    "cached_tokens": 4.0,
                },
            ),
        )
        + DONE.encode(),
        (
            Thought("hm"),
            Text("Hel"),
            Text("lo ☃"),
            Finish("stop", "COMPLETE"),
            Report(Usage(9, 4, 0, 3, 0)),
        ),
    ),
    Transcript(
        "events without names, counts that are only real",
        "cohere",
        sse(content(text="Hi"), ended("MAX_TOKENS", usage={"tokens": {"input_tokens": 70, "output_tokens": 5}})),
        (Text("Hi"), Finish("length", "MAX_TOKENS"), Report(Usage(70, 0, 0, 5, 0))),
    ),
    Transcript(
        "half a count is none",
        "cohere",
        sse(content(text="Hi"), ended("COMPLETE", usage={"billed_units": {"output_tokens": 5}})),
        (Text("Hi"), Finish("stop", "COMPLETE")),
    ),
    Transcript(
        "a plan, and calls of tools in pieces",
        "cohere",
        named(
            {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I look."}}},
            {
                "type": "tool-call-start",
                "index": 0,
                "delta": {"message": {"tool_calls": {"id": "t1", "function": {"name": "look", "arguments": ""}}}},
            },
            {
                "type": "tool-call-delta",
                "index": 0,
                "delta": {"message": {"tool_calls": {"function": {"arguments": '{"at": "☃"}'}}}},
            },
            {"type": "tool-call-end", "index": 0},
            ended("TOOL_CALL"),
        ),
        (Thought("I look."), ToolCall("t1", "look", '{"at": "☃"}'), Finish("tool", "TOOL_CALL")),
    ),
)
