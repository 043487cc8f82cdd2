"""The score of a candidate and the order that follows from it. Pure and replayable: same inputs, same order."""

from collections.abc import Sequence
from dataclasses import dataclass

from goblin.settings import Weights
from routing.candidate import Candidate, Need


@dataclass(frozen=True, slots=True)
class Measure:
    """How a candidate has been doing."""

    ttft_s: float  # seconds to the first token
    success: float  # 0..1
    tokens_per_second: float


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with the four terms that placed it, each 0..1 before its weight."""

    candidate: Candidate
    latency: float
    cost: float
    success: float
    bandwidth: float
    score: float


def rank(
    measured: Sequence[tuple[Candidate, Measure]], need: Need, weights: Weights, required_bandwidth: float
) -> list[Ranked]:
    """Best first. Local ones lead when the need prefers them, favourites and reasoning models come before the score;
    ties break by priority, then name."""
    costs = [candidate.worst_case(need) for candidate, _ in measured]
    max_cost = max(costs, default=0)
    max_latency = max((measure.ttft_s for _, measure in measured), default=0.0)
    ranked = []
    for (candidate, measure), cost in zip(measured, costs, strict=True):
        latency_term = 1 - measure.ttft_s / max_latency if max_latency else 1.0
        cost_term = 1 - cost / max_cost if max_cost else 1.0
        bandwidth_term = min(measure.tokens_per_second / required_bandwidth, 1.0)
        score = (
            weights.latency * latency_term
            + weights.cost * cost_term
            + weights.success * measure.success
            + weights.bandwidth * bandwidth_term
        )
        ranked.append(Ranked(candidate, latency_term, cost_term, measure.success, bandwidth_term, score))
    ranked.sort(key=lambda one: _place(one, need))
    return ranked


def _place(ranked: Ranked, need: Need) -> tuple[bool, int, bool, float, int, str]:
    provider, model = ranked.candidate.provider, ranked.candidate.model
    favourites = len(need.preferred)
    return (
        need.prefer_local and not provider.local,
        need.preferred.index(provider.id) if provider.id in need.preferred else favourites,
        need.task_class == "reasoning" and not model.reasoning,
        -ranked.score,
        provider.priority,
        ranked.candidate.name,
    )
