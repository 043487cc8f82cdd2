"""What keys have spent is folded into sums while others write: each entry is counted once, at every moment."""

import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import redis
from sqlalchemy import Connection

from goblin.errors import LeaseLost
from ledger import attempts, holds, marks
from ledger.attempts import Charge
from ledger.session import Ledger, statement
from routing import budget
from routing.admission import Admission
from routing.rebuild import Rebuild
from scheduler.fold import Fold
from tests.fakes.asks import NOON
from tests.fakes.racing import at_once, begin, until_waiting
from tests.fakes.runs import PRICE, SUCCESS, accept, claim, one

A, B = uuid.UUID(int=1), uuid.UUID(int=2)
SPENT = {A: 70, B: 500}
COLUMNS = (
    "run_id", "idx", "key_id", "kind", "goblin", "provider", "model", "is_measured", "input_tokens",
    "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "price", "amount_nanousd",
)  # fmt: skip


def spend(ledger: Ledger, amount: int, key: uuid.UUID | None = A) -> None:
    made = claim(accept(ledger))
    attempts.open_attempt(ledger, made)
    ending = replace(SUCCESS, charge=Charge(amount, is_measured=True, price=PRICE))
    attempts.settle(ledger, made.attempt, ending, goblin="chat", key_id=key)


def spent(ledger: Ledger) -> dict[uuid.UUID, int]:
    """As a rebuild counts it."""
    with holds.renew(ledger, "next", now_ms=NOON, span_ms=1) as truth:
        return truth.keys


def has_ended(*futures: Future[Any]) -> bool:
    return all(future.done() for future in futures)


def unread(ledger: Ledger) -> int:
    """Entries that were not folded."""
    until = "select (value::jsonb ->> 'until')::bigint from marks where name = 'folded'"
    return int(one(ledger, f"select count(*) from entries where id > ({until})").count)


@pytest.fixture
def booked(ledger: Ledger) -> Ledger:
    for amount, key in ((10, A), (500, B), (60, A), (9_000, None)):
        spend(ledger, amount, key)
    return ledger


@pytest.fixture
def writing(booked: Ledger) -> Iterator[Connection]:
    """One who has written an entry, of which nobody knows yet."""
    with booked.engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        rest = ", ".join(COLUMNS)
        copy = f"insert into entries (attempt_id, {rest}) select gen_random_uuid(), {rest} from entries"
        connection.exec_driver_sql(f"{copy} where amount_nanousd = 10")
        yield connection


def test_a_fold_changes_nothing_of_what_was_spent_and_leaves_no_entry_to_be_read(booked: Ledger) -> None:
    assert spent(booked) == SPENT
    for _ in range(2):
        assert Fold(booked, at_once=2).go()
        assert (spent(booked), unread(booked)) == (SPENT, 0)
    assert one(booked, "select count(*) from entries").count == 4


def test_a_rebuild_counts_the_same_while_a_page_is_folded_and_when_the_folding_dies(booked: Ledger) -> None:
    holds.note_fold(booked)
    for is_done in (False, True):
        with booked.engine.connect().execution_options(isolation_level="READ COMMITTED") as folding:
            folding.exec_driver_sql(statement("holds.fold"), {"limit": 3})
            assert spent(booked) == SPENT
            folding.commit() if is_done else folding.rollback()
        assert (spent(booked), unread(booked)) == (SPENT, 1 if is_done else 4)
    Fold(booked).go()
    assert (spent(booked), unread(booked)) == (SPENT, 0)


def test_what_was_spent_since_and_corrections_count_beside_it(booked: Ledger) -> None:
    late = claim(accept(booked), lease=-1, hold=900)
    attempts.open_attempt(booked, late)
    attempts.abandon(booked, calm=0, limit=9)
    Fold(booked).go()
    ending = replace(SUCCESS, charge=Charge(40, is_measured=True, price=PRICE))
    with pytest.raises(LeaseLost):
        attempts.settle(booked, late.attempt, ending, goblin="chat", key_id=B)
    spend(booked, 5)
    assert spent(booked) == {A: 75, B: 500 + 40 - 900}
    Fold(booked).go()
    assert spent(booked) == {A: 75, B: 500 + 40 - 900}


