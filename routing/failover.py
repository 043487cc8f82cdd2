"""What may be tried next after what has failed, by the facts of the error tree. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goblin.errors import Abandoned, Breaker, Retry, kind_of
from providers.errors import PrefillRefused

MAX_ABANDONED = 20  # workers that may die over one step before it is held to kill them
_PAUSE_S = 0.25  # after the first refusal for now, doubled by each that follows
_FAULT_PAUSE_S, _LONGEST_S = 1.0, 30.0  # after faults, likewise, a quarter more or less
_FOR_GOOD = math.inf
_AGAINST_NOBODY = {Abandoned.slug, PrefillRefused.slug}
_FAILED_AT, _PROBED_AT = "failed_at_ms", "probed_at_ms"  # details of an error


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
        return self._at(_PROBED_AT)

    @property
    def failed_at_ms(self) -> int | None:
        """When the call ended (Unix ms), if its fault may pass."""
        return self._at(_FAILED_AT)

    def _at(self, detail: str) -> int | None:
        at_ms = self.error.get("details", {}).get(detail)
        return None if at_ms is None else int(at_ms)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a step may try: calls that waited for nobody, per provider the calls to the same candidate beyond the
    first before it pauses (0: none at all), and the seconds from the first failure on for which it waits for who has
    failed."""

    max_attempts: int
    retries: Mapping[str, int]
    patience_s: float


@dataclass(frozen=True, slots=True)
class GoOn:
    """`again_at_ms` (Unix ms) is when the first of the excluded may be asked again; None: none of them ever."""

    excluded: Mapping[str, str]
    context_above: int
    again_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class GiveUp:
    error: Mapping[str, Any]


def after(failures: Sequence[Failure], bounds: Bounds, now_ms: int) -> GoOn | GiveUp:
    """Where a step may go after its failures, oldest first.

    A fault that may pass rules a candidate out for a pause; no longer than there is patience. A call whose worker went
    away speaks against nobody, nor does one that could not go on with what another had begun. A call that tried out who
    had been down is the fleet's, and does not count for the step.
    """
    abandoned = sum(failure.error["type"] == Abandoned.slug for failure in failures)
    made = [one for one in failures if _is_its_own(one)]
    faults = [failure for failure in made if failure.error["type"] not in _AGAINST_NOBODY]
    has_patience = _has_patience(failures, bounds.patience_s, now_ms)
    excluded: dict[str, str] = {}
    context_above, again_ms = 0, _FOR_GOOD
    for failure in faults:
        facts = kind_of(failure.error)
        if facts.other_candidate is Retry.NEVER:
            return GiveUp(failure.error)
        if facts.other_candidate is Retry.LARGER:
            context_above = max(context_above, failure.context or 0)
    for candidate in dict.fromkeys(failure.candidate for failure in faults):
        own = [failure for failure in faults if failure.candidate == candidate]
        until_ms = _out_until_ms(own, bounds.retries.get(own[0].provider, 1), has_patience=has_patience)
        if until_ms > now_ms:
            excluded[candidate] = str(own[-1].error["message"])
            again_ms = min(again_ms, until_ms)
    if len(counted(failures, bounds.retries)) >= bounds.max_attempts or abandoned >= MAX_ABANDONED:
        return GiveUp(failures[-1].error)
    return GoOn(excluded, context_above, None if again_ms == _FOR_GOOD else int(again_ms))


def counted(failures: Sequence[Failure], retries: Mapping[str, int]) -> list[Failure]:
    """Those that count for the step, of which there may be `max_attempts`. What came after a pause was waited for, and
    patience is its bound."""
    own = [one for one in failures if _is_its_own(one)]
    return [one for place, one in enumerate(own) if not _was_waited_for(one, own[:place], retries)]


def _is_its_own(failure: Failure) -> bool:
    return failure.error["type"] != Abandoned.slug and failure.probed_at_ms is None


def _was_waited_for(failure: Failure, before: Sequence[Failure], retries: Mapping[str, int]) -> bool:
    """Whether its candidate had failed before, and the pause after that was over. Half an answer has its price."""
    own = [one for one in before if one.candidate == failure.candidate and one.error["type"] not in _AGAINST_NOBODY]
    if failure.failed_at_ms is None or _has_streamed(failure):
        return False
    return 0 < _out_until_ms(own, retries.get(failure.provider, 1), has_patience=True) <= failure.failed_at_ms


def noted(error: Mapping[str, Any], at_ms: int, *, is_probe: bool) -> Mapping[str, Any]:
    """The error of a call that ended just now, with what decides about the next one: when it was, if it may pass; and
    whether it was the call that tried out who had been down, and found nothing changed."""
    facts, details = kind_of(error), error.get("details", {})
    if facts.breaker is not Breaker.COUNT:
        return error
    detail = _PROBED_AT if is_probe and not details.get("streamed") else _FAILED_AT
    return {**error, "details": {**details, detail: at_ms}}


def key_fault(failures: Sequence[Failure]) -> Mapping[str, Any] | None:
    """The last error, when keys or accounts that do not work are all that a step has met."""
    met = [one for one in failures if one.error["type"] != Abandoned.slug]
    is_of_keys = bool(met) and all(kind_of(one.error).breaker is Breaker.OPEN for one in met)
    return met[-1].error if is_of_keys else None


def pause_s(failures: Sequence[Failure], candidate: str) -> float:
    """Seconds for which a candidate is left alone that refuses a step for now, the last of `failures` included.

    Vendors name delays that are too short; each refusal in a row makes the next call rarer, and everybody else's too.
    """
    times = sum(one.candidate == candidate and _is_passing(one) for one in failures)
    return min(_PAUSE_S * 2.0 ** (times - 1), _LONGEST_S)


def _out_until_ms(own: Sequence[Failure], retries: int, *, has_patience: bool) -> float:
    """Until when (Unix ms) a candidate is left alone after its own failures; 0: it is not."""
    hard = [one for one in own if not _is_passing(one)]
    if retries == 0 or any(kind_of(one.error).same_candidate is Retry.NEVER for one in hard):
        return _FOR_GOOD
    if not hard or (len(hard) <= retries and _may_pass_at_once(hard[-1])):
        return 0
    at_ms = hard[-1].failed_at_ms
    return _FOR_GOOD if at_ms is None or not has_patience else at_ms + _fault_pause_ms(len(hard) - retries, at_ms)


def _may_pass_at_once(failure: Failure) -> bool:
    return kind_of(failure.error).same_candidate is Retry.ONCE and not _has_streamed(failure)


def _has_streamed(failure: Failure) -> bool:
    return bool(failure.error.get("details", {}).get("streamed"))


def _fault_pause_ms(times: int, at_ms: int) -> float:
    """Spread by the last digits of the moment, so that steps that failed together do not come again together."""
    pause_s: float = min(_FAULT_PAUSE_S * 2 ** max(times - 1, 0), _LONGEST_S)
    return 1_000 * pause_s * (0.75 + at_ms % 100 / 200)


def _has_patience(failures: Sequence[Failure], patience_s: float, now_ms: int) -> bool:
    times = [at_ms for one in failures for at_ms in (one.failed_at_ms, one.probed_at_ms) if at_ms is not None]
    return now_ms - min(times, default=now_ms) < 1_000 * patience_s


def _is_passing(failure: Failure) -> bool:
    """Refused for now: it is asked again when its delay is over, as often as a step may call at all."""
    return kind_of(failure.error).same_candidate is Retry.LATER
