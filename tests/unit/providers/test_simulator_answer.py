"""What the simulator says, and how it counts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.simulator import tokens
from providers.simulator.answer import Ask, Finish, answer
from providers.simulator.behaviour import parse
from providers.simulator.sheet import Sheet

SHEET = Sheet.load()
PYTHON = "```python\nclass Basket:\n    def add_item(self, name, price=0): ...\n\ndef total(items: A[B, C]): ...\n```"
SCRIPT = "```javascript\nfunction fetchUser(id) { return get(id) }\n```"


def reply(prompt, model="sim-instant", seed=0, **more):
    ask = Ask(model, prompt, **more)
    behaviour = parse(model)
    return answer(ask, behaviour, SHEET.models[behaviour.base], seed)


def say(prompt, model="sim-instant", **more):
    return reply(prompt, model, **more).content()


@given(st.text())
def test_tokens_joined_are_the_text(text):
    assert "".join(tokens.split(text)) == text
    assert tokens.count(text) == len(tokens.split(text))


@pytest.mark.parametrize(("text", "count"), [("", 0), ("hello world", 2), ("a, b", 3), ("characters", 2), ("  ", 1)])
def test_a_token_is_six_word_characters_or_a_sign(text, count):
    assert tokens.count(text) == count


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("document this code", ["## `Basket`", "## `total(items)`", "`add_item(name, price)`"]),
        ("write unit tests", ["def test_total_gives_a_result", "total(1)", "```python"]),
        ("analyze: check quality", ["`Basket`", "Risk"]),
        ("prepare release", ["# Release note"]),
        ("optimize the loop", ["Measure"]),
        ("plan the work", ["1. "]),
        ("summarize", ["In short"]),
        ("implement it", ["def "]),
        ("how do you do", ["how do you do"]),
    ],
)
def test_an_answer_fits_its_task(task, expected):
    text = say(f"You are a goblin that helps.\n\nTask: {task}\n\n{PYTHON}")
    assert all(part in text for part in expected), text


def test_code_is_answered_in_its_language():
    text = say(f"Task: write a unit test\n{SCRIPT}")
    assert "```javascript" in text
    assert "fetchUser(1)" in text
    assert 'test("fetch user' in text


def test_a_prompt_without_code_or_task_is_answered():
    assert "What is rain?" in say("Be brief.\n\nWhat is rain?")
    assert say("")


def test_a_verdict_is_given_when_both_words_are_offered():
    prompt = "Task: check quality. End with a line `VERDICT: PASS` or `VERDICT: FAIL`."
    assert say(prompt).endswith("\nVERDICT: PASS")
    assert say(prompt, "sim-instant+verdict=FAIL").endswith("\nVERDICT: FAIL")
    assert "VERDICT" not in say("Task: release what was checked:\nall is well\nVERDICT: PASS")


def test_answers_depend_on_seed_model_and_prompt_alone():
    prompt = f"Task: document this\n{PYTHON}"
    assert say(prompt) == say(prompt)
    assert len({say(prompt, seed=seed) for seed in range(20)}) > 1
    assert len({say(prompt, f"sim-instant+ttft={number}") for number in range(20)}) > 1


@given(st.integers(0, 500))
def test_so_many_tokens_are_said_as_were_ordered(count):
    said = reply("Task: plan", f"sim-instant+tokens={count}")
    assert len(said.text) == said.usage.output == count
    assert said.finish is Finish.STOP


def test_a_verdict_survives_an_ordered_length():
    said = reply("Task: plan", "sim-instant+tokens=40+verdict=PASS")
    assert said.usage.output == 40
    assert said.content().endswith("VERDICT: PASS")


def test_the_limit_counts_reasoning_and_text():
    said = reply("Task: plan", "sim-instant+think", max_tokens=5)
    assert (len(said.thinking), said.text, said.finish) == (5, (), Finish.LENGTH)


def test_an_answer_ends_with_the_window():
    said = reply("word " * 250, "sim-tiny+tokens=100")
    assert (said.usage.input + said.usage.output, said.finish) == (256, Finish.LENGTH)


def test_the_echo_is_the_prompt():
    assert say("  exactly\nthis  ", "sim-instant+echo") == "  exactly\nthis  "


def test_a_filtered_answer_is_empty():
    said = reply("Task: plan", "sim-instant+filtered")
    assert (said.text, said.finish, said.usage.output) == ((), Finish.FILTERED, 0)


def test_no_more_is_cached_than_was_asked():
    said = reply("one two", "sim-instant+cached=99")
    assert said.usage.cached == said.usage.input == 2


def test_a_model_reasons_when_it_can_and_is_not_told_otherwise():
    assert reply("Task: plan", "sim-reasoner", thinking=True).thinking
    assert not reply("Task: plan", "sim-reasoner", thinking=False).thinking
    assert not reply("Task: plan", "sim-fast", thinking=True).thinking


def test_hidden_reasoning_counts_and_does_not_show():
    said = reply("Task: plan", "sim-instant+think=hidden")
    assert said.usage.reasoning > 0
    assert said.thought() == ""


def test_one_that_continues_says_what_follows_the_words_put_into_its_mouth():
    model = "sim-instant+prefill=on"
    whole = say("hello", model)
    begun = whole[:20]
    assert begun + say(f"hello\n\n{begun}", model, begun=begun) == whole
    assert say("hello\n\nother words", model, begun="other words") == whole


def test_an_answer_goes_no_further_than_what_stops_it():
    whole = say("how do you do")
    assert "You asked" in whole
    assert say("how do you do", stops=("nowhere", "You asked")) == whole[: whole.index("You asked")]
    assert reply("how do you do", stops=("You asked",)).finish is Finish.STOP


def test_an_answer_is_json_of_the_schema_that_is_wanted():
    of = {"n": {"type": "integer"}, "kind": {"enum": ["a", "b"]}, "words": {"type": "string"}}
    told = json.loads(say("how do you do", schema={"type": "object", "properties": of}))
    assert (told["n"], told["kind"]) == (1, "a")
    assert told["words"] == json.loads(say("how do you do", schema={}))["answer"] == say("how do you do")
