"""What an answer costs before its vendor has counted, and how one is finished by somebody else."""

import pytest

from goblin.money import MOST
from providers.message import Finish, Usage
from providers.price import Price
from workers.spoken import Spoken, go_on

RATE = 10**6  # nano-dollars per million tokens: one for each


def test_thoughts_of_an_answer_that_broke_off_cost_what_thoughts_cost() -> None:
    """Where they are dearer than words, an estimate that takes them for words would be too low."""
    costs = []
    for rate in (RATE, 5 * RATE):
        spoken = Spoken(Price(RATE, RATE, RATE, RATE, "test", reasoning=rate), input_tokens=0)
        spoken.overhear("Somebody thinks about this for quite a while. " * 20)
        costs.append(spoken.cost)
        spoken.hear("And says little.")
        costs.append(spoken.cost)
    plain, plain_said, dear, dear_said = costs
    assert dear == 5 * plain > 0
    assert dear_said - dear == plain_said - plain


@pytest.mark.parametrize("counted", [Usage(), Usage(input=0, output=3), Usage(input=50, output=0)])
def test_a_count_of_nothing_is_none(counted: Usage) -> None:
    """Some send zeros where they have not counted: what was asked and said is owed all the same."""
    spoken = Spoken(Price(RATE, RATE, RATE, RATE, "test"), input_tokens=50)
    spoken.hear("Some words that were said. " * 20)
    spoken.finish = Finish("stop")
    estimated = spoken.charge()
    spoken.report(counted)
    assert spoken.charge() == estimated
    assert not estimated.is_measured
    assert estimated.amount > 50


def test_a_count_that_no_budget_can_hold_is_nobody_s_bill() -> None:
    spoken = Spoken(Price(10 * RATE, 10 * RATE, RATE, RATE, "test"), input_tokens=50)
    spoken.report(Usage(input=60, output=1))
    spoken.hear("Some words that were said.")
    spoken.report(Usage(input=MOST, output=MOST))
    spoken.finish = Finish("stop")
    assert spoken.charge().amount == 610


@pytest.mark.parametrize(
    ("begun", "pieces", "whole"),
    [
        ("one ", (" two",), "one two"),
        ("one ", ("two",), "one two"),
        ("def f(x):\n", ("\n    return x",), "def f(x):\n    return x"),
        ("def f(x):\n", ("\n", "    return x"), "def f(x):\n    return x"),
        ("def f(x):\n", ("    return x",), "def f(x):\n    return x"),
        ("def f(x):\n    ", ("\n  ", "  return x"), "def f(x):\n    return x"),
        ("a paragraph\n", ("\n", "\nanother"), "a paragraph\n\nanother"),
        ("one", (" two",), "one two"),
    ],
)
def test_whoever_goes_on_with_an_answer_may_say_its_last_white_space_again(
    begun: str, pieces: tuple[str, ...], whole: str
) -> None:
    """It was asked to go on behind the last word: white space at the end of what was begun is refused by some."""
    said, unsent = begun, begun[len(begun.rstrip()) :]
    for piece in pieces:
        new, unsent = go_on(piece, unsent)
        said += new
    assert said == whole
