"""Everything that can break breaks, again and again, under a mix of all that the language can say: nothing is lost.

GOBLIN_SEED repeats the order of the faults, GOBLIN_CHAOS_MINUTES says how long they go on.
"""

import os
import random
import resource
import secrets
import time
from pathlib import Path

import pytest

from tests.chaos.books import Calls, close
from tests.chaos.faults import Moment, do, drawn_faults, last
from tests.chaos.stops import check_stops
from tests.chaos.streams import check_streams
from tests.chaos.town import Town, town
from tests.chaos.traffic import Traffic
from tests.processes import Processes

SHORT_S = 90.0
MINUTES = float(os.environ.get("GOBLIN_CHAOS_MINUTES", "10"))
GATHER_S = 20.0


def rage(
    place: Town, seed: int, seconds: float, *, longest: float, rest: float, opened: int, waits: bool = True
) -> None:
    print(f"\nGOBLIN_SEED={seed}")  # noqa: T201
    calls, moments = Calls(place), list[Moment]()
    faults = drawn_faults(place, random.Random(seed), longest=longest, rest=rest)
    end, gathered = time.monotonic() + seconds, time.monotonic()
    with Traffic(place, seed, opened=opened, wishes=True) as traffic:
        place.until(lambda: len(traffic.orders) >= opened // 2, 60)
        while time.monotonic() < end:
            fault = next(faults)
            moments.append(do(place, fault))
            print(f"{moments[-1].begun:.1f} +{moments[-1].ended - moments[-1].begun:.1f} s: {fault}")  # noqa: T201
            last(place, fault.rest)
            if time.monotonic() > gathered + GATHER_S:
                calls.gather()
                gathered = time.monotonic()
    close(place, traffic.orders, moments, calls, patience=120, waits=waits)
    print(check_stops(place, traffic.orders, traffic.regrets.cancels, moments, calls))  # noqa: T201
    print(check_streams(place, traffic.orders))  # noqa: T201
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    disk = sum(file.stat().st_size for file in place.folder.rglob("*") if file.is_file())
    print(f"the test took {peak_kb / 1e3:.0f} MB of memory, its logs and Redis {disk / 1e6:.0f} MB of disk")  # noqa: T201


def the_seed() -> int:
    return int(os.environ.get("GOBLIN_SEED") or secrets.randbelow(10**6))


@pytest.mark.timeout(600)
def test_whatever_breaks_for_a_minute_or_two_nothing_is_lost(processes: Processes, tmp_path: Path) -> None:
    with town(processes, tmp_path) as place:
        rage(place, the_seed(), SHORT_S, longest=6, rest=4, opened=40, waits=False)


@pytest.mark.chaos
@pytest.mark.timeout(int(MINUTES * 60 + 900))
def test_whatever_breaks_for_long_nothing_is_lost(processes: Processes, tmp_path: Path) -> None:
    with town(processes, tmp_path) as place:
        rage(place, the_seed(), MINUTES * 60, longest=30, rest=20, opened=60)
