"""A real API on a free port, and a hand that does by itself what workers would do to its runs."""

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from api.app import create
from cli.processes import KEEP_ALIVE_S
from goblin import kv
from goblin.clock import new_id
from goblin.settings import Settings, load
from ledger import attempts, runs
from ledger.attempts import Charge, Claim, Ending
from ledger.session import Ledger
from ledger.states import AttemptStatus, RunStatus, StepStatus
from workers.stream import Feed

PROVIDERS = """
[providers.sim]
base_url = "http://127.0.0.1:9/v1"
models = ["small", "large"]
cost_per_token = 0.000001
priority = 1

[providers.keyless]
base_url = "http://127.0.0.1:9/v1"
dialect = "anthropic"
api_key = "${NO_SUCH_VARIABLE}"
models = ["tiny"]
cost_per_token = 0.0
enabled = false

[providers.unpriced]
base_url = "http://127.0.0.1:9/v1"
models = ["riddle"]
"""


@contextmanager
def served(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """The URL of an API that runs as long as the block does."""
    config = uvicorn.Config(
        create(settings, environ),
        host="127.0.0.1",
        port=0,
        log_level="error",
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
    )
    listening = config.bind_socket()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started and thread.is_alive():
        thread.join(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@dataclass(frozen=True)
class Hand:
    """Does what workers do, one thing at a time."""

    ledger: Ledger
    feed: Feed

    def begin(self, run: str, idx: int = 0, *, model: str = "small") -> uuid.UUID:
        attempt = new_id()
        claim = Claim(attempt, uuid.UUID(run), idx, 1, "sim", model, new_id(), 60.0, 5_000, 0, {"candidates": ["sim"]})
        number = attempts.open_attempt(self.ledger, claim)
        started = {"goblin": "chat", "provider": "sim", "model": model, "attempt": number}
        self.emit(run, "step.started", idx, **started)
        return attempt

    def say(self, run: str, text: str, idx: int = 0) -> None:
        self.emit(run, "delta", idx, text=text, tokens=2, cost="0.000002000")

    def end(
        self,
        run: str,
        attempt: uuid.UUID,
        output: str | None,
        idx: int = 0,
        *,
        step: StepStatus = StepStatus.SUCCEEDED,
        error: Mapping[str, Any] | None = None,
        tells: bool = True,
    ) -> None:
        kind = AttemptStatus.SUCCEEDED if output is not None else AttemptStatus.FAILED
        charge = Charge(4_000, is_measured=True, price={"source": "test"}, input=2, output=2)
        ending = Ending(kind, step, output, error, charge, ttft_ms=12, duration_ms=34)
        attempts.settle(self.ledger, attempt, ending, goblin="chat", key_id=None)
        if tells:
            self.emit(run, "step.finished", idx, outcome=step, cost_usd="0.000004000", usage=None, error=error)

    def finish(self, run: str, status: RunStatus = RunStatus.SUCCEEDED, *, tells: bool = True) -> None:
        runs.finish(self.ledger, uuid.UUID(run), status)
        if tells:
            self.feed.emit(uuid.UUID(run), ("run.finished", {"outcome": status, "cost_usd": "0.000004000"}))

    def emit(self, run: str, kind: str, idx: int, **data: Any) -> None:
        self.feed.emit(uuid.UUID(run), (kind, {"step": f"step{idx + 1}", **data}))


@dataclass(frozen=True)
class Api:
    url: str
    client: httpx.Client
    hand: Hand

    def submit(self, workflow: str = "chat: say hello", **body: Any) -> str:
        answer = self.client.post("/v1/runs", json={"workflow": workflow, **body})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def run(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/v1/runs/{run}").json()
        return found

    def events(self, run: str, last_event_id: str | None = None) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """The events of a run until the stream ends: id, type and data."""
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        with self.client.stream("GET", f"/v1/runs/{run}/events", headers=headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if line:
                    fields[name] = value
                elif "event" in fields:
                    yield fields["id"], fields["event"], json.loads(fields["data"])
                    fields = {}


@pytest.fixture
def settings_of(tmp_path: Path) -> Callable[[str, str], Settings]:
    def build(database: str, redis_url: str) -> Settings:
        file = tmp_path / "goblin.toml"
        file.write_text(PROVIDERS)
        return load(file, {"DATABASE_URL": database, "REDIS_URL": redis_url})

    return build


@pytest.fixture
def settings(settings_of: Callable[[str, str], Settings], database: str, redis_url: str) -> Settings:
    return settings_of(database, redis_url)


@pytest.fixture
def environ() -> dict[str, str]:
    return {}


@pytest.fixture
def hand(settings: Settings) -> Iterator[Hand]:
    ledger = Ledger(settings.require_database_url(), connections=2)
    client = kv.connect(settings.require_redis_url())
    yield Hand(ledger, Feed(client, settings.limits))
    client.close()
    ledger.close()


@pytest.fixture
def api(settings: Settings, environ: dict[str, str], hand: Hand) -> Iterator[Api]:
    with served(settings, environ) as url, httpx.Client(base_url=url, timeout=20) as client:
        yield Api(url, client, hand)


@pytest.fixture
def serve() -> Callable[[Settings, Mapping[str, str]], Any]:
    return served
