"""A provider is down for a minute under many workers, all settings as shipped, with and without the loss of Redis."""

import os
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from cli.embedded import Stack
from tests.fakes.load import submit
from tests.fakes.outage import REST_S, break_down, come_back, first_seconds, visits, waves
from tests.processes import Processes
from tests.world import Sim, World, world

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
WORKERS = int(os.environ.get("GOBLIN_OUTAGE_WORKERS", "16"))
STEPS, OUTAGE_S = 40, 60.0
EXTRA = """
[routing]
health_check_interval = {interval}
[worker]
lease = 4
concurrency = 30
[goblins.chat]
instructions = "x"
task_class = "fast"
max_output_tokens = 50
"""
NAP = "sim-instant+ttft=0.2"
SIMS = (Sim("only", (NAP,)), Sim("east", (NAP,), options={"priority": 1}), Sim("west"))


@pytest.fixture
def place(
    processes: Processes, stack: Stack, database: str, redis_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[World]:
    extra = EXTRA.format(interval=request.param)
    with world(processes, tmp_path, database, redis_url, *SIMS, extra=extra) as made:
        made.start_scheduler()
        for number in range(WORKERS):
            made.start_worker(f"w{number}")
        yield made


@pytest.mark.parametrize("emptied", [None, OUTAGE_S / 2, 0], ids=["", "redis emptied", "redis emptied at once"])
@pytest.mark.parametrize("place", [3, 60], indirect=True, ids=lambda seconds: f"checked every {seconds} s")
def test_an_outage_costs_one_call_per_rest_and_nobody_is_lost(place: World, emptied: float | None) -> None:
    """`emptied` is when Redis loses everything: seconds after the outage began, 0 with the first call that fails."""
    for run in submit(place, "chat@only: hello", 10):
        assert place.finished(run).status == "succeeded"
    healthy = len(visits(place, "only"))
    break_down(place, "only")
    break_down(place, "east")
    began = time.time()
    stuck = submit(place, "chat@only: hello", STEPS)
    free = submit(place, "chat: hello", STEPS)
    if emptied == 0:
        place.until(lambda: len(visits(place, "only")) > healthy)
        place.redis.flushall()
    assert {place.finished(run).status for run in free} == {"succeeded"}
    if emptied:
        place.until(lambda: time.time() > began + emptied, OUTAGE_S)
        place.redis.flushall()
    place.until(lambda: time.time() > began + OUTAGE_S, OUTAGE_S)
    down = visits(place, "only")[healthy:]
    come_back(place, "only")
    come_back(place, "east")
    for run in stuck:
        place.finished(run, 120)
    assert place.all("select error from steps where status <> 'succeeded'") == []
    back = visits(place, "only")[healthy + len(down) :]
    sizes = [len(wave) for wave in waves(down)]
    print(  # noqa: T201
        f"\n{WORKERS} workers, {STEPS} steps with one provider, {STEPS} with two;"
        f" down for {OUTAGE_S:.0f} s, Redis emptied: {emptied};"
        f" calls while down in waves of {sizes}; then {len(back)} calls in {back[-1].at - back[0].at:.0f} s,"
        f" {first_seconds(back, 2)} in the first two seconds, {sum(call.status != 200 for call in back)} refused"
    )
    assert sum(size > 1 for size in sizes) <= 1, "more than a probe"
    starts = [wave[0].at for wave in waves(down)]
    assert all(later - earlier > REST_S - 1 for earlier, later in pairwise(starts))
    assert [call.status for call in back] == [200] * len(stuck)
    assert first_seconds(back, 2) <= 2
