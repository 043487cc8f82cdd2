"""A Postgres that is frozen, not gone: it keeps its connections and takes new ones, and answers on none."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from alembic import command
from alembic.config import Config

from cli.embedded import Stack
from goblin.settings import Settings
from tests.conftest import MIGRATIONS
from tests.fakes.racing import until

Serve = Callable[[Settings, Mapping[str, str]], AbstractContextManager[str]]


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """The URL of a server of this test's own."""
    home = tmp_path / "frozen"
    with Stack.start(home, fast=True) as stack:
        alembic = Config()
        alembic.set_main_option("script_location", str(MIGRATIONS))
        alembic.set_main_option("sqlalchemy.url", stack.database_url.replace("%", "%%"))
        command.upgrade(alembic, "head")
        yield stack.database_url


@contextmanager
def frozen(url: str) -> Iterator[None]:
    with psycopg.connect(url.replace("postgresql+psycopg:", "postgresql:")) as connection:
        (folder,) = connection.execute("select current_setting('data_directory')").fetchone() or ("",)
    server = psutil.Process(int((Path(folder) / "postmaster.pid").read_text().split()[0]))
    server.suspend()  # first, so that it starts nobody; the one that was just asked may be ending still
    processes = [server]
    for one in server.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            one.suspend()
            processes.append(one)
    try:
        yield
    finally:
        for one in processes:
            with suppress(psutil.NoSuchProcess):
                one.resume()


def test_a_postgres_that_is_frozen_is_waited_for_by_no_caller_and_serves_when_it_goes_on(
    settings_of: Any, postgres: str, redis_url: str, serve: Serve
) -> None:
    with serve(settings_of(postgres, redis_url), {}) as url, httpx.Client(base_url=url, timeout=60) as client:
        run = client.post("/v1/runs", json={"workflow": "chat: hi"}).headers["location"]
        assert client.get(run).status_code == 200
        with frozen(postgres), ThreadPoolExecutor() as pool:
            asked = [  # one has the connection that was there, the others have to make theirs
                pool.submit(client.get, run),
                pool.submit(client.get, "/v1/runs"),
                pool.submit(client.post, "/v1/runs", json={"workflow": "chat: hi"}),
            ]
            answers = [one.result() for one in asked]
        for answer in answers:
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
            assert int(answer.headers["retry-after"]) > 0
        until(lambda: client.get(run).status_code == 200, "the run can be read again")
        assert client.post("/v1/runs", json={"workflow": "chat: hi"}).status_code == 202
