"""Prices: who decides them, what a call costs at them, and that unknown stays unknown."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from goblin.money import from_usd, of_millionths
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
PENSIVE = Price(1000, 2000, 100, 1250, "test", tiers=(Tier(100, 2000, 3000, 200, 2500, 900),), reasoning=5000)


def row(name: str) -> Row:
    return rows()[name]


def test_cached_input_is_charged_at_its_own_rates() -> None:
    usage = Usage(input=1_000_000, cache_read=400_000, cache_write=100_000, output=200_000, reasoning=50_000)
    assert cost(FLAT, usage) == from_usd("0.5") * 3 + from_usd("0.12") + from_usd("0.4") + from_usd(3)


def test_thoughts_are_charged_at_their_own_rate_where_they_have_one() -> None:
    usage = Usage(output=1_000, reasoning=900)
    assert cost(PENSIVE, usage) == of_millionths(100 * 2000 + 900 * 5000)
    assert cost(PENSIVE, replace(usage, input=101)) == of_millionths(101 * 2000 + 100 * 3000 + 900 * 900)
    assert cost(TIERED, usage) == of_millionths(1_000 * 2000)
    assert cost(PENSIVE, Usage(output=10, reasoning=50)) == of_millionths(10 * 5000)


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
    st.sampled_from([FLAT, TIERED, PENSIVE]),
)
def test_no_call_of_its_size_costs_more_than_the_worst_case(
    tokens: int, output: int, share: float, limit: int, price: Price
) -> None:
    cached, written = int(tokens * share), min(output, limit)
    thoughts = int(written * share)
    usage = Usage(tokens, cache_read=cached, cache_write=tokens - cached, output=written, reasoning=thoughts)
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
    with pytest.raises(ValidationError):
        ModelRow(id="m", input_usd_mtok=amount, output_usd_mtok=1)
    with pytest.raises(ValidationError):
        ProviderSettings(input_usd_mtok=amount, output_usd_mtok=1)


def test_a_rate_that_is_set_leaves_the_tiers_of_the_others() -> None:
    """A dearer rate for long prompts is still paid by whoever knows a better price of the cached ones alone."""
    plain = find(row("openai"), "gpt-6.1-sol", NOTHING, NOW)
    said = find(row("openai"), "gpt-6.1-sol", ProviderSettings(cached_input_usd_mtok="0.2"), NOW)
    assert plain is not None
    assert said is not None
    long = Usage(input=400_000, output=1_000)
    assert cost(said, long) == cost(plain, long) == from_usd("1.615")
    cached = Usage(input=400_000, cache_read=400_000)
    assert cost(said, cached) == from_usd("0.08")
    assert said.source == "configuration"


def test_a_rate_that_is_set_holds_for_prompts_of_every_size() -> None:
    said = find(row("openai"), "gpt-6.1-sol", ProviderSettings(input_usd_mtok=1), NOW)
    assert said is not None
    assert [said.at(tokens).input for tokens in (1, 400_000)] == [10**9, 10**9]
    assert [said.at(tokens).cache_read for tokens in (1, 400_000)] == [10**9, 10**9]
    assert said.at(1).output < said.at(400_000).output


def test_a_fee_for_each_request_stays_when_the_rates_are_set() -> None:
    plain = find(row("perplexity"), "sonar", NOTHING, NOW)
    said = find(row("perplexity"), "sonar", ProviderSettings(input_usd_mtok=2), NOW)
    assert plain is not None
    assert said is not None
    assert said.per_request == plain.per_request > 0


@pytest.mark.parametrize("output", [None, "5"])
def test_thoughts_may_have_a_rate_of_their_own_in_the_settings(output: str | None) -> None:
    said = ProviderSettings(input_usd_mtok=0, output_usd_mtok=output, reasoning_usd_mtok=20)
    price = find(row("openai"), "gpt-4", said, NOW)
    assert price is not None
    assert cost(price, Usage(output=1_000_000, reasoning=400_000)) == from_usd(8) + from_usd("0.6") * int(output or 60)


def test_an_output_price_in_the_settings_is_that_of_thoughts_too() -> None:
    price = find(row("perplexity"), "sonar-deep-research", ProviderSettings(output_usd_mtok=9), NOW)
    assert price is not None
    assert cost(price, Usage(output=1_000_000, reasoning=900_000)) == from_usd(9)


@pytest.mark.parametrize(
    ("name", "model", "usd"),
    [
        ("openai", "text-embedding-3-large", "0.13"),
        ("openai", "text-embedding-3-small", "0.02"),
        ("azure_openai", "text-embedding-3-small", "0.02"),
    ],
)
def test_who_makes_vectors_is_priced_by_its_input_alone(name: str, model: str, usd: str) -> None:
    price = find(row(name), model, NOTHING, NOW, vectors=True)
    assert price is not None
    assert price.source.startswith("genai-prices ")
    theirs = calc_price(
        TheirUsage(input_tokens=10**6), model, provider_id=row(name).genai_prices, genai_request_timestamp=NOW
    )
    assert cost(price, Usage(input=10**6)) == from_usd(usd) == from_usd(theirs.total_price)


def test_what_is_said_of_answers_says_nothing_of_vectors() -> None:
    price = find(row("openai"), "text-embedding-3-small", ProviderSettings(output_usd_mtok=9), NOW, vectors=True)
    assert price is not None
    assert price.source.startswith("genai-prices ")


@pytest.mark.parametrize("reasoning", [0, 900])
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
        ("perplexity", "sonar-deep-research"),
    ],
)
def test_the_cost_is_what_the_snapshot_computes(name: str, model: str, input_tokens: int, reasoning: int) -> None:
    provider = row(name)
    price = find(provider, model, NOTHING, NOW)
    assert price is not None
    usage = Usage(input=input_tokens, cache_read=input_tokens // 3, output=1234, reasoning=reasoning)
    theirs = calc_price(
        TheirUsage(
            input_tokens=usage.input,
            cache_read_tokens=usage.cache_read,
            output_tokens=usage.output,
            output_reasoning_tokens=usage.reasoning,
        ),
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
        price = find(provider, model.id, NOTHING, NOW, vectors=model.kind == "embedding")
        assert (price is None) == (model.unpriced is not None), model.id


def test_a_price_in_the_catalog_says_who_says_so() -> None:
    silent = [
        f"{name}/{model.id}"
        for name, provider in rows().items()
        for model in provider.models
        if model.input_usd_mtok is not None and model.source is None
    ]
    assert not silent
