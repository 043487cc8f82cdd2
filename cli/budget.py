"""What `--budget` takes: dollars."""

from goblin.errors import UsageError
from goblin.money import MOST_USD, NanoUsd, from_usd


def nanousd(usd: str) -> NanoUsd:
    """Raises UsageError for what is no amount, or one that no budget may have."""
    try:
        amount = from_usd(usd)
    except ValueError:
        raise UsageError(f"--budget takes dollars, as in 0.50, not {usd!r}") from None
    if not 0 <= amount <= from_usd(MOST_USD):
        raise UsageError(f"--budget takes 0 to {MOST_USD:,} dollars, not {usd}")
    return amount
