"""The migrations and the models are one shape; they go up, down, and up by two at once."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import ProgrammingError

from cli.embedded import Stack
from ledger.models import Table
from tests.conftest import MIGRATIONS, fresh_database

UPGRADE = """
import sys
from alembic import command
from alembic.config import Config

config = Config()
config.set_main_option("script_location", sys.argv[1])
config.set_main_option("sqlalchemy.url", sys.argv[2].replace("%", "%%"))
print("ready", flush=True)
sys.stdin.readline()
command.upgrade(config, "head")
"""


def alembic(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    return names


@pytest.fixture
def empty(stack: Stack) -> Iterator[str]:
    with fresh_database(stack.database_url) as url:
        yield url


def test_the_migrations_end_where_the_models_are(database: str) -> None:
    engine = create_engine(database)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Table.metadata) == []
    engine.dispose()


def test_the_constraints_of_the_models_are_those_of_the_migrations(database: str, empty: str) -> None:
    """Checks are not compared by autogenerate, so both databases are asked for what they hold."""
    made = create_engine(empty)
    Table.metadata.create_all(made)
    ask = text(
        "select conrelid::regclass::text, contype::text, pg_get_constraintdef(oid) from pg_constraint"
        " where connamespace = 'public'::regnamespace and conrelid::regclass::text <> 'alembic_version'"
        " order by 1, 2, 3"
    )
    migrated = create_engine(database)
    with made.connect() as one, migrated.connect() as other:
        assert one.execute(ask).all() == other.execute(ask).all()
    made.dispose()
    migrated.dispose()


def test_they_go_down_to_nothing_and_up_again(empty: str) -> None:
    command.upgrade(alembic(empty), "head")
    assert tables(empty) >= set(Table.metadata.tables)
    command.downgrade(alembic(empty), "base")
    assert tables(empty) == {"alembic_version"}
    command.upgrade(alembic(empty), "head")
    assert tables(empty) >= set(Table.metadata.tables)


def test_a_second_upgrade_changes_nothing(database: str) -> None:
    command.upgrade(alembic(database), "head")
    assert tables(database) == {*Table.metadata.tables, "alembic_version"}


def test_processes_that_upgrade_at_once_do_not_clash(empty: str) -> None:
    argv = [sys.executable, "-c", UPGRADE, str(MIGRATIONS), empty]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    ready = [subprocess.Popen(argv, cwd=MIGRATIONS.parent, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    for process in ready:
        assert process.stdout.readline() == "ready\n"
    for process in ready:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[1] for process in ready] == ["", ""]
    assert [process.returncode for process in ready] == [0, 0]
    assert tables(empty) >= set(Table.metadata.tables)


def test_an_upgrade_that_fails_lets_the_next_one_in(empty: str) -> None:
    engine = create_engine(empty, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("create table marks (name text)"))
        with pytest.raises(ProgrammingError, match="already exists"):
            command.upgrade(alembic(empty), "head")
        connection.execute(text("drop table marks"))
    engine.dispose()
    assert tables(empty) == set()
    command.upgrade(alembic(empty), "head")
    assert tables(empty) >= set(Table.metadata.tables)
