"""Two vendors, each with a limit of its own kind, and more steps than they allow: used to the brim, never beyond."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.embedded import Stack
from tests.fakes.load import jain, make_keys, most_in_a_minute, served, share, submit
from tests.processes import Processes
from tests.world import Sim, World, world

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
WORKERS = int(os.environ.get("GOBLIN_RATES_WORKERS", "8"))
MINUTES = int(os.environ.get("GOBLIN_RATES_MINUTES", "3"))  # the first is not looked at
WARM_S = 60.0
LOOK_S = 60.0 * (MINUTES - 1)
TOKENS = 50  # of an answer; what a call may use at most is the double
RPM, TPM = 300, 300 * (TOKENS + 4)  # the prompt has four
MODEL = f"sim-instant+ttft=0.2+tokens={TOKENS}"
LIMITS = {"requests": {"rpm": RPM}, "tokens": {"tpm": TPM}}
WEIGHTS = {"light": 1.0, "heavy": 2.0}
EXTRA = f"""
[worker]
lease = 15
concurrency = 20
[goblins.chat]
instructions = "x"
task_class = "fast"
max_output_tokens = {2 * TOKENS}
"""


@pytest.fixture
def place(processes: Processes, stack: Stack, database: str, redis_url: str, tmp_path: Path) -> Iterator[World]:
    sims = [Sim(name, (MODEL,), options=limits) for name, limits in LIMITS.items()]
    with world(processes, tmp_path, database, redis_url, *sims, extra=EXTRA) as made:
        for name, limits in LIMITS.items():
            made.sim_post("limits", {"name": name, **limits})
        made.start_scheduler()
        yield made


@pytest.mark.parametrize("loses_redis", [False, True], ids=["", "redis emptied"])
def test_a_limit_is_used_to_the_brim_and_shared_by_workers_and_keys(place: World, loses_redis: bool) -> None:
    """After a loss of Redis what was reserved counts for a minute, so then a limit is only kept."""
    keys = make_keys(place, WEIGHTS)
    for number in range(WORKERS):
        place.start_worker(f"w{number}")
    for name in LIMITS:
        for key, weight in WEIGHTS.items():
            submit(place, f"chat@{name}: hello", int((MINUTES + 1) * RPM * weight / sum(WEIGHTS.values())), keys[key])
    begin = {name: served(place, name)[0].at + WARM_S for name in LIMITS}
    if loses_redis:
        place.until(lambda: time.time() > max(begin.values()) + LOOK_S / 4, 2 * WARM_S)
        place.redis.flushdb()
    place.until(lambda: time.time() > max(begin.values()) + LOOK_S, 2 * WARM_S + LOOK_S)
    failed = [check(place, name, begin[name], begin[name] + LOOK_S, is_brimful=not loses_redis) for name in LIMITS]
    assert place.all("select id from runs where status in ('failed', 'cancelled')") == []
    assert not [one for found in failed for one in found]


def check(place: World, name: str, begin: float, end: float, *, is_brimful: bool) -> list[str]:
    """What does not hold of one provider."""
    calls, limits = served(place, name), place.sim_get("limits")[name]
    warm = [call for call in calls if begin < call.at <= end]
    allowed = (RPM if name == "requests" else TPM) * (end - begin) / 60
    used = (len(warm) if name == "requests" else sum(call.tokens for call in warm)) / allowed
    found = share(place, name, begin, end, WEIGHTS)
    workers, keys = jain(found.by_worker.values()), jain(found.by_key.values())
    most, most_tokens = most_in_a_minute(calls)
    print(  # noqa: T201
        f"\n{name}: {len(calls)} calls answered, {limits['refused']} refused by the vendor; at most {most} calls and"
        f" {most_tokens} tokens in a minute; {used:.1%} of what is allowed over {end - begin:.0f} s;"
        f" Jain's index {workers:.3f} over {len(found.by_worker)} workers, {keys:.3f} over keys by weight"
    )
    facts = {
        "the vendor refused calls": limits["refused"] == 0,
        "more calls in a minute than are allowed": name != "requests" or limits["max_in_window"] <= RPM,
        "no calls went on": used > 0.1,
        "the limit was not used": not is_brimful or used >= 0.98,
        "some workers did nothing": not is_brimful or (len(found.by_worker) == WORKERS and workers >= 0.95),
        "keys did not get their shares": not is_brimful or keys >= 0.95,
    }
    return [f"{name}: {what}" for what, holds in facts.items() if not holds]
