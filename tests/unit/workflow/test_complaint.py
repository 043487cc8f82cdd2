"""What is refused, and in which words: every mistake at its spot, with its cure."""

import pytest

from goblin.errors import ConfigError
from workflow.parse import Limits, WorkflowSyntaxError, parse
from workflow.plan import Plan

GOBLINS = [
    "docs-writer", "code-writer", "analyze", "review", "plan", "optimize", "deploy", "chat", "translate", "summarize",
]  # fmt: skip


def read(text: str, default: str | None = "chat", **limits: int) -> Plan:
    return parse(text, goblins=GOBLINS, default_goblin=default, limits=Limits(**limits))


def refused(text: str, default: str | None = "chat", **limits: int) -> WorkflowSyntaxError:
    with pytest.raises(WorkflowSyntaxError) as caught:
        read(text, default, **limits)
    return caught.value


@pytest.mark.parametrize(
    ("text", "column", "message", "expected", "suggestion"),
    [
        ("", 1, "the workflow is empty", "a step", "chat: say hello"),
        (" \n ", 1, "the workflow is empty", "a step", "chat: say hello"),
        ("a THEN", 7, "nothing follows THEN", "a step or a group", "put a step behind THEN"),
        ("a AND ", 6, "nothing follows AND", "a step or a group", "put a step behind AND"),
        ("(a THEN ) AND b", 9, "nothing follows THEN", "a step or a group", "put a step behind THEN"),
        ("a THEN THEN b", 8, "THEN stands where a step should begin", "a step", "in front of THEN"),
        ("AND a", 1, "AND stands where a step should begin", "a step", '"… AND …"'),
        ("a THEN ELSE b", 8, "ELSE stands where a step should begin", "a step", "in front of ELSE"),
        ("a THEN IF_SUCCESS ELSE b", 19, "ELSE stands where a step should begin", "a step", "in front of ELSE"),
        ("()", 1, "this group is empty", "a step in it", "between the parentheses"),
        ("a AND ( )", 7, "this group is empty", "a step in it", "between the parentheses"),
        ("chat:", 6, "the task is empty", "what the goblin is to do", "behind its label"),
        ("chat: THEN a", 7, "the task is empty", "what the goblin is to do", '"… THEN …"'),
        ('a THEN " "', 8, "the task is empty", "what the goblin is to do", "behind its label"),
        ("a ELSE b", 3, "this ELSE belongs to no condition", "THEN, AND or the end", "THEN IF_SUCCESS … ELSE …"),
        ("a THEN IF_SUCCESS b ELSE c ELSE d", 28, "this ELSE belongs to no condition", "THEN", "IF_SUCCESS"),
        ("(a THEN IF_SUCCESS b) ELSE c", 23, "this ELSE belongs to no condition", "THEN", "IF_SUCCESS"),
        ("IF_SUCCESS a", 1, "IF_SUCCESS does not stand right behind a THEN", "between THEN", "THEN IF_SUCCESS"),
        ("a IF_FAILURE b", 3, "IF_FAILURE does not stand right behind a THEN", "between THEN", "THEN IF_FAILURE"),
        ("a THEN (IF_SUCCESS b)", 9, "IF_SUCCESS does not stand right behind", "between THEN", "THEN IF_SUCCESS"),
        ('a IF_CONTAINS("x") b', 3, "IF_CONTAINS does not stand right behind", "between THEN", "quotes"),
        ("a THEN IF_SUCCESS IF_FAILURE b", 19, "IF_FAILURE does not stand right behind", "between THEN", "quotes"),
        ("a THEN IF_CONTAINS b", 20, "does not say what to look for", "in quotes", 'IF_CONTAINS("approved")'),
        ("a THEN IF_CONTAINS(b) c", 20, "does not say what to look for", "in quotes", 'IF_CONTAINS("approved")'),
        ('a THEN IF_CONTAINS("") c', 20, "does not say what to look for", "in quotes", 'IF_CONTAINS("approved")'),
        ('a THEN IF_CONTAINS("b" c', 24, "does not say what to look for", "in quotes", 'IF_CONTAINS("approved")'),
        ('a THEN IF_CONTAINS("b) c', 20, "this quote is never closed", 'a closing "', "backslash"),
        ('a screen of 5" THEN b', 14, "this quote is never closed", 'a closing "', "put the task in quotes"),
        ("chat: f(a, b", 8, "this parenthesis is never closed", "a closing one", "put the task in quotes"),
        ("a THEN (b AND c", 8, "this parenthesis is never closed", "a closing one", "put the task in quotes"),
        ("smile :)", 8, "this parenthesis closes nothing", "an opening one", "put the task in quotes"),
        (") a", 1, "this parenthesis closes nothing", "an opening one", "put the task in quotes"),
        ("(really) do it", 10, "text follows a group", "THEN, AND or the end", 'chat: (…) …, or quotes: "(…) …"'),
        ("a AND note: b", 7, 'unknown goblin "note"', "one of analyze, chat, ", '"note: …"'),
        ("anlyze: b", 1, 'unknown goblin "anlyze"', "one of analyze, ", "did you mean analyze?"),
        ("Chat: b", 1, 'unknown goblin "Chat"', "one of analyze, ", "did you mean chat?"),
        ("docs@ollama: b", 1, 'unknown goblin "docs"', "one of analyze, ", "did you mean docs-writer?"),
        ("chat@: b", 1, "pins its step to nothing", "chat@provider:", "chat@ollama/llama3"),
        ("chat@ollama/: b", 1, "pins its step to nothing", "chat@provider/model:", "chat@ollama/llama3"),
        ("chat@/llama3: b", 1, "pins its step to nothing", "chat@provider/model:", "chat@ollama/llama3"),
        ("a \0", 3, "U+0000 cannot be stored", "without NUL", "remove it"),
        ("a \udc80", 3, "U+DC80 cannot be stored", "lone surrogates", "remove it"),
    ],
)
def test_a_mistake_is_named_at_its_spot_with_its_cure(
    text: str, column: int, message: str, expected: str, suggestion: str
) -> None:
    error = refused(text)
    assert (error.line, error.column) == (1, column)
    assert message in error.message
    assert expected in error.expected
    assert suggestion in error.suggestion


