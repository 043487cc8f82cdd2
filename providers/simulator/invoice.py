"""What was called and what it cost, to the nano-dollar: an account against which the product's own can be checked.

A whole answer is billed input and output; one that broke off after its start, input and what was produced until then;
an error before the start is not billed. The exact sum of tokens times price is rounded once per call, half to even.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

from providers.simulator.answer import Usage
from providers.simulator.sheet import Model

KEPT = 10_000  # calls that can be listed; the invoice itself forgets none
_NANO_PER_MILLIONTH = 1000  # nano-dollars per token for each dollar per million tokens


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it ended. `time` is Unix seconds, `status` 0 when no answer was sent."""

    time: float
    name: str
    dialect: str
    model: str
    status: int
    outcome: str
    prompt_sha256: str
    prompt_length: int
    idempotency_key: str | None
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    nanousd: int = 0


@dataclass(slots=True)
class Sum:
    calls: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    nanousd: int = 0

    def add(self, call: Call) -> None:
        self.calls += 1
        self.input_tokens += call.input_tokens
        self.cached_tokens += call.cached_tokens
        self.output_tokens += call.output_tokens
        self.nanousd += call.nanousd


@dataclass(slots=True)
class Book:
    _calls: deque[Call] = field(default_factory=lambda: deque(maxlen=KEPT))
    _sums: dict[tuple[str, str], Sum] = field(default_factory=dict)

    def enter(self, call: Call, *, billed: bool) -> None:
        self._calls.append(call)
        if billed:
            self._sums.setdefault((call.name, call.model), Sum()).add(call)

    def calls(self) -> list[dict[str, Any]]:
        """Oldest first."""
        return [asdict(call) for call in self._calls]

    def invoice(self) -> dict[str, Any]:
        names: dict[str, dict[str, Any]] = {}
        for (name, model), total in sorted(self._sums.items()):
            names.setdefault(name, {"models": {}})["models"][model] = asdict(total)
        for entry in names.values():
            entry.update(_added(entry["models"].values()))
        return {**_added(names.values()), "names": names}


def _added(entries: Any) -> dict[str, int]:
    entries = list(entries)
    return {key: sum(entry[key] for entry in entries) for key in Sum.__slots__}


def price(model: Model, usage: Usage) -> int:
    """Nano-dollars."""
    return round(sum(_parts(model, usage), Fraction(0)))


def _parts(model: Model, usage: Usage) -> Iterator[Fraction]:
    for tokens, rate in (
        (usage.input - usage.cached, model.input),
        (usage.cached, model.cache),
        (usage.output, model.output),
    ):
        yield tokens * Fraction(rate) * _NANO_PER_MILLIONTH
