"""Providers whose queues nobody serves are left out for a while, all their models at once."""

from goblin.errors import Abandoned
from goblin.settings import Weights
from providers.errors import Throttled, Unreachable
from routing.failover import Bounds, Failure, GoOn, pause_s
from routing.route import Route
from routing.score import Measure, rank
from tests.fakes.offers import candidate, model, need, provider
from workers.asking import has_other_than
from workers.untaken import Untaken, is_untaken, spare

KNOWN = {one.id: one for one in (provider("gpu", model("small"), model("large")), provider("cloud"))}
NOW_MS = 1_000_000
UNMEASURED = Measure(1, 1, 50)


def untaken(ago_s: float, by: str = "gpu") -> Failure:
    return Failure(by, "small", Untaken("nobody", failed_at_ms=NOW_MS - round(ago_s * 1_000)).as_value())


def test_the_provider_is_left_out_with_all_its_models_and_asked_again_after_a_pause() -> None:
    way = spare(GoOn({}, 0), [untaken(0)], KNOWN, NOW_MS)
    assert way.excluded == {"gpu/small": "nobody", "gpu/large": "nobody"}
    assert way.again_at_ms == NOW_MS + 2_000
    assert spare(GoOn({}, 0), [untaken(2)], KNOWN, NOW_MS) == GoOn({}, 0)


def test_the_pause_grows_with_every_call_that_nobody_took_and_not_beyond_a_minute() -> None:
    for times, seconds in ((2, 4), (4, 16), (9, 60)):
        assert spare(GoOn({}, 0), [untaken(0)] * times, KNOWN, NOW_MS).again_at_ms == NOW_MS + seconds * 1_000


def test_what_was_left_out_before_stays_so_and_whoever_comes_first_is_waited_for() -> None:
    way = spare(GoOn({"cloud/small": "it failed"}, 7, NOW_MS + 500), [untaken(0)], KNOWN, NOW_MS)
    assert set(way.excluded) == {"cloud/small", "gpu/small", "gpu/large"}
    assert (way.context_above, way.again_at_ms) == (7, NOW_MS + 500)


def test_calls_that_nobody_made_leave_as_many_to_be_made_as_before() -> None:
    """A call that is the last one has all of its provider's time; others are cut in favour of somebody else."""
    here, there = candidate("gpu/small"), candidate("cloud/small")
    ranked = rank([(here, UNMEASURED), (there, UNMEASURED)], need(), Weights(), 50)
    route = Route(need(), tuple(ranked), {}, {})
    bounds = Bounds(max_attempts=3, retries={}, patience_s=300)
    failed = Failure("gpu", "small", Unreachable("no connection").as_value())
    died = Failure("gpu", "small", Abandoned("its worker went away").as_value())
    tried_out = Failure("gpu", "small", Unreachable("still down", probed_at_ms=NOW_MS).as_value())
    assert has_other_than(bounds, [failed, untaken(9), untaken(5), died, tried_out], route, here)
    assert not has_other_than(bounds, [failed, failed], route, here)


def test_a_provider_that_is_no_more_is_not_looked_for() -> None:
    gone = untaken(0, by="gone")
    assert is_untaken(gone)
    assert spare(GoOn({}, 0), [gone], KNOWN, NOW_MS) == GoOn({}, 0)


def test_a_call_that_nobody_took_makes_no_vendor_s_delay_longer() -> None:
    throttled = Failure("gpu", "small", Throttled("too many").as_value())
    assert pause_s([untaken(9), untaken(5), throttled], "gpu/small") == pause_s([throttled], "gpu/small")
