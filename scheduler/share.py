"""How the window of open runs is shared: between API keys by their weights, and evenly between the batches of one key.

What somebody cannot use goes to the others. Pure.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

_Who = TypeVar("_Who")


@dataclass(frozen=True, slots=True)
class Claim:
    """A batch that could have `demand` runs open; `key` None: the runs of an open API."""

    batch: uuid.UUID
    key: uuid.UUID | None
    weight: float
    demand: int


def shares(window: int, claims: Sequence[Claim]) -> Mapping[uuid.UUID, int]:
    """How many runs each batch may have open, together no more than the window.

    What is left of parts that are no whole runs goes to those who would stand still without it, in the order of the
    claims: with more batches than places some wait for the end of others.
    """
    of_key: dict[uuid.UUID | None, list[Claim]] = {}
    for one in claims:
        of_key.setdefault(one.key, []).append(one)
    parts = _fill(window, {key: (own[0].weight, sum(one.demand for one in own)) for key, own in of_key.items()})
    given: dict[uuid.UUID, int] = {}
    for key, own in of_key.items():
        given |= {batch: int(part) for batch, part in _fill(parts[key], _evenly(own)).items()}
    still = [one.batch for one in claims if one.demand and not given[one.batch]]
    return given | dict.fromkeys(still[: window - sum(given.values())], 1)


def _evenly(claims: Iterable[Claim]) -> dict[uuid.UUID, tuple[float, int]]:
    return {one.batch: (1.0, one.demand) for one in claims}


def _fill(room: float, wanted: Mapping[_Who, tuple[float, int]]) -> dict[_Who, float]:
    """Parts of a room by weight, none larger than what is wanted: (weight, demand) of each."""
    given: dict[_Who, float] = {}
    waiting = dict(wanted)
    while waiting:
        total = sum(weight for weight, _ in waiting.values())
        fair = {who: room * weight / total for who, (weight, _) in waiting.items()}
        modest = {who: float(demand) for who, (_, demand) in waiting.items() if demand <= fair[who]}
        if not modest:
            return given | fair
        given |= modest
        room -= sum(modest.values())
        waiting = {who: claim for who, claim in waiting.items() if who not in modest}
    return given
