"""The score of a candidate and the order that follows from it. Pure and replayable: same inputs, same order.

Every decision makes hundreds of the values here, so they are tuples: a frozen dataclass takes thrice as long to make.
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

from goblin.settings import Weights
from routing.candidate import Candidate, Need


class Measure(NamedTuple):
    """How a candidate has been doing."""

    ttft_s: float  # seconds to the first token
    success: float  # 0..1
    tokens_per_second: float


class Ranked(NamedTuple):
    """A candidate with the four terms that placed it, each 0..1 before its weight, and what they were made from."""

    candidate: Candidate
    latency: float
    cost: float
    success: float
    bandwidth: float
    score: float
    measure: Measure
    worst_case: int  # nano-dollars


def rank(
    measured: Sequence[tuple[Candidate, Measure]], need: Need, weights: Weights, required_bandwidth: float
) -> list[Ranked]:
    """Best first. Local ones lead when the need prefers them, favourites and reasoning models come before the score;
    ties break by priority, then name."""
    costs = [candidate.worst_case(need) for candidate, _ in measured]
    max_cost = max(costs, default=0) or 1  # where all are free, or all at once, none loses by it
    max_latency = max((measure.ttft_s for _, measure in measured), default=0.0) or 1.0
    of_latency, of_cost, of_success, of_bandwidth = weights.latency, weights.cost, weights.success, weights.bandwidth
    favourites = {provider: place for place, provider in reversed([*enumerate(need.preferred)])}
    prefer_local, wants_reasoning, last = need.prefer_local, need.task_class == "reasoning", len(need.preferred)
    placed = []
    for (candidate, measure), cost in zip(measured, costs, strict=True):
        provider, model, _, _ = candidate
        ttft_s, success, speed = measure
        latency_term = 1 - ttft_s / max_latency
        cost_term = 1 - cost / max_cost
        bandwidth_term = speed / required_bandwidth if speed < required_bandwidth else 1.0
        score = of_latency * latency_term + of_cost * cost_term + of_success * success + of_bandwidth * bandwidth_term
        ranked = Ranked(candidate, latency_term, cost_term, success, bandwidth_term, score, measure, cost)
        place = (
            prefer_local and not provider.local,
            favourites.get(provider.id, last),
            wants_reasoning and not model.reasoning,
            -score,
            provider.priority,
            f"{provider.id}/{model.id}",
        )
        placed.append((place, ranked))
    placed.sort(key=itemgetter(0))
    return [ranked for _, ranked in placed]
