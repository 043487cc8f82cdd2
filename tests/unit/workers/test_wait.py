"""How long a step may wait, as far as it is known, and when those who listen are told of it again."""

import pytest

from routing.ask import SPAN_MS, Place, Rate
from routing.refusal import Reason, Refused, Short
from workers.turnstile import REBUILDING, paces, rooms
from workers.wait import estimate_s

PACE_MS = SPAN_MS / 60
DAY = "all/day@1767225600"


def short(
    reason: Reason, wait_ms: int | None, rate: Rate | None = None, *, what: str = "sim", provider: str = "sim"
) -> Short:
    return Short(Place(provider, f"{provider}/small", 0, 10, rate or Rate(), 1_000), reason, wait_ms, what)


def estimate(ahead: int, *shorts: Short) -> float | None:
    """With so many before it in every room."""
    refused = Refused(shorts)
    where = rooms(refused, waits_for_money=True)
    return estimate_s(where, dict.fromkeys(where, ahead), paces(refused))


@pytest.mark.parametrize(
    ("refusal", "first", "tenth"),
    [
        (short(Reason.REQUESTS, 1_000, Rate(rpm=60)), 1, 1 + 10 * PACE_MS / 1000),
        (short(Reason.TOKENS, 1_000, Rate(tpm=600)), 1, 1 + 10 * PACE_MS / 1000),
        (short(Reason.TOKENS, 1_000, Rate(rpm=60, tpm=300)), 1, 1 + 20 * PACE_MS / 1000),
        (short(Reason.REQUESTS, 1_000), 1, None),  # a limit that the vendor told
        (short(Reason.SLOTS, None, Rate(rpm=60)), None, None),
        (short(Reason.HELD, None, what=DAY), None, None),
        (short(Reason.BUDGET, 9_000, what=DAY), 9, 9),
        (short(Reason.BUDGET, 9_000, Rate(rpm=60), what=DAY), 9, 9 + 10 * PACE_MS / 1000),
        (short(Reason.COOLING, 2_000), 2, 2),
        (short(Reason.OPEN, 5_000), 5, None),
        (short(Reason.PROBING, None), None, None),
    ],
)
def test_an_estimate_counts_those_who_go_first_by_the_pace_that_is_known(
    refusal: Short, first: float | None, tenth: float | None
) -> None:
    assert (estimate(0, refusal), estimate(10, refusal)) == (first, pytest.approx(tenth, abs=0.001) if tenth else None)


def test_the_first_room_that_has_a_place_is_estimated() -> None:
    near = short(Reason.REQUESTS, 3_000, Rate(rpm=60), provider="near")
    assert estimate(0, short(Reason.SLOTS, None), near, short(Reason.COOLING, 5_000, provider="far")) == 3
    assert estimate(10, short(Reason.SLOTS, None), near, short(Reason.COOLING, 5_000, provider="far")) == 5


def test_counters_that_are_rebuilt_keep_nobody_for_long() -> None:
    assert estimate(10) == rooms(Refused(()), waits_for_money=False)[REBUILDING] / 1000  # type: ignore[operator]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (short(Reason.REQUESTS, 1), short(Reason.SLOTS, None), True),
        (short(Reason.REQUESTS, 1), short(Reason.TOKENS, 1, what="sim/small"), True),
        (short(Reason.OPEN, 1), short(Reason.RAMP, 1, what="sim/small"), True),
        (short(Reason.REQUESTS, 1), short(Reason.OPEN, 1), False),
        (short(Reason.SLOTS, None), short(Reason.SLOTS, None, provider="other"), False),
        (short(Reason.HELD, None, what=DAY), short(Reason.BUDGET, 9_000, what=DAY), False),
        (short(Reason.BUDGET, 9, what=DAY), short(Reason.BUDGET, 5, what="all/day@1767312000"), True),
    ],
)
def test_another_reason_is_news_and_another_number_is_none(one: Short, other: Short, *, is_same: bool) -> None:
    assert (Refused((one,)).topics == Refused((other, other)).topics) == is_same
