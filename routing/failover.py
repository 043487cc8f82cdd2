"""What may be tried next after what has failed, by the facts of the error tree. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goblin.errors import Abandoned, Breaker, GoblinError, Retry
from providers.errors import PrefillRefused

MAX_ABANDONED = 20  # workers that may die over one step before it is held to kill them
_PAUSE_S = 0.25  # after the first refusal for now, doubled by each that follows
_AGAINST_NOBODY = {Abandoned.slug, PrefillRefused.slug}
_PROBED_AT = "probed_at_ms"  # detail of an error


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

    @property
    def probed_at_ms(self) -> int | None:
        """When the call ended (Unix ms), if it was to try out who had been down."""
        at_ms = self.error.get("details", {}).get(_PROBED_AT)
        return None if at_ms is None else int(at_ms)


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
    whose worker went away speaks against nobody, nor does one that could not go on with what another had begun. A call
    that tried out who had been down is the fleet's, and does not count for the step.
    """
    abandoned = sum(failure.error["type"] == Abandoned.slug for failure in failures)
    made = [one for one in failures if one.error["type"] != Abandoned.slug and one.probed_at_ms is None]
    faults = [failure for failure in made if failure.error["type"] not in _AGAINST_NOBODY]
    counts = Counter(failure.candidate for failure in faults if not _is_passing(failure))
    excluded: dict[str, str] = {}
    context_above = 0
    for failure in faults:
        facts = _facts(failure.error)
        if facts.other_candidate is Retry.NEVER:
            return GiveUp(failure.error)
        if facts.other_candidate is Retry.LARGER:
            context_above = max(context_above, failure.context or 0)
        if _is_out(failure, counts[failure.candidate], retries.get(failure.provider, 1)):
            excluded[failure.candidate] = str(failure.error["message"])
    if len(made) >= max_attempts or abandoned >= MAX_ABANDONED:
        return GiveUp(failures[-1].error)
    return GoOn(excluded, context_above)


def as_probe(error: Mapping[str, Any], at_ms: int) -> Mapping[str, Any]:
    """The error of a call that tried out who had been down, and found nothing changed."""
    facts, details = _facts(error), error.get("details", {})
    if facts.breaker is not Breaker.COUNT or details.get("streamed"):
        return error
    return {**error, "details": {**details, _PROBED_AT: at_ms}}


def pause_s(failures: Sequence[Failure], candidate: str) -> float:
    """Seconds for which a candidate is left alone that refuses a step for now, the last of `failures` included.

    Vendors name delays that are too short; each refusal in a row makes the next call rarer.
    """
    return float(_PAUSE_S * 2 ** (sum(one.candidate == candidate and _is_passing(one) for one in failures) - 1))


def _is_out(failure: Failure, count: int, retries: int) -> bool:
    """Whether a candidate is left alone that failed so and has `count` failures that do not pass by waiting."""
    if _facts(failure.error).same_candidate is Retry.NEVER or failure.error.get("details", {}).get("streamed"):
        return True
    return retries == 0 if _is_passing(failure) else count > retries


def _is_passing(failure: Failure) -> bool:
    """Refused for now: it is asked again when its delay is over, as often as a step may call at all."""
    return _facts(failure.error).same_candidate is Retry.LATER


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
