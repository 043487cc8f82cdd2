"""The embedded servers: reachable by us alone, durable when asked, one home at a time, startable after any crash."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from sqlalchemy import create_engine, make_url, text

from cli.embedded import Stack
from goblin.errors import ConfigError

WRITER = """
import sys
from pathlib import Path
import psycopg, redis
from cli.embedded import Stack

stack = Stack.start(Path(sys.argv[1]))
with psycopg.connect(stack.database_url.replace("+psycopg", "")) as connection:
    connection.execute("create table note as select 'kept' as text")
client = redis.Redis.from_url(stack.redis_url)
client.set("note", "kept")
client.execute_command("WAITAOF", 1, 0, 10_000)
print(client.info("server")["process_id"], flush=True)
sys.stdin.read()
"""
LATE = """
import os, redis, signal, sys, time
def report(*_):
    time.sleep(0.5)  # it takes its time, as a worker with a call in flight does
    print(redis.Redis.from_url(sys.argv[1]).ping(), flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, report)
print("listening", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def running(home: Path) -> Iterator[Stack]:
    with Stack.start(home) as stack:
        yield stack


def query(url: str, statement: str) -> object:
    engine = create_engine(url)
    with engine.connect() as connection:
        return connection.execute(text(statement)).scalar()


def postmaster(home: Path) -> psutil.Process:
    return psutil.Process(int((home / "postgres/postmaster.pid").read_text().split()[0]))


def test_both_servers_answer_at_their_urls(running: Stack) -> None:
    assert query(running.database_url, "select current_database()") == "goblin"
    assert redis.Redis.from_url(running.redis_url).ping()


def test_postgres_listens_in_a_private_folder_only(running: Stack) -> None:
    assert query(running.database_url, "show listen_addresses") == ""
    folder = Path(str(make_url(running.database_url).query["host"]))
    assert folder.stat().st_mode & 0o077 == 0


def test_valkey_answers_nobody_without_the_password(running: Stack) -> None:
    url = make_url(running.redis_url)
    with socket.create_connection((url.host, url.port)) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(100).startswith(b"-NOAUTH")
    assert url.host == "127.0.0.1"
    assert all(str(url.password) not in word for process in psutil.process_iter() for word in command_line(process))


def command_line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def test_servers_inherit_no_secret(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("PGPORT", "1")
    with Stack.start(home) as stack:
        assert query(stack.database_url, "select 1") == 1
        assert "OPENAI_API_KEY" not in postmaster(home).environ()


def test_settings_are_durable_unless_fast_is_asked_for(running: Stack, stack: Stack) -> None:
    assert query(running.database_url, "show fsync") == "on"
    assert redis.Redis.from_url(running.redis_url).config_get("appendonly") == {"appendonly": "yes"}
    assert redis.Redis.from_url(running.redis_url).config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    if "GOBLIN_TEST_DATABASE_URL" not in os.environ:
        assert query(stack.database_url, "show fsync") == "off"


def test_data_outlive_an_owner_that_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        valkey = int(owner.stdout.readline())  # type: ignore[union-attr]
        postgres = postmaster(tmp_path)
        owner.kill()
    with Stack.start(tmp_path) as stack:  # waits for the keeper of the one before
        assert not psutil.pid_exists(valkey)
        assert not postgres.is_running()
        assert query(stack.database_url, "select text from note") == "kept"
        assert redis.Redis.from_url(stack.redis_url).get("note") == b"kept"


def test_a_second_stack_on_the_same_home_is_refused_with_the_cure(running: Stack) -> None:
    with pytest.raises(ConfigError, match=f"process {os.getpid()}.*set GOBLIN_HOME"):
        Stack.start(running.home)
    assert redis.Redis.from_url(running.redis_url).ping()


def test_a_pid_file_whose_number_is_someone_elses_does_not_prevent_a_start(home: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as stranger:
        (home / "postgres/postmaster.pid").write_text(f"{stranger.pid}\n{home}/postgres\n")
        with Stack.start(home) as stack:
            assert query(stack.database_url, "select 1") == 1
        assert stranger.poll() is None
        stranger.kill()


def test_a_postmaster_killed_with_its_keeper_does_not_prevent_a_start(home: Path) -> None:
    with Stack.start(home):
        server = postmaster(home)
        server.parent().kill()
        server.kill()
    with Stack.start(home) as stack:
        assert query(stack.database_url, "select 1") == 1


def test_a_server_that_is_killed_is_reported(running: Stack) -> None:
    with redis.Redis.from_url(running.redis_url) as client:
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
    ended = running.wait_exit(10)
    assert ended
    assert (ended.name, ended.code) == ("valkey", -signal.SIGKILL)


def test_servers_are_still_there_while_the_spawned_are_stopping(home: Path) -> None:
    log = home / "late.log"
    with Stack.start(home) as stack:
        stack.spawn("late", [sys.executable, "-c", LATE, stack.redis_url], log=log)
        while "listening" not in log.read_text():
            assert stack.wait_exit(0.05) is None
    assert log.read_text().endswith("True\n")


def test_two_stacks_with_two_homes_do_not_meet(home: Path, running: Stack, stack: Stack) -> None:
    assert running.redis_url != stack.redis_url
    redis.Redis.from_url(running.redis_url).set("mine", 1)
    assert redis.Redis.from_url(stack.redis_url).get("mine") is None


def test_a_home_too_deep_for_a_socket_gets_a_short_folder_that_goes_away(tmp_path: Path) -> None:
    with Stack.start(tmp_path / ("deep" * 25), fast=True, redis_url="none") as stack:
        assert query(stack.database_url, "select 1") == 1
        folder = Path(str(make_url(stack.database_url).query["host"]))
        assert len(str(folder)) < 80
    assert not folder.exists()


def test_a_server_that_is_configured_is_not_started(tmp_path: Path) -> None:
    with Stack.start(tmp_path, database_url="postgresql://elsewhere/db") as stack:
        assert stack.database_url == "postgresql://elsewhere/db"
        assert redis.Redis.from_url(stack.redis_url).ping()
    assert not (tmp_path / "postgres").exists()


def test_data_of_a_version_that_is_not_here_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres/PG_VERSION").write_text("9\n")
    with pytest.raises(ConfigError, match=r"written by PostgreSQL 9.*GOBLIN_HOME"):
        Stack.start(tmp_path)


def test_a_server_that_cannot_start_says_why(home: Path) -> None:
    with Stack.start(home):
        pass
    hba = home / "postgres/pg_hba.conf"
    kept = hba.read_text()
    hba.write_text("nonsense\n")
    with pytest.raises(ConfigError, match=r"postgres does not start: .*postgres\.log"):
        Stack.start(home)
    hba.write_text(kept)


def test_psycopg_reads_the_same_url(running: Stack) -> None:
    with psycopg.connect(running.database_url.replace("+psycopg", "")) as connection:
        assert connection.info.server_version >= 140_000
