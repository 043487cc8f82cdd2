"""Real servers for the tests: one PostgreSQL and one Valkey of their own for the whole session.

GOBLIN_TEST_DATABASE_URL and GOBLIN_TEST_REDIS_URL name servers to use instead; DATABASE_URL and REDIS_URL never count.
"""

import itertools
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, make_url, text

from cli.embedded import Stack
from tests.processes import Processes

MIGRATIONS = Path(__file__).parent.parent / "migrations"
REDIS_DATABASES = itertools.cycle(range(1, 11))  # 0 is left to the bare URL, 11 to 15 to modules with one for all


def pytest_configure() -> None:
    """A shell starts what runs in its background deaf to Ctrl-C, and so would be every process that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def fresh_database(server_url: str, template_url: str | None = None) -> Iterator[str]:
    """The URL of a new database, a copy of the template if one is given. Dropped afterwards, whoever is connected."""
    url = make_url(server_url).set(database=f"test_{uuid4().hex}")
    template = f" template {make_url(template_url).database} strategy file_copy" if template_url else ""
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"create database {url.database}{template}"))
        yield url.render_as_string(hide_password=False)
        connection.execute(text(f"drop database {url.database} with (force)"))
    engine.dispose()


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The servers. Its home goes away with them, also when the test run is killed."""
    home = Path(tempfile.mkdtemp(prefix="goblin-test-"))
    with Stack.start(
        home,
        fast=True,
        database_url=os.environ.get("GOBLIN_TEST_DATABASE_URL"),
        redis_url=os.environ.get("GOBLIN_TEST_REDIS_URL"),
    ) as stack:
        stack.sweep(home)
        yield stack


@pytest.fixture(scope="session")
def processes(stack: Stack) -> Processes:
    return Processes(stack)


@pytest.fixture(scope="session")
def template_url(stack: Stack) -> Iterator[str]:
    """A database made by the migrations, from which the others are copied. Nobody connects to it."""
    with fresh_database(stack.database_url) as url:
        alembic = Config()
        alembic.set_main_option("script_location", str(MIGRATIONS))
        alembic.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
        command.upgrade(alembic, "head")
        yield url


@pytest.fixture(scope="module")
def database_url(stack: Stack, template_url: str) -> Iterator[str]:
    """An empty, migrated database that the tests of one module share."""
    with fresh_database(stack.database_url, template_url) as url:
        yield url


@pytest.fixture
def database(stack: Stack, template_url: str) -> Iterator[str]:
    """The URL of an empty, migrated database for this test alone."""
    with fresh_database(stack.database_url, template_url) as url:
        yield url


@pytest.fixture
def redis_url(stack: Stack) -> str:
    """An empty numbered database of the session's Valkey, for this test alone."""
    server, _, _ = stack.redis_url.rpartition("/")
    url = f"{server}/{next(REDIS_DATABASES)}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url
