"""Races on purpose: calls let go at one moment, and a look at who waits for whose lock."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ledger.session import Ledger

T = TypeVar("T")
PATIENCE_S = 30
_WAITING = """select count(*) from pg_stat_activity
where datname = current_database() and wait_event_type = 'Lock' and pid <> pg_backend_pid()"""


def at_once(*calls: Callable[[], T]) -> list[T | Exception]:
    """What each call returned or raised, all of them begun at the same moment in threads of their own."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T | Exception:
        gate.wait(PATIENCE_S)
        try:
            return call()
        except Exception as error:  # noqa: BLE001
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def begin(call: Callable[[], T]) -> "Future[T]":
    """A call on its way in a thread of its own."""
    threads = ThreadPoolExecutor(1)
    future = threads.submit(call)
    threads.shutdown(wait=False)
    return future


def until(holds: Callable[[], object], what: str) -> None:
    """Returns when it holds; TimeoutError when it does not come to that."""
    give_up = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > give_up:
            raise TimeoutError(f"{what}: not within {PATIENCE_S} s")
        time.sleep(0.005)


def until_waiting(ledger: Ledger, statements: int = 1) -> None:
    """Returns when so many statements in this database wait for a lock."""

    def waiting() -> bool:
        with ledger.engine.connect() as connection:
            return bool(connection.exec_driver_sql(_WAITING).scalar_one() >= statements)

    until(waiting, f"{statements} waiting for a lock")
