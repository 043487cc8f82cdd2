"""What tokens cost: configuration decides, then the genai-prices snapshot, then the catalog; unknown stays unknown.

genai-prices prices may depend on the prompt's size (kept here as tiers, so that they stay exact) and on the time of the
request: the dearer of the price now and the price in a quarter of an hour counts. A process that lives longer loads the
registry again, as the workers do every minute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from typing import Any

from goblin import money
from goblin.errors import ConfigError
from goblin.money import MILLION, NanoUsd
from goblin.settings import ModelSettings, ProviderSettings, Usd
from providers.message import Usage
from providers.name import nearest
from providers.row import Row

_HORIZON = timedelta(minutes=15)
_NAMES = ("input", "output", "cache_read", "cache_write", "reasoning")


@dataclass(frozen=True, slots=True)
class Tier:
    """Prices (nano-dollars per million tokens) of all tokens of a call whose input exceeds `over` tokens."""

    over: int
    input: int
    output: int
    cache_read: int
    cache_write: int
    reasoning: int | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """Nano-dollars per million tokens; `per_request` in nano-dollars. `source` names who says so.

    `reasoning` is the rate of that part of the output which is thoughts, None = that of the output.
    Take `at(input_tokens)` before reading the rates of one call: long prompts may have their own.
    """

    input: int
    output: int
    cache_read: int
    cache_write: int
    source: str
    per_request: int = 0
    tiers: tuple[Tier, ...] = ()  # rising
    reasoning: int | None = None

    def at(self, input_tokens: int) -> "Price":
        """The price of a call with so many input tokens, without tiers."""
        if not self.tiers:
            return self
        tier = next((tier for tier in reversed(self.tiers) if input_tokens > tier.over), None)
        return replace(self, tiers=(), **({} if tier is None else _rates(tier)))


FREE = Price(0, 0, 0, 0, "local")


def cost(price: Price, usage: Usage) -> NanoUsd:
    """What a call cost. Cached input and thoughts are charged at their own rates, the rest at the plain ones."""
    at = price.at(usage.input)
    fresh = max(usage.input - usage.cache_read - usage.cache_write, 0)
    thoughts = min(usage.reasoning, usage.output)
    return money.cost(
        (
            (fresh, at.input),
            (usage.cache_read, at.cache_read),
            (usage.cache_write, at.cache_write),
            (usage.output - thoughts, at.output),
            (thoughts, _of_thoughts(at)),
            (MILLION, at.per_request),
        )
    )


def worst_case(price: Price, input_tokens: int, max_output_tokens: int) -> NanoUsd:
    """The most that a call of this size can cost: nothing cached for less, the whole output limit used, and for what
    is dearer."""
    at = price.at(input_tokens) if price.tiers else price  # asked for every candidate of every decision
    read, written, thought = at.input, at.output, at.reasoning
    read = at.cache_write if at.cache_write > read else read
    written = written if thought is None or thought < written else thought
    return money.of_millionths(input_tokens * read + max_output_tokens * written + MILLION * at.per_request)


def _of_thoughts(rates: Price | Tier) -> int:
    return rates.output if rates.reasoning is None else rates.reasoning


def _rates(known: Price | Tier) -> dict[str, Any]:
    return {name: getattr(known, name) for name in _NAMES}


def search(rate: int | None, dimensions: int) -> NanoUsd:
    """What it costs to look a vector up; nothing where no price is known."""
    return money.of_millionths((rate or 0) * dimensions)


def find(row: Row, model_id: str, settings: ProviderSettings, now: datetime, *, vectors: bool = False) -> Price | None:
    """The price of a model of a provider at `now`; None = not known.

    `vectors`: it makes them, and they are not counted in tokens: its output costs nothing.
    """
    base = FREE if row.is_free else _snapshot(row, model_id, settings, now, vectors) or _catalog(row, model_id, vectors)
    model = next((one for one in settings.models or () if isinstance(one, ModelSettings) and one.id == model_id), None)
    if model is not None and (own := _configured(model, base, vectors)) is not None:
        return own
    if (own := _configured(settings, base, vectors)) is not None:
        return own
    if settings.cost_per_token is not None:
        each = money.from_usd(Decimal(str(settings.cost_per_token)) * MILLION)
        return Price(each, each, each, each, "configuration")
    return base


@dataclass(frozen=True, slots=True)
class _Said:
    """What the operator says of a model's rates; None = nothing."""

    input: int | None
    output: int | None
    cached: int | None
    reasoning: int | None

    def over(self, known: Price | Tier | None) -> dict[str, Any] | None:
        """The rates that follow; None when one is still missing. What was known of the cache or of thoughts goes with
        the rate that it was known beside."""
        input_ = self.input if self.input is not None or known is None else known.input
        output = self.output if self.output is not None or known is None else known.output
        if input_ is None or output is None:
            return None
        cache_read = known.cache_read if self.input is None and known is not None else input_
        return {
            "input": input_,
            "output": output,
            "cache_read": cache_read if self.cached is None else self.cached,
            "cache_write": known.cache_write if self.input is None and known is not None else input_,
            "reasoning": known.reasoning if self.output is None and known is not None else None,
        } | ({} if self.reasoning is None else {"reasoning": self.reasoning})


