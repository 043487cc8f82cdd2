"""Our side of every benchmark: settings for a provider, worker processes, submissions as the API makes them."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psycopg

from bench.ground import Ground, until
from goblin.settings import Settings, load
from ledger import runs
from ledger.runs import NewRun, NewStep
from ledger.session import Ledger
from workers.app import App, create
from workers.canvas import publish
from workflow.parse import parse
from workflow.plan import Plan
from workflow.text import text

PROVIDER = "bench"
_CONFIG = """
[providers.{provider}]
base_url = "{base_url}"
api_key = "none"
models = [{{ id = "{model}", context = 128000, input_usd_mtok = "0.15", output_usd_mtok = "0.60" }}]
"""


@dataclass(frozen=True, slots=True)
class House:
    """One database, one configuration."""

    ground: Ground
    database_url: str
    environ: dict[str, str]
    settings: Settings
    ledger: Ledger
    app: App

    @classmethod
    def build(cls, ground: Ground, model: str, base_url: str = "http://127.0.0.1:9/v1", **more: str) -> "House":
        """`more` adds to the environment of every process."""
        database_url = ground.database(migrated=True)
        config = ground.home / f"{model}.toml"
        config.write_text(_CONFIG.format(provider=PROVIDER, base_url=base_url, model=model))
        environ = {
            "DATABASE_URL": database_url,
            "REDIS_URL": ground.redis_url,
            "GOBLIN_CONFIG": str(config),
            **more,
        }
        settings = load(environ=environ)
        return cls(ground, database_url, environ, settings, Ledger(database_url, connections=2), create(settings))

    def close(self) -> None:
        self.ledger.close()
        self.app.close()

    @contextmanager
    def workers(self, module: str, processes: int, concurrency: int) -> Iterator[list[int]]:
        with ExitStack() as stack:
            yield [
                stack.enter_context(
                    self.ground.process(
                        module,
                        *("worker", f"--concurrency={concurrency}", f"--name=bench{number}@%h"),
                        env=self.environ,
                        ready=" ready.",
                    )
                )
                for number in range(processes)
            ]

    def plan(self, workflow: str) -> Plan:
        return parse(workflow, goblins=self.settings.goblins, default_goblin="chat")

    def submit(self, workflow: str) -> uuid.UUID:
        plan = self.plan(workflow)
        steps = [NewStep(step.goblin, step.task, plan.dependencies(step.idx)) for step in plan.steps]
        options = {"providers": [PROVIDER]}  # whatever keys this machine holds
        run = runs.submit(self.ledger, NewRun(text(plan), plan.as_value(), {"text": "hello"}, options, steps)).id
        publish(self.app, plan, run, 1)
        runs.mark_published(self.ledger, run, 1)
        return run

    def wait(self) -> None:
        """Until every run has finished; ValueError when one did not succeed."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            until(lambda: not _count(connection, "finished_at is null"))
            if failed := _count(connection, "status <> 'succeeded'"):
                raise ValueError(f"{failed} runs did not succeed")


def _count(connection: psycopg.Connection, condition: str) -> int:
    row = connection.execute(f"select count(*) from runs where {condition}").fetchone()
    return int(row[0]) if row else 0
