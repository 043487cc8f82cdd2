"""How long a call may be silent: as long as configured when nobody else could serve, else as its candidate usually is.

Deadlines are learned from percentiles of the candidate itself (routing.health) and bounded by its provider's own. A
call that was cut counts as one that took longer, so a deadline that is too short grows. Pure.
"""

from dataclasses import dataclass, replace

from providers.provider import Deadlines

SLACK = 4  # times what is usual
UNKNOWN_S = 12.0  # for a candidate that is not known yet, or a fifth of what is configured if that is more
FIRST_TOKEN_S, STALL_S = 3.0, 5.0  # what everybody is given
READING = 4_000  # tokens of a prompt that may take a second


@dataclass(frozen=True, slots=True)
class Habit:
    """Seconds that some nineteen of twenty calls keep within: to the first token, and of silence between two pieces.

    None: not enough calls were seen.
    """

    ttft_s: float | None = None
    silence_s: float | None = None


def deadlines(bounds: Deadlines, habit: Habit, *, input_tokens: int, has_other: bool, reasons: bool) -> Deadlines:
    """The limits of one call. Whoever is asked to reason may be silent for as long as is configured."""
    if reasons or not has_other:
        return bounds
    return replace(
        bounds,
        first_token=_limit(bounds.first_token, habit.ttft_s, FIRST_TOKEN_S + input_tokens / READING),
        stall=_limit(bounds.stall, habit.silence_s, STALL_S),
    )


def _limit(bound: float, usual: float | None, least: float) -> float:
    wanted = max(UNKNOWN_S, bound / 5) if usual is None else SLACK * usual
    return min(bound, max(wanted, least))
