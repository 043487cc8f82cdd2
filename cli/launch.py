"""The whole product on this machine: servers, migrations, then API, worker and scheduler as children of the keeper.

    with Launch.start(Order(home)) as launch:
        launch.url
        with launch.watched():      # crashed children come back meanwhile
            …

Servers are started and kept by `cli.embedded`; here is the order of things, until all answer and until none is left.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cli import simulated
from cli.client import Api
from cli.embedded import Stack, last_line
from cli.leash import Exit
from cli.logs import Tail, value_of, warning_in, words
from cli.processes import listen
from goblin.errors import ConfigError, GoblinError, Unavailable
from goblin.settings import ServerSettings, Settings

READY_S = 60.0
TICK_S = 0.2
API, WORKER, SCHEDULER, SIMULATOR = "api", "worker", "scheduler", "simulator"
STOPS = (API, WORKER, SCHEDULER)  # nothing new is accepted, then work is finished, then nobody looks after it any more
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
CALM_S = 60.0  # who lived so long starts again with the first pause

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Order:
    """What to launch. Servers with a URL are used, not started; port 0 takes a free one."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 0
    config: Path | None = None
    database_url: str | None = None
    redis_url: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)  # added to this process's, for the children
    cwd: Path | None = None
    is_fast: bool = False  # gives durability away
    is_passing: bool = False  # the home is removed when everything has stopped, however this process ends
    is_simulated: bool = False  # providers are the simulator, and nobody else is asked
    grace_s: float = 20.0  # that calls under way get when the worker stops

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Over the user's data, with the servers that are configured."""
        database, redis = settings.database_url, settings.redis_url
        return cls(
            home=settings.home,
            database_url=database.get_secret_value() if database else None,
            redis_url=redis.get_secret_value() if redis else None,
        )


@dataclass(slots=True)
class Child:
    """`said` is what it announced of itself: a child prints a line of JSON when it is ready."""

    argv: list[str]
    grace_s: float
    tail: Tail
    said: dict[str, Any] = field(default_factory=dict)
    started_at: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    due_at: float | None = None  # to be started again then; None while it runs