def _configured(said: ModelSettings | ProviderSettings, base: Price | None, vectors: bool) -> Price | None:
    """The operator's rates over what is known; None when there are none, or still one is missing."""
    input_, cached = rate(said.input_usd_mtok), rate(said.cached_input_usd_mtok)
    output, thoughts = (None, None) if vectors else (rate(said.output_usd_mtok), rate(said.reasoning_usd_mtok))
    if (input_, cached, output, thoughts) == (None, None, None, None):
        return None
    given = _Said(input_, 0 if vectors else output, cached, thoughts)
    plain = given.over(base)
    if plain is None:
        return None
    if base is None:
        return Price(**plain, source="configuration")
    tiers = tuple(Tier(tier.over, **rates) for tier in base.tiers if (rates := given.over(tier)) not in (None, plain))
    return Price(**plain, source="configuration", per_request=base.per_request, tiers=tiers)


def rate(usd: Usd | None, otherwise: int | None = None) -> int | None:
    """Nano-dollars per million of what a price in dollars is for."""
    return otherwise if usd is None else money.from_usd(usd)


def check(name: str, row: Row, said: ProviderSettings) -> None:
    """Raises ConfigError where prices are to be those of somebody, or for a context, that genai-prices has none for."""
    place, context = _context(row, said)
    if row.genai_prices is None:
        if context:
            raise ConfigError(f"{place.format(name)}: no prices of genai-prices are taken for it (genai_prices)")
        return
    from genai_prices.data_snapshot import get_snapshot

    try:
        provider = get_snapshot().find_provider(None, row.genai_prices, None)
    except LookupError:
        near = nearest(row.genai_prices, (one.id for one in get_snapshot().providers))
        raise ConfigError(f"{name}.toml: genai_prices {row.genai_prices!r} is unknown{near}") from None
    if context:
        _check_context(
            place.format(name), context, [one.when for m in provider.models for one in m.price_variants or ()]
        )


def _check_context(place: str, context: Mapping[str, str], known: Sequence[Mapping[str, str]]) -> None:
    for key, value in context.items():
        if not any(when.get(key) == value for when in known):
            values = {when[key] for when in known if key in when}
            near = nearest(value, values) if values else nearest(key, {one for when in known for one in when})
            raise ConfigError(f"{place}: no price is for {key} = {value!r}{near}")


def _context(row: Row, said: ProviderSettings) -> tuple[str, Mapping[str, str]]:
    """What prices may depend on beside time and size, and where that is said."""
    if said.price_context is not None:
        return "providers.{}.price_context", said.price_context
    return "{}.toml: price_context", row.price_context


def _catalog(row: Row, model_id: str, vectors: bool) -> Price | None:
    model = row.model(model_id)
    if model is None:
        return None
    input_, output = rate(model.input_usd_mtok), 0 if vectors else rate(model.output_usd_mtok)
    if input_ is None or output is None:
        return None
    cached = rate(model.cached_input_usd_mtok, input_)
    return Price(input_, output, input_ if cached is None else cached, input_, "catalog")


def _snapshot(row: Row, model_id: str, said: ProviderSettings, now: datetime, vectors: bool) -> Price | None:
    """The price in genai-prices, imported here and not above: it takes a quarter of a second to load."""
    if row.genai_prices is None:
        return None
    from genai_prices.data_snapshot import get_snapshot

    try:
        _, model = get_snapshot().find_provider_model(model_id, None, row.genai_prices, None)
    except LookupError:
        return None
    _, context = _context(row, said)
    moments = (now, now + _HORIZON)
    prices = [price for at in moments if (price := _flat(model.get_prices(at, context), vectors)) is not None]
    if not prices:
        return None
    applies = any(model.get_prices(at, context) != model.get_prices(at) for at in moments)
    return replace(_dearest(prices), source=_source(context if applies else {}))


def _source(context: Mapping[str, str]) -> str:
    return ", ".join((_package(), *(f"{key} {value}" for key, value in context.items())))


@cache
def _package() -> str:
    return f"genai-prices {version('genai-prices')}"


def _flat(prices: Any, vectors: bool) -> Price | None:
    """A price of genai-prices as ours. Where it names no rate for the cache, the plain input rate counts."""
    rates = {
        "input": prices.input_mtok,
        "output": 0 if vectors else prices.output_mtok,
        "cache_read": prices.input_mtok if prices.cache_read_mtok is None else prices.cache_read_mtok,
        "cache_write": prices.input_mtok if prices.cache_write_mtok is None else prices.cache_write_mtok,
    }
    if rates["input"] is None or rates["output"] is None:
        return None
    if prices.output_reasoning_mtok is not None and not vectors:
        rates["reasoning"] = prices.output_reasoning_mtok
    starts = sorted({tier.start for rate in rates.values() for tier in getattr(rate, "tiers", ())})
    tiers = tuple(Tier(start, **{name: _at(rate, start + 1) for name, rate in rates.items()}) for start in starts)
    base = {name: _at(rate, 0) for name, rate in rates.items()}
    fee = int(prices.requests_kcount * money.NANO / 1000) if prices.requests_kcount is not None else 0
    return Price(**base, source=_package(), per_request=fee, tiers=tiers)


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
    starts = sorted({tier.over for price in prices for tier in price.tiers})
    tiers = tuple(Tier(start, **_highest([price.at(start + 1) for price in prices])) for start in starts)
    fee = max(price.per_request for price in prices)
    return Price(**_highest(prices), source=first.source, per_request=fee, tiers=tiers)


def _highest(prices: list[Price]) -> dict[str, Any]:
    rates = {name: max(getattr(price, name) for price in prices) for name in _NAMES if name != "reasoning"}
    told = any(price.reasoning is not None for price in prices)
    return {**rates, "reasoning": max(map(_of_thoughts, prices)) if told else None}
