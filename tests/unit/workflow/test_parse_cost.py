"""What no text can do: raise anything but its own error, or cost more than in proportion to its length."""

import sys
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow.parse import Limits, WorkflowSyntaxError, parse
from workflow.plan import Plan


def attempt(text: str, default: str | None = "chat", limits: Limits | None = None) -> Plan | WorkflowSyntaxError:
    try:
        return parse(text, goblins=["chat", "review"], default_goblin=default, limits=limits or Limits())
    except WorkflowSyntaxError as error:
        return error


_soup = st.lists(
    st.sampled_from(
        [
            "THEN",
            "AND",
            "ELSE",
            "IF_SUCCESS",
            "IF_CONTAINS",
            '("x")',
            "(",
            ")",
            '"',
            "\\",
            "chat:",
            "no:",
            "a@b:",
            " ",
            "\0",
            "x",
        ]
    )
    | st.characters(exclude_categories=[]),
    max_size=30,
)


@settings(deadline=None, max_examples=500)
@given(_soup.map("".join) | _soup.map(" ".join), st.sampled_from([None, "chat", "nobody"]))
def test_no_text_raises_anything_but_its_own_error(text: str, default: str | None) -> None:
    match attempt(text, default):
        case WorkflowSyntaxError() as error:
            str(error).encode()
            assert error.pointer.endswith("^")
            assert error.expected
            assert error.suggestion


def work(text: str) -> int:
    """How many calls reading takes: of functions and of built-ins, the scanner's among them."""
    calls = 0

    def count(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        attempt(text, limits=Limits(max_bytes=1_000_000, max_steps=1_000_000))
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize(
    "piece",
    ["(", ")", '"', '\\"', "AND ", "a: ", "chat: ", "x@x)AND(", "a AND ", "a THEN IF_FAILURE b ELSE ", "f(x) ", '"a" ',
     "a THEN IF_SUCCESS b THEN ", 'chat@o/m: "x" AND ', "(a) AND ", "\n", " ", "é"],
)  # fmt: skip
@pytest.mark.parametrize("start", ["", "chat: ", 'chat: "', "chat: ("])
def test_reading_is_linear_in_the_text(start: str, piece: str) -> None:
    size = 4096 // len(piece)
    once, twice = work(start + piece * size), work(start + piece * size * 2)
    assert twice <= 2.2 * once + 100


@pytest.mark.parametrize("piece", ["(", ")", '"', "AND ", "a: ", "chat: ", "f(", "( ", "\\"])
@pytest.mark.parametrize("start", ["", "chat: ", 'chat: "'])
def test_a_text_of_64_kib_is_read_or_refused_in_few_words(start: str, piece: str) -> None:
    match attempt((start + piece * 65536)[:65536]):
        case Plan() as plan:
            assert len(plan.steps) == 1
        case WorkflowSyntaxError() as error:
            assert len(str(error)) < 1000
