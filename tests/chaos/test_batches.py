"""A batch goes on while its feeders and workers are killed and Redis is emptied: each line ends once, in its order."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger import batches
from ledger.states import BatchStatus
from tests.fakes.lines import begin, completion, is_over, read
from tests.fakes.runs import assert_books_balance
from tests.processes import Processes
from tests.world import Sim, World, world

pytestmark = pytest.mark.chaos

LINES, KILLS = int(os.environ.get("GOBLIN_LINES", "3000")), 12
SEED = int(os.environ.get("GOBLIN_SEED", str(time.time_ns() % 10**6)))
MODEL = "sim-instant+tokens=20+ttft=0.2"
EXTRA = "[worker]\nlease = 3\nconcurrency = 40\n[batches]\nwindow = 150\n[routing]\nhealth_check_interval = 600\n"


@pytest.fixture
def place(processes: Processes, database: str, redis_url: str, tmp_path: Path) -> Iterator[World]:
    with world(processes, tmp_path, database, redis_url, Sim("sim", (MODEL,)), extra=EXTRA) as made:
        yield made


def test_kills_and_an_emptied_redis_lose_and_double_no_line(place: World) -> None:
    dice = random.Random(SEED)
    print(f"\nGOBLIN_SEED={SEED}")  # noqa: T201
    running = {
        "scheduler": place.start_scheduler("scheduler-a"),
        "standby": place.start_scheduler("scheduler-b"),
        "w1": place.start_worker("w1"),
        "w2": place.start_worker("w2"),
    }
    began = time.monotonic()
    batch = begin(place.ledger, (completion(f"n{n}", f"say {n}", model=MODEL) for n in range(LINES)))
    for number in range(KILLS):
        share = LINES * (number + 1) // (KILLS + 2)
        place.until(lambda share=share: batches.view(place.ledger, batch, None).counts.completed >= share, 240)
        if number % 4 == 3:
            place.redis.flushdb()
            continue
        name = dice.choice(list(running))
        running[name].kill("SIGKILL")
        again = place.start_worker if name.startswith("w") else place.start_scheduler
        running[name] = again(f"{name}-{number}", waits=False)
    end = place.until(lambda: is_over(place.ledger, batch), 300)
    took = time.monotonic() - began
    assert (end.status, end.counts.completed, end.error_file_id) == (BatchStatus.COMPLETED, LINES, None)
    assert [one["custom_id"] for one in read(place.ledger, end.output_file_id)] == [f"n{n}" for n in range(LINES)]
    lost = len(place.all("select 1 from attempts where status = 'abandoned'"))
    calls = len(place.sim_get("calls"))
    assert LINES <= calls <= LINES + lost  # whoever was called twice was so because its worker had died
    assert_books_balance(place.ledger)
    print(f"{LINES} lines, {KILLS} faults, {took:.0f} s: {calls} calls ended, {lost} attempts of dead workers")  # noqa: T201
