"""What cloudflare sends, and what it says. Written by hand from the wire format."""

import json

from providers.message import Finish, Report, Text, Thought, ToolCall, Usage
from tests.fakes.said import DONE, PLAIN_USAGE, Transcript, delta, sse

SAID = (
    Transcript(
        "responses, and counts before the end",
        "cloudflare",
        sse(
            {"response": "<think>hm</think>"},
            {"response": "Hel"},
            {"response": "lo ☃"},
            {"response": "", "usage": PLAIN_USAGE},
            end=DONE,
        ),
        (Thought("hm"), Text("Hel"), Text("lo ☃"), Finish("stop", "stop"), Report(Usage(9, 0, 0, 3, 0))),
    ),
    Transcript(
        "a call of a tool beside no response",
        "cloudflare",
        sse({"response": None, "tool_calls": [{"name": "look", "arguments": {"at": "here"}}]}, end=DONE),
        (ToolCall("", "look", '{"at": "here"}'), Finish("tool", "stop")),
    ),
    Transcript(
        "chunks as in chat completions",
        "cloudflare",
        sse(delta(content="Hi"), delta("length"), {"choices": [], "usage": PLAIN_USAGE}, end=DONE),
        (Text("Hi"), Finish("length", "length"), Report(Usage(9, 0, 0, 3, 0))),
    ),
    Transcript(
        "an envelope that was not streamed",
        "cloudflare",
        json.dumps({"success": True, "errors": [], "result": {"response": "Hi", "usage": PLAIN_USAGE}}).encode(),
        (Text("Hi"), Finish("stop", "stop"), Report(Usage(9, 0, 0, 3, 0))),
    ),
)