def test_a_step_without_a_goblin_asks_for_a_label_or_a_default() -> None:
    error = refused("chat: a THEN b", default=None)
    assert (error.column, error.message) == (14, "no goblin is named for this step")
    assert "label" in error.suggestion
    assert "default_goblin" in error.suggestion


def test_a_label_without_its_space_is_noticed_when_there_is_no_default() -> None:
    assert "put a space behind the colon (chat: …)" in refused("chat:hello", default=None).suggestion


def test_an_unknown_default_goblin_names_the_nearest() -> None:
    error = refused("chat: a", default="sumarize")
    assert 'unknown default goblin "sumarize"' in error.message
    assert "did you mean summarize?" in error.suggestion


def test_an_error_shows_the_line_with_a_caret_and_says_it_all_in_one_text() -> None:
    error = refused("a\r\nTHEN\tb AND (c\r\nTHEN d")
    assert (error.line, error.column) == (2, 12)
    assert error.pointer == "THEN b AND (c\n           ^"
    assert str(error).split("\n") == [
        "line 2, column 12: this parenthesis is never closed",
        "  THEN b AND (c",
        "             ^",
        "expected: a closing one behind it",
        'hint: close it, or put the task in quotes to have it as text: chat: "… ( …"',
    ]


def test_an_error_is_data_for_those_who_send_it_on() -> None:
    error = refused("a THEN")
    assert error.http_status == 422
    assert error.as_value() == {
        "type": "workflow_syntax",
        "message": "nothing follows THEN",
        "details": {
            "line": 1,
            "column": 7,
            "pointer": "a THEN\n      ^",
            "expected": "a step or a group",
            "suggestion": error.suggestion,
        },
    }


@pytest.mark.parametrize(("before", "behind"), [(500, 0), (0, 500), (500, 500), (3, 3)])
def test_a_long_line_is_cut_around_the_spot(before: int, behind: int) -> None:
    line, caret = refused("x" * before + ")" + "y" * behind).pointer.split("\n")
    assert len(line) <= 102
    assert line[caret.index("^")] == ")"
    assert line.startswith("…") == (before > 100)
    assert line.endswith("…") == (behind > 100)


@pytest.mark.parametrize(
    ("text", "cells"), [("日本語 )", 7), ("e\u0301te\u0301 )", 4), ("a\x1b[31m )", 7), ("\ud800 )", 0)]
)
def test_the_caret_stands_under_the_spot_in_a_terminal_too(text: str, cells: int) -> None:
    line, caret = refused(text).pointer.split("\n")
    assert caret == " " * cells + "^"
    line.encode()
    assert "\x1b" not in line


def test_limits_are_kept_to_the_last_one_that_fits() -> None:
    assert len(read("a AND b AND c", max_steps=3).steps) == 3
    assert "more than 3 steps" in refused("a AND b AND c AND d", max_steps=3).message
    assert read("(a AND (b THEN c) THEN d) AND e", max_depth=2).depth == 2
    assert "more than 2 deep" in refused("(a AND (b THEN (c THEN d)) THEN e)", max_depth=2).message
    assert read("é" * 10, max_bytes=20).steps[0].task == "é" * 10
    assert refused("é" * 10 + "x", max_bytes=20).column == 11
    assert "longer than 20 bytes" in refused("x" * 21, max_bytes=20).message


def test_a_depth_that_python_could_not_follow_is_refused_as_configuration() -> None:
    with pytest.raises(ConfigError, match="max_depth"):
        Limits(max_depth=1_000)
