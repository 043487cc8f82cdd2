"""The keeper: a small process that starts others and never outlives its owner, however the owner went.

The owner holds a pipe to it and writes one command a line; end of file means that the owner is gone.

    start {"name": …, "argv": […], …}   a Spec as JSON      →  started NAME PID | failed NAME REASON
    stop NAME                           asked, then killed  →  exited NAME CODE
    sweep PATH                          remove this folder when everything has stopped

`exited NAME CODE` is also written when a child ends by itself (a negative code is the signal that ended it).
Standard library only: it is run as a file by an isolated interpreter. The owner's end is `cli.leash`.
"""

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Spec:
    """What to start, and how it wants to be stopped."""

    name: str  # one word, unique among the running
    argv: list[str]
    log: str  # the file that its output is appended to
    env: dict[str, str] | None = None  # the whole environment; None is the keeper's own
    cwd: str = "/"
    user: str | None = None  # only root may set it
    stop_signal: int = signal.SIGTERM
    grace_s: float = 10.0  # from the stop signal to SIGKILL
    wave: int = 1  # higher waves stop first, one wave at once


@dataclass(slots=True)
class Child:
    spec: Spec
    process: subprocess.Popen[bytes]
    deadline: float = inf  # monotonic seconds; finite once it was asked to stop

    def ask(self) -> None:
        if self.deadline == inf:
            self.deadline = time.monotonic() + self.spec.grace_s
            self.process.send_signal(self.spec.stop_signal)

    def kill(self) -> None:
        """Everything in its session: also what it left behind when it is gone itself."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # nobody is left (macOS says so with EPERM)
            return


class Keeper:
    """One thread that waits for commands, for the end of a child, and for the end of somebody's grace."""

    def __init__(self, commands: int, reports: int) -> None:
        self._commands = commands
        self._reports = reports
        self._children: dict[str, Child] = {}
        self._folders: list[str] = []
        self._unread = b""
        self._is_open = True
        self._alarm = self._listen()

    def run(self) -> None:
        while self._is_open:
            self._wait([self._commands, self._alarm])
        self._stop_all()
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _listen(self) -> int:
        """A file descriptor that becomes readable with every signal."""
        alarm, ring = os.pipe()
        os.set_blocking(alarm, False)
        os.set_blocking(ring, False)
        signal.set_wakeup_fd(ring, warn_on_full_buffer=False)
        # Handlers, not SIG_IGN: what is ignored stays ignored in the children.
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._close())
        return alarm

    def _close(self) -> None:
        self._is_open = False

    def _stop_all(self) -> None:
        while self._children:
            wave = max(child.spec.wave for child in self._children.values())
            for child in reversed(list(self._children.values())):
                if child.spec.wave == wave:
                    child.ask()
            self._wait([self._alarm])

    def _wait(self, sources: list[int]) -> None:
        next_kill = min((child.deadline for child in self._children.values()), default=inf)
        timeout = None if next_kill == inf else max(0.0, next_kill - time.monotonic())
        ready, _, _ = select.select(sources, [], [], timeout)
        if self._alarm in ready:
            os.read(self._alarm, 4096)
        if self._commands in ready:
            self._read()
        self._reap()

    def _reap(self) -> None:
        for child in list(self._children.values()):
            code = child.process.poll()
            if code is not None:
                child.kill()
                del self._children[child.spec.name]
                self._report(f"exited {child.spec.name} {code}")
            elif time.monotonic() >= child.deadline:
                child.kill()
                child.deadline = time.monotonic() + 1.0  # and again, should the kernel be slow

    def _read(self) -> None:
        received = os.read(self._commands, 65536)
        if not received:
            self._close()
            return
        *lines, self._unread = (self._unread + received).split(b"\n")
        for line in lines:
            verb, _, rest = line.decode().partition(" ")
            self._obey(verb, rest)

    def _obey(self, verb: str, rest: str) -> None:
        if verb == "start":
            self._start(Spec(**json.loads(rest)))
        elif verb == "stop" and rest in self._children:
            self._children[rest].ask()
        elif verb == "sweep":
            self._folders.append(rest)

    def _start(self, spec: Spec) -> None:
        if spec.name in self._children:
            self._report(f"failed {spec.name} it is running already")
            return
        try:
            child = Child(spec, launch(spec))
        except (OSError, ValueError, LookupError, subprocess.SubprocessError) as error:
            self._report(f"failed {spec.name} {error}")
        else:
            self._children[spec.name] = child
            self._report(f"started {spec.name} {child.process.pid}")

    def _report(self, line: str) -> None:
        try:
            os.write(self._reports, line.replace("\n", " ").encode() + b"\n")
        except BrokenPipeError:
            return  # the owner is gone: nobody is left to read it


def launch(spec: Spec) -> subprocess.Popen[bytes]:
    as_user: dict[str, Any] = {}
    if spec.user:
        import pwd

        entry = pwd.getpwnam(spec.user)
        as_user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    with Path(spec.log).open("ab") as log:
        return subprocess.Popen(
            spec.argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=spec.env,
            cwd=spec.cwd,
            start_new_session=True,
            preexec_fn=tied_to_this_process(),
            **as_user,
        )


def tied_to_this_process() -> Callable[[], None] | None:
    """On Linux the kernel kills the child when the keeper itself was killed; elsewhere there is no such call."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    keeper = os.getpid()

    def tie() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(1)

    return tie


if __name__ == "__main__":
    os.umask(0o077)  # logs may hold what others should not read
    Keeper(sys.stdin.fileno(), sys.stdout.fileno()).run()
