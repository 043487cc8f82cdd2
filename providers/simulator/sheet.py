"""The sheet: which models exist, how fast they are, what they cost. Its data is in sheet.toml."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Model:
    """A row. Seconds, tokens per second (0: as fast as possible), tokens, USD per million tokens."""

    name: str
    ttft: float
    speed: float
    context: int
    input: Decimal
    output: Decimal
    cache: Decimal
    reasoning: bool = False
    dimensions: int = 0  # of its embeddings; 0 for a model that talks


@dataclass(frozen=True, slots=True)
class Sheet:
    models: Mapping[str, Model]
    seed: int = 0

    @classmethod
    def load(cls, path: Path | None = None, *, seed: int = 0) -> "Sheet":
        """The sheet in a file, or the shipped one. Raises OSError, TOMLDecodeError, or KeyError for a missing field."""
        source = path or resources.files("providers.simulator").joinpath("sheet.toml")
        rows = tomllib.loads(source.read_text(encoding="utf-8"))
        return cls({name: _model(name, row) for name, row in rows.items()}, seed)


def _model(name: str, row: Mapping[str, Any]) -> Model:
    return Model(
        name=name,
        ttft=float(row["ttft"]),
        speed=float(row["speed"]),
        context=int(row["context"]),
        input=Decimal(row["input"]),
        output=Decimal(row["output"]),
        cache=Decimal(row["cache"]),
        reasoning=bool(row.get("reasoning", False)),
        dimensions=int(row.get("dimensions", 0)),
    )
