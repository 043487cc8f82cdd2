"""Calls that were handed over to the workers of a provider, and that none of them took in time, or could make by then.

It speaks against nobody but the queue, so it is no business of routing: the provider is left out for a pause, in which
others serve the step or it waits, and tried again as long as the step has time.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from goblin.errors import GoblinError, Retry
from providers.provider import Provider
from routing.failover import Failure, GoOn

_PAUSE_S, _LONGEST_S = 2.0, 60.0


class Untaken(GoblinError):
    """Nobody takes calls from the provider's queue, those who do are busy, or who took one does not know its model, or
    took it too late for its place in the minute."""

    slug: ClassVar[str] = "untaken"
    same_candidate = Retry.YES  # after a pause, which is this module's
    other_candidate = Retry.YES


def is_untaken(failure: Failure) -> bool:
    return bool(failure.error["type"] == Untaken.slug)


def made(failures: Sequence[Failure]) -> list[Failure]:
    """The calls that somebody made: what failed there is known."""
    return [failure for failure in failures if not is_untaken(failure)]


def spare(way: GoOn, failures: Sequence[Failure], known: Mapping[str, Provider], now_ms: int) -> GoOn:
    """The way without the providers whose queues nobody took a call of the step from lately."""
    untaken = [failure for failure in failures if is_untaken(failure)]
    excluded, moments = dict(way.excluded), [way.again_at_ms]
    for name in {failure.provider for failure in untaken} & known.keys():
        own = [failure for failure in untaken if failure.provider == name]
        until_ms = (own[-1].failed_at_ms or now_ms) + round(1_000 * _pause_s(len(own)))
        if until_ms > now_ms:
            excluded |= dict.fromkeys(_candidates(known[name]), str(own[-1].error["message"]))
            moments.append(until_ms)
    return replace(way, excluded=excluded, again_at_ms=min((one for one in moments if one is not None), default=None))


def _pause_s(times: int) -> float:
    return float(min(_PAUSE_S * 2 ** (times - 1), _LONGEST_S))


def _candidates(provider: Provider) -> Iterable[str]:
    return (f"{provider.id}/{model.id}" for model in (*provider.models, *provider.embedders))
