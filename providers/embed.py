"""Texts to vectors: what is asked and what comes back. Dialects are in `wire/embedding.py`, HTTP is in `call.py`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from providers.message import Usage
from providers.provider import Provider
from providers.wire.dialect import HttpRequest

Vector: TypeAlias = tuple[float, ...]
Purpose: TypeAlias = Literal["document", "query"]


@dataclass(frozen=True, slots=True)
class Embed:
    """One call. Some models make other vectors of what is stored (document) than of what is looked for (query)."""

    model: str
    texts: tuple[str, ...]
    purpose: Purpose = "document"
    dimensions: int | None = None  # None = the model's own


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per text, in the order of the texts. `usage` is None when the vendor did not say."""

    vectors: tuple[Vector, ...]
    usage: Usage | None = None


class Embedder(Protocol):
    """A dialect's way to ask for vectors; pure."""

    @property
    def most_texts(self) -> int:
        """Texts that one request may hold."""

    def request(self, provider: Provider, embed: Embed) -> HttpRequest: ...

    def parse(self, body: bytes, count: int) -> Embeddings:
        """`count` is how many texts were sent. Raises Malformed."""


def slices(texts: Sequence[str], most: int) -> Iterator[tuple[str, ...]]:
    for at in range(0, len(texts), most):
        yield tuple(texts[at : at + most])


def joined(parts: Sequence[Embeddings]) -> Embeddings:
    """Several answers as one; its usage is known when that of every part is."""
    vectors = tuple(vector for part in parts for vector in part.vectors)
    known = [part.usage for part in parts if part.usage is not None]
    if len(known) < len(parts) or not parts:
        return Embeddings(vectors)
    return Embeddings(vectors, Usage(input=sum(usage.input for usage in known)))
