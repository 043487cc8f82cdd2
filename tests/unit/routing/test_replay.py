"""A decision that was kept leads to the same order and choice again, and one that was tampered with does not."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goblin.settings import RoutingSettings
from routing.candidate import Candidate, Need
from routing.replay import replay
from routing.route import Route, order
from routing.score import Measure
from tests.fakes.offers import candidate, need

NUMBERS = st.floats(0, 100, allow_nan=False)
PROVIDERS = ("near", "far", "else")
OFFERS = st.builds(
    candidate,
    st.sampled_from([f"{provider}/{model}" for provider in PROVIDERS for model in ("a", "b", "c/d")]),
    st.floats(0, 50),
    reasoning=st.booleans(),
    local=st.booleans(),
    priority=st.integers(1, 3),
)
MEASURES = st.builds(Measure, NUMBERS, st.floats(0, 1), NUMBERS)
NEEDS = st.builds(
    need,
    st.sampled_from(["fast", "reasoning"]),
    input_tokens=st.integers(0, 10**6),
    output_tokens=st.integers(0, 10**5),
    preferred=st.lists(st.sampled_from(PROVIDERS), max_size=3).map(tuple),
    prefer_local=st.booleans(),
)
SETTINGS = st.builds(
    RoutingSettings,
    weights=st.fixed_dictionaries(dict.fromkeys(("latency", "cost", "success", "bandwidth"), st.floats(0, 1))),
    required_bandwidth=st.floats(0.1, 1_000),
)


def decided(
    offers: list[tuple[Candidate, Measure]], asked: Need, settings: RoutingSettings, resting: list[str]
) -> Route:
    ranked = order(offers, asked, settings.weights, settings.required_bandwidth, resting)
    return Route(asked, tuple(ranked), {}, dict.fromkeys(resting, "its breaker is open"), settings)


def kept(route: Route) -> dict[str, Any]:
    """As the ledger hands it back."""
    value: dict[str, Any] = json.loads(json.dumps(route.as_value()))
    return value


@given(
    offers=st.lists(st.tuples(OFFERS, MEASURES), min_size=1, max_size=9, unique_by=lambda one: one[0].name),
    asked=NEEDS,
    settings=SETTINGS,
    data=st.data(),
)
def test_the_same_order_follows_from_what_was_kept(
    offers: list[tuple[Candidate, Measure]], asked: Need, settings: RoutingSettings, data: st.DataObject
) -> None:
    resting = data.draw(st.lists(st.sampled_from([one.name for one, _ in offers]), unique=True, max_size=3))
    route = decided(offers, asked, settings, resting)
    again = replay(kept(route))
    assert again is not None
    assert again.is_reproduced
    told = [(one.candidate.name, *one[1:]) for one in again.ranked]
    assert told == [(one.candidate.name, *one[1:]) for one in route.candidates]


def two(**asked: Any) -> dict[str, Any]:
    offers = [(candidate("near/a", 1.0), Measure(1, 1, 50)), (candidate("far/b", 9.0), Measure(2, 1, 50))]
    return kept(decided(offers, need(**asked), RoutingSettings(), []))


def test_the_choice_is_the_first_that_admission_did_not_refuse() -> None:
    again = replay(two())
    assert again is not None
    assert again.leads_to("near", "a", {})
    assert not again.leads_to("far", "b", {})
    assert again.leads_to("far", "b", {"near/a": "near takes no more requests for now"})
    assert not again.leads_to("near", "a", {"near/a": "near takes no more requests for now"})


@pytest.mark.parametrize(
    "tampered",
    [
        {"weights": {"latency": 0, "cost": 0, "success": 0, "bandwidth": 1}},
        {"required_bandwidth": 100.0},
        {"need": {"task_class": "fast", "preferred": ["far"]}},
        {"resting": {"near/a": "its breaker is open"}},
        {"candidates": [*reversed(two()["candidates"])]},
        {"candidates": [two()["candidates"][0], [*two()["candidates"][1][:2], 5.0, *two()["candidates"][1][3:]]]},
    ],
)
def test_whatever_decided_otherwise_shows(tampered: dict[str, Any]) -> None:
    again = replay({**two(), **tampered})
    assert again is not None
    assert not again.is_reproduced
    assert not again.leads_to("near", "a", {})


@pytest.mark.parametrize(
    "decision",
    [{}, {"cache": {"run": "ab", "step": "step1"}}, {**two(), "candidates": []}, {"candidates": [["sim", "a", 1, 1]]}],
)
def test_where_nobody_was_ranked_there_is_nothing_to_replay(decision: dict[str, Any]) -> None:
    assert replay(decision) is None


def test_a_decision_of_many_candidates_is_kept_in_little_room() -> None:
    offers = [(candidate(f"provider{nr}/family/model-{nr}-instruct"), Measure(0.8, 0.98, 60)) for nr in range(300)]
    assert len(json.dumps(kept(decided(offers, need(), RoutingSettings(), [])))) < 30_000
