"""The embedded PostgreSQL and Valkey: their data, their settings, and whether they answer.

Their processes belong to the keeper; the data folder, its lock and the order of things to `cli.embedded`.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cli.keeper import Spec
from cli.programs import find_postgres, find_valkey, identity, reachable
from goblin.errors import ConfigError

DATABASE = ROLE = "goblin"
CONNECTIONS = 250
SOCKET_NUMBER = 5432  # the "port" in a socket's name; said everywhere, so that no PGPORT counts
SOCKET_NAME = f"/.s.PGSQL.{SOCKET_NUMBER}.lock"
SOCKET_PATH_LIMIT = 103  # bytes; macOS allows 104 with the zero at the end, Linux 108
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
STOP_S = 15.0


class Server(Protocol):
    """What the stack brings up. A repeated `spec` may choose another port."""

    @property
    def name(self) -> str: ...
    @property
    def log(self) -> Path: ...
    @property
    def url(self) -> str: ...
    def spec(self) -> Spec: ...
    def is_ready(self) -> bool: ...


class Postgres:
    """One cluster, reached through a socket in a private folder only: no port to share, no password to leak."""

    name = "postgres"

    def __init__(self, home: Path, *, fast: bool) -> None:
        self.log = home / "postgres.log"
        self._fast = fast
        self._identity = identity()
        place = reachable(home, self._identity.user)
        self._data = place / "postgres"
        self._sockets = place / "run"
        written_by = self._data / "PG_VERSION"
        self._programs = find_postgres(written_by.read_text().strip() if written_by.exists() else None)

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://{ROLE}@/{DATABASE}?host={quote(str(self._sockets))}&port={SOCKET_NUMBER}"

    def prepare(self) -> Path | None:
        """Makes the folders, and the cluster when there is none. Returns a folder to remove afterwards, if any.

        The caller holds the lock of the home: whatever a killed predecessor left is nobody's.
        """
        clear_stale_pid(self._data)
        if not self._data.exists():
            self._initialise()
        shutil.rmtree(self._sockets, ignore_errors=True)
        if len(os.fsencode(self._sockets)) + len(SOCKET_NAME) <= SOCKET_PATH_LIMIT:
            self._own(self._sockets)
            return None
        self._sockets = Path(tempfile.mkdtemp(prefix="goblin-", dir=short_temporary_folder()))
        self._own(self._sockets)
        return self._sockets

    def spec(self) -> Spec:
        settings = [
            "listen_addresses=",
            f"unix_socket_directories={self._sockets}",
            "unix_socket_permissions=0700",
            f"port={SOCKET_NUMBER}",
            f"max_connections={CONNECTIONS}",
            "timezone=UTC",
            "log_timezone=UTC",
            "log_checkpoints=off",
            *(FAST if self._fast else ()),
        ]
        options = [part for setting in settings for part in ("-c", setting)]
        return Spec(
            name=self.name,
            argv=[*self._identity.prefix, str(self._programs.postgres), "-D", str(self._data), *options],
            log=str(self.log),
            env=bare_environment(),
            user=self._identity.user,
            stop_signal=signal.SIGINT,  # fast shutdown: it does not wait for clients
            grace_s=STOP_S,
            wave=0,
        )

    def is_ready(self) -> bool:
        try:
            with psycopg.connect(
                host=str(self._sockets), port=SOCKET_NUMBER, user=ROLE, dbname="postgres", autocommit=True
            ) as connection:
                known = connection.execute("select from pg_database where datname = %s", [DATABASE]).fetchone()
                if known is None:
                    connection.execute(f"create database {DATABASE}")
        except psycopg.OperationalError:
            return False
        return True

    def _initialise(self) -> None:
        """Beside its place, then moved there: a killed one leaves nothing that looks like data."""
        unfinished = self._data.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        self._own(unfinished)
        command = [
            *self._identity.prefix, str(self._programs.initdb), "--pgdata", str(unfinished), "--username", ROLE,
            "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--no-locale", "--no-instructions",
            *(["--no-sync"] if self._fast else []),
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd="/", env=bare_environment(), user=self._identity.user, capture_output=True, text=True
        )
        if done.returncode != 0:
            reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
            raise ConfigError(f"initdb failed as {self._identity.user or 'this user'}: {reason}; {self._cure()}")
        unfinished.rename(self._data)

    def _cure(self) -> str:
        if self._identity.user:
            return "root needs `unshare`, or programs that `nobody` may run: be an ordinary user, or set DATABASE_URL"
        return "set GOBLIN_HOME to a folder with room, or DATABASE_URL to a running server"

    def _own(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._identity.user:
            shutil.chown(folder, self._identity.user)


class Valkey:
    """On a free port of the loopback interface, behind a password that is made for each start."""

    name = "valkey"

    def __init__(self, home: Path, *, fast: bool) -> None:
        self.log = home / "valkey.log"
        self._data = home / "valkey"
        self._config = home / "valkey.conf"
        self._fast = fast
        self._program = find_valkey()
        self._password = secrets.token_urlsafe(24)
        self._port = 0

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    def spec(self) -> Spec:
        self._port = free_port()
        self._data.mkdir(mode=0o700, exist_ok=True)
        settings = [
            "bind 127.0.0.1",
            f"port {self._port}",
            f"requirepass {self._password}",
            f'dir "{self._data}"',
            f"appendonly {'no' if self._fast else 'yes'}",
            'save ""',
            "maxmemory-policy noeviction",
        ]
        self._config.touch(mode=0o600)
        self._config.write_text("\n".join(settings) + "\n")
        argv = [str(self._program), str(self._config)]
        return Spec(name=self.name, argv=argv, log=str(self.log), env=bare_environment(), wave=0)

    def is_ready(self) -> bool:
        at_once = Retry(NoBackoff(), 0)
        with redis.Redis.from_url(self.url, socket_timeout=5, retry=at_once) as client, suppress(redis.RedisError):
            return bool(client.ping())
        return False


def bare_environment() -> dict[str, str]:
    """A server needs none of our secrets, and must not be steered by the user's PG* variables or locale."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def short_temporary_folder() -> str:
    """TMPDIR itself may be too deep for a socket."""
    name = "/goblin-12345678" + SOCKET_NAME
    preferred = tempfile.gettempdir()
    return preferred if len(os.fsencode(preferred)) + len(name) <= SOCKET_PATH_LIMIT else "/tmp"


def clear_stale_pid(data: Path) -> None:
    """Ends a postmaster of these data that lost its keeper, and removes its pid file when that would be misread.

    Postgres refuses to start while a process has that number, be it a zombie or someone else's. That no old backend
    is still at work it knows from their shared memory, too.
    """
    pid_file = data / "postmaster.pid"
    with suppress(FileNotFoundError, ValueError, IndexError, ProcessLookupError):
        pid = int(pid_file.read_text().splitlines()[0])
        if str(data) in command_of(pid):
            end_orphan(pid)
        with suppress(PermissionError):
            os.kill(pid, 0)
        pid_file.unlink()


def command_of(pid: int) -> str:
    """The command line of a process; empty when there is none. Slim containers have no `ps`, macOS no `/proc`."""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            return ""
    return subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True).stdout


def end_orphan(pid: int) -> None:
    """It is not our child, so there is nothing to wait on: its command line goes when it does."""
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + STOP_S
    while command_of(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
