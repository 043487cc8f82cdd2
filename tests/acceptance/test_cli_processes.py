"""The single processes of a deployment, each as its own command on servers that are configured."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.commands import app

GOBLIN = [sys.executable, "-P", "-m", "cli.main"]
PATIENCE_S = 60


@pytest.fixture
def servers(database: str, redis_url: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOBLIN_", "FLOWER_"))}
    return {**kept, "DATABASE_URL": database, "REDIS_URL": redis_url}


@contextlib.contextmanager
def command(servers: dict[str, str], *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """Asked to stop at the end, and stopping with 0."""
    with subprocess.Popen(
        [*GOBLIN, *arguments], env=servers, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0


def goblin(servers: dict[str, str], *arguments: str) -> Result:
    """A command that ends by itself, in this process."""
    return CliRunner().invoke(app, list(arguments), env=servers)


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_api_says_where_it_listens_and_answers_there(servers: dict[str, str]) -> None:
    with command(servers, "api", "--port", "0", "--workers", "2") as process:
        assert process.stdout
        assert status(json.loads(process.stdout.readline())["url"] + "/api/health") == 200


def test_a_client_that_pauses_asks_on_over_its_connection(servers: dict[str, str]) -> None:
    """httpx, and so most SDKs, may use a connection again until it was idle for 5 s: it must still be there."""
    with command(servers, "api", "--port", "0", "--workers", "2") as process:
        assert process.stdout
        address = urllib.parse.urlsplit(json.loads(process.stdout.readline())["url"])
        client = http.client.HTTPConnection(str(address.hostname), address.port, timeout=PATIENCE_S)
        client.auto_open = 0  # a second connection would hide that the first was closed
        client.connect()
        with contextlib.closing(client):
            for pause_s in (0, 6):
                time.sleep(pause_s)
                client.request("GET", "/api/health")
                answer = client.getresponse()
                assert (answer.status, bool(answer.read())) == (200, True)


def test_the_api_refuses_other_machines_without_a_key(servers: dict[str, str]) -> None:
    asked = [*GOBLIN, "api", "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(asked, env=servers, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 2
    assert "goblin keys create" in done.stderr


def test_a_worker_says_when_it_is_ready(servers: dict[str, str]) -> None:
    with command(servers, "worker", "--concurrency", "2", "--queues", "steps", "--name", "mine@%h") as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["ready"].startswith("mine@")


def test_nobody_sees_flower_without_the_password_that_it_made(servers: dict[str, str]) -> None:
    with command(servers, "flower", "--port", "0") as process:
        assert process.stderr
        made = process.stderr.readline().split()
        url, password = made[2], made[-1]
        while "Visit me" not in process.stderr.readline():
            assert process.poll() is None
        assert status(url) == 401
        assert status(url, Authorization="Basic " + b64encode(f"goblin:{password}".encode()).decode()) == 200


def test_a_database_is_migrated_once_and_said_to_be_there(servers: dict[str, str]) -> None:
    assert goblin(servers, "migrate").stdout.startswith("the database is at 0")


def test_a_database_that_is_not_there_is_one_line_with_the_cure(servers: dict[str, str]) -> None:
    done = goblin({**servers, "DATABASE_URL": "postgresql://127.0.0.1:9/none"}, "migrate")
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1
    assert "DATABASE_URL" in done.stderr


def test_keys_are_made_listed_and_revoked_on_the_database_itself(servers: dict[str, str]) -> None:
    secret = goblin(servers, "keys", "create", "mine").stdout.strip()
    assert secret.startswith("gob_")
    assert secret not in goblin(servers, "keys", "list").output
    assert goblin(servers, "keys", "create", "mine").exit_code == 2
    revoked = json.loads(goblin(servers, "keys", "revoke", "mine", "--json").stdout)
    (row,) = json.loads(goblin(servers, "keys", "list", "--json").stdout)
    assert row["name"] == "mine"
    assert row == revoked
    assert row["revoked_at"]


def test_flower_makes_no_password_for_a_broker_that_is_not_configured(servers: dict[str, str]) -> None:
    unset = {name: value for name, value in servers.items() if name != "REDIS_URL"}
    done = subprocess.run(
        [*GOBLIN, "flower", "--port", "0"], env=unset, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "set REDIS_URL" in done.stderr


@pytest.mark.parametrize(
    ("wrong", "cure"),
    [
        ({"REDIS_URL": ""}, "set REDIS_URL"),
        ({"DATABASE_URL": "postgresql://u:secret@h:port/d"}, "DATABASE_URL cannot be read"),
        ({"GOBLIN_CONFIG": "own.toml"}, "needs a base_url"),
    ],
)
def test_an_api_that_cannot_work_says_so_in_one_line_before_it_listens(
    servers: dict[str, str], tmp_path: Path, wrong: dict[str, str], cure: str
) -> None:
    (tmp_path / "own.toml").write_text("[providers.mine]\nenabled = true\n")
    done = subprocess.run(
        [*GOBLIN, "api", "--port", "0"], env={**servers, **wrong}, cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert cure in done.stderr
    assert "secret" not in done.stderr
