"""Alembic's entry: brings a database to the shape of ledger.models. `goblin migrate` calls it with a URL."""

from alembic import context
from sqlalchemy import NullPool, create_engine, text

from ledger.models import Table

LOCK = 0x60B11  # two processes that start at once must not migrate at once


def _migrate() -> None:
    url = context.config.get_main_option("sqlalchemy.url")
    if url is None:
        raise RuntimeError("no database URL was given to the migrations")
    engine = create_engine(url, poolclass=NullPool)  # whatever happens, the lock ends with the connection
    with engine.connect() as connection:
        connection.execute(text("select pg_advisory_lock(:key)"), {"key": LOCK})
        connection.commit()
        context.configure(connection=connection, target_metadata=Table.metadata)
        with context.begin_transaction():
            context.run_migrations()


_migrate()
