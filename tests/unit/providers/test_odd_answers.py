"""Answers that bend their dialect, and that the vendors' own clients or others who know them take for whole."""

from typing import Any

import pytest

from providers.answer import collect
from providers.errors import Malformed
from providers.message import Finish, Report, Text, ToolCall, Usage
from providers.wire.sse import LONGEST_LINE
from tests.fakes.decode import decode
from tests.fakes.said import DONE, MESSAGE_START, PLAIN_USAGE, delta, framed, lines, named, partial, sse


@pytest.mark.parametrize(
    ("dialect", "pieces"),
    [
        ("openai", [delta(content=" ["), delta(content=1), delta(content="] 0."), delta(content=5), delta("stop")]),
        ("cloudflare", [{"response": " ["}, {"response": 1}, {"response": "] 0."}, {"response": 5}]),
    ],
)
def test_digits_that_come_as_a_number_are_a_part_of_the_answer(dialect: str, pieces: list[dict[str, object]]) -> None:
    assert collect(decode(dialect, sse(*pieces, end=DONE)))[0] == " [1] 0.5"


def test_a_native_answer_may_say_why_it_ended() -> None:
    last = {"response": "", "finish_reason": "length", "usage": PLAIN_USAGE}
    events = decode("cloudflare", sse({"response": "Hi"}, last, end=DONE))
    assert events == [Text("Hi"), Finish("length", "length"), Report(Usage(9, output=3))]


MESSAGE = {"choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize("pieces", [[MESSAGE], [delta(content="H"), delta(content="i"), MESSAGE]])
def test_a_message_in_a_stream_is_said_once(pieces: list[dict[str, Any]]) -> None:
    said = collect(decode("openai", sse(*pieces, MESSAGE, end=DONE)))
    assert said[0] == "Hi"


def test_a_call_in_the_form_of_chat_completions_is_one_in_a_native_answer() -> None:
    call = {"id": "a", "type": "function", "index": 0, "function": {"name": "look", "arguments": "{}"}}
    events = decode("cloudflare", sse({"response": "Hm", "tool_calls": [call]}, end=DONE))
    assert events == [Text("Hm"), ToolCall("a", "look", "{}"), Finish("tool", "stop")]


def piece(name: str | None, words: str, **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": words}, **more}


LOOK, WAIT = ToolCall("a", "look", '{"x": 1}'), ToolCall("b", "wait", '{"y": 2}')


@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        (
            [
                piece("look", "", id="a"),
                piece("wait", "", id="b"),
                piece(None, '{"x": ', id="a"),
                piece(None, '{"y": 2}', id="b"),
                piece(None, "1}", id="a"),
            ],
            [LOOK, WAIT],
        ),
        ([piece("look", '{"x": ', id="a"), piece("look", "1}", id="a")], [LOOK]),
        (
            [piece("look", '{"x": ', id="a", index=5), piece(None, "1}"), piece("wait", '{"y": 2}', id="b")],
            [LOOK, WAIT],
        ),
        (
            [piece("look", '{"x": 1}', index=0), piece("wait", '{"y": 2}', index=0)],
            [ToolCall("", "look", '{"x": 1}'), ToolCall("", "wait", '{"y": 2}')],
        ),
    ],
    ids=["ids in place of indexes", "a name said again", "an index for the first piece only", "one index and no ids"],
)
def test_pieces_of_calls_find_their_call(pieces: list[dict[str, Any]], calls: list[ToolCall]) -> None:
    body = sse(*(delta(tool_calls=[one]) for one in pieces), delta("tool_calls"), end=DONE)
    assert decode("openai", body) == [*calls, Finish("tool", "tool_calls")]


def anthropic(*blocks: tuple[str, int, Any]) -> bytes:
    events: list[dict[str, Any]] = []
    for kind, index, said in blocks:
        match kind:
            case "start":
                call = {"type": "tool_use", "id": said[0], "name": said[1], "input": {}}
                events.append({"type": "content_block_start", "index": index, "content_block": call})
            case "piece":
                words = {"type": "input_json_delta", "partial_json": said}
                events.append({"type": "content_block_delta", "index": index, "delta": words})
            case "stop":
                events.append({"type": "content_block_stop", "index": index})
    end = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {}}
    return named(MESSAGE_START, *events, end, {"type": "message_stop"})


def bedrock(*blocks: tuple[str, int, Any]) -> bytes:
    events: list[tuple[str, Any]] = []
    for kind, index, said in blocks:
        at = {"contentBlockIndex": index}
        match kind:
            case "start":
                start = {"toolUse": {"toolUseId": said[0], "name": said[1]}}
                events.append(("contentBlockStart", {**at, "start": start}))
            case "piece":
                events.append(("contentBlockDelta", {**at, "delta": {"toolUse": {"input": said}}}))
            case "stop":
                events.append(("contentBlockStop", at))
    return framed(*events, ("messageStop", {"stopReason": "tool_use"}), ("metadata", {"usage": {}}))


@pytest.mark.parametrize("form", [anthropic, bedrock])
@pytest.mark.parametrize("left_open", [False, True])
def test_blocks_of_calls_may_interleave_and_stay_open(form: Any, left_open: bool) -> None:
    body = form(
        ("start", 0, ("a", "look")),
        ("start", 1, ("b", "wait")),
        ("piece", 0, '{"x": 1}'),
        ("piece", 1, '{"y": '),
        ("stop", 0, None),
        ("piece", 1, "2}"),
        *([] if left_open else [("stop", 1, None)]),
    )
    assert decode(form.__name__, body)[:3] == [LOOK, WAIT, Finish("tool", "tool_use")]


ENDED = [{"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}}, {"type": "message_stop"}]
HI = sse(delta(content="Hi"), delta("stop"), end=DONE)


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("openai", b"data:\n\ndata: \n\n" + HI),
        ("gemini", b"data:\n\n" + sse(partial({"text": "Hi"}, finish="STOP")) + b"data: \n\n"),
        ("anthropic", b"event: ping\ndata:\n\nevent: ping\ndata: still here\n\n" + named(MESSAGE_START, *ENDED)),
    ],
)
def test_a_sign_of_life_is_no_part_of_an_answer(dialect: str, body: bytes) -> None:
    assert any(isinstance(event, Finish) for event in decode(dialect, body))


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("openai", sse({**delta("stop"), "error": None}, end=DONE)),
        ("anthropic", named(MESSAGE_START, {"type": "ping", "error": None}, *ENDED)),
        ("gemini", sse({**partial({"text": "Hi"}, finish="STOP"), "error": None})),
        ("ollama", lines({"message": {"content": "Hi"}, "done": True, "error": None})),
    ],
)
def test_an_error_of_nothing_is_none(dialect: str, body: bytes) -> None:
    assert any(isinstance(event, Finish) for event in decode(dialect, body))


def test_an_event_of_endless_empty_lines_is_malformed_and_not_kept() -> None:
    with pytest.raises(Malformed):
        decode("openai", *[b"data:\n" * 65_536] * (LONGEST_LINE // 65_536 + 1), whole=False)
