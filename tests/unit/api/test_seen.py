"""What a listener was shown, event by event."""

import json

from api.seen import Seen, Verdict

STARTED = ("step.started", {"step": "step1"})
FINISHED = ("step.finished", {"step": "step1", "outcome": "succeeded"})
RESET = ("step.reset", {"step": "step1"})


def said(text: str) -> tuple[str, dict[str, object]]:
    return "delta", {"step": "step1", "text": text, "tokens": 1, "cost": "0.000000007"}


def test_text_counts_from_the_start_of_its_step() -> None:
    seen = Seen()
    assert seen.take(*said("lost beginning")) is Verdict.DROP
    assert seen.take(*STARTED) is Verdict.PASS
    assert seen.take(*said("hello")) is Verdict.PASS
    assert (seen.running["step1"].solid, seen.running["step1"].cost_nanousd) == (5, 7)


def test_white_space_around_an_answer_does_not_count() -> None:
    seen = Seen()
    seen.take(*STARTED)
    for text in (" \n", " a", " b ", "\n", "c \n", " "):
        seen.take(*said(text))
    assert seen.running["step1"].solid == len(" \n a b \nc \n ".strip())


def test_an_attempt_that_nobody_ended_is_withdrawn_when_the_next_begins() -> None:
    seen = Seen()
    seen.take(*STARTED)
    assert seen.take(*STARTED) is Verdict.PASS
    seen.take(*said("half"))
    assert seen.take(*STARTED) is Verdict.WITHDRAW
    assert seen.running["step1"].size == 0


def test_after_a_reset_late_text_of_the_attempt_is_dropped() -> None:
    seen = Seen()
    seen.take(*STARTED)
    seen.take(*said("half"))
    assert seen.take(*RESET) is Verdict.PASS
    assert seen.take(*said("late")) is Verdict.DROP


def test_a_step_that_is_done_says_nothing_more() -> None:
    seen = Seen()
    seen.take(*STARTED)
    assert seen.take(*FINISHED) is Verdict.CHECK
    seen.finish("step1")
    assert {seen.take(*event) for event in (STARTED, said("late"), RESET, FINISHED)} == {Verdict.DROP}


def test_it_survives_being_written_down() -> None:
    seen = Seen("5-0", done={"step2"})
    seen.take(*STARTED)
    seen.take(*said("hello "))
    assert Seen.from_value(json.loads(json.dumps(seen.as_value()))) == seen


def test_an_attempt_that_goes_on_with_the_one_before_takes_nothing_back() -> None:
    seen = Seen()
    seen.take(*STARTED)
    seen.take(*said("half "))
    assert seen.take("step.started", {"step": "step1", "continues": 5}) is Verdict.PASS
    seen.take(*said("and half"))
    assert seen.running["step1"].solid == len("half and half")


def test_the_rest_of_an_answer_whose_beginning_is_lost_is_not_shown_alone() -> None:
    seen = Seen()
    assert seen.take("step.started", {"step": "step1", "continues": 5}) is Verdict.PASS
    assert seen.take(*said("and half")) is Verdict.DROP
