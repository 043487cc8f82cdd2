"""What every benchmark stands on: embedded servers, a database for each contender, processes, the simulator."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psutil
import psycopg
import redis

from cli.embedded import Stack
from cli.migrate import upgrade

ROOT = Path(__file__).parent.parent
PATIENCE_S = 120.0


class Ground:
    def __init__(self, stack: Stack, home: Path) -> None:
        self.home = home
        self.redis_url = stack.redis_url
        self.redis = redis.Redis.from_url(stack.redis_url, decode_responses=True)
        self._stack = stack
        self._names = count(1)
        self._ended: set[str] = set()
        descendants = psutil.Process().children(recursive=True)
        self.redis_pid = next(one.pid for one in descendants if "valkey" in one.name() or "redis" in one.name())
        postgres = [one for one in descendants if one.name() == "postgres"]
        self.postgres_pid = min(postgres, key=psutil.Process.create_time).pid

    @classmethod
    @contextmanager
    def prepared(cls) -> Iterator["Ground"]:
        home = Path(tempfile.mkdtemp(prefix="goblin-bench-"))
        with Stack.start(home) as stack:
            stack.sweep(home)
            yield cls(stack, home)

    def database(self, *, migrated: bool = False) -> str:
        """The URL (libpq's) of a new database."""
        name = f"bench_{next(self._names)}"
        with psycopg.connect(_libpq(self._stack.database_url), autocommit=True) as connection:
            connection.execute(f"create database {name}")
        url = _libpq(self._stack.database_url).replace("/goblin?", f"/{name}?")
        if migrated:
            upgrade(url)
        return url

    @contextmanager
    def process(self, module: str, *arguments: str, env: Mapping[str, str], ready: str = "") -> Iterator[int]:
        """The id of a running `python -m module …` , once it has written `ready` to its log."""
        name = f"{module}-{next(self._names)}"
        log = self.home / f"{name}.log"
        argv = [sys.executable, "-m", module, *arguments]
        pid = self._stack.spawn(name, argv, log=log, env={"PYTHONPATH": str(ROOT), **env}, cwd=self.home, grace_s=5)
        try:
            until(lambda: ready in _read(log) or self._has_ended(name))
            if self._has_ended(name):
                raise ChildProcessError(f"{name} ended before it was ready:\n{_read(log)[-2000:]}")
            yield pid
        finally:
            self._stack.stop(name)
            until(lambda: self._has_ended(name))

    @contextmanager
    def simulator(self) -> Iterator[str]:
        """The base URL of a running simulator."""
        with self.process("providers.simulator", env={}, ready='{"port"'):
            log = max(self.home.glob("providers.simulator-*.log"), key=os.path.getmtime)
            yield f"http://127.0.0.1:{json.loads(_read(log))['port']}"

    def _has_ended(self, name: str) -> bool:
        while ended := self._stack.wait_exit(0):
            self._ended.add(ended.name)
        return name in self._ended

    def empty_redis(self) -> None:
        self.redis.flushall()

    def forget_commands(self) -> None:
        self.redis.config_resetstat()

    def commands(self) -> int:
        """Redis commands since they were forgotten."""
        return sum(stat["calls"] for stat in self.redis.info("commandstats").values())


def transactions(url: str) -> int:
    """Committed in a database so far; complete once those who worked there have disconnected."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "select xact_commit from pg_stat_database where datname = current_database()"
        ).fetchone()
        return int(row[0]) if row else 0


def until(is_true: Callable[[], object], pause_s: float = 0.05) -> None:
    """Waits for a condition; TimeoutError when it never comes."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not come")
        time.sleep(pause_s)


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _read(log: Path) -> str:
    return log.read_text(errors="replace") if log.exists() else ""


def _libpq(url: str) -> str:
    return url.replace("postgresql+psycopg:", "postgresql:")
