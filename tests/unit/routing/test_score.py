"""The order of candidates: the formula, what goes before it, and that nothing but the inputs decides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goblin.settings import Weights
from routing.candidate import Candidate, Need
from routing.score import Measure, Ranked, rank
from tests.fakes.offers import candidate, need

WEIGHTS = Weights()
SAME = Measure(1.0, 1.0, 50.0)
Entry = tuple[Candidate, Measure]


def order(entries: list[Entry], asked: Need | None = None) -> list[str]:
    return [one.candidate.name for one in ranked(entries, asked)]


def ranked(entries: list[Entry], asked: Need | None = None, weights: Weights = WEIGHTS) -> list[Ranked]:
    return rank(entries, asked or need(), weights, 50.0)


def test_the_score_is_the_formula() -> None:
    quick, slow = ranked(
        [(candidate("quick", 4.0), Measure(0.5, 0.9, 100.0)), (candidate("slow", 1.0), Measure(2.0, 1.0, 25.0))]
    )
    assert (quick.latency, quick.cost, quick.success, quick.bandwidth) == (0.75, 0.0, 0.9, 1.0)
    assert quick.score == pytest.approx(0.4 * 0.75 + 0.3 * 0 + 0.2 * 0.9 + 0.1 * 1)
    assert (slow.latency, slow.cost, slow.success, slow.bandwidth) == (0.0, 0.75, 1.0, 0.5)
    assert slow.score == pytest.approx(0.3 * 0.75 + 0.2 * 1 + 0.1 * 0.5)


def test_weights_are_what_configuration_says() -> None:
    entries = [(candidate("quick", 4.0), Measure(0.5, 1.0, 50.0)), (candidate("cheap", 1.0), Measure(2.0, 1.0, 50.0))]
    cost_only = Weights(latency=0, cost=1, success=0, bandwidth=0)
    assert order(entries) == ["quick/small", "cheap/small"]
    assert [one.candidate.name for one in ranked(entries, weights=cost_only)] == ["cheap/small", "quick/small"]


def test_nobody_and_one_are_ranked_too() -> None:
    assert ranked([]) == []
    (only,) = ranked([(candidate("only"), SAME)])
    assert (only.latency, only.cost) == (0.0, 0.0)


def test_free_and_instant_candidates_get_full_marks() -> None:
    free = ranked([(candidate("a", 0.0), Measure(0.0, 1.0, 50.0)), (candidate("b", 0.0), Measure(0.0, 1.0, 50.0))])
    assert [one.score for one in free] == pytest.approx([1.0, 1.0])


def test_ties_break_by_priority_then_by_name() -> None:
    entries = [
        (candidate("b", priority=2), SAME),
        (candidate("c", priority=1), SAME),
        (candidate("a", priority=2), SAME),
    ]
    assert order(entries) == ["c/small", "a/small", "b/small"]


def test_local_candidates_lead_when_they_are_preferred() -> None:
    entries = [(candidate("cloud"), Measure(0.1, 1.0, 90.0)), (candidate("here", local=True), Measure(9.0, 0.1, 1.0))]
    assert order(entries) == ["cloud/small", "here/small"]
    assert order(entries, need(prefer_local=True)) == ["here/small", "cloud/small"]


def test_favourites_come_first_in_their_order_but_after_preferred_local_ones() -> None:
    entries = [
        (candidate("best"), Measure(0.1, 1.0, 90.0)),
        (candidate("second"), SAME),
        (candidate("first"), Measure(9.0, 0.1, 1.0)),
        (candidate("here", local=True), Measure(9.0, 0.1, 1.0)),
    ]
    liked = need(preferred=("first", "missing", "second"))
    assert order(entries, liked) == ["first/small", "second/small", "best/small", "here/small"]
    local = need(preferred=("first", "second"), prefer_local=True)
    assert order(entries, local) == ["here/small", "first/small", "second/small", "best/small"]


def test_reasoning_models_come_first_for_reasoning_tasks_alone() -> None:
    entries = [
        (candidate("plain"), Measure(0.1, 1.0, 90.0)),
        (candidate("thinker", reasoning=True), Measure(9.0, 0.1, 1.0)),
    ]
    assert order(entries, need("fast")) == ["plain/small", "thinker/small"]
    assert order(entries, need("reasoning")) == ["thinker/small", "plain/small"]


measures = st.builds(Measure, st.floats(0, 60), st.floats(0, 1), st.floats(0, 500))
candidates = st.builds(
    candidate,
    st.from_regex(r"[a-e]{1,3}/[a-e]", fullmatch=True),
    st.sampled_from([0.0, 0.1, 1.0, 1.0, 20.0]),
    reasoning=st.booleans(),
    local=st.booleans(),
    priority=st.integers(1, 3),
)
entries = st.lists(st.tuples(candidates, measures), max_size=8, unique_by=lambda entry: entry[0].name)
needs = st.builds(
    need,
    st.sampled_from(["fast", "reasoning"]),
    preferred=st.lists(st.sampled_from(["a", "b", "c"]), unique=True).map(tuple),
    prefer_local=st.booleans(),
)


@given(entries.flatmap(lambda drawn: st.tuples(st.just(drawn), st.permutations(drawn))), needs)
def test_the_order_of_the_inputs_changes_nothing(drawn: tuple[list[Entry], list[Entry]], asked: Need) -> None:
    assert ranked(drawn[0], asked) == ranked(drawn[1], asked)


@given(entries, needs)
def test_all_are_ranked_and_every_term_is_a_share(drawn: list[Entry], asked: Need) -> None:
    result = ranked(drawn, asked)
    assert {one.candidate.name for one in result} == {made.name for made, _ in drawn}
    for one in result:
        assert all(0 <= term <= 1 for term in (one.latency, one.cost, one.success, one.bandwidth))
        assert 0 <= one.score <= 1 + 1e-9


@given(entries, needs, st.floats(0.01, 5))
def test_whoever_gets_quicker_is_not_placed_worse(drawn: list[Entry], asked: Need, factor: float) -> None:
    """Unless it was the slowest: the others are measured against that one."""
    if len(drawn) < 2:
        return
    slowest = max(drawn, key=lambda entry: entry[1].ttft_s)
    made, measure = next(entry for entry in drawn if entry is not slowest)
    quicker = Measure(measure.ttft_s * min(factor, 1.0), measure.success, measure.tokens_per_second)
    after = [(one, quicker if one is made else known) for one, known in drawn]
    assert order(after, asked).index(made.name) <= order(drawn, asked).index(made.name)
