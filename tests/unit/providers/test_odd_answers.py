"""Answers that bend their dialect, and that the vendors' own clients or others who know them take for whole."""

import pytest

from providers.answer import collect
from providers.message import Finish, Text, ToolCall
from tests.fakes.decode import decode
from tests.fakes.said import DONE, delta, sse


@pytest.mark.parametrize(
    ("dialect", "pieces"),
    [
        ("openai", [delta(content=" ["), delta(content=1), delta(content="] 0."), delta(content=5), delta("stop")]),
        ("cloudflare", [{"response": " ["}, {"response": 1}, {"response": "] 0."}, {"response": 5}]),
    ],
)
def test_digits_that_come_as_a_number_are_a_part_of_the_answer(dialect: str, pieces: list[dict[str, object]]) -> None:
    assert collect(decode(dialect, sse(*pieces, end=DONE)))[0] == " [1] 0.5"


def test_a_call_in_the_form_of_chat_completions_is_one_in_a_native_answer() -> None:
    call = {"id": "a", "type": "function", "index": 0, "function": {"name": "look", "arguments": "{}"}}
    events = decode("cloudflare", sse({"response": "Hm", "tool_calls": [call]}, end=DONE))
    assert events == [Text("Hm"), ToolCall("a", "look", "{}"), Finish("tool", "stop")]
