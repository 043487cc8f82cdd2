"""What openai sends, and what it says. Written by hand from the wire format."""

import json

from providers.message import Finish, Reasoned, Report, Text, Thought, ToolCall, Usage
from tests.fakes.said import DONE, PLAIN_USAGE, Transcript, delta, sse

SAID = (
    Transcript(
        "usage in a chunk of its own",
        "openai",
        b": keep-alive\n\n"
        + sse(
            delta(role="assistant", content=""),
            delta(content="Hel"),
            delta(content="lo ☃"),
            delta("stop"),
            {
                "model": "m-1",
                "choices": [],
                "usage": {
                    **PLAIN_USAGE,
                    "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
                    "completion_tokens_details": {"reasoning_tokens": 2},
                },
            },
            end=DONE,
        ),
        (Text("Hel"), Text("lo ☃"), Finish("stop", "stop"), Report(Usage(9, 4, 1, 3, 2), "m-1")),
    ),
    Transcript(
        "usage on the last chunk and no terminator",
        "openai",
        sse(delta(content="Hi"), {**delta("length"), "usage": PLAIN_USAGE}),
        (Text("Hi"), Finish("length", "length"), Report(Usage(9, 0, 0, 3, 0), "m-1")),
    ),
    Transcript(
        "usage in x_groq",
        "openai",
        sse(delta(content="Hi"), {**delta("stop"), "x_groq": {"usage": PLAIN_USAGE}}, end=DONE),
        (Text("Hi"), Finish("stop", "stop"), Report(Usage(9, 0, 0, 3, 0), "m-1")),
    ),
    Transcript(
        "reasoning_content beside the content, counted beside the completion",
        "openai",
        sse(
            delta(reasoning_content="hm"),
            delta(content="Hi"),
            {
                **delta("stop"),
                "usage": {
                    "prompt_tokens": 9,
                    "completion_tokens": 3,
                    "total_tokens": 17,
                    "prompt_cache_hit_tokens": 6,
                    "completion_tokens_details": {"reasoning_tokens": 5},
                },
            },
            end=DONE,
        ),
        (Thought("hm"), Text("Hi"), Finish("stop", "stop"), Report(Usage(9, 6, 0, 8, 5), "m-1")),
    ),
    Transcript(
        "reasoning under its other name",
        "openai",
        sse(delta(reasoning="hm", reasoning_details=[{"text": "hm"}]), delta(content="Hi"), delta("stop"), end=DONE),
        (Thought("hm"), Text("Hi"), Finish("stop", "stop")),
    ),
    Transcript(
        "content as a list of parts",
        "openai",
        sse(
            delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
            delta(content=[{"type": "text", "text": "Hi"}]),
            delta("stop"),
            end=DONE,
        ),
        (Thought("hm"), Text("Hi"), Finish("stop", "stop")),
    ),
    Transcript(
        "thinking tags cut by the stream",
        "openai",
        sse(
            *(delta(content=piece) for piece in ("<th", "ink>h", "m</thi", "nk>", "\n\n", "Hi <b>", " there")),
            delta("stop"),
            end=DONE,
        ),
        (Thought("h"), Thought("m"), Text("Hi <b>"), Text(" there"), Finish("stop", "stop")),
    ),
    Transcript(
        "text that only looks like a tag at its end",
        "openai",
        sse(delta(content="a <thi"), delta("stop"), end=DONE),
        (Text("a "), Text("<thi"), Finish("stop", "stop")),
    ),
    Transcript(
        "a filtered answer",
        "openai",
        sse(delta(content="No"), delta("content_filter"), end=DONE),
        (Text("No"), Finish("filtered", "content_filter")),
    ),
    Transcript(
        "a refusal in a field of its own",
        "openai",
        sse(delta(refusal="I cannot"), delta("stop"), end=DONE),
        (Text("I cannot"), Finish("filtered", "stop")),
    ),
    Transcript(
        "calls of tools in pieces",
        "openai",
        sse(
            delta(content="Let me look."),
            delta(tool_calls=[{"index": 0, "id": "t1", "function": {"name": "look", "arguments": ""}}]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": '{"at": '}}]),
            delta(tool_calls=[{"index": 1, "id": "t2", "function": {"name": "wait", "arguments": None}}]),
            delta(tool_calls=[{"index": 0, "function": {"arguments": '"☃"}'}}]),
            delta("tool_calls"),
            end=DONE,
        ),
        (
            Text("Let me look."),
            ToolCall("t1", "look", '{"at": "☃"}'),
            ToolCall("t2", "wait", "{}"),
            Finish("tool", "tool_calls"),
        ),
    ),
    Transcript(
        "a call that was not streamed and is not told at the end",
        "openai",
        json.dumps(
            {
                "choices": [
                    {
                        "message": {
                            "content": None,
                            "tool_calls": [
                                {"id": "t1", "function": {"name": "look", "arguments": "{}"}},
                                {"id": "t2", "function": {"name": "wait", "arguments": "{}"}},
                            ],
                        },
                        "finish_reason": "stop",
                    }
                ]
            }
        ).encode(),
        (ToolCall("t1", "look", "{}"), ToolCall("t2", "wait", "{}"), Finish("tool", "stop")),
    ),
    Transcript(
        "reasoning that leads to a call",
        "openai",
        sse(
            delta(reasoning_content="h"),
            delta(reasoning_content="m"),
            delta(tool_calls=[{"index": 0, "id": "t1", "function": {"name": "look", "arguments": "{}"}}]),
            delta("tool_calls"),
            end=DONE,
        ),
        (Thought("h"), Thought("m"), Reasoned("hm"), ToolCall("t1", "look", "{}"), Finish("tool", "tool_calls")),
    ),
    Transcript(
        "a terminator without a reason",
        "openai",
        sse(delta(content="Hi"), end=DONE),
        (Text("Hi"), Finish("stop", "stop")),
    ),
    Transcript(
        "an answer that was not streamed",
        "openai",
        json.dumps(
            {
                "model": "m-1",
                "choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
                "usage": PLAIN_USAGE,
            },
            indent=1,
        ).encode(),
        (Text("Hi"), Finish("stop", "stop"), Report(Usage(9, 0, 0, 3, 0), "m-1")),
    ),
    Transcript(
        "carriage returns and a byte order mark",
        "openai",
        b"\xef\xbb\xbf" + sse(delta(content="Hi"), delta("stop"), end=DONE).replace(b"\n", b"\r\n"),
        (Text("Hi"), Finish("stop", "stop")),
    ),
)
