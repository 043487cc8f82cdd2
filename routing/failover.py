"""What may be tried next after what has failed, by the facts of the error tree. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goblin.errors import Abandoned, GoblinError, Retry

MAX_ABANDONED = 20  # workers that may die over one step before it is held to kill them


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call of a step."""

    provider: str
    model: str
    error: Mapping[str, Any]  # GoblinError.as_value()
    context: int | None = None  # the model's window in tokens

    @property
    def candidate(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class GoOn:
    excluded: Mapping[str, str]
    context_above: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    error: Mapping[str, Any]


def after(failures: Sequence[Failure], *, max_attempts: int, retries: Mapping[str, int]) -> GoOn | GiveUp:
    """Where a step may go after its failures, oldest first.

    `retries` says per provider how often the same candidate may be asked again after a fault that allows it. A call
    whose worker went away speaks against nobody.
    """
    faults = [failure for failure in failures if failure.error["type"] != Abandoned.slug]
    counts = Counter(failure.candidate for failure in faults)
    excluded: dict[str, str] = {}
    context_above = 0
    for failure in faults:
        facts = _facts(failure.error)
        if facts.other_candidate is Retry.NEVER:
            return GiveUp(failure.error)
        if facts.other_candidate is Retry.LARGER:
            context_above = max(context_above, failure.context or 0)
        if counts[failure.candidate] > _again(facts, failure, retries):
            excluded[failure.candidate] = str(failure.error["message"])
    if len(faults) >= max_attempts or len(failures) - len(faults) >= MAX_ABANDONED:
        return GiveUp(failures[-1].error)
    return GoOn(excluded, context_above)


def _again(facts: type[GoblinError], failure: Failure, retries: Mapping[str, int]) -> int:
    """How many failures the same candidate may have before it is left alone."""
    if facts.same_candidate is Retry.NEVER or failure.error.get("details", {}).get("streamed"):
        return 0
    return retries.get(failure.provider, 1)


def _facts(error: Mapping[str, Any]) -> type[GoblinError]:
    return _by_slug().get(str(error["type"]), GoblinError)


def _by_slug() -> dict[str, type[GoblinError]]:
    known: dict[str, type[GoblinError]] = {}
    waiting = [GoblinError]
    while waiting:
        one = waiting.pop()
        known[one.slug] = one
        waiting.extend(one.__subclasses__())
    return known
