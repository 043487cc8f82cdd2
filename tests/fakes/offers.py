"""Providers and models as values, for what only looks at them."""

from typing import Any

from pydantic import SecretStr

from goblin.money import from_usd
from providers.price import Price
from providers.provider import Model, Provider
from routing.candidate import Candidate, Need


def price(usd_mtok: float, output: float | None = None) -> Price:
    """The same price for what goes in and comes out, unless the output has its own; USD per million tokens."""
    rate, out = from_usd(usd_mtok), from_usd(usd_mtok if output is None else output)
    return Price(rate, out, rate, rate, "test")


def model(id: str = "small", usd_mtok: float | None = 1.0, **fields: Any) -> Model:  # noqa: A002 - the field's name
    return Model(id, price=None if usd_mtok is None else price(usd_mtok), **fields)


def provider(id: str = "sim", *models: Model, **fields: Any) -> Provider:  # noqa: A002 - the field's name
    served = {"models": models or (model(),), "key": SecretStr("secret"), **fields}
    return Provider(id, id.title(), "openai", f"http://{id}.test", **served)


def candidate(name: str = "sim/small", usd_mtok: float = 1.0, *, reasoning: bool = False, **fields: Any) -> Candidate:
    """A provider and its only model, named `provider/model`."""
    provider_id, _, model_id = name.partition("/")
    offered = model(model_id or "small", usd_mtok, reasoning=reasoning)
    made = provider(provider_id, offered, **fields)
    return Candidate(made, offered, offered.price or price(0))


def need(task_class: Any = "fast", **fields: Any) -> Need:
    return Need(task_class=task_class, **{"input_tokens": 1_000, "output_tokens": 500, **fields})
