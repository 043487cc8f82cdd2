"""A batch is fed within the window and ends with a result for each of its lines; none stands in another one's way."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import redis

from goblin import kv
from goblin.settings import load
from ledger import batches, feeding
from ledger.batches import BatchView
from ledger.feeding import OpenBatch
from ledger.session import Ledger
from ledger.states import BatchStatus
from providers import registry
from scheduler.collect import PAGE, Collector
from scheduler.feed import Feeder
from tests.fakes.lines import COMPLETIONS, begin, completion, read
from tests.fakes.runs import rows
from workers.app import create
from workers.order import Desk

PROVIDERS = """
[providers.sim]
base_url = "http://127.0.0.1:9/v1"
api_key = "test"
models = ["small"]
cost_per_token = 0.000001
"""
WINDOW = 6


@dataclass(frozen=True)
class House:
    ledger: Ledger
    client: redis.Redis
    feeder: Feeder

    def open(self, batch: uuid.UUID) -> OpenBatch:
        return next(one for one in feeding.open_batches(self.ledger) if one.id == batch)

    def see(self, batch: uuid.UUID) -> BatchView:
        return batches.view(self.ledger, batch, None)

    def do(self, statement: str, *values: object) -> None:
        with self.ledger.engine.connect() as connection:
            connection.exec_driver_sql(statement, values)

    def close_runs(self, status: str = "succeeded") -> None:
        """As workers would."""
        self.do("update steps set status = %s, output = 'hi' where status = 'pending'", status)
        self.do("update runs set open_steps = 0, status = %s, finished_at = now() where finished_at is null", status)

    def pass_window(self, batch: uuid.UUID) -> None:
        self.do("update batches set expires_at = now() where id = %s", batch)

    def results(self, batch: uuid.UUID) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        end = self.see(batch)
        return read(self.ledger, end.output_file_id), read(self.ledger, end.error_file_id)


@pytest.fixture
def house(database: str, redis_url: str, tmp_path: Path) -> Iterator[House]:
    (tmp_path / "goblin.toml").write_text(PROVIDERS)
    settings = load(tmp_path / "goblin.toml", {"DATABASE_URL": database, "REDIS_URL": redis_url})
    ledger, client = Ledger(database, connections=4), kv.connect(redis_url)
    desk = Desk(settings, registry.load(settings, {}))
    feeder = Feeder(create(settings), ledger, client, lambda: desk, Collector(ledger, 3_600), WINDOW, at_most=0)
    yield House(ledger, client, feeder)
    client.close()
    ledger.close()


def lines(count: int) -> list[bytes]:
    return [completion(f"n{n}", model="small") for n in range(1, count + 1)]


def names(found: list[dict[str, object]]) -> list[object]:
    return [one["custom_id"] for one in found]


def test_every_line_of_a_batch_whose_window_is_over_has_a_result(house: House) -> None:
    late = [completion(f"l{n}", model="small") for n in range(2 * PAGE)]
    batch = begin(house.ledger, [*lines(20), b"no JSON", *late])
    house.feeder.go()
    first = "select run_id from batch_lines where number = 1"
    house.do(f"update runs set open_steps = 0, status = 'succeeded' where id = ({first})")
    house.pass_window(batch)
    house.feeder.go()
    while not house.see(batch).status.is_final:
        house.feeder.go()
    end = house.see(batch)
    good, bad = house.results(batch)
    assert end.status is BatchStatus.EXPIRED
    assert (end.counts.completed, end.counts.failed) == (1, 20 + 2 * PAGE)
    assert names(good) == ["n1"]
    assert names(bad) == [*(f"n{n}" for n in range(2, 21)), None, *(f"l{n}" for n in range(2 * PAGE))]
    assert {one["error"]["code"] for one in bad} == {"batch_expired"}  # type: ignore[index]
    assert [one["response"] is None for one in bad] == [number >= WINDOW - 1 for number in range(len(bad))]


@pytest.mark.parametrize("is_fed", [False, True])
def test_every_line_of_a_cancelled_batch_has_a_result(house: House, is_fed: bool) -> None:
    batch = begin(house.ledger, lines(20))
    if is_fed:
        house.feeder.go()
    assert batches.request_cancel(house.ledger, batch)
    for _ in range(2):
        house.feeder.go()
    good, bad = house.results(batch)
    assert house.see(batch).status is BatchStatus.CANCELLED
    assert (good, names(bad)) == ([], [f"n{n}" for n in range(1, 21)])
    assert {one["error"]["code"] for one in bad} == {"batch_cancelled"}  # type: ignore[index]


def test_a_collector_that_died_or_froze_writes_no_result_twice(house: House) -> None:
    batch = begin(house.ledger, lines(3 * PAGE))
    house.pass_window(batch)
    house.feeder.go()
    stale, brief = house.open(batch), replace(house.feeder.collector, at_most=0)
    brief.collect(stale)
    assert house.open(batch).written == PAGE
    brief.collect(replace(stale, has_files=True))
    assert house.open(batch).written == PAGE
    brief.collect(house.open(batch))
    house.feeder.collector.collect(replace(stale, has_files=True))
    assert not house.see(batch).status.is_final
    house.feeder.collector.collect(house.open(batch))
    assert names(house.results(batch)[1]) == [f"n{n}" for n in range(1, 3 * PAGE + 1)]


def test_a_batch_whose_lines_have_all_ended_is_completed_though_nobody_looked_before_its_window_was_over(
    house: House,
) -> None:
    batch = begin(house.ledger, lines(4))
    house.feeder.go()
    house.close_runs()
    house.pass_window(batch)
    for _ in range(2):
        house.feeder.go()
    assert house.see(batch).status is BatchStatus.COMPLETED
    assert house.see(batch).error is None


def test_more_batches_than_the_window_has_places_open_no_more_runs(house: House) -> None:
    made = [begin(house.ledger, lines(2)) for _ in range(WINDOW + 3)]
    house.feeder.go()
    assert len(rows(house.ledger, "select 1 from runs")) == WINDOW
    while not all(house.see(batch).status.is_final for batch in made):
        house.close_runs()
        house.feeder.go()
    assert {house.see(batch).counts.completed for batch in made} == {2}


def test_a_batch_at_which_the_feeder_fails_leaves_the_others_alone(house: House) -> None:
    broken, whole = begin(house.ledger, lines(1)), begin(house.ledger, lines(1))
    house.feeder.go()
    house.do(
        "insert into steps (run_id, idx, goblin, task, after)"
        " select id, 1, 'chat', 'a second one', '{}' from runs where batch_id = %s",
        broken,
    )
    house.close_runs()
    for _ in range(3):
        house.feeder.go()
    assert house.see(whole).status is BatchStatus.COMPLETED
    assert house.see(broken).status is BatchStatus.FINALIZING


def test_a_line_that_nobody_can_store_is_an_error_among_runs(house: House) -> None:
    endless = json.dumps({"model": "small", "messages": [{"role": "user", "content": "hi"}], "tools": "TOOLS"}).replace(
        '"TOOLS"', '[{"type": "function", "function": {"name": "x", "parameters": {"a": 1e999}}}]'
    )
    wrong = f'{{"custom_id": "wrong", "method": "POST", "url": "{COMPLETIONS}", "body": {endless}}}'
    begin(house.ledger, [*lines(1), wrong.encode(), completion("last", model="small")])
    house.feeder.go()
    noted = rows(house.ledger, "select custom_id, run_id is not null as is_run from batch_lines order by number")
    assert [tuple(one) for one in noted] == [("n1", True), ("wrong", False), ("last", True)]
