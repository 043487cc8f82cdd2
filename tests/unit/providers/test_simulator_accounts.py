"""Prices, limits and pace: what the simulator can prove about itself without a socket."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.simulator.answer import Usage
from providers.simulator.invoice import KEPT, Book, Call, price
from providers.simulator.limits import Limit, Meter
from providers.simulator.pace import Tempo
from providers.simulator.sheet import Model, Sheet


def model(**prices):
    rates = {"input": "0", "output": "0", "cache": "0", **prices}
    return Model("m", 0, 0, 100, **{name: Decimal(rate) for name, rate in rates.items()})


@pytest.mark.parametrize(
    ("usage", "rates", "nanousd"),
    [
        (Usage(1_000_000, 0), {"input": "3"}, 3_000_000_000),
        (Usage(10, 5), {"input": "0.10", "output": "0.40"}, 3_000),
        (Usage(10, 0, cached=4), {"input": "1", "cache": "0.5"}, 8_000),
        (Usage(1, 0), {"input": "0.0005"}, 0),
        (Usage(3, 0), {"input": "0.0005"}, 2),
        (Usage(1, 1), {"input": "0.0005", "output": "0.0005"}, 1),
    ],
)
def test_a_call_costs_the_exact_sum_rounded_once_half_to_even(usage, rates, nanousd):
    assert price(model(**rates), usage) == nanousd


def call(number=0, nanousd=1):
    return Call(0.0, "n", "openai", "m", 200, "whole", "", 0, None, 1, 0, number, nanousd)


def test_the_list_is_bounded_and_the_invoice_forgets_nothing():
    book = Book()
    for number in range(KEPT + 5):
        book.enter(call(number), billed=True)
    assert len(book.calls()) == KEPT
    assert book.calls()[0]["output_tokens"] == 5
    assert (book.invoice()["calls"], book.invoice()["nanousd"]) == (KEPT + 5, KEPT + 5)


def test_what_is_not_billed_is_listed_but_not_invoiced():
    book = Book()
    book.enter(call(nanousd=0), billed=False)
    assert len(book.calls()) == 1
    assert book.invoice() == {
        "calls": 0, "input_tokens": 0, "cached_tokens": 0, "output_tokens": 0, "nanousd": 0, "names": {},
    }  # fmt: skip


def test_the_shipped_sheet_has_a_model_for_every_purpose():
    models = Sheet.load().models
    assert models["sim-free"].output == 0
    assert models["sim-reasoner"].reasoning
    assert models["sim-embed"].dimensions
    assert models["sim-instant"].speed == 0


def arrive(meter, now, tokens=1):
    meter.arrive(now)
    wait = meter.take(now, tokens)
    meter.leave()
    return wait


def test_a_rolling_window_lets_in_again_when_its_oldest_call_is_old_enough():
    meter = Meter(Limit(rpm=2, window=10))
    assert [arrive(meter, now) for now in (0, 4)] == [None, None]
    assert arrive(meter, 6) == 4
    assert arrive(meter, 10) is None
    assert arrive(meter, 13) == 1


def test_tokens_wait_until_enough_of_them_are_free():
    meter = Meter(Limit(tpm=10, window=10))
    assert [arrive(meter, 0, 4), arrive(meter, 1, 5)] == [None, None]
    assert arrive(meter, 2, 5) == 8
    assert arrive(meter, 2, 7) == 9
    assert arrive(meter, 2, 1) is None


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=60), st.integers(1, 5), st.integers(8, 20))
def test_no_window_holds_more_than_its_limits(arrivals, rpm, tpm):
    meter, now, let_in = Meter(Limit(rpm=rpm, tpm=tpm, window=20)), 0, []
    for gap, tokens in arrivals:
        now += gap
        if arrive(meter, now, tokens) is None:
            let_in.append((now, tokens))
    for start, _ in let_in:
        window = [tokens for at, tokens in let_in if start <= at < start + 20]
        assert len(window) <= rpm
        assert sum(window) <= tpm


def test_the_fullest_window_counts_refused_calls_too():
    meter = Meter(Limit(rpm=1, window=10))
    for now in (0, 1, 10, 11):
        arrive(meter, now)
    assert (meter.calls, meter.refused, meter.max_in_window) == (4, 2, 2)


def test_tokens_are_due_at_the_pace_after_the_first():
    tempo = Tempo(ttft=1.0, speed=10.0)
    assert [tempo.due(count) for count in (1, 2, 11)] == pytest.approx([1.0, 1.1, 2.0])
    assert Tempo(ttft=1.0, speed=0.0).due(1000) == 1.0


def test_a_stall_delays_what_comes_after_it_or_the_end():
    tempo = Tempo(ttft=0.0, speed=0.0, stall=(20, 30.0))
    assert (tempo.due(20), tempo.due(21)) == (0.0, 30.0)
    assert (tempo.end(10), tempo.end(20), tempo.end(25)) == (30.0, 30.0, 30.0)


@given(st.floats(0, 50), st.integers(0, 200))
def test_as_much_is_produced_as_was_due(elapsed, total):
    tempo = Tempo(ttft=2.0, speed=7.0, stall=(5, 3.0))
    produced = tempo.produced(elapsed, total)
    assert all(tempo.due(count) <= elapsed for count in range(1, produced + 1))
    assert produced == total or tempo.due(produced + 1) > elapsed
