"""Calls of five seconds held at once by the workers of one machine: what comes through, against what the slots could.

The queue is full before the workers see it, and they see it together; the clock runs from the first call's start to the
last one's end.
"""

import threading
from dataclasses import dataclass, field

import httpx
import psycopg

from bench.ground import Ground
from bench.house import PROVIDER, House
from bench.table import Row
from workers.app import STEPS

WORKERS, CONCURRENCY, ROUNDS, SECONDS = 2, 250, 6, 5.0
SLOTS = WORKERS * CONCURRENCY
_ASIDE = "aside"
_SPAN = "select extract(epoch from max(finished_at) - min(started_at)) from attempts"


@dataclass(slots=True)
class Watch:
    """Asks the simulator ten times a second how many calls it holds."""

    url: str
    held: list[int] = field(default_factory=list)
    peak: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with httpx.Client() as client:
            while not self._over.wait(0.1):
                limits = client.get(f"{self.url}/_sim/limits").json().get(PROVIDER, {})
                self.held.append(limits.get("concurrent", 0))
                self.peak = limits.get("max_concurrent", 0)

    def stop(self) -> None:
        self._over.set()


def measure(ground: Ground) -> list[Row]:
    with ground.simulator() as url:
        house = House.build(ground, f"sim-instant+ttft={SECONDS:.0f}+tokens=20", f"{url}/at/{PROVIDER}/openai/v1")
        for _ in range(ROUNDS * SLOTS):
            house.submit("chat: say something")
        ground.redis.rename(STEPS, _ASIDE)
        watch = Watch(url)
        watching = threading.Thread(target=watch.run)
        watching.start()
        with house.workers("cli.main", WORKERS, CONCURRENCY):
            ground.redis.rename(_ASIDE, STEPS)
            house.wait()
            watch.stop()
            watching.join()
        span = _span(house.database_url)
        house.close()
    busy = [held for held in watch.held if held]
    return [
        Row(
            "calls_held",
            f"{ROUNDS * SLOTS} calls of {SECONDS:.0f} s in {SLOTS} slots, ideal / took",
            ROUNDS * SECONDS / span,
            "x",
        ),
        Row("calls_held", "took", span, "s"),
        Row("calls_held", "held at once, peak", watch.peak),
        Row("calls_held", "held at once, mean", sum(busy) / len(busy)),
    ]


def _span(database: str) -> float:
    with psycopg.connect(database) as connection:
        row = connection.execute(_SPAN).fetchone()
        return float(row[0]) if row else 0.0
