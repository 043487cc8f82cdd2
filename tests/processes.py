"""pytest-celery's cluster API on processes of our own, under the stack's keeper: no container engine.

A node of pytest-celery only asks its container for what `ProcessContainer` has.
"""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

from cli.embedded import Stack
from cli.servers import Postgres, Valkey

FATAL = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
PATIENCE_S = 90  # a machine with other work may take long to start a process
NUMBERS = count(1)


class Processes:
    """The processes of one stack: it reports every end once, so this keeps the list."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._codes: dict[str, int] = {}

    @property
    def home(self) -> Path:
        return self._stack.home

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str],
        stop_signal: int = signal.SIGTERM,
        user: str | None = None,
    ) -> int:
        return self._stack.spawn(name, argv, log=log, env=env, stop_signal=stop_signal, user=user)

    def stop(self, name: str) -> None:
        self._stack.stop(name)

    def has_ended(self, name: str) -> bool:
        self._note(0)
        return name in self._codes

    def wait(self, name: str, until: Callable[[], bool] | None = None) -> None:
        """Returns when the process has ended, or when the condition holds; TimeoutError when neither comes."""
        for _ in range(PATIENCE_S * 20):
            if self.has_ended(name) or (until and until()):
                return
            self._note(0.05)
        raise TimeoutError(f"{name}: nothing after {PATIENCE_S} s")

    def _note(self, timeout_s: float) -> None:
        while ended := self._stack.wait_exit(timeout_s):
            self._codes[ended.name] = ended.code
            timeout_s = 0


class ProcessContainer:
    """Looks like a container of pytest-celery, is a process. `restart` keeps command, environment and log."""

    def __init__(
        self,
        processes: Processes,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        ready_prompt: str = "",
    ) -> None:
        self.name = name
        self.ready_prompt = ready_prompt
        self._processes = processes
        self._argv = argv
        self._log = log
        self._env = env or {}
        self.start()

    def start(self) -> None:
        self._begin()

    def _begin(self, **how: Any) -> None:
        self._run = f"{self.name}-{next(NUMBERS)}"
        self._read_from = self._log.stat().st_size if self._log.exists() else 0
        self.pid = self._processes.start(self._run, self._argv, log=self._log, env=self._env, **how)

    @property
    def id(self) -> str:
        return f"{self.pid:012d}"

    @property
    def status(self) -> str:
        return "exited" if self._processes.has_ended(self._run) else "running"

    def logs(self) -> str:
        """Of all its runs."""
        return self._log.read_text(errors="replace")

    def reload(self) -> None:
        """Nothing is cached that a container would read anew."""

    def kill(self, signal: str | int = "SIGKILL") -> None:  # the name that docker gives it
        number = signal_number(signal)
        os.kill(self.pid, number)
        if number in FATAL:
            self._processes.wait(self._run)

    def restart(self, timeout: float = PATIENCE_S) -> None:
        self.teardown()
        self.start()
        self.ready()

    def is_ready(self) -> bool:
        """Whether this run, not an earlier one, has said that it is ready."""
        return self.ready_prompt.encode() in self._log.read_bytes()[self._read_from :]

    def ready(self) -> bool:
        self._processes.wait(self._run, until=self.is_ready)
        if self.status != "running":
            raise ChildProcessError(f"{self.name} ended before it was ready:\n{self.logs()}")
        return True

    def teardown(self) -> None:
        if self.status == "running":
            self._processes.stop(self._run)
            self._processes.wait(self._run)


class WorkerContainer(ProcessContainer):
    """A Celery worker; the rest of what `CeleryTestWorker` asks for."""

    def worker_name(self) -> str:
        return self.name

    def worker_queue(self) -> str:
        return "steps"

    def log_level(self) -> str:
        return "INFO"

    def version(self) -> str:
        return version("celery")


class ValkeyContainer(ProcessContainer):
    """A broker of its own: killed and restarted it keeps its address, and its data if it is durable."""

    def __init__(self, processes: Processes, home: Path, *, durable: bool = False) -> None:
        self._valkey = Valkey(home, fast=not durable)
        spec = self._valkey.spec()
        super().__init__(processes, spec.name, spec.argv, log=Path(spec.log))

    def is_ready(self) -> bool:
        return self._valkey.is_ready()

    @property
    def celeryconfig(self) -> dict[str, str]:
        url = self._valkey.url
        return {"url": url, "host_url": url, "local_url": url, "hostname": "127.0.0.1", "vhost": "0"}


class PostgresContainer(ProcessContainer):
    """A server of its own: stopped and started again it keeps its data and its address.

    If `durable`, it keeps them also when it is killed.
    """

    def __init__(self, processes: Processes, *, durable: bool = False) -> None:
        home = processes.home / f"own-{next(NUMBERS)}"  # a short path, as sockets need it, and swept with the stack's
        home.mkdir()
        self._postgres = Postgres(home, fast=not durable)
        self._postgres.prepare()
        self._spec = self._postgres.spec()
        super().__init__(processes, self._spec.name, self._spec.argv, log=Path(self._spec.log))

    @property
    def url(self) -> str:
        return self._postgres.url

    def start(self) -> None:
        self._begin(stop_signal=self._spec.stop_signal, user=self._spec.user)

    def is_ready(self) -> bool:
        return self._postgres.is_ready()


def signal_number(name: str | int) -> signal.Signals:
    return signal.Signals[name] if isinstance(name, str) else signal.Signals(name)
