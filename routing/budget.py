"""Which budgets stand above a call, what they are called, and their windows in UTC. Pure.

A window's name carries its beginning: `all/hour@1767225600` (Unix seconds). The hour and the day in which a call was
admitted pay for it, whenever it ends. Money is exact up to MOST: Redis computes in doubles.
"""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from goblin.money import MOST

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
RUN_IDLE_MS = 2 * DAY_MS  # longer than any call
BATCH_IDLE_MS = 15 * DAY_MS  # longer than any batch has
Period: TypeAlias = Literal["hour", "day"]
PERIODS: Mapping[Period, int] = {"hour": HOUR_MS, "day": DAY_MS}


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit (nano-dollars) that calls are held against. `window_ms` 0: it never begins anew.

    `idle_ms` is how long Redis keeps it unused, 0 for always: only what the ledger can rebuild may be forgotten. What
    is `spent` (nano-dollars) by then is said by who asks.
    """

    name: str
    limit: int
    window_ms: int = 0
    idle_ms: int = 0
    spent: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.limit <= MOST:
            raise ValueError(f"a budget of {self.limit} nano-dollars cannot be counted exactly")

    def at(self, moment_ms: int) -> str:
        """The name of the counter that a call admitted at a moment (Unix ms) is held against."""
        if not self.window_ms:
            return self.name
        return f"{self.name}@{moment_ms // self.window_ms * self.window_ms // 1000}"


@dataclass(frozen=True, slots=True)
class State:
    """A budget as Redis counts it. Nano-dollars; `resets_at` Unix seconds, None = never; `limit` None = none yet."""

    name: str
    limit: int | None
    spent: int
    held: int
    resets_at: int | None


class Counter(NamedTuple):
    """A budget's counter for the loading of a generation: `ends` (Unix ms) 0 = never, `idle` ms 0 = always kept."""

    name: str
    ends: int
    idle: int


def everything(period: Period, limit: int) -> Budget:
    return Budget(f"all/{period}", limit, PERIODS[period])


def of_provider(provider: str, period: Period, limit: int) -> Budget:
    return Budget(f"provider:{provider}/{period}", limit, PERIODS[period])


def of_run(run: uuid.UUID, limit: int, spent: int = 0) -> Budget:
    """A run may be open for ever: `spent` is what its calls have cost as the ledger knows it just before an ask."""
    return Budget(f"run:{run}", limit, idle_ms=RUN_IDLE_MS, spent=spent)


def of_batch(batch: uuid.UUID, limit: int) -> Budget:
    return Budget(f"batch:{batch}", limit, idle_ms=BATCH_IDLE_MS)


def of_key(key: uuid.UUID, limit: int) -> Budget:
    return Budget(f"key:{key}", limit)


def counters(
    *, provider: str, run: uuid.UUID, key: uuid.UUID | None, batch: uuid.UUID | None, at_ms: int, now_ms: int
) -> tuple[Counter, ...]:
    """Every counter that a call admitted at a moment may be held against, as far as it still matters now."""
    above = [everything("hour", 0), everything("day", 0)]
    above += [of_provider(provider, "hour", 0), of_provider(provider, "day", 0), of_run(run, 0)]
    above += [of_key(key, 0)] if key else []
    above += [of_batch(batch, 0)] if batch else []
    known = [counter(one, at_ms) for one in above]
    return tuple(one for one in known if not one.ends or one.ends + DAY_MS > now_ms)


def counter(budget: Budget, at_ms: int) -> Counter:
    """The counter of a budget that a call admitted at a moment is held against."""
    window = budget.window_ms
    return Counter(budget.at(at_ms), (at_ms // window + 1) * window if window else 0, budget.idle_ms)


def read(name: str, text: str) -> State:
    """A counter as Redis keeps it: spent, held, limit (-1 = none yet), and the limit of which 80 % were reported."""
    spent, held, limit, _ = map(int, text.split(" "))
    plain, _, start = name.partition("@")
    period = plain.rpartition("/")[2]
    window = next((ms for known, ms in PERIODS.items() if known == period), 0)
    return State(plain, None if limit < 0 else limit, spent, held, int(start) + window // 1000 if start else None)


def known_as(counter: str) -> str:
    """What people call the budget of a counter: whose it is they know where it is said."""
    name = counter.partition("@")[0]
    kind, _, whose = name.partition(":")
    if kind == "batch":
        return f"batch_{whose.replace('-', '')}"  # there may be several
    return kind if whose and kind in {"run", "key"} else name


def names_at(budgets: Iterable[Budget], moment_ms: int) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.at(moment_ms) for one in budgets))
