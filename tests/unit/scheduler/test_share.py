"""The window is shared by keys and batches, and nothing of it is left unused while somebody could use it."""

import uuid
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from scheduler.share import Claim, shares

A, B, C, D = (uuid.UUID(int=number) for number in range(1, 5))
ANNE, BEN = uuid.UUID(int=100), uuid.UUID(int=200)
MANY = 10_000


def test_batches_of_one_key_share_evenly() -> None:
    assert shares(90, [Claim(one, ANNE, 1, MANY) for one in (A, B, C)]) == {A: 30, B: 30, C: 30}


def test_a_key_with_many_batches_gets_no_more_than_one_with_one() -> None:
    claims = [*(Claim(one, ANNE, 1, MANY) for one in (A, B, C)), Claim(D, BEN, 1, MANY)]
    assert shares(90, claims) == {A: 15, B: 15, C: 15, D: 45}


def test_a_key_of_twice_the_weight_gets_twice_as_much() -> None:
    assert shares(90, [Claim(A, ANNE, 2, MANY), Claim(B, BEN, 1, MANY)]) == {A: 60, B: 30}


def test_what_a_small_batch_cannot_use_goes_to_the_others() -> None:
    assert shares(90, [Claim(A, ANNE, 1, 10), Claim(B, ANNE, 1, MANY), Claim(C, BEN, 1, MANY)]) == {A: 10, B: 35, C: 45}


def test_with_more_batches_than_places_those_who_came_first_go_first() -> None:
    assert shares(2, [Claim(one, None, 1, MANY) for one in (A, B, C, D)]) == {A: 1, B: 1, C: 0, D: 0}


def test_nobody_stands_still_while_a_place_is_left() -> None:
    assert shares(90, [Claim(A, ANNE, 1_000, MANY), Claim(B, BEN, 1, MANY)]) == {A: 89, B: 1}


@given(
    st.integers(10, 2_000),
    st.lists(st.tuples(st.sampled_from([None, ANNE, BEN]), st.integers(0, 600)), min_size=1, max_size=10),
)
def test_the_window_is_used_and_not_passed(window: int, drawn: list[tuple[uuid.UUID | None, int]]) -> None:
    weights = defaultdict(lambda: 1.0, {ANNE: 3.0})
    claims = [Claim(uuid.UUID(int=n), key, weights[key], demand) for n, (key, demand) in enumerate(drawn)]
    given = shares(window, claims)
    assert set(given) == {one.batch for one in claims}
    assert all(given[one.batch] <= one.demand for one in claims)
    wanted = sum(one.demand for one in claims)
    assert min(window, wanted) - len(claims) <= sum(given.values()) <= window
