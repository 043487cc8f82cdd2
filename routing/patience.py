"""How long a call may be silent: as long as configured when nobody else could serve, else as its candidate usually is.

Deadlines are learned from percentiles of the candidate itself (routing.health) and bounded by its provider's own. A
call that was cut counts as one that took longer, so a deadline that is too short grows. Pure.
"""

from dataclasses import dataclass, replace

from providers.provider import Deadlines

SLACK = 4  # times what is usual
UNKNOWN_S = 12.0  # for a candidate that is not known yet
CONNECT_S, FIRST_TOKEN_S, STALL_S = 1.0, 3.0, 5.0  # what everybody is given
LEAST = 5  # whoever is not known yet may be silent for a fifth of the bound at least, and every whole call may last so
READING = 4_000  # tokens of a prompt that may take a second


@dataclass(frozen=True, slots=True)
class Habit:
    """Seconds that some nineteen of twenty calls keep within: to the first token, of silence between two pieces, to
    connect, and for each token behind the first.

    None: not enough calls were seen.
    """

    ttft_s: float | None = None
    silence_s: float | None = None
    connect_s: float | None = None
    token_s: float | None = None


def deadlines(
    bounds: Deadlines, habit: Habit, *, input_tokens: int, output_tokens: int, has_other: bool, reasons: bool
) -> Deadlines:
    """The limits of one call that may write `output_tokens`. Whoever is asked to reason may be silent, and talk, for as
    long as is configured."""
    if not has_other:
        return bounds
    connect = bounds.connect if habit.connect_s is None else _limit(bounds.connect, habit.connect_s, CONNECT_S)
    if reasons:
        return replace(bounds, connect=connect)
    first_token = _limit(bounds.first_token, habit.ttft_s, FIRST_TOKEN_S + input_tokens / READING)
    total = bounds.total
    if habit.token_s is not None:
        total = connect + first_token + SLACK * habit.token_s * output_tokens
    return Deadlines(
        connect=connect,
        first_token=first_token,
        stall=_limit(bounds.stall, habit.silence_s, STALL_S),
        total=min(bounds.total, max(total, bounds.total / LEAST)),
    )


def _limit(bound: float, usual: float | None, least: float) -> float:
    wanted = max(UNKNOWN_S, bound / LEAST) if usual is None else SLACK * usual
    return min(bound, max(wanted, least))
