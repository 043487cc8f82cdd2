"""Memory of one worker after its first thousand runs, and after ten thousand."""

from bench.ground import Ground
from bench.house import House
from bench.meter import resident
from bench.noop_flow import FLOW
from bench.table import Row

FIRST, ALL, AT_ONCE = 1_000, 10_000, 500


def measure(ground: Ground) -> list[Row]:
    house = House.build(ground, "null")
    with house.workers("bench.null_worker", processes=1, concurrency=8) as (pid,):
        _work(house, FIRST)
        first = resident(pid)
        _work(house, ALL - FIRST)
        last = resident(pid)
    house.close()
    return [
        Row("memory", f"worker after {ALL:,} flows / after {FIRST:,}", last / first, "x"),
        Row("memory", f"worker after {FIRST:,} flows", first, "MiB"),
        Row("memory", f"worker after {ALL:,} flows", last, "MiB"),
    ]


def _work(house: House, count: int) -> None:
    """In portions, so that the backlog is the same all along."""
    for done in range(0, count, AT_ONCE):
        for _ in range(min(AT_ONCE, count - done)):
            house.submit(FLOW)
        house.wait()
