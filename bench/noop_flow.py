"""CPU of all processes for the flow 1 → 2 side by side → 1 whose steps do nothing: ours, plain Celery, DBOS.

Our calls are answered inside the worker, so everything else is in: parsing, ledger, routing, admission, leases, events.
"""

import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from bench.ground import Ground, median, transactions, until
from bench.house import House
from bench.meter import metered
from bench.table import Row

RUNS, REPEATS, WARM = 300, 5, 20
FLOW = "chat: a THEN chat: b AND chat: c THEN chat: d"


@dataclass(frozen=True, slots=True)
class Lane:
    """A contender whose worker is up. `committed`: transactions that were there before it began."""

    worker: int
    submit: Callable[[], Any]
    wait: Callable[[], None]
    database_url: str | None = None
    committed: int = 0


def measure(ground: Ground) -> list[Row]:
    lanes: dict[str, Callable[[Ground], AbstractContextManager[Lane]]] = {"goblin": goblin, "celery": celery}
    if importlib.util.find_spec("dbos"):
        lanes["dbos"] = dbos
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in lanes}
    for _ in range(REPEATS):
        for name, lane in lanes.items():
            seen[name].append(_once(ground, lane))
    middle = {name: _middle(repeats) for name, repeats in seen.items()}
    ratios = [
        Row(
            "noop_flow", f"CPU of all processes, goblin / {name}", middle["goblin"]["all, ms"] / figures["all, ms"], "x"
        )
        for name, figures in middle.items()
        if name != "goblin"
    ]
    return ratios + [
        Row("noop_flow", f"{name}, per flow: {what}", value)
        for name, figures in middle.items()
        for what, value in figures.items()
    ]


def _once(ground: Ground, lane: Callable[[Ground], AbstractContextManager[Lane]]) -> dict[str, float]:
    ground.empty_redis()
    with lane(ground) as up:
        for _ in range(WARM):
            up.submit()
        up.wait()
        ground.forget_commands()
        with metered({"worker": up.worker, "redis": ground.redis_pid, "postgres": ground.postgres_pid}) as cpu:
            began = time.process_time()
            for _ in range(RUNS):
                up.submit()
            cpu.client = time.process_time() - began
            up.wait()
        commands = ground.commands()
    figures = {f"{part}, ms": value for part, value in cpu.per(RUNS).items()}
    figures["Redis commands"] = commands / RUNS
    if up.database_url:
        figures["SQL transactions"] = (transactions(up.database_url) - up.committed) / (RUNS + WARM)
    return figures


def _middle(repeats: list[dict[str, float]]) -> dict[str, float]:
    """The repeat whose total is the median."""
    total = median([figures["all, ms"] for figures in repeats])
    return next(figures for figures in repeats if figures["all, ms"] == total)


@contextmanager
def goblin(ground: Ground) -> Iterator[Lane]:
    house = House.build(ground, "null")
    committed = transactions(house.database_url)
    with house.workers("bench.null_worker", processes=1, concurrency=8) as (pid,):
        yield Lane(pid, lambda: house.submit(FLOW), house.wait, house.database_url, committed)
    house.close()


@contextmanager
def celery(ground: Ground) -> Iterator[Lane]:
    os.environ["PLAIN_REDIS_URL"] = ground.redis_url
    from bench import plain

    results: list[Any] = []
    store = ground.redis

    def submit() -> None:
        results.append(plain.flow().apply_async())

    def wait() -> None:
        keys = [plain.app.backend.get_key_for_task(result.id) for result in results]
        until(lambda: store.exists(*keys) == len(keys))

    arguments = ("-A", "bench.plain", "worker", "-P", "threads", "-c", "8", "--without-gossip", "--without-mingle")
    with ground.process("celery", *arguments, env={"PLAIN_REDIS_URL": ground.redis_url}) as pid:
        yield Lane(pid, submit, wait)
    results.clear()
    plain.app.close()


@contextmanager
def dbos(ground: Ground) -> Iterator[Lane]:
    from dbos import DBOSClient

    from bench.dbos_worker import QUEUE, VERSION

    url = ground.database()
    with ground.process("bench.dbos_worker", env={"DBOS_URL": url}, ready="takes work") as pid:
        client = DBOSClient(system_database_url=url)

        def submit() -> None:
            client.enqueue({"queue_name": QUEUE, "workflow_name": "flow", "app_version": VERSION}, 1)

        def wait() -> None:
            until(lambda: not client.list_workflows(status=["ENQUEUED", "PENDING"], limit=1))

        yield Lane(pid, submit, wait, url, transactions(url))
        client.destroy()
