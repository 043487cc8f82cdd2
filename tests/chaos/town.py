"""A whole installation whose every connection leads through a wire, and the load on it.

API, workers and schedulers are processes; Postgres and Redis are this town's own and keep what they have when they
are killed. Each process has wires of its own to Redis, to Postgres and to the providers.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.migrate import upgrade
from cli.servers import free_port
from tests.fakes.fates import Fate
from tests.fakes.wire import Wire
from tests.processes import PostgresContainer, ProcessContainer, Processes, ValkeyContainer, WorkerContainer
from tests.world import Sim, World, saying
from workers.app import STEPS, provider_queue
from workflow.outcome import Outcome, Settled

PARTS = ("redis", "postgres", "provider")
WORDS = ("approved", "Rejected", "needs work")
FAILING = "Rejected\nVERDICT: FAIL"
FATES = (
    *(Fate(Settled(Outcome.SUCCEEDED, words), f"say-{number}") for number, words in enumerate(WORDS)),
    Fate(Settled(Outcome.FAILED), "refuses"),
    Fate(Settled(Outcome.FAILED, FAILING), "judges", judged=True),
)
TALKER = Fate(Settled(Outcome.SUCCEEDED, " ".join(["approved"] * 24)), "talks")
EVERY_FATE = (*FATES, TALKER)
SPEED = 4  # tokens a second, of the one who talks
MODELS = 12  # of each provider, all alike: a call that was cut in the middle goes on at the next
EXTRA = """
catalog = "{catalog}"
[worker]
lease = {lease}
concurrency = {concurrency}
[routing]
health_check_interval = 600
max_attempts = 150
"""
OPTIONS = {"retry_count": 50, "first_token_timeout": 8, "stall_timeout": 8}


def models(directives: str, pace_s: float) -> tuple[str, ...]:
    """Different names for the same behaviour."""
    return tuple(f"{directives}+ttft={pace_s + number / 1000:.3f}" for number in range(MODELS))


def simulated(pace_s: float) -> tuple[Sim, ...]:
    """The providers of all fates, each of whose calls lasts `pace_s` seconds or somewhat more, but for the talker's."""
    said = [saying(words) for words in WORDS]
    behaviours = {fate.provider: said[number] for number, fate in enumerate(FATES[: len(WORDS)])}
    behaviours |= {"refuses": "sim-instant+fail=400", "judges": saying(FAILING)}
    behaviours[TALKER.provider] = f"{saying(TALKER.becomes.output)}+speed={SPEED}"
    return tuple(Sim(name, models(directives, pace_s), options=OPTIONS) for name, directives in behaviours.items())


class Town(World):
    def __init__(
        self,
        processes: Processes,
        folder: Path,
        *,
        workers: int = 4,
        schedulers: int = 2,
        pace_s: float = 0.5,
        lease_s: float = 4,
        concurrency: int = 40,
    ) -> None:
        self.postgres = PostgresContainer(processes, durable=True)
        self.valkey = ValkeyContainer(processes, folder, durable=True)
        self.postgres.ready()
        self.valkey.ready()
        upgrade(self.postgres.url)
        sims = simulated(pace_s)
        extra = EXTRA.format(catalog=catalog(folder, sims), lease=lease_s, concurrency=concurrency)
        super().__init__(processes, folder, self.postgres.url, self.valkey.celeryconfig["url"], sims, extra)
        self._extra = extra
        self.wires: dict[tuple[str, str], Wire] = {}
        self.api_port = free_port()
        self.api = self.start_api(self.api_port, env=self._wired("api"), waits=False)
        names = [f"s{number}" for number in range(1, schedulers + 1)]
        self.schedulers = [self.start_scheduler(name, env=self._wired(name), waits=False) for name in names]
        names = [f"w{number}" for number in range(1, workers + 1)]
        self.workers = [
            self.start_worker(name, env=self._wired(name), queues=self._consumed(number), waits=False)
            for number, name in enumerate(names)
        ]
        for container in (self.api, *self.schedulers, *self.workers):
            container.ready()

    @property
    def queues(self) -> tuple[str, ...]:
        return STEPS, *(provider_queue(sim.name) for sim in self.sims)

    def _consumed(self, number: int) -> tuple[str, ...]:
        """All queues; one worker takes steps only, and hands all calls over, and one takes nothing but calls."""
        return {2: self.queues[:1], 3: self.queues[1:]}.get(number, self.queues)

    def container(self, name: str) -> ProcessContainer | WorkerContainer:
        return next(one for one in (self.api, *self.schedulers, *self.workers) if one.name == name)

    def _wired(self, name: str) -> Mapping[str, str]:
        """The environment of a process that reaches everything by wires of its own."""
        urls = (self.env["REDIS_URL"], self.env["DATABASE_URL"], f"http://127.0.0.1:{self.port}")
        redis, postgres, provider = (Wire(url) for url in urls)
        self.wires |= {(name, part): wire for part, wire in zip(PARTS, (redis, postgres, provider), strict=True)}
        config = self.folder / f"{name}.toml"
        config.write_text("\n\n".join([self._extra, *(sim.table(provider.port) for sim in self.sims)]))
        return {**self.env, "REDIS_URL": redis.url, "DATABASE_URL": postgres.url, "GOBLIN_CONFIG": str(config)}

    def close(self) -> None:
        for wire in self.wires.values():
            wire.mend()
        super().close()
        for wire in self.wires.values():
            wire.__exit__(None, None, None)
        self.valkey.teardown()
        self.postgres.teardown()


def catalog(folder: Path, sims: Sequence[Sim]) -> Path:
    """Rows whose providers take an idempotency key: by it a call in their books is known to be an attempt's."""
    rows = folder / "catalog"
    rows.mkdir()
    for sim in sims:
        lines = [f'name = "{sim.name}"', 'base_url = "http://127.0.0.1"', 'idempotency_header = "Idempotency-Key"']
        (rows / f"{sim.name}.toml").write_text("\n".join(lines))
    return rows


@contextmanager
def town(processes: Processes, folder: Path, **size: Any) -> Iterator[Town]:
    made = Town(processes, folder, **size)
    try:
        yield made
    finally:
        made.close()


def key_of(run: uuid.UUID, idx: int, number: int) -> str:
    """The idempotency key of an attempt."""
    return f"{run.hex}-{idx}-{number}"