class Launch:
    """Belongs to one thread at a time: `watched` lends it to another one."""

    def __init__(self, order: Order, stack: Stack) -> None:
        self.order = order
        self.url = ""
        self.simulator_url = ""
        self._stack = stack
        self._children: dict[str, Child] = {}
        self._environment: dict[str, str] = {}

    @classmethod
    def start(cls, order: Order, *, say: Say = lambda _: None) -> Self:
        """Returns when the API and a worker answer. ConfigError with the cure when they cannot."""
        from cli.migrate import upgrade

        if order.port:
            listen(order.host, order.port).close()  # said before anything was started
        say("starting servers")
        stack = Stack.start(order.home, fast=order.is_fast, database_url=order.database_url, redis_url=order.redis_url)
        launch = cls(order, stack)
        try:
            if order.is_passing:
                stack.sweep(stack.home)
            say("preparing the database")
            upgrade(stack.database_url, wait_s=5)
            refuse_open_door(order, stack.database_url)
            say("starting API, worker and scheduler")
            launch._start_children()
        except BaseException:
            stack.close()
            raise
        return launch

    @property
    def home(self) -> Path:
        return self._stack.home

    @property
    def database_url(self) -> str:
        return self._stack.database_url

    @property
    def redis_url(self) -> str:
        return self._stack.redis_url

    def log(self, name: str) -> Path:
        return self.home / f"{name}.log"

    def watch(self, say: Say, *, until: threading.Event | None = None) -> None:
        """Tells of warnings, and starts again what ends, until told to return. Unavailable when a server ends."""
        while not (until and until.is_set()):
            ended = self._stack.wait_exit(TICK_S)
            self._read_logs(say)
            if ended:
                self._mourn(ended, say)
            self._revive(say)

    @contextmanager
    def watched(self, say: Say = lambda _: None) -> Iterator[None]:
        """`watch` in a thread of its own; this object is not to be used inside the block."""
        stop = threading.Event()

        def watch() -> None:
            try:
                self.watch(say, until=stop)
            except GoblinError as error:
                say(error.message)

        thread = threading.Thread(target=watch, name="launch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def close(self) -> None:
        """Stops the children in their order, then the servers. Repeating it is harmless."""
        try:
            for name in STOPS:
                self._stop(name)
        except Unavailable:
            self._children.clear()  # the stack is closed already, or its keeper gone
        finally:
            self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_children(self) -> None:
        order = self.order
        settings = self._simulate() if order.is_simulated else order.config
        config = {"GOBLIN_CONFIG": str(settings.resolve())} if settings else {}
        self._environment = {
            **order.environment,
            **config,
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "GOBLIN_HOME": str(self.home),
        }
        self._add(API, _command("api", f"--host={order.host}", f"--port={order.port}"), grace_s=10)
        self._add(WORKER, _command("worker", "--name=worker@%h"), grace_s=order.grace_s)
        self._add(SCHEDULER, _command("beat"), grace_s=10)
        api, worker = self._children[API], self._children[WORKER]
        self._wait_until(lambda: "url" in api.said, "the API")
        self.url = str(api.said["url"])
        api.argv = _command("api", f"--host={order.host}", f"--port={self.url.rpartition(':')[2]}")
        self._wait_until(self._api_answers, "the API")
        self._wait_until(lambda: "ready" in worker.said, "the worker")

    def _simulate(self) -> Path:
        """Starts the simulator; the settings file that leads to it."""
        sheet = self.home / "sheet.toml"
        sheet.write_text(simulated.sheet_toml())
        command = [sys.executable, "-P", "-m", "providers.simulator", f"--sheet={sheet}", "--port=0"]
        self._add(SIMULATOR, command, grace_s=2)
        simulator = self._children[SIMULATOR]
        self._wait_until(lambda: "port" in simulator.said, "the simulator")
        port = int(simulator.said["port"])
        simulator.argv[-1] = f"--port={port}"
        self.simulator_url = f"http://127.0.0.1:{port}"
        file = self.home / "simulated.toml"
        file.write_text(simulated.settings_toml(self.simulator_url))
        return file

    def _add(self, name: str, argv: list[str], grace_s: float) -> None:
        child = self._children[name] = Child(argv, grace_s, Tail(self.log(name)))
        self._spawn(name, child)

    def _spawn(self, name: str, child: Child) -> None:
        child.started_at, child.due_at = time.monotonic(), None
        self._stack.spawn(
            name, child.argv, log=self.log(name), env=self._environment, cwd=self.order.cwd, grace_s=child.grace_s
        )

    def _wait_until(self, holds: Callable[[], bool], who: str) -> None:
        deadline = time.monotonic() + READY_S
        while not holds():
            ended = self._stack.wait_exit(0.05)
            self._read_logs(lambda _: None)
            if ended:
                log = self.log(ended.name)
                raise ConfigError(f"{ended.name} does not start: {words(last_line(log))} (more in {log})")
            if time.monotonic() > deadline:
                raise ConfigError(f"{who} does not answer after {READY_S:.0f} s: see the logs in {self.home}")

    def _api_answers(self) -> bool:
        with Api(self.url) as api:
            return api.health() is not None

    def _read_logs(self, say: Say) -> None:
        for name, child in self._children.items():
            for line in child.tail.read():
                if warning := warning_in(line):
                    say(f"{name}: {warning}")
                elif (value := value_of(line)) and "event" not in value:
                    child.said.update(value)

    def _mourn(self, ended: Exit, say: Say) -> None:
        child = self._children.get(ended.name)
        if child is None:
            raise Unavailable(f"{ended.name} ended with {ended.code}: start again (its log: {self.log(ended.name)})")
        if time.monotonic() - child.started_at > CALM_S:
            child.pause_s = FIRST_PAUSE_S
        child.due_at = time.monotonic() + child.pause_s
        say(f"{ended.name} ended with {ended.code}: starting it again in {child.pause_s:.0f} s")
        child.pause_s = min(2 * child.pause_s, LONGEST_PAUSE_S)

    def _revive(self, say: Say) -> None:
        for name, child in self._children.items():
            if child.due_at is not None and time.monotonic() >= child.due_at:
                self._spawn(name, child)
                say(f"{name} is started again")

    def _stop(self, name: str) -> None:
        child = self._children.pop(name, None)
        if child is None or child.due_at is not None:
            return
        self._stack.stop(name)
        deadline = time.monotonic() + child.grace_s + 5
        while time.monotonic() < deadline:
            ended = self._stack.wait_exit(TICK_S)
            if ended and ended.name == name:
                return
            if ended:
                self._children.pop(ended.name, None)


def refuse_open_door(order: Order, database_url: str) -> None:
    """As the API itself does, but before anything else was started."""
    from api.auth import is_loopback, refuse_open_listening
    from ledger.session import Ledger

    if is_loopback(order.host):
        return
    ledger = Ledger(database_url, connections=1)
    try:
        refuse_open_listening(Settings(server=ServerSettings(host=order.host)), ledger)
    finally:
        ledger.close()


def _command(*arguments: str) -> list[str]:
    """-P: a folder named `api` where somebody stands must not be taken for ours."""
    return [sys.executable, "-P", "-m", "cli.main", *arguments]
