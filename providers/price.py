"""What tokens cost: configuration decides, then the genai-prices snapshot, then the catalog; unknown stays unknown.

genai-prices prices may depend on the prompt's size (kept here as tiers, so that they stay exact) and on the time of the
request: the dearer of the price now and the price in a quarter of an hour counts. A process that lives longer loads the
registry again, as the workers do every minute.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from typing import Any

from goblin import money
from goblin.errors import ConfigError
from goblin.money import MILLION, NanoUsd
from goblin.settings import ModelSettings, ProviderSettings
from providers.message import Usage
from providers.row import Row, Usd

_HORIZON = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Tier:
    """Prices (nano-dollars per million tokens) of all tokens of a call whose input exceeds `over` tokens."""

    over: int
    input: int
    output: int
    cache_read: int
    cache_write: int


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars per million tokens; `per_request` in nano-dollars. `source` names who says so.

    Take `at(input_tokens)` before reading the rates of one call: long prompts may have their own.
    """

    input: int
    output: int
    cache_read: int
    cache_write: int
    source: str
    per_request: int = 0
    tiers: tuple[Tier, ...] = ()  # rising

    def at(self, input_tokens: int) -> "Price":
        """The price of a call with so many input tokens, without tiers."""
        if not self.tiers:
            return self
        tier = next((tier for tier in reversed(self.tiers) if input_tokens > tier.over), None)
        if tier is None:
            return replace(self, tiers=())
        return Price(tier.input, tier.output, tier.cache_read, tier.cache_write, self.source, self.per_request)


FREE = Price(0, 0, 0, 0, "local")


def cost(price: Price, usage: Usage) -> NanoUsd:
    """What a call cost. Cached input is charged at its own rates, the rest of the input at the plain one."""
    at = price.at(usage.input)
    fresh = max(usage.input - usage.cache_read - usage.cache_write, 0)
    return money.cost(
        (
            (fresh, at.input),
            (usage.cache_read, at.cache_read),
            (usage.cache_write, at.cache_write),
            (usage.output, at.output),
            (MILLION, at.per_request),
        )
    )


def worst_case(price: Price, input_tokens: int, max_output_tokens: int) -> NanoUsd:
    """The most that a call of this size can cost: nothing cached for less, the whole output limit used."""
    at = price.at(input_tokens)
    dearest = max(at.input, at.cache_write)
    return money.of_millionths(input_tokens * dearest + max_output_tokens * at.output + MILLION * at.per_request)


def search(rate: int | None, dimensions: int) -> NanoUsd:
    """What it costs to look a vector up; nothing where no price is known."""
    return money.of_millionths((rate or 0) * dimensions)


def find(row: Row, model_id: str, settings: ProviderSettings, now: datetime) -> Price | None:
    """The price of a model of a provider at `now`; None = not known. Raises ConfigError for a price that is none."""
    base = FREE if row.is_free else _snapshot(row, model_id, now) or _catalog(row, model_id)
    model = next((one for one in settings.models or () if isinstance(one, ModelSettings) and one.id == model_id), None)
    if model is not None and (own := _configured(model, base)) is not None:
        return own
    if (own := _configured(settings, base)) is not None:
        return own
    if settings.cost_per_token is not None:
        each = money.from_usd(Decimal(str(settings.cost_per_token)) * MILLION)
        return Price(each, each, each, each, "configuration")
    return base


def _configured(said: ModelSettings | ProviderSettings, base: Price | None) -> Price | None:
    """The operator's rates over what is known; None when there are none, or still one is missing."""
    given = (said.input_usd_mtok, said.output_usd_mtok, said.cached_input_usd_mtok)
    if given == (None, None, None):
        return None
    input_ = rate(given[0], base.input if base else None)
    output = rate(given[1], base.output if base else None)
    if input_ is None or output is None:
        return None
    cached = rate(given[2], input_ if given[0] is not None or base is None else base.cache_read)
    written = input_ if given[0] is not None or base is None else base.cache_write
    return Price(input_, output, input_ if cached is None else cached, written, "configuration")


def rate(usd: Usd | None, otherwise: int | None = None) -> int | None:
    """Nano-dollars per million of what a price in dollars is for. Raises ConfigError for a price that is none."""
    if usd is None:
        return otherwise
    try:
        amount = money.from_usd(usd)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if amount < 0:
        raise ConfigError(f"a price cannot be negative: {usd}")
    return amount


def _catalog(row: Row, model_id: str) -> Price | None:
    model = row.model(model_id)
    if model is None:
        return None
    input_, output = rate(model.input_usd_mtok, None), rate(model.output_usd_mtok, None)
    if model.kind == "embedding":  # vectors are not counted in tokens
        output = 0
    if input_ is None or output is None:
        return None
    cached = rate(model.cached_input_usd_mtok, input_)
    return Price(input_, output, input_ if cached is None else cached, input_, "catalog")


def _snapshot(row: Row, model_id: str, now: datetime) -> Price | None:
    """The price in genai-prices, imported here and not above: it takes a quarter of a second to load."""
    if row.genai_prices is None:
        return None
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, model = get_snapshot().find_provider_model(model_id, None, row.genai_prices, None)
    except LookupError:
        return None
    prices = [price for moment in (now, now + _HORIZON) if (price := _flat(model.get_prices(moment))) is not None]
    return _dearest(prices) if prices else None


@cache
def _source() -> str:
    return f"genai-prices {version('genai-prices')}"


def _flat(prices: Any) -> Price | None:
    """A price of genai-prices as ours. Where it names no rate for the cache, the plain input rate counts."""
    rates = {
        "input": prices.input_mtok,
        "output": prices.output_mtok,
        "cache_read": prices.input_mtok if prices.cache_read_mtok is None else prices.cache_read_mtok,
        "cache_write": prices.input_mtok if prices.cache_write_mtok is None else prices.cache_write_mtok,
    }
    if rates["input"] is None or rates["output"] is None:
        return None
    starts = sorted({tier.start for rate in rates.values() for tier in getattr(rate, "tiers", ())})
    tiers = tuple(Tier(start, **{name: _at(rate, start + 1) for name, rate in rates.items()}) for start in starts)
    output_extra = prices.output_reasoning_mtok  # reasoning may be dearer than text; then all output counts as such
    base = {name: _at(rate, 0) for name, rate in rates.items()}
    if output_extra is not None:
        base["output"] = max(base["output"], _at(output_extra, 0))
    fee = int(prices.requests_kcount * money.NANO / 1000) if prices.requests_kcount is not None else 0
    return Price(**base, source=_source(), per_request=fee, tiers=tiers)


def _at(rate: Any, input_tokens: int) -> int:
    amount = getattr(rate, "base", rate)
    for tier in getattr(rate, "tiers", ()):
        if input_tokens > tier.start:
            amount = tier.price
    return money.from_usd(amount)


def _dearest(prices: list[Price]) -> Price:
    first, *others = prices
    if all(price == first for price in others):
        return first
    names = ("input", "output", "cache_read", "cache_write")
    starts = sorted({tier.over for price in prices for tier in price.tiers})
    at = [[price.at(start + 1) for price in prices] for start in starts]
    tiers = tuple(
        Tier(start, **{name: max(getattr(one, name) for one in flat) for name in names})
        for start, flat in zip(starts, at, strict=True)
    )
    rates = {name: max(getattr(price, name) for price in prices) for name in names}
    return Price(**rates, source=prices[0].source, per_request=max(price.per_request for price in prices), tiers=tiers)
