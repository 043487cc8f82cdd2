"""The door to Postgres: one engine per process, statements by name from ledger/sql, vendor errors turned into ours.

Every named statement is one round trip in autocommit. Whoever needs two in one go asks for a transaction.
"""

import re
import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Any, TypeVarTuple

import psycopg
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.rows import namedtuple_row
from sqlalchemy import URL, Connection, Engine, ExceptionContext, Row, Select, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from goblin.errors import ConfigError, Unavailable

_Ts = TypeVarTuple("_Ts")
IDLE_S = 15.0
_POOL_S = 30.0  # longest wait for a connection that others use
_OUTAGES = (psycopg.OperationalError, ReadOnlySqlTransaction)
_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_CONNECT = {
    "connect_timeout": 5,
    "application_name": "goblin",
    "prepare_threshold": 2,
    "keepalives_idle": 10,  # a server that went away without a word is noticed in half a minute, not in hours
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}


def _read(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):  # what they say may quote a password
        raise ConfigError("DATABASE_URL cannot be read: write postgresql://user@host:5432/database") from None


def statement(name: str) -> str:
    """The text of a statement, named `file.statement`. Raises KeyError when there is none."""
    return _statements()[name]


@cache
def _statements() -> Mapping[str, str]:
    """All of them, read at once: files that are replaced while a process runs belong to the next one."""
    found: dict[str, str] = {}
    for source in files("ledger").joinpath("sql").iterdir():
        parts = _NAME.split(source.read_text())
        texts = zip(parts[1::2], parts[2::2], strict=True)
        found |= {f"{source.name.removesuffix('.sql')}.{name}": text.strip().rstrip(";") for name, text in texts}
    return found


class Ledger:
    """A process's connections to Postgres.

    `answer_s` is how long a statement may wait for Postgres to say something (seconds): a server that froze keeps its
    connections, and whoever has a caller of his own must not wait with it. Without it, statements wait.
    """

    def __init__(self, url: str, *, connections: int = 16, answer_s: float | None = None) -> None:
        _statements()
        self._engine = create_engine(
            _read(_driver(url)),
            isolation_level="AUTOCOMMIT",
            pool_size=connections,
            max_overflow=0,
            pool_timeout=_POOL_S if answer_s is None else answer_s,
            hide_parameters=True,  # an error is logged, and the parameters hold prompts
            connect_args=_CONNECT,
        )
        if answer_s is not None:
            event.listen(self._engine, "do_connect", _bounded(answer_s))
        event.listen(self._engine, "connect", _keep_plans)
        event.listen(self._engine, "checkout", _refuse_dead)
        event.listen(self._engine, "handle_error", _leave_demoted)

    @property
    def engine(self) -> Engine:
        return self._engine

    def close(self) -> None:
        self._engine.dispose()

    def run(self, name: str, /, patience: float = 0, **parameters: Any) -> Sequence[Any]:
        """Execute one named statement and return its rows.

        Raises Unavailable when Postgres cannot be reached, or was lost before it answered: then nobody knows whether
        the statement was executed. `patience` (seconds) keeps trying before that, which is right for statements
        that may be repeated.
        """
        give_up = time.monotonic() + patience
        while True:
            try:
                return self._rows(statement(name), parameters)
            except (*_OUTAGES, PoolTimeout) as error:
                if time.monotonic() >= give_up:
                    raise Unavailable("Postgres cannot be reached", retry_after=2) from error
                time.sleep(0.25)

    def _rows(self, sql: str, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """By the driver itself: SQLAlchemy's way to it costs as much CPU as the statement."""
        pooled = self._engine.raw_connection()
        connection: Any = pooled.driver_connection
        try:
            cursor = connection.cursor(row_factory=namedtuple_row)
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.pgresult.nfields else ()
        except ReadOnlySqlTransaction:
            connection.close()
            raise
        finally:
            if connection.closed:
                pooled.invalidate()
            pooled.close()

    def read(self, query: Select[*_Ts]) -> Sequence[Row[*_Ts]]:
        """The rows of a query over ledger.models, made for people's eyes. Raises Unavailable as `run` does."""
        with _outages(), self._engine.connect() as connection:
            return connection.execute(query).all()

    @contextmanager
    def transaction(self, *, idle_s: float = IDLE_S) -> Iterator["Transaction"]:
        """Several statements as one. Raises Unavailable as `run` does, also when nothing was said for `idle_s` seconds:
        Postgres ends a silent transaction, so that a process that froze or was cut off lets go of what it has locked.
        """
        with (
            _outages(),
            self._engine.connect().execution_options(isolation_level="READ COMMITTED") as connection,
            connection.begin(),
        ):
            limit = f"set local idle_in_transaction_session_timeout = {round(idle_s * 1000)}"
            connection.exec_driver_sql(limit)
            yield Transaction(connection)


class Transaction:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def run(self, name: str, /, **parameters: Any) -> Sequence[Row[Any]]:
        return _rows(self._connection, name, parameters)

    @contextmanager
    def copy(self, name: str) -> Iterator[psycopg.Copy]:
        """Rows for a named `copy … from stdin`, written as they come. Raises Unavailable as `run` does."""
        connection: Any = self._connection.connection.driver_connection
        try:
            with connection.cursor() as cursor, cursor.copy(statement(name)) as copy:
                yield copy
        except _OUTAGES as error:
            raise Unavailable("Postgres cannot be reached", retry_after=2) from error


def _rows(connection: Connection, name: str, parameters: Mapping[str, Any]) -> Sequence[Row[Any]]:
    result = connection.exec_driver_sql(statement(name), dict(parameters))
    return result.all() if result.returns_rows else ()


def _bounded(answer_s: float) -> Callable[..., psycopg.Connection]:
    """How to connect so that no wait for an answer is longer. Who waited in vain closes: what comes yet is nobody's."""

    class Impatient(psycopg.Connection):
        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            try:
                return super().wait(gen, interval, answer_s if timeout is None else timeout)
            except psycopg.OperationalError as error:
                if error.sqlstate is None:  # else the server has answered, as when a copy is called off
                    self.close()
                raise

    def connect(_dialect: Any, _record: Any, args: Sequence[Any], named: Mapping[str, Any]) -> psycopg.Connection:
        return Impatient.connect(*args, **named)

    return connect


def _keep_plans(connection: Any, *_: Any) -> None:
    """All statements go by keys: to plan one anew for its values costs more than it could find."""
    connection.execute("set plan_cache_mode = force_generic_plan")


def _refuse_dead(connection: Any, *_: Any) -> None:
    """A server that says something unasked on an idle connection has ended it: seen here, it costs its user no error.

    A look at the socket takes a microsecond, a ping a round trip. All connections of that age are replaced.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        raise InvalidatePoolError


def _leave_demoted(failure: ExceptionContext) -> None:
    """A server that may not be written to is the old primary of a failover: its connections lead to the wrong one."""
    if isinstance(failure.original_exception, ReadOnlySqlTransaction):
        failure.is_disconnect = True


@contextmanager
def _outages() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        if not _is_outage(error):
            raise
        raise Unavailable("Postgres cannot be reached", retry_after=2) from error


def _is_outage(error: Exception) -> bool:
    if isinstance(error, PoolTimeout | OperationalError):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _driver(url: str) -> str:
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)
