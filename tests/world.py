"""A whole installation for a test: simulator, workers, scheduler and API as processes, over the session's real servers.

Tests drive it from outside: they submit, kill, wait for what the ledger says, and compare with the simulator's books.
"""

import base64
import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Row

from goblin import kv
from goblin.settings import Settings, load
from ledger import runs
from ledger.runs import NewRun, NewStep
from ledger.session import Ledger
from tests.processes import PATIENCE_S, ProcessContainer, Processes, WorkerContainer
from workers.app import BATCH, STEPS, App, create, provider_queue
from workers.canvas import publish
from workers.stream import key
from workflow.parse import parse
from workflow.plan import Plan
from workflow.text import text

CHEAP = {"input_usd_mtok": "0.15", "output_usd_mtok": "0.60", "context": 1_000_000}


def saying(words: str) -> str:
    """A model of the simulator that answers exactly this."""
    return f"sim-instant+say={base64.urlsafe_b64encode(words.encode()).decode().rstrip('=')}"


@dataclass(frozen=True)
class Sim:
    """A provider of the configuration that is played by the simulator."""

    name: str
    models: tuple[str, ...] = ("sim-instant",)
    dialect: str = "openai"
    options: Mapping[str, Any] = field(default_factory=dict)
    context: int = 1_000_000

    def table(self, port: int) -> str:
        path = {"openai": "openai/v1", "anthropic": "anthropic", "gemini": "gemini", "ollama": "ollama"}[self.dialect]
        models = ", ".join(_inline({"id": model, **CHEAP, "context": self.context}) for model in self.models)
        lines = [
            f"[providers.{self.name}]",
            f'dialect = "{self.dialect}"',
            f'base_url = "http://127.0.0.1:{port}/at/{self.name}/{path}"',
            'api_key = "test"',
            f"models = [{models}]",
            *(f"{name} = {json.dumps(value)}" for name, value in self.options.items()),
        ]
        return "\n".join(lines)


def _inline(table: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{name} = {json.dumps(value)}" for name, value in table.items()) + "}"


