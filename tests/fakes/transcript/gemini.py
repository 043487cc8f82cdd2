"""What gemini sends, and what it says. Written by hand from the wire format."""

from providers.message import Finish, Report, Text, Thought, ToolCall, Usage
from tests.fakes.said import Transcript, partial, sse

SAID = (
    Transcript(
        "partial answers with thoughts",
        "gemini",
        sse(
            partial({"text": "hm", "thought": True}, usageMetadata={"promptTokenCount": 9}),
            partial({"text": "Hel"}),
            partial(
                {"text": "lo"},
                finish="STOP",
                modelVersion="g-1",
                usageMetadata={
                    "promptTokenCount": 9,
                    "cachedContentTokenCount": 4,
                    "toolUsePromptTokenCount": 1,
                    "candidatesTokenCount": 3,
                    "thoughtsTokenCount": 5,
                },
            ),
        ),
        (Thought("hm"), Text("Hel"), Text("lo"), Finish("stop", "STOP"), Report(Usage(10, 4, 0, 8, 5), "g-1")),
    ),
    Transcript(
        "a part that calls a tool",
        "gemini",
        sse(partial({"functionCall": {"name": "look", "args": {"at": "here"}}}, finish="STOP")),
        (ToolCall("", "look", '{"at": "here"}'), Finish("tool", "STOP")),
    ),
    Transcript(
        "a signed call of a tool",
        "gemini",
        sse(partial({"functionCall": {"name": "look", "args": {}}, "thoughtSignature": "c2ln"}, finish="STOP")),
        (ToolCall("", "look", "{}", "c2ln"), Finish("tool", "STOP")),
    ),
    Transcript(
        "a blocked prompt",
        "gemini",
        sse({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 9}}),
        (Finish("filtered", "SAFETY"), Report(Usage(9), None)),
    ),
)
