"""Prices: who decides them, what a call costs at them, and that unknown stays unknown."""

from datetime import UTC, datetime, timedelta

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from goblin.errors import ConfigError
from goblin.money import from_usd
from goblin.settings import ModelSettings, ProviderSettings
from providers.message import Usage
from providers.price import FREE, Price, Tier, cost, find, worst_case
from providers.row import ModelRow, Row, rows

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOTHING = ProviderSettings()
FLAT = Price(3 * 10**9, 15 * 10**9, 3 * 10**8, 4 * 10**9, "test")
TIERED = Price(
    1000, 2000, 100, 1250, "test", tiers=(Tier(100, 2000, 3000, 200, 2500), Tier(1000, 4000, 6000, 400, 5000))
)


def row(name: str) -> Row:
    return rows()[name]


def test_cached_input_is_charged_at_its_own_rates() -> None:
    usage = Usage(input=1_000_000, cache_read=400_000, cache_write=100_000, output=200_000, reasoning=50_000)
    assert cost(FLAT, usage) == from_usd("0.5") * 3 + from_usd("0.12") + from_usd("0.4") + from_usd(3)


def test_a_request_may_have_a_fee() -> None:
    assert cost(Price(0, 0, 0, 0, "test", per_request=12), Usage()) == 12


@pytest.mark.parametrize(("tokens", "rate"), [(0, 1000), (100, 1000), (101, 2000), (1000, 2000), (1001, 4000)])
def test_all_tokens_of_a_long_prompt_cost_what_its_tier_says(tokens: int, rate: int) -> None:
    assert TIERED.at(tokens).input == rate
    assert TIERED.at(tokens).tiers == ()


@given(
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.floats(0, 1),
    st.integers(0, 10**6),
    st.sampled_from([FLAT, TIERED]),
)
def test_no_call_of_its_size_costs_more_than_the_worst_case(
    tokens: int, output: int, share: float, limit: int, price: Price
) -> None:
    cached = int(tokens * share)
    usage = Usage(input=tokens, cache_read=cached, cache_write=tokens - cached, output=min(output, limit))
    assert cost(price, usage) <= worst_case(price, tokens, limit)


def test_the_model_in_the_settings_decides_first() -> None:
    model = ModelSettings(id="gpt-5.4-mini", input_usd_mtok="1.5", output_usd_mtok=6)
    said = ProviderSettings(models=(model,), input_usd_mtok=9, output_usd_mtok=9, cost_per_token=1)
    price = find(row("openai"), "gpt-5.4-mini", said, NOW)
    assert price == Price(1_500_000_000, 6 * 10**9, 1_500_000_000, 1_500_000_000, "configuration")


def test_then_the_provider_in_the_settings() -> None:
    said = ProviderSettings(input_usd_mtok=2, output_usd_mtok=9, cached_input_usd_mtok="0.5", cost_per_token=1)
    price = find(row("openai"), "anything", said, NOW)
    assert price == Price(2 * 10**9, 9 * 10**9, 5 * 10**8, 2 * 10**9, "configuration")


def test_then_its_cost_per_token() -> None:
    price = find(row("openai"), "gpt-4", ProviderSettings(cost_per_token=0.002), NOW)
    assert price == Price(*[2000 * 10**9] * 4, "configuration")


def test_then_the_snapshot() -> None:
    price = find(row("openai"), "gpt-4", NOTHING, NOW)
    assert price is not None
    assert (price.input, price.output) == (30 * 10**9, 60 * 10**9)
    assert price.source.startswith("genai-prices ")


def test_then_the_catalog() -> None:
    price = find(row("qwen"), "qwen-plus", NOTHING, NOW)
    assert price == Price(4 * 10**8, 12 * 10**8, 4 * 10**8, 4 * 10**8, "catalog")


def test_what_nobody_knows_stays_unknown() -> None:
    assert find(row("qwen"), "a-model-of-tomorrow", NOTHING, NOW) is None
    assert find(row("openai"), "no-such-model-anywhere", NOTHING, NOW) is None


def test_half_a_price_is_completed_by_what_is_known_or_is_none() -> None:
    said = ProviderSettings(output_usd_mtok=7)
    known = find(row("openai"), "gpt-4", said, NOW)
    assert known is not None
    assert (known.input, known.output, known.source) == (30 * 10**9, 7 * 10**9, "configuration")
    assert find(row("qwen"), "a-model-of-tomorrow", said, NOW) is None


def test_local_servers_cost_nothing_unless_the_settings_say_so() -> None:
    assert find(row("ollama"), "llama2:7b", NOTHING, NOW) == FREE
    priced = find(row("ollama"), "llama2:7b", ProviderSettings(cost_per_token=0.000001), NOW)
    assert priced is not None
    assert priced.input == 10**9


@pytest.mark.parametrize("amount", ["free", "nan", "-1", -0.5])
def test_a_price_that_is_none_is_refused(amount: str | float) -> None:
    listed = ModelRow(id="m", input_usd_mtok=amount, output_usd_mtok=1)
    with pytest.raises(ConfigError):
        find(row("qwen").model_copy(update={"models": (listed,)}), "m", NOTHING, NOW)
    with pytest.raises(ValidationError):
        ProviderSettings(input_usd_mtok=amount, output_usd_mtok=1)


@pytest.mark.parametrize("input_tokens", [1, 199_999, 200_001, 272_001, 900_000])
@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("openai", "gpt-6.1-sol"),
        ("openai", "gpt-4"),
        ("anthropic", "claude-haiku-5-5"),
        ("anthropic", "claude-opus-5-5"),
        ("gemini", "gemini-3.8-flash"),
        ("xai", "grok-4.7"),
        ("deepseek", "deepseek-flash"),
    ],
)
def test_the_cost_is_what_the_snapshot_computes(name: str, model: str, input_tokens: int) -> None:
    provider = row(name)
    price = find(provider, model, NOTHING, NOW)
    assert price is not None
    usage = Usage(input=input_tokens, cache_read=input_tokens // 3, output=1234)
    theirs = calc_price(
        TheirUsage(input_tokens=usage.input, cache_read_tokens=usage.cache_read, output_tokens=usage.output),
        model,
        provider_id=provider.genai_prices,
        genai_request_timestamp=NOW,
    )
    assert abs(cost(price, usage) - from_usd(theirs.total_price)) <= 1


def test_a_price_that_is_about_to_rise_counts_as_risen() -> None:
    peak = datetime(2026, 11, 23, 1, tzinfo=UTC)
    calm, soon, peaking = (
        find(row("deepseek"), "deepseek-flash", NOTHING, moment)
        for moment in (peak - timedelta(hours=1), peak - timedelta(minutes=10), peak)
    )
    assert calm is not None
    assert soon is not None
    assert soon == peaking
    assert soon.input > calm.input


@pytest.mark.parametrize("name", rows())
def test_a_model_has_a_price_or_its_row_says_why_not(name: str) -> None:
    provider = row(name)
    for model in provider.models:
        price = find(provider, model.id, NOTHING, NOW)
        assert (price is None) == (model.unpriced is not None), model.id


def test_a_price_in_the_catalog_says_who_says_so() -> None:
    silent = [
        f"{name}/{model.id}"
        for name, provider in rows().items()
        for model in provider.models
        if model.input_usd_mtok is not None and model.source is None
    ]
    assert not silent
