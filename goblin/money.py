"""Money is integer nano-dollars (1 USD = 10**9); prices are nano-dollars per million tokens: cheap ones stay exact."""

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import NewType

NanoUsd = NewType("NanoUsd", int)

NANO = 10**9
MILLION = 10**6
MOST = 2**53  # what a double counts exactly, nine million dollars: no budget may be larger
MOST_USD = 9_000_000  # what a budget is given as


def from_usd(usd: Decimal | str | int | float) -> NanoUsd:
    """Nano-dollars for an amount in dollars, rounded half to even. Floats are read by their shortest text.

    Raises ValueError for anything that is not a finite number.
    """
    try:
        amount = Decimal(str(usd))
        if not amount.is_finite():
            raise ValueError(f"not an amount of money: {usd!r}")
        return NanoUsd(int((amount * NANO).to_integral_value(ROUND_HALF_EVEN)))
    except InvalidOperation as error:
        raise ValueError(f"not an amount of money: {usd!r}") from error


def to_usd(amount: int) -> str:
    """The amount in dollars as text with exactly nine places."""
    sign, whole = ("-", -amount) if amount < 0 else ("", amount)
    return f"{sign}{whole // NANO}.{whole % NANO:09d}"


def cost(parts: Iterable[tuple[int, int]]) -> NanoUsd:
    """Cost of token counts at their rates: pairs of (tokens, nano-dollars per million tokens).

    The exact sum is rounded once, half to even, so that every ledger and every invoice agree to the nano-dollar.
    """
    return of_millionths(sum(tokens * rate for tokens, rate in parts))


def of_millionths(exact: int) -> NanoUsd:
    """Nano-dollars of as many millionths of them, rounded half to even."""
    quotient, rest = divmod(exact, MILLION)
    if rest * 2 > MILLION or (rest * 2 == MILLION and quotient % 2):
        quotient += 1
    return NanoUsd(quotient)