class World:
    """Everything is started on demand and stopped at the end, in reverse order."""

    def __init__(
        self, processes: Processes, folder: Path, database_url: str, redis_url: str, sims: tuple[Sim, ...], extra: str
    ) -> None:
        self.folder = folder
        self._processes = processes
        self._containers: list[ProcessContainer] = []
        self.simulator = self._start("simulator", ["-m", "providers.simulator", "--port", "0"], {}, '"port"')
        self.port = json.loads(self.simulator.logs().splitlines()[-1])["port"]
        config = folder / "goblin.toml"
        config.write_text("\n\n".join([extra, *(sim.table(self.port) for sim in sims)]))
        self.sims = sims
        self.env = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "GOBLIN_CONFIG": str(config),
            "PYTHONPATH": str(Path(__file__).parent.parent),
        }
        self.settings: Settings = load(environ=self.env)
        self.ledger = Ledger(database_url, connections=8)
        self.redis = kv.connect(redis_url)
        self.app: App = create(self.settings)

    # -- processes

    def start_worker(
        self,
        name: str = "w1",
        *,
        queues: tuple[str, ...] | None = None,
        env: Mapping[str, str] | None = None,
        waits: bool = True,
    ) -> WorkerContainer:
        """A worker of the steps and all simulated providers, unless its queues are given; ready if this `waits`."""
        consumed = queues or (STEPS, *(provider_queue(sim.name) for sim in self.sims), BATCH)
        argv = ["-m", "cli.main", "worker", "--name", f"{name}@%h", "--queues", ",".join(consumed)]
        worker = WorkerContainer(
            self._processes,
            name,
            [sys.executable, *argv],
            log=self.folder / f"{name}.log",
            env=env or self.env,
            ready_prompt=" ready.",
        )
        self._containers.append(worker)
        if waits:
            worker.ready()
        return worker

    def start_scheduler(
        self, name: str = "scheduler", *, env: Mapping[str, str] | None = None, waits: bool = True
    ) -> ProcessContainer:
        argv = ["-c", "from goblin.settings import load; from scheduler.beat import run; run(load())"]
        return self._start(name, argv, env or self.env, " ready.", waits=waits)

    def start_api(self, port: int, *, env: Mapping[str, str] | None = None, waits: bool = True) -> ProcessContainer:
        argv = ["-m", "cli.main", "api", "--port", str(port)]
        return self._start("api", argv, env or self.env, "Application startup complete", waits=waits)

    def _start(
        self, name: str, argv: list[str], env: Mapping[str, str], prompt: str, *, waits: bool = True
    ) -> ProcessContainer:
        container = ProcessContainer(
            self._processes,
            name,
            [sys.executable, *argv],
            log=self.folder / f"{name}.log",
            env=env,
            ready_prompt=prompt,
        )
        self._containers.append(container)
        if waits:
            container.ready()
        return container

    def close(self) -> None:
        for container in reversed(self._containers):
            container.teardown()
        self.ledger.close()
        self.redis.close()

    # -- the way in and out

    def plan(self, workflow: str) -> Plan:
        return parse(workflow, goblins=self.settings.goblins, default_goblin="chat")

    def store(self, plan: Plan, **options: Any) -> uuid.UUID:
        """Accept a run without sending its messages."""
        steps = [NewStep(step.goblin, step.task, plan.dependencies(step.idx)) for step in plan.steps]
        return runs.submit(self.ledger, NewRun(text(plan), plan.as_value(), {}, options, steps)).id

    def submit(self, plan: Plan, **options: Any) -> uuid.UUID:
        run = self.store(plan, **options)
        publish(self.app, plan, run, 1)
        runs.mark_published(self.ledger, run, 1)
        return run

    def finished(self, run: uuid.UUID, patience: float = PATIENCE_S) -> Row[Any]:
        """The run's row once it has ended."""
        return self.until(
            lambda: self.one("select * from runs where id = %s and finished_at is not null", run), patience
        )

    def until(self, found: Callable[[], Any], patience: float = PATIENCE_S) -> Any:
        """What is found, once something is; TimeoutError when nothing comes."""
        give_up = time.monotonic() + patience
        while time.monotonic() < give_up:
            if value := found():
                return value
            time.sleep(0.02)
        raise TimeoutError(f"nothing after {patience} s; {self.folder} holds the logs")

    def all(self, sql: str, *parameters: Any) -> list[Row[Any]]:
        with self.ledger.engine.connect() as connection:
            return list(connection.exec_driver_sql(sql, parameters).all())

    def one(self, sql: str, *parameters: Any) -> Row[Any] | None:
        rows = self.all(sql, *parameters)
        return rows[0] if rows else None

    def statuses(self, run: uuid.UUID) -> dict[int, str]:
        return {row.idx: row.status for row in self.all("select idx, status from steps where run_id = %s", run)}

    def events(self, run: uuid.UUID) -> list[tuple[str, dict[str, Any]]]:
        """What listeners were told. A run that has ended is told so a moment after the ledger knows it."""
        if self.one("select 1 from runs where id = %s and finished_at is not null", run):
            with suppress(TimeoutError):
                self.until(lambda: "run.finished" in dict(self._told(run)), 2)
        return self._told(run)

    def _told(self, run: uuid.UUID) -> list[tuple[str, dict[str, Any]]]:
        entries: Any = self.redis.xrange(key(run))
        return [(entry["type"], json.loads(entry["data"])) for _, entry in entries]

    # -- the simulator's books

    def sim_post(self, path: str, body: Mapping[str, Any]) -> None:
        httpx.post(f"http://127.0.0.1:{self.port}/_sim/{path}", json=body, trust_env=False).raise_for_status()

    def sim_get(self, path: str) -> Any:
        return httpx.get(f"http://127.0.0.1:{self.port}/_sim/{path}", trust_env=False).raise_for_status().json()


@contextmanager
def world(
    processes: Processes, folder: Path, database_url: str, redis_url: str, *sims: Sim, extra: str = ""
) -> Iterator[World]:
    made = World(processes, folder, database_url, redis_url, sims, extra)
    try:
        yield made
    finally:
        made.close()
