"""How long a call may be silent, by what is configured, what is usual and who else is there."""

from providers.provider import Deadlines
from routing.patience import CONNECT_S, FIRST_TOKEN_S, LEAST, READING, SLACK, STALL_S, UNKNOWN_S, Habit, deadlines

BOUNDS = Deadlines(connect=5, first_token=60, stall=30, total=600)
QUICK = Habit(ttft_s=2.0, silence_s=2.0)


def limits(
    habit: Habit = Habit(),  # noqa: B008
    bounds: Deadlines = BOUNDS,
    *,
    input_tokens: int = 100,
    output_tokens: int = 1_000,
    has_other: bool = True,
    reasons: bool = False,
) -> tuple[float, float]:
    made = whole(habit, bounds, input_tokens, output_tokens, has_other=has_other, reasons=reasons)
    assert (made.connect, made.total) == (bounds.connect, bounds.total)
    return made.first_token, made.stall


def whole(
    habit: Habit,
    bounds: Deadlines = BOUNDS,
    input_tokens: int = 100,
    output_tokens: int = 1_000,
    *,
    has_other: bool = True,
    reasons: bool = False,
) -> Deadlines:
    return deadlines(
        bounds,
        habit,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        has_other=has_other,
        reasons=reasons,
    )


def test_the_only_one_and_one_that_thinks_have_all_the_time() -> None:
    assert limits(QUICK, has_other=False) == limits(QUICK, reasons=True) == (60, 30)


def test_one_that_is_not_known_has_a_fair_time_while_another_could_serve() -> None:
    assert limits() == (UNKNOWN_S, UNKNOWN_S)


def test_one_that_may_take_long_by_its_configuration_has_a_fifth_of_that() -> None:
    assert limits(bounds=Deadlines(2, 180, 100, 900)) == (36, 20)


def test_one_that_is_known_has_a_multiple_of_what_is_usual() -> None:
    assert limits(QUICK) == (SLACK * 2.0, SLACK * 2.0)


def test_what_is_configured_is_never_passed_and_nobody_is_hurried_beyond_reason() -> None:
    assert limits(Habit(90, 90)) == (60, 30)
    assert limits(Habit(0.01, 0.01), input_tokens=0) == (FIRST_TOKEN_S, STALL_S)
    assert limits(Habit(0.01, 0.01), Deadlines(1, 1, 1, 1)) == (1, 1)
    assert limits(bounds=Deadlines(1, 1, 1, 1)) == (1, 1)


def test_a_long_prompt_is_given_the_time_to_be_read() -> None:
    assert limits(Habit(0.01, 0.01), input_tokens=20 * READING)[0] == FIRST_TOKEN_S + 20


def test_a_connection_is_waited_for_as_long_as_is_usual() -> None:
    assert whole(Habit(connect_s=0.5)).connect == SLACK * 0.5
    assert whole(Habit(connect_s=0.5), reasons=True) == Deadlines(SLACK * 0.5, 60, 30, 600)
    assert whole(Habit(connect_s=0.01)).connect == CONNECT_S
    assert whole(Habit(connect_s=9)).connect == BOUNDS.connect
    assert whole(Habit(connect_s=0.5), has_other=False) == BOUNDS


def test_a_whole_answer_has_the_time_that_its_tokens_usually_take() -> None:
    slow = Habit(ttft_s=2.0, token_s=0.05)
    assert whole(slow).total == BOUNDS.connect + SLACK * 2.0 + SLACK * 0.05 * 1_000
    assert whole(slow, output_tokens=10_000).total == BOUNDS.total
    assert whole(slow, output_tokens=10).total == BOUNDS.total / LEAST
    assert whole(slow, reasons=True).total == whole(slow, has_other=False).total == BOUNDS.total
