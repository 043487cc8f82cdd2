"""Steps per second, against plain Celery whose task calls the vendor's SDK and inserts one row.

The queue is full before the workers start; what counts is the time from the first finished step to the last.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import psycopg

from bench.ground import Ground, median, until
from bench.house import House
from bench.table import Row

STEPS, REPEATS, CONCURRENCY = 600, 3, 50
MODEL = "sim-instant+tokens=20"
_ANSWERS = """create table answers (id bigint generated always as identity primary key, model text not null,
    output text not null, input_tokens int not null, output_tokens int not null,
    finished_at timestamptz not null default now())"""
_RATE = """select count(*), (count(*) - 1) / nullif(extract(epoch from max(finished_at) - min(finished_at)), 0)
    from {table} where finished_at is not null"""
_Lane = Callable[[Ground, str], AbstractContextManager[tuple[str, str]]]


def measure(ground: Ground) -> list[Row]:
    seen: dict[str, list[float]] = {"goblin": [], "celery + SDK": []}
    lanes: dict[str, _Lane] = {"goblin": goblin, "celery + SDK": celery}
    with ground.simulator() as url:
        for _ in range(REPEATS):
            for name, lane in lanes.items():
                ground.empty_redis()
                with lane(ground, url) as (database, table):
                    seen[name].append(_rate(database, table))
    middle = {name: median(rates) for name, rates in seen.items()}
    ratio = middle["goblin"] / middle["celery + SDK"]
    return [
        Row("steps_per_second", "steps per second, goblin / celery + SDK", ratio, "x"),
        *(Row("steps_per_second", name, rate, "/s") for name, rate in middle.items()),
    ]


@contextmanager
def goblin(ground: Ground, url: str) -> Iterator[tuple[str, str]]:
    house = House.build(ground, MODEL, f"{url}/at/bench/openai/v1")
    for _ in range(STEPS):
        house.submit("chat: say something")
    with house.workers("cli.main", processes=1, concurrency=CONCURRENCY):
        yield house.database_url, "steps"
    house.close()


@contextmanager
def celery(ground: Ground, url: str) -> Iterator[tuple[str, str]]:
    database = ground.database()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(_ANSWERS)
    environ = {
        "PLAIN_REDIS_URL": ground.redis_url,
        "PLAIN_DATABASE_URL": database,
        "PLAIN_BASE_URL": f"{url}/at/plain/openai/v1",
    }
    os.environ.update(environ)
    from bench import plain

    for _ in range(STEPS):
        plain.ask.apply_async((MODEL, "say something"), ignore_result=True)
    arguments = ("-A", "bench.plain", "worker", "-P", "threads", "-c", str(CONCURRENCY))
    with ground.process("celery", *arguments, "--without-gossip", "--without-mingle", env=environ):
        yield database, "answers"
    plain.app.close()


def _rate(database: str, table: str) -> float:
    with psycopg.connect(database, autocommit=True) as connection:

        def finished() -> tuple[int, float]:
            row = connection.execute(_RATE.format(table=table)).fetchone()
            return (int(row[0]), float(row[1] or 0)) if row else (0, 0.0)

        until(lambda: finished()[0] == STEPS)
        return finished()[1]
