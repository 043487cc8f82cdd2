"""The owner's end of the keeper: start, stop and hear of processes that must not outlive this one."""

import json
import os
import select
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path

from cli import keeper
from cli.keeper import Spec
from goblin.errors import ConfigError, Unavailable


@dataclass(frozen=True, slots=True)
class Exit:
    """A child that ended; a negative code is the signal that ended it."""

    name: str
    code: int


class Leash:
    """Belongs to one thread. When this process ends, in whatever way, everything on the leash is stopped."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._answers: deque[tuple[str, str]] = deque()  # to `start`: started, pid | failed, reason
        self._exits: deque[Exit] = deque()
        self._unread = b""

    @classmethod
    def fasten(cls, log: Path, *, held: int) -> "Leash":
        """Starts a keeper. It keeps the file descriptor `held` (a lock) until everything it started has stopped."""
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", keeper.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd="/",
                pass_fds=[held],
                start_new_session=True,
            )
        return cls(process)

    def start(self, spec: Spec) -> int:
        """The process id. ConfigError when it cannot be started."""
        self._send("start " + json.dumps(asdict(spec)))
        while not self._answers:
            self._hear(None)
        verb, rest = self._answers.popleft()
        if verb == "failed":
            raise ConfigError(f"{spec.name} does not start: {rest}")
        return int(rest)

    def stop(self, name: str) -> None:
        """Asks it to stop, and returns; `wait_exit` tells when it has."""
        self._send(f"stop {name}")

    def sweep(self, folder: Path) -> None:
        """The folder is removed once everything has stopped, also when this process was killed."""
        self._send(f"sweep {folder}")

    def wait_exit(self, timeout_s: float | None = None) -> Exit | None:
        """The next child that ended, or None when none did in time. Unavailable when the keeper itself was killed."""
        deadline = inf if timeout_s is None else time.monotonic() + timeout_s
        while not self._exits:
            rest_s = max(0.0, deadline - time.monotonic())
            self._hear(None if rest_s == inf else rest_s)
            if not self._exits and rest_s == 0.0:
                return None
        return self._exits.popleft()

    def release(self) -> None:
        """Stops everything and waits until it has. Repeating it is harmless."""
        with self._process:  # closes the pipe, then waits
            pass

    def _send(self, line: str) -> None:
        pipe = self._process.stdin
        if pipe is None or pipe.closed:
            raise Unavailable("the stack is closed")
        with suppress(BrokenPipeError):  # reading tells it better
            pipe.write(line.encode() + b"\n")
            pipe.flush()

    def _hear(self, timeout_s: float | None) -> None:
        """Reads what the keeper has reported; returns without any report when none came in time."""
        pipe = self._process.stdout
        if pipe is None or pipe.closed:
            raise Unavailable("the stack is closed")
        ready, _, _ = select.select([pipe], [], [], timeout_s)
        if not ready:
            return
        received = os.read(pipe.fileno(), 65536)
        if not received:
            raise Unavailable("the keeper of the embedded servers was killed, and they with it: start again")
        *lines, self._unread = (self._unread + received).split(b"\n")
        for line in lines:
            verb, name, rest = line.decode().split(" ", 2)
            if verb == "exited":
                self._exits.append(Exit(name, int(rest)))
            else:
                self._answers.append((verb, rest))
