"""`goblin providers test` of who makes vectors, with one short text, and of who keeps them: what an index holds.

What is said of a call that failed stands in `trial.py`.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cli import trial

if TYPE_CHECKING:
    from goblin.settings import Settings
    from providers.message import Usage
    from providers.provider import Model, Provider

TEXT = "ready"


@dataclass(frozen=True, slots=True)
class Vector:
    """`duration_s` in seconds; without `usage` the vendor did not count."""

    provider: "Provider"
    model: "Model"
    dimensions: int
    usage: "Usage | None"
    duration_s: float

    def as_value(self) -> dict[str, Any]:
        return {
            "ok": True,
            "provider": self.provider.id,
            "model": self.model.id,
            "dimensions": self.dimensions,
            "usage": asdict(self.usage) if self.usage else None,
            "cost_usd": trial.cost_of(self.model, self.usage),
            "price_source": self.model.price.source if self.model.price else None,
            "duration_s": self.duration_s,
        }

    def lines(self) -> tuple[str, list[tuple[str, str]]]:
        unpriced = f"unknown, so nobody is sent there: set providers.{self.provider.id}.input_usd_mtok"
        return f"{self.provider.id}/{self.model.id} answered in {self.duration_s:.2f} s", [
            ("vector", f"{self.dimensions} dimensions"),
            ("tokens", f"{self.usage.input} in" if self.usage else trial.UNCOUNTED),
            ("cost", trial.price_line(self.model, self.usage, unpriced)),
        ]


@dataclass(frozen=True, slots=True)
class Held:
    """What an index holds; `duration_s` in seconds."""

    provider: "Provider"
    index: str
    vectors: int
    dimensions: int
    duration_s: float

    @property
    def search_usd(self) -> str | None:
        from goblin.money import to_usd
        from providers.price import search

        rate = self.provider.search_rate
        return None if rate is None else to_usd(search(rate, self.dimensions))

    def as_value(self) -> dict[str, Any]:
        return {
            "ok": True,
            "provider": self.provider.id,
            "index": self.index,
            "vectors": self.vectors,
            "dimensions": self.dimensions,
            "search_usd": self.search_usd,
            "duration_s": self.duration_s,
        }

    def lines(self) -> tuple[str, list[tuple[str, str]]]:
        unpriced = f"of unknown price: set providers.{self.provider.id}.query_usd_mdim"
        return f"{self.provider.id}: the index {self.index} answered in {self.duration_s:.2f} s", [
            ("holds", f"{self.vectors} vectors of {self.dimensions} dimensions"),
            ("a search", unpriced if self.search_usd is None else f"${self.search_usd}"),
        ]


def maker(settings: "Settings", environ: Mapping[str, str], name: str, model: str | None) -> "tuple[Provider, Model]":
    """The provider, also one that is switched off, and its model to ask. Raises ConfigError with what it lacks."""
    from goblin.errors import ConfigError
    from goblin.settings import ProviderSettings

    said = settings.providers.get(name, ProviderSettings()).embedding_models or ()
    wish = {} if model is None else {"embedding_models": (trial.described(said, model),)}
    found = trial.wished(settings, environ, name, **wish)
    lack = f"no model named: set providers.{name}.embedding_models, or use --model" if not found.embedders else None
    if (reason := found.obstacle or lack) is not None:
        raise ConfigError(f"{found.name} cannot be asked: {reason}")
    return found, min(found.embedders, key=_dearness)


def make(provider: "Provider", model: "Model") -> Vector:
    """Raises ProviderFault."""
    from providers.call import Caller, Control

    caller, began = Caller(), time.monotonic()
    try:
        found = caller.embed(provider, model.id, [TEXT], Control())
    finally:
        caller.close()
    return Vector(provider, model, len(found.vectors[0]), found.usage, time.monotonic() - began)


def index_of(settings: "Settings", store: str) -> str:
    """An index that a goblin looks things up in. Raises ConfigError when none does."""
    from goblin.errors import ConfigError

    tables = (goblin.retrieve for goblin in settings.goblins.values() if goblin.retrieve is not None)
    index = next((table.index for table in tables if table.store == store), None)
    if index is None:
        raise ConfigError(f"no goblin looks things up there: name an index of {store} with --model")
    return index


def look(provider: "Provider", index: str) -> Held:
    """Raises ConfigError with what it lacks, or ProviderFault."""
    from goblin.errors import ConfigError
    from providers.call import Caller, Control
    from providers.vectorize import Index

    if provider.obstacle is not None:
        raise ConfigError(f"{provider.name} cannot be asked: {provider.obstacle}")
    caller, began = Caller(), time.monotonic()
    try:
        info = Index(caller, provider, index).info(Control())
    finally:
        caller.close()
    return Held(provider, index, info.vectors, info.dimensions, time.monotonic() - began)


def _dearness(model: "Model") -> float:
    return float("inf") if model.price is None else model.price.input
