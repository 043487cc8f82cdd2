"""Money: exact to the nano-dollar, rounded once and half to even, as a decimal of nine places."""

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goblin.money import MILLION, NANO, cost, from_usd, to_usd

tokens = st.integers(0, 10**9)
rates = st.integers(0, 10**13)
amounts = st.integers(-(10**20), 10**20)


@pytest.mark.parametrize(
    ("usd", "nano"),
    [
        ("10", 10 * NANO),
        (10, 10 * NANO),
        (0.1, 100_000_000),
        (0.002, 2_000_000),
        ("0.000000001", 1),
        ("0.0000000005", 0),
        ("0.0000000015", 2),
        (Decimal("-0.15"), -150_000_000),
        ("1e-9", 1),
        (" 2 ", 2 * NANO),
        (0, 0),
    ],
)
def test_dollars_become_nano_dollars(usd: Decimal | str | float, nano: int) -> None:
    assert from_usd(usd) == nano


@pytest.mark.parametrize("usd", ["", "ten", "nan", "inf", "-Infinity", float("nan"), float("inf"), "1,5", "$1"])
def test_what_is_no_amount_is_refused(usd: str | float) -> None:
    with pytest.raises(ValueError, match="not an amount of money"):
        from_usd(usd)


@pytest.mark.parametrize(
    ("nano", "usd"),
    [(0, "0.000000000"), (1, "0.000000001"), (-1, "-0.000000001"), (NANO, "1.000000000"), (-NANO - 5, "-1.000000005")],
)
def test_an_amount_has_nine_places(nano: int, usd: str) -> None:
    assert to_usd(nano) == usd


@given(amounts)
def test_an_amount_comes_back_from_its_text(nano: int) -> None:
    assert from_usd(to_usd(nano)) == nano


@given(st.lists(st.tuples(tokens, rates), max_size=5))
def test_a_cost_is_the_exact_sum_rounded_once(parts: list[tuple[int, int]]) -> None:
    exact = sum((Fraction(count * rate, MILLION) for count, rate in parts), Fraction())
    rounded = Decimal(exact.numerator * 10**6 // exact.denominator).scaleb(-6)  # a millionth is the finest there is
    assert cost(parts) == int(rounded.quantize(Decimal(1), ROUND_HALF_EVEN))


@pytest.mark.parametrize(("tokens", "nano"), [(1, 0), (2, 1), (3, 2), (5, 2), (6, 3), (7, 4)])
def test_halves_go_to_the_even_nano_dollar(tokens: int, nano: int) -> None:
    assert cost([(tokens, MILLION // 2)]) == nano


def test_nothing_costs_nothing() -> None:
    assert cost([]) == 0
    assert cost([(0, 5), (5, 0)]) == 0
