"""The decision for one step: who may serve it, in which order, and everything needed to explain or replay that."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any

from goblin.errors import NoCandidate
from goblin.settings import RoutingSettings, Weights
from routing.candidate import Candidate, Need, eligible
from routing.health import EMPTY, Health
from routing.offers import Offers
from routing.score import Measure, Ranked, rank

LOCAL, REASONING = 1, 2  # what is true of a candidate, in a decision that is kept


@dataclass(frozen=True, slots=True)
class Route:
    need: Need
    candidates: tuple[Ranked, ...]
    refusals: Mapping[str, str]
    resting: Mapping[str, str]  # candidates that the breakers kept away when this was decided: they come last
    settings: RoutingSettings = field(default_factory=RoutingSettings)  # by which it was decided

    def as_error(self) -> NoCandidate:
        """Why nobody is on this route, with every reason."""
        return NoCandidate(_summary(self.need, self.refusals), self.refusals)

    @property
    def obstacles(self) -> dict[str, str]:
        """Why whole providers cannot be called by any step, as long as nothing is configured anew."""
        return {who: why for who, why in self.refusals.items() if "/" not in who}

    def as_value(self) -> dict[str, Any]:
        """The decision as data, small because one is kept for every attempt; `routing.replay` reads it.

        A candidate is [provider, model, seconds to the first token, success 0..1, tokens per second, worst case in
        nano-dollars, priority, LOCAL and REASONING added, score rounded to six places]. The obstacles, which thousands
        of decisions share, are only named by their fingerprint.
        """
        need = {name: value for name, value in asdict(self.need).items() if value not in (None, (), {}, False, 0)}
        return {
            "need": {
                name: list(value) if isinstance(value, tuple | set | frozenset) else value
                for name, value in need.items()
            },
            "weights": self.settings.weights.model_dump(),
            "required_bandwidth": self.settings.required_bandwidth,
            "candidates": [_row(one) for one in self.candidates],
            "refused": {who: why for who, why in self.refusals.items() if "/" in who},
            "obstacles": fingerprint(self.obstacles),
            "resting": dict(self.resting),
        }


def fingerprint(obstacles: Mapping[str, str]) -> str:
    """The same for the same reasons, in every process."""
    lines = "\n".join(f"{who} {why}" for who, why in sorted(obstacles.items()))
    return blake2b(lines.encode(), digest_size=12).hexdigest()


def order(
    measured: Sequence[tuple[Candidate, Measure]],
    need: Need,
    weights: Weights,
    required_bandwidth: float,
    resting: Collection[str],
) -> list[Ranked]:
    """Best first, and last of all those that the breakers keep away."""
    ranked = rank(measured, need, weights, required_bandwidth)
    if resting:
        ranked.sort(key=lambda one: one.candidate.name in resting)  # a stable sort: the order among equals stays
    return ranked


class Router:
    def __init__(self, offers: Offers, settings: RoutingSettings, health: Health | None = None) -> None:
        self._offers = offers
        self._settings = settings
        self._health = health

    def rank(self, need: Need) -> Route:
        """All that can serve the need, best first; without `health` as the catalog's priors have it."""
        snapshot = self._health.snapshot() if self._health else EMPTY
        known = self._offers.registry
        candidates, refusals = eligible(known.embedders() if need.vectors else known.candidates(), need)
        silent = (one for one in known.providers.values() if not one.models and not need.vectors)
        refusals |= {provider.id: why for provider in silent if (why := provider.why_not()) is not None}
        candidates = [snapshot.counted(one) for one in candidates]
        resting = _resting(candidates, snapshot.resting(time.time()))
        measured = [(candidate, snapshot.measure(candidate)) for candidate in candidates]
        ranked = order(measured, need, self._settings.weights, self._settings.required_bandwidth, resting)
        return Route(need, tuple(ranked), refusals, resting, self._settings)


def _resting(candidates: Iterable[Candidate], known: Mapping[str, str]) -> dict[str, str]:
    if not known:
        return {}
    found = {one.name: known.get(one.name) or known.get(one.provider.id) for one in candidates}
    return {name: reason for name, reason in found.items() if reason is not None}


def _row(ranked: Ranked) -> list[str | float]:
    provider, model = ranked.candidate.provider, ranked.candidate.model
    marks = LOCAL * provider.local + REASONING * model.reasoning
    return [provider.id, model.id, *ranked.measure, ranked.worst_case, provider.priority, marks, round(ranked.score, 6)]


def _summary(need: Need, refusals: Mapping[str, str]) -> str:
    """The reasons that the reader can use first: of whoever was tried, then of models before those of keys, and none
    of those that the step was never to be served by."""
    wanted = {need.provider} if need.provider is not None else need.providers
    concerned = {who: why for who, why in refusals.items() if wanted is None or who.partition("/")[0] in wanted}
    if not concerned:
        return "no provider is configured: set a key such as OPENAI_API_KEY, or start a local server such as Ollama"
    told = sorted(concerned.items(), key=lambda one: (one[0] not in need.excluded, "/" not in one[0]))
    shown = "; ".join(f"{who}: {why}" for who, why in told[:3])
    more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
    return f"no provider can serve this step ({shown}{more})"
