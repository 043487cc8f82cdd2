"""What ollama sends, and what it says. Written by hand from the wire format."""

from providers.message import Finish, Report, Text, Thought, ToolCall, Usage
from tests.fakes.said import Transcript, lines

SAID = (
    Transcript(
        "lines with thinking",
        "ollama",
        lines(
            {"model": "q", "message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
            {"model": "q", "message": {"role": "assistant", "content": "Hello"}, "done": False},
            {
                "model": "q",
                "message": {"role": "assistant", "content": ""},
                "done": True,
                "done_reason": "stop",
                "prompt_eval_count": 9,
                "eval_count": 3,
            },
        ),
        (Thought("hm"), Text("Hello"), Finish("stop", "stop"), Report(Usage(9, 0, 0, 3, 0), "q")),
    ),
    Transcript(
        "a line that calls a tool",
        "ollama",
        lines(
            {"message": {"content": "", "tool_calls": [{"function": {"name": "look", "arguments": {"at": "here"}}}]}},
            {"message": {"content": ""}, "done": True, "done_reason": "stop"},
        ),
        (ToolCall("", "look", '{"at": "here"}'), Finish("tool", "stop")),
    ),
    Transcript(
        "half a count is none, and a last line may have no end",
        "ollama",
        lines({"message": {"content": "Hi"}}, {"done": True, "done_reason": "length", "eval_count": 3}).rstrip(),
        (Text("Hi"), Finish("length", "length")),
    ),
)
