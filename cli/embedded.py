"""The embedded stack: PostgreSQL, Valkey and whatever else is spawned, under one keeper, over one data folder.

    with Stack.start(home) as stack:
        stack.database_url, stack.redis_url
        stack.spawn("api", [sys.executable, "-m", …], log=home / "api.log")
        ended = stack.wait_exit()

One stack has one home at a time. When this process ends, in whatever way, the keeper stops everything.
"""

import fcntl
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.keeper import Spec
from cli.leash import Exit, Leash
from cli.servers import Postgres, Server, Valkey
from goblin.errors import ConfigError

ATTEMPTS = 5  # a port may be taken between choosing and binding it; a killed predecessor may take a moment to go
PAUSE_S = 0.2
READY_S = 60.0  # recovery of a large cluster after a crash takes its time
RELEASE_S = 20.0  # how long the keeper of an owner that was killed may still be stopping


class Stack:
    """Running servers and the processes spawned beside them. Belongs to one thread."""

    def __init__(self, home: Path, leash: Leash) -> None:
        self.home = home
        self.database_url = ""
        self.redis_url = ""
        self._leash = leash

    @classmethod
    def start(
        cls, home: Path, *, fast: bool = False, database_url: str | None = None, redis_url: str | None = None
    ) -> Self:
        """Starts what no URL is given for; `fast` gives durability away, for tests.

        ConfigError when another stack has this home, a program is missing, or a server does not come up.
        """
        home = home.expanduser().resolve()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = take_lock(home)
        try:
            leash = Leash.fasten(home / "keeper.log", held=lock)
        finally:
            os.close(lock)  # the keeper has it now, and gives it back when everything has stopped
        stack = cls(home, leash)
        try:
            stack.database_url = database_url or stack._start_postgres(fast)
            stack.redis_url = redis_url or stack._bring_up(Valkey(home, fast=fast))
        except BaseException:
            stack.close()
            raise
        return stack

    def spawn(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_signal: int = signal.SIGTERM,
        grace_s: float = 20.0,
        user: str | None = None,
    ) -> int:
        """Starts a process that is stopped before the servers are; `env` adds to this process's. Returns its id."""
        return self._leash.start(
            Spec(
                name=name,
                argv=list(argv),
                log=str(log),
                env={**os.environ, **(env or {})},
                cwd=str(cwd or Path.cwd()),
                stop_signal=stop_signal,
                grace_s=grace_s,
                user=user,
            )
        )

    def stop(self, name: str) -> None:
        """Asks a spawned process to stop; `wait_exit` tells when it has."""
        self._leash.stop(name)

    def wait_exit(self, timeout_s: float | None = None) -> Exit | None:
        """The next process that ended, a server too; None when none did in time."""
        return self._leash.wait_exit(timeout_s)

    def sweep(self, folder: Path) -> None:
        """Removes the folder once everything has stopped, also when this process is killed before."""
        self._leash.sweep(folder)

    def close(self) -> None:
        """Stops everything and waits until it has. Repeating it is harmless."""
        self._leash.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_postgres(self, fast: bool) -> str:
        postgres = Postgres(self.home, fast=fast)
        elsewhere = postgres.prepare()
        if elsewhere:
            self.sweep(elsewhere)
        return self._bring_up(postgres)

    def _bring_up(self, server: Server) -> str:
        """Its URL, once it answers."""
        keep_one_log(server.log)
        for _ in range(ATTEMPTS):
            self._leash.start(server.spec())
            if self._answers(server):
                return server.url
            time.sleep(PAUSE_S)
        raise ConfigError(f"{server.name} does not start: {last_line(server.log)} (more in {server.log})")

    def _answers(self, server: Server) -> bool:
        deadline = time.monotonic() + READY_S
        while not server.is_ready():
            ended = self.wait_exit(0.01)
            if ended and ended.name == server.name:
                return False
            if ended:
                raise ConfigError(f"{ended.name} ended with {ended.code} while {server.name} was starting")
            if time.monotonic() > deadline:
                raise ConfigError(f"{server.name} does not answer after {READY_S:.0f} s: see {server.log}")
        return True


def take_lock(home: Path) -> int:
    """An open file descriptor that holds the lock of the home. ConfigError while another stack has it."""
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + RELEASE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(lock, 32, 0).decode()
            if is_alive(owner) or time.monotonic() > deadline:
                os.close(lock)
                raise ConfigError(
                    f"another goblin (process {owner or 'unknown'}) uses {home}: stop it, "
                    "set GOBLIN_URL to talk to it, or set GOBLIN_HOME to another folder"
                ) from None
            time.sleep(0.05)  # its owner was killed and its keeper is about to finish
        else:
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
            return lock


def is_alive(owner: str) -> bool:
    try:
        os.kill(int(owner), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True


def keep_one_log(log: Path) -> None:
    if log.exists():
        log.replace(log.with_suffix(".log.1"))


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else "it says nothing"
