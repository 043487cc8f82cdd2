"""What is done page by page reads pages, however many rows there are: no table is read from end to end for some."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from ledger import feeding, files
from ledger.session import Ledger
from scheduler.prune import Prune
from tests.fakes.lines import begin, store
from tests.fakes.racing import until
from tests.fakes.runs import one, rows

MANY = 20_000
LARGE = {"runs", "file_lines", "batch_lines"}
GROUND = f"""
insert into runs (id, batch_id, status, workflow, plan, input, options, open_steps, created_at, finished_at)
select (lpad(to_hex(n), 12, '0') || '70008000000000000000')::uuid, case when n <= {MANY // 2} then %(batch)s::uuid end,
       'succeeded', 'chat: x', '{{}}', '{{}}', '{{}}', 0, now(), now() - interval '2 days' - make_interval(secs => n)
from generate_series(1, {MANY}) n;
insert into batch_lines (batch_id, number, custom_id, run_id)
select %(batch)s, row_number() over (order by id), id::text, id from runs where batch_id is not null
union all select lpad((n %% 2)::text, 32, '0')::uuid, n, n::text, gen_random_uuid() from generate_series(1, {MANY}) n;
insert into file_lines (file_id, number, body)
select lpad((n %% 2)::text, 32, '0')::uuid, n, '' from generate_series(1, {MANY}) n;
insert into file_lines (file_id, number, body)
select %(file)s, n, '' from generate_series(2, {MANY // 4}) n
"""


@pytest.fixture
def ledger(database: str) -> Iterator[Ledger]:
    """On one connection, so that what it reads itself is not counted late."""
    ledger = Ledger(database, connections=1)
    yield ledger
    ledger.close()


@pytest.fixture
def batch(ledger: Ledger) -> uuid.UUID:
    """Half of very many runs are its own, and a file was deleted that was as long."""
    batch, file = begin(ledger, [b"{}"]), store(ledger, [b"{}"])
    with ledger.engine.connect() as connection:
        for statement in GROUND.split(";"):
            connection.exec_driver_sql(statement, {"batch": batch, "file": file})
        connection.exec_driver_sql("analyze")
    files.delete(ledger, file, None)
    return batch


def read_whole(ledger: Ledger, act: Callable[[Ledger], object]) -> set[str]:
    """The large tables that were read from end to end. Postgres counts for a connection at its end at the latest."""
    others = "select count(*) as n from pg_stat_activity where datname = current_database() and backend_type = %s"
    own, before = one(ledger, others, "client backend").n, scans(ledger)
    acting = Ledger(ledger.engine.url.render_as_string(hide_password=False), connections=2)
    act(acting)
    acting.close()
    until(lambda: one(ledger, others, "client backend").n <= own, "the connections that were counted have ended")
    return {table for table, count in scans(ledger).items() if count > before[table]}


def scans(ledger: Ledger) -> dict[str, int]:
    one(ledger, "select pg_stat_force_next_flush()")
    found = rows(ledger, "select relname as name, seq_scan as n from pg_stat_user_tables")
    return {row.name: row.n for row in found if row.name in LARGE}


def sizes(ledger: Ledger) -> list[int]:
    return [one(ledger, f"select count(*) as n from {table}").n for table in sorted(LARGE)]


def test_to_forget_some_no_table_is_read_from_end_to_end(ledger: Ledger, batch: uuid.UUID) -> None:
    one(ledger, "update batches set status = 'completed', ended_at = now() - interval '2 days' returning id")
    before = sizes(ledger)
    assert read_whole(ledger, lambda acting: Prune(acting, days=1, at_most=0.5).go()) == set()
    assert [after for after, size in zip(sizes(ledger), before, strict=True) if after >= size] == []


def test_to_see_why_lines_have_ended_lately_not_all_runs_are_read(ledger: Ledger, batch: uuid.UUID) -> None:
    (begun,) = feeding.open_batches(ledger)
    fed = replace(begun, fed=MANY // 2)
    assert len(feeding.lately(ledger, fed, within=200, limit=10)) == 10
    assert read_whole(ledger, lambda acting: feeding.lately(acting, fed, within=200, limit=10)) == set()
