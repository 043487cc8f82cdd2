"""Who may serve a step: every reason against a candidate, and that there is no other."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from goblin.settings import ProviderSettings, RetrieveSettings, Settings
from providers.registry import Registry, load
from routing.candidate import Need, eligible, looking_up
from tests.fakes.offers import candidate, model, need, price, provider


def why_not(need: Need, **fields: Any) -> str | None:
    """The reason against the only model of the provider `sim`; None when it may serve."""
    of_provider = {name: fields.pop(name) for name in ("obstacle", "discovers", "models") if name in fields}
    offered = model(**fields)
    made = provider("sim", offered, **of_provider)
    candidates, refusals = eligible([(made, offered)], need)
    assert len(candidates) + len(refusals) == 1
    return next(iter(refusals.values()), None)


def test_a_candidate_with_nothing_against_it_may_serve() -> None:
    assert why_not(need()) is None


@pytest.mark.parametrize(
    ("asked", "fields", "reason"),
    [
        (need(), {"obstacle": "switched off"}, "switched off"),
        (need(), {"usd_mtok": None}, "its price is not known"),
        (need(provider="other"), {}, "pinned to other"),
        (need(provider="sim", model="large"), {}, "pinned to the model large"),
        (need(providers=frozenset({"other"})), {}, "not among the providers that the run allows"),
        (need(providers=[]), {}, "not among the providers that the run allows"),
        (need(models=["large"]), {}, "not among the models that the run allows"),
        (need(excluded={"sim/small": "it timed out"}), {}, "tried already: it timed out"),
        (need("reasoning"), {"classes": frozenset({"fast"})}, "not made for reasoning tasks"),
        (need("fast"), {"classes": frozenset({"reasoning"})}, "not made for fast tasks"),
        (need(context_above=8_000), {"context": 8_000}, "no larger than the one that was too small"),
        (need(), {"context": 1_499}, "about 1500 tokens do not fit its context of 1499"),
    ],
)
def test_a_candidate_is_refused_with_its_reason(asked: Need, fields: dict[str, Any], reason: str) -> None:
    refused = why_not(asked, **fields)
    assert refused is not None
    assert reason in refused


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        (need(provider="sim"), {}),
        (need(provider="sim", model="small"), {}),
        (need("reasoning", provider="sim"), {"classes": frozenset({"fast"})}),  # whoever pins, decides
        (need(providers=["sim"], models=["small"]), {}),
        (need(), {"context": 1_500}),
        (need(), {"context": 1_100, "max_output": 100}),
        (need(), {"context": None}),
        (need(context_above=8_000), {"context": 8_001}),
        (need(excluded={"sim/large": "it timed out"}), {}),
        (need(), {"usd_mtok": 0.0}),
    ],
)
def test_a_candidate_is_not_refused_without_a_reason(asked: Need, fields: dict[str, Any]) -> None:
    assert why_not(asked, **fields) is None


def test_a_provider_that_cannot_be_asked_is_named_once_for_all_its_models() -> None:
    made = provider("sim", model("small"), model("large"), obstacle="no key: set SIM_API_KEY")
    candidates, refusals = eligible([(made, one) for one in made.models], need())
    assert candidates == []
    assert refusals == {"sim": "no key: set SIM_API_KEY"}


def test_the_worst_case_is_the_whole_prompt_and_the_whole_output_limit() -> None:
    made = candidate("sim/small", 2.0)
    assert made.worst_case(need(input_tokens=1_000, output_tokens=500)) == 3_000_000
    assert made.output_limit(need(output_tokens=500)) == 500


def test_a_worst_case_is_as_the_model_counts_and_answers_at_most() -> None:
    offered = model(max_output=100, counts=2.0)
    candidates, _ = eligible([(provider("sim", offered), offered)], need(output_tokens=500))
    assert candidates[0].input_tokens(need(input_tokens=1_000)) == 2_000
    assert candidates[0].output_limit(need(output_tokens=500)) == 100
    assert candidates[0].worst_case(need(input_tokens=1_000, output_tokens=500)) == 2_100_000
    assert candidates[0].price == price(1.0)


@pytest.mark.parametrize(("size", "dimensions"), [(768, 768), (None, 1536)])
def test_the_search_of_an_index_is_part_of_the_worst_case(size: int | None, dimensions: int) -> None:
    offered = model("embed")
    index = provider("index", search_rate=10_000_000)
    registry = Registry({"index": index, "sim": provider("sim", embedders=(offered,))})
    wanted = RetrieveSettings(index="docs", model="embed", store="index", vector_size=size)
    asked = looking_up(registry, wanted, 1_000)
    (one,), _ = eligible(registry.embedders(), asked)
    assert one.worst_case(asked) == one.worst_case(replace(asked, fee=0)) + dimensions * 10
    assert looking_up(registry, wanted.model_copy(update={"store": "sim"}), 1_000).fee == 0


@pytest.mark.parametrize(
    ("dialect", "quirks", "reason"),
    [
        ("replicate", {"tools": False}, "takes no tools: its dialect has no word for them"),
        ("openai", {"tools": False}, "takes no tools"),
    ],
)
def test_who_takes_no_tools_is_passed_by_with_the_reason(dialect: str, quirks: dict[str, Any], reason: str) -> None:
    offered = model()
    vendor = replace(provider("sim", offered, quirks=quirks), dialect=dialect)
    assert eligible([(vendor, offered)], need(tools=True)) == ([], {"sim/small": reason})
    assert len(eligible([(vendor, offered)], need())[0]) == 1


@pytest.mark.parametrize(
    ("dialect", "wishes", "reason"),
    [
        ("anthropic", ("stop", "seed"), "takes no seed: its dialect has no word for it"),
        ("bedrock", ("json_object",), "takes no response_format json_object: its dialect has no word for it"),
        ("openai", ("temperature",), "takes no temperature while it reasons"),
    ],
)
def test_who_cannot_do_what_is_wished_for_is_passed_by_with_the_reason(
    dialect: str, wishes: tuple[str, ...], reason: str
) -> None:
    offered = model(reasoning=True)
    vendor = replace(provider("sim", offered, quirks={"reasoning_temperature": False}), dialect=dialect)
    asked = need(wishes=wishes, reasons=True)
    assert eligible([(vendor, offered)], asked) == ([], {"sim/small": reason})
    assert len(eligible([(vendor, offered)], replace(asked, wishes=("stop",)))[0]) == 1


def test_a_step_with_tools_that_is_pinned_to_replicate_is_refused_before_any_call() -> None:
    registry = load(Settings(providers={"replicate": ProviderSettings(api_key=SecretStr("r8"))}), {})
    candidates, refusals = eligible(registry.candidates(), need(tools=True, provider="replicate"))
    assert candidates == []
    why = {reason for name, reason in refusals.items() if name.startswith("replicate/")}
    assert why == {"takes no tools: its dialect has no word for them"}