def test_an_entry_that_comes_to_light_behind_later_ones_is_waited_for(booked: Ledger, writing: Connection) -> None:
    """It drew its number before theirs."""
    spend(booked, 7)
    Fold(booked).go()
    assert (spent(booked), unread(booked)) == ({A: 77, B: 500}, 5)
    writing.commit()
    assert spent(booked) == {A: 87, B: 500}
    spend(booked, 100)
    Fold(booked).go()
    assert (spent(booked), unread(booked)) == ({A: 187, B: 500}, 1)
    Fold(booked).go()
    assert (spent(booked), unread(booked)) == ({A: 187, B: 500}, 0)


def test_schedulers_that_fold_at_once_fold_once(booked: Ledger, database: str) -> None:
    others = [Ledger(database, connections=4) for _ in range(3)]
    for _ in range(20):
        spend(booked, 1)
    at_once(*(Fold(one, at_once=1).go for one in (booked, *others)))
    assert (spent(booked), unread(booked)) == ({A: 90, B: 500}, 0)
    for other in others:
        other.close()


def test_a_page_that_is_folded_beside_another_one_is_the_next_one(booked: Ledger) -> None:
    """As by one who overslept his turn."""
    holds.note_fold(booked)
    with booked.engine.connect().execution_options(isolation_level="READ COMMITTED") as folding:
        folding.exec_driver_sql(statement("holds.fold"), {"limit": 3})
        other = begin(partial(holds.fold, booked, limit=3))
        until_waiting(booked)
        folding.commit()
    assert other.result(30)
    assert (spent(booked), unread(booked)) == (SPENT, 0)


def test_a_scheduler_whose_turn_it_is_not_folds_nothing(booked: Ledger) -> None:
    with marks.duty(booked, "fold") as is_mine:
        assert is_mine
        assert not Fold(booked).go()
    assert one(booked, "select count(*) from spent_before").count == 0


def test_every_moment_counts_right_while_many_write_and_one_folds(booked: Ledger) -> None:
    writers = [begin(lambda: [spend(booked, 1) for _ in range(60)]) for _ in range(6)]
    folder = begin(lambda: [Fold(booked, at_once=3).go() for _ in iter(partial(has_ended, *writers), True)])
    repeatable = booked.engine.execution_options(isolation_level="REPEATABLE READ")
    now = {"since_ms": NOON, "recent": A, "day_ms": NOON, "booked_ms": NOON}
    folded = set()
    while not has_ended(*writers, folder):
        with repeatable.connect() as connection:
            truth = connection.exec_driver_sql(statement("holds.truth"), now).all()
            real = "select sum(amount_nanousd) from entries where key_id = %s"
            assert [row.amount for row in truth if (row.kind, row.id) == ("key", A)] == [
                connection.exec_driver_sql(real, (A,)).scalar()
            ]
            before = "select amount_nanousd from spent_before where key_id = %s"
            folded.add(connection.exec_driver_sql(before, (A,)).scalar())
    assert [writer.exception() for writer in (*writers, folder)] == [None] * 7
    assert len(folded) > 2
    Fold(booked).go()
    assert (spent(booked), unread(booked)) == ({A: 70 + 360, B: 500}, 0)


def test_a_postgres_that_was_replaced_by_one_that_counts_its_own_transactions_is_folded(booked: Ledger) -> None:
    holds.note_fold(booked)
    with booked.engine.connect() as connection:
        far = "update marks set value = jsonb_set(value::jsonb, '{xid}', '9000000000000')::text where name = 'folded'"
        connection.exec_driver_sql(far)
    Fold(booked).go()
    assert (spent(booked), unread(booked)) == (SPENT, 0)


def test_the_counters_hold_what_was_folded_and_what_came_since(
    booked: Ledger, gate: Admission, client: redis.Redis, rebuild: Rebuild
) -> None:
    Fold(booked).go()
    spend(booked, 5)
    client.flushdb()
    rebuild.go()
    money = f"{gate.scripts.root(gate.generation() or '')}money"
    names = {key: budget.of_key(key, 0).name for key in SPENT}
    counted = {key: budget.read(name, str(client.hget(money, name))).spent for key, name in names.items()}
    assert counted == {A: 75, B: 500}
