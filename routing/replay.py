"""A kept decision read again: the terms behind its order, and whether its inputs still lead to it. Pure.

What was kept goes through the code that decides, so a decision that is not reproduced was made by other rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goblin.settings import Weights
from providers.price import Price
from providers.provider import Model, Provider
from routing.candidate import Candidate, Need
from routing.route import LOCAL, REASONING, order
from routing.score import Measure, Ranked


@dataclass(frozen=True, slots=True)
class Replayed:
    """`ranked` is the order as it follows now; `is_reproduced`: it is the one that was kept, score by score."""

    ranked: tuple[Ranked, ...]
    is_reproduced: bool

    def leads_to(self, provider: str, model: str, passed: Mapping[str, str]) -> bool:
        """Whether this candidate was the first that admission did not refuse (`passed`: those refused before it)."""
        first = next((one.candidate.name for one in self.ranked if one.candidate.name not in passed), None)
        return self.is_reproduced and first == f"{provider}/{model}"


def replay(decision: Mapping[str, Any]) -> Replayed | None:
    """The route that follows from what `Route.as_value` kept; None for a decision that ranked nobody."""
    rows, weights = decision.get("candidates"), decision.get("weights")
    if not rows or weights is None:
        return None
    asked = decision["need"]
    need = Need(  # of the rest of it, the worst cases are the outcome
        asked["task_class"],
        input_tokens=0,
        output_tokens=0,
        preferred=tuple(asked.get("preferred", ())),
        prefer_local=asked.get("prefer_local", False),
    )
    measured = [_measured(row) for row in rows]
    ranked = order(measured, need, Weights(**weights), decision["required_bandwidth"], decision["resting"])
    kept = [(row[0], row[1], row[-1]) for row in rows]
    return Replayed(tuple(ranked), kept == [_place(one) for one in ranked])


def _measured(row: Sequence[Any]) -> tuple[Candidate, Measure]:
    provider_id, model_id, ttft_s, success, speed, worst_case, priority, marks, _ = row
    provider = Provider(provider_id, provider_id, "", "", local=bool(marks & LOCAL), priority=priority)
    model = Model(model_id, reasoning=bool(marks & REASONING))
    price = Price(0, 0, 0, 0, "kept", per_request=worst_case)  # whatever its tokens, it costs what was kept
    return Candidate(provider, model, price), Measure(ttft_s, success, speed)


def _place(ranked: Ranked) -> tuple[str, str, float]:
    return ranked.candidate.provider.id, ranked.candidate.model.id, round(ranked.score, 6)
