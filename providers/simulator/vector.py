"""Embeddings without a model: hashed words, counted, scaled to length 1. Texts that share words are near each other.

And a small index of vectors in memory, which compares with all it has.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import dist, hypot, sqrt
from operator import eq, ge, gt, le, lt, ne
from typing import Any
from zlib import crc32

_WORD = re.compile(r"\w+")


def embed(text: str, dimensions: int) -> list[float]:
    values = [0.0] * dimensions
    for word in _WORD.findall(text.lower()) or [""]:
        digest = crc32(word.encode("utf-8", "replace"))
        values[digest % dimensions] += 1.0 if digest & 0x8000_0000 else -1.0
    length = sqrt(sum(value * value for value in values)) or 1.0
    return [value / length for value in values]


@dataclass(frozen=True, slots=True)
class Vector:
    id: str
    values: tuple[float, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    namespace: str | None = None


@dataclass(slots=True)
class Index:
    dimensions: int
    metric: str
    created: str
    mutation: str = ""
    vectors: dict[str, Vector] = field(default_factory=dict)

    def nearest(
        self, to: Sequence[float], most: int, wanted: Mapping[str, Any], namespace: str | None
    ) -> list[tuple[float, Vector]]:
        """Scores and vectors, best first: similarity, except for euclidean, where it is the distance."""
        measure, sign = METRICS[self.metric]
        found = [
            (measure(to, vector.values), vector)
            for vector in self.vectors.values()
            if namespace in (None, vector.namespace) and _fits(vector.metadata, wanted)
        ]
        return sorted(found, key=lambda scored: (sign * scored[0], scored[1].id))[:most]


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    lengths = hypot(*one) * hypot(*other)
    return _dot(one, other) / lengths if lengths else 0.0


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(left * right for left, right in zip(one, other, strict=True))


METRICS: Mapping[str, tuple[Callable[[Sequence[float], Sequence[float]], float], int]] = {
    "cosine": (_cosine, -1),
    "dot-product": (_dot, -1),
    "euclidean": (dist, 1),
}
OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": eq,
    "$ne": ne,
    "$lt": lt,
    "$lte": le,
    "$gt": gt,
    "$gte": ge,
    "$in": lambda value, among: value in among,
    "$nin": lambda value, among: value not in among,
}


def _fits(metadata: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(
        _holds(metadata.get(name), operator, operand)
        for name, condition in wanted.items()
        for operator, operand in (condition if isinstance(condition, dict) else {"$eq": condition}).items()
    )


def _holds(value: Any, operator: str, operand: Any) -> bool:
    try:
        return OPERATORS[operator](value, operand)
    except TypeError:  # values of kinds that have no order between them
        return False
