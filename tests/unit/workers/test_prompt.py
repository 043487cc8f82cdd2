"""What a model is told, and how its verdict is read."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goblin.errors import NoCandidate
from goblin.settings import GoblinSettings
from providers.errors import TimedOut
from tests.fakes.runs import plan_of
from workers.prompt import Before, compose, has_failed_verdict

CHAT = GoblinSettings(instructions="You answer.", task_class="fast")
JUDGE = GoblinSettings(instructions="You judge.", task_class="reasoning", verdict=True)
FIRST, SECOND = plan_of("chat: say hello THEN review: look at it").steps


def told(given: dict[str, str] | None = None, *before: Before, goblin: GoblinSettings = CHAT) -> str:
    return compose(goblin, SECOND, given or {}, before, is_gate=False)[1].content


def test_the_goblin_s_instructions_stand_apart_from_what_it_works_on() -> None:
    system, user = compose(CHAT, FIRST, {"text": "the input"}, (), is_gate=False)
    assert (system.role, system.content) == ("system", "You answer.")
    assert (user.role, user.content) == ("user", "Task: say hello\n\nInput:\nthe input")


@pytest.mark.parametrize(
    ("goblin", "is_gate", "is_asked"), [(JUDGE, True, True), (JUDGE, False, False), (CHAT, True, False)]
)
def test_only_a_judge_at_a_gate_is_asked_for_a_verdict(goblin: GoblinSettings, is_gate: bool, is_asked: bool) -> None:
    system = compose(goblin, FIRST, {}, (), is_gate=is_gate)[0].content
    assert ("VERDICT: PASS" in system and "VERDICT: FAIL" in system) == is_asked


def test_a_prompt_is_the_same_every_time() -> None:
    before = Before(FIRST, "hello", None)
    assert told({"code": "x", "language": "python", "text": "y"}, before) == told(
        {"text": "y", "language": "python", "code": "x"}, before
    )


def test_no_prompt_names_a_provider() -> None:
    pinned = plan_of("chat@ollama/coder: write it").steps[0]
    system, user = compose(CHAT, pinned, {}, (), is_gate=False)
    assert "ollama" not in system.content + user.content


def test_code_comes_in_a_fence_with_its_language() -> None:
    assert told({"code": "print()\n", "language": "python"}).endswith("Input (python):\n```python\nprint()\n\n```")
    assert told({"code": "print()"}).endswith("Input:\n```\nprint()\n```")
    assert "Input" not in told({"code": "", "text": ""})


def fences(text: str) -> list[str]:
    """The lines that open or close a fence, as Markdown reads them."""
    opened, found = "", []
    for line in text.split("\n"):
        ticks = re.match(r" {0,3}(`{3,})([^`]*)$", line)
        if ticks and not opened:
            opened = ticks[1]
            found.append(line)
        elif ticks and len(ticks[1]) >= len(opened) and not ticks[2].strip():
            opened = ""
            found.append(line)
    return found


nasty = st.lists(st.sampled_from(["`", "```", "````", "\n", "\r\n", " ", "x", "python", "~~~"])).map("".join)


@given(nasty.filter(str.strip), nasty)
def test_nothing_in_the_code_or_its_language_closes_the_fence(code: str, language: str) -> None:
    text = told({"code": code, "language": language})
    inside = text.removeprefix("Task: look at it\n\n")
    found = fences(inside)
    assert len(found) == 2
    assert inside.endswith("\n" + found[1])
    assert inside.split("\n")[1] == found[0]


def test_what_came_before_stands_under_its_step_s_name() -> None:
    assert told({}, Before(FIRST, "hello", None)).endswith("Result of step1 (chat: say hello):\nhello")
    assert told({}, Before(FIRST, "", None)).endswith("Result of step1 (chat: say hello):\n(nothing)")
    long = plan_of("chat: " + "very " * 40).steps[0]
    name = told({}, Before(long, "x", None)).splitlines()[-2]
    assert name.startswith("Result of step1 (chat: very very")
    assert len(name) < 110
    assert name.endswith("…):")


def test_what_failed_is_told_in_plain_words() -> None:
    error = TimedOut("no answer within 30 s", "first_token").as_value()
    assert told({}, Before(FIRST, None, error)).endswith("step1 (chat: say hello) failed: no answer within 30 s")
    verdict = {"type": "failed_verdict", "message": "the verdict was FAIL"}
    text = told({}, Before(FIRST, "It leaks.\nVERDICT: FAIL", verdict))
    assert text.endswith("step1 (chat: say hello) failed: the verdict was FAIL\nIt leaks.\nVERDICT: FAIL")
    reasons = NoCandidate("nobody", {"sim/small": "no key"}).as_value()
    assert not re.search(r"[{}']", told({}, Before(FIRST, None, reasons)))
    assert told({}, Before(FIRST, None, {"type": "of_tomorrow"})).endswith("failed: no reason is known")


@pytest.mark.parametrize(
    "output",
    [
        "VERDICT: FAIL",
        "It leaks.\nVERDICT: FAIL",
        "It leaks.\n\nverdict: fail\n\n   \n",
        "**VERDICT: FAIL**",
        "**VERDICT:** FAIL",
        "__VERDICT: FAIL__",
        "`VERDICT: FAIL`",
        "> VERDICT: FAIL.",
        "## Verdict - Fail",
        "VERDICT: PASS\nOn second thoughts:\nVERDICT: FAIL",
        "VERDICT: FAIL\nI hope that this helps.",
        "It leaks.\r\nVERDICT: FAIL\r\n",
        "VERDICT\tFAIL",
        "VERDICT: FAIL - it leaks",
        "**VERDICT: FAIL** — two tests fail, the others pass",
        "**VERDICT: FAIL**—it leaks",
        "VERDICT: FAIL (it leaks)",
        "VERDICT: FAIL. It leaks.",
        "VERDICT: FAIL: it leaks",
    ],
)
def test_a_failed_verdict_is_read(output: str) -> None:
    assert has_failed_verdict(output)


@pytest.mark.parametrize(
    "output",
    [
        "",
        "fine",
        "VERDICT: PASS",
        "VERDICT: FAIL\n…\nAll was mended.\nVERDICT: PASS",
        "**VERDICT: PASS**\n\n",
        "I would not say VERDICT: FAIL here.",
        "VERDICT: FAILURE IS NOT AN OPTION",
        "VERDICTFAIL",
        "The tests FAIL.",
        "VERDICT: PASS, and what failed is mended",
        "VERDICT: FAIL\nAll was mended.\nVERDICT: PASS - it leaks no more",
        "VERDICT: FAIL, VERDICT: PASS",
        "VERDICT: FAIL or VERDICT: PASS",
        "Verdict: fail-safe",
        "End with VERDICT: PASS or VERDICT: FAIL",
    ],
)
def test_what_is_no_failed_verdict_is_not_read_as_one(output: str) -> None:
    assert not has_failed_verdict(output)


@given(st.text(), st.sampled_from(["PASS", "FAIL"]))
def test_the_last_line_decides_whatever_was_said_before(said: str, verdict: str) -> None:
    assert has_failed_verdict(f"{said}\nVERDICT: {verdict}") == (verdict == "FAIL")


def test_a_long_line_is_read_in_linear_time() -> None:
    assert not has_failed_verdict("*" * 1_000_000 + "VERDICT" + " " * 1_000_000 + "MAYBE")
