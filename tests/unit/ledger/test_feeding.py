"""Each page of a batch is fed and written once, whoever tries again or comes late."""

import uuid
from collections.abc import Sequence
from dataclasses import replace

import pytest

from ledger import attempts, batches, feeding, runs
from ledger.feeding import FedLine, OpenBatch, Result
from ledger.runs import NewRun
from ledger.session import Ledger
from ledger.states import BatchStatus, RunStatus
from tests.fakes.lines import begin, read
from tests.fakes.runs import FAULT, claim, request, rows

DOUBLE = {"type": "double_custom_id", "message": "again"}
BAD = {"type": "bad_json", "message": "no"}


def opened(ledger: Ledger, lines: int = 4) -> OpenBatch:
    batch = begin(ledger, [b"{}"] * lines)
    (found,) = [one for one in feeding.open_batches(ledger) if one.id == batch]
    return found


def page(*names: str | None, start: int = 1) -> list[FedLine]:
    """Lines that become runs; one without a name is bad."""
    return [FedLine(n, name, request("chat: hi") if name else BAD) for n, name in enumerate(names, start)]


def fed(ledger: Ledger, batch: OpenBatch, lines: Sequence[FedLine]) -> list[tuple[uuid.UUID, NewRun]]:
    made = feeding.feed(ledger, batch, lines, DOUBLE)
    assert made is not None
    return made


def noted(ledger: Ledger, batch: OpenBatch) -> list[tuple[int, str | None, bool, str | None]]:
    found = rows(ledger, "select * from batch_lines where batch_id = %s order by number", batch.id)
    return [(row.number, row.custom_id, row.run_id is not None, (row.error or {}).get("type")) for row in found]


def close(ledger: Ledger, made: Sequence[tuple[uuid.UUID, object]], status: RunStatus = RunStatus.FAILED) -> None:
    with ledger.engine.connect() as connection:
        ids = [run for run, _ in made]
        connection.exec_driver_sql("update steps set status = 'failed' where run_id = any(%s)", (ids,))
        connection.exec_driver_sql("update runs set open_steps = 0 where id = any(%s)", (ids,))
    for run, _ in made:
        runs.finish(ledger, run, status)


def test_a_page_becomes_runs_and_errors_once(ledger: Ledger) -> None:
    batch = opened(ledger)
    made = fed(ledger, batch, page("a", None, "b", "a"))
    assert len(made) == 2
    expected = [
        (1, "a", True, None),
        (2, None, False, "bad_json"),
        (3, "b", True, None),
        (4, "a", False, DOUBLE["type"]),
    ]
    assert noted(ledger, batch) == expected
    assert feeding.feed(ledger, batch, page("c", "d"), DOUBLE) is None  # it was fed further since this was read
    assert noted(ledger, batch) == expected
    (now,) = [one for one in feeding.open_batches(ledger) if one.id == batch.id]
    assert (now.fed, now.open) == (4, 2)
    assert (
        len(rows(ledger, "select 1 from steps s join runs r on r.id = s.run_id where r.batch_id = %s", batch.id)) == 2
    )


def test_a_page_without_a_run_is_fed_as_well(ledger: Ledger) -> None:
    batch = opened(ledger)
    assert fed(ledger, batch, page(None, None)) == []
    assert [one[3] for one in noted(ledger, batch)] == ["bad_json", "bad_json"]


def test_a_name_of_an_earlier_page_is_taken(ledger: Ledger) -> None:
    batch = opened(ledger)
    feeding.feed(ledger, batch, page("a", "b"), DOUBLE)
    assert len(fed(ledger, replace(batch, fed=2), page("b", "c", start=3))) == 1
    assert [one[3] for one in noted(ledger, batch)] == [None, None, DOUBLE["type"], None]


def test_nothing_is_fed_after_a_cancel(ledger: Ledger) -> None:
    batch = opened(ledger)
    made = fed(ledger, batch, page("a"))
    assert batches.request_cancel(ledger, batch.id)
    assert not batches.request_cancel(ledger, batch.id)
    assert feeding.feed(ledger, replace(batch, fed=1), page("b", start=2), DOUBLE) is None
    assert batches.cancel_runs(ledger, batch.id)
    (ended,) = rows(ledger, "select id, status, finished_at from runs where batch_id = %s", batch.id)
    assert ([ended.id], ended.status) == ([run for run, _ in made], "cancelled")
    assert ended.finished_at is not None
    assert not batches.cancel_runs(ledger, batch.id)


def test_a_step_that_ends_with_its_batch_keeps_no_fault_of_an_earlier_call(ledger: Ledger) -> None:
    batch = opened(ledger)
    ((run, _),) = fed(ledger, batch, page("a"))
    made = claim(run)
    attempts.open_attempt(ledger, made)
    attempts.settle(ledger, made.attempt, FAULT, goblin="chat", key_id=None)
    batches.cancel_runs(ledger, batch.id)
    (ended,) = rows(ledger, "select status, error from steps where run_id = %s", run)
    assert (ended.status, ended.error) == ("cancelled", None)


def test_results_are_written_once_and_seen_when_all_are(ledger: Ledger) -> None:
    batch = opened(ledger, 3)
    close(ledger, fed(ledger, batch, page("a", None, "b")))
    feeding.stop(ledger, batch.id, BatchStatus.COMPLETED)
    feeding.begin_files(ledger, batch.id)
    feeding.begin_files(ledger, batch.id)
    results = [Result(1, True, b'{"a":1}'), Result(2, False, b'{"b":1}')]
    assert feeding.write(ledger, batch.id, 0, results)
    assert not feeding.write(ledger, batch.id, 0, results)
    assert batches.view(ledger, batch.id, None).output_file_id is None
    feeding.write(ledger, batch.id, 2, [Result(3, True, b'{"c":1}')])
    assert feeding.finish(ledger, batch.id, kept_s=60) is BatchStatus.COMPLETED
    assert feeding.finish(ledger, batch.id, kept_s=60) is None
    end = batches.view(ledger, batch.id, None)
    assert (end.counts.completed, end.counts.failed) == (2, 1)
    assert read(ledger, end.output_file_id) == [{"a": 1}, {"c": 1}]
    assert read(ledger, end.error_file_id) == [{"b": 1}]


@pytest.mark.parametrize("is_good", [True, False])
def test_a_file_that_would_be_empty_is_not_there(ledger: Ledger, is_good: bool) -> None:
    batch = opened(ledger, 1)
    close(ledger, fed(ledger, batch, page("a")))
    feeding.stop(ledger, batch.id, BatchStatus.COMPLETED)
    feeding.begin_files(ledger, batch.id)
    feeding.write(ledger, batch.id, 0, [Result(1, is_good, b"{}")])
    feeding.finish(ledger, batch.id, kept_s=60)
    end = batches.view(ledger, batch.id, None)
    assert (end.output_file_id is not None, end.error_file_id is not None) == (is_good, not is_good)
    assert len(rows(ledger, "select 1 from files where filename like %s", f"batch_{batch.id.hex}%")) == 1


def test_how_lines_have_ended_comes_in_pages_of_bounded_size(ledger: Ledger) -> None:
    batch = opened(ledger, 6)
    made = fed(ledger, batch, page("a", "b", None, "c", "d", "e"))
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql(
            "update steps set output = repeat('x', 100) where run_id = any(%s)", ([run for run, _ in made],)
        )
    first = feeding.ends(ledger, batch.id, after=0, limit=10, size=150)
    assert [(line.number, line.name, line.run is None) for line in first] == [(1, "a", False), (2, "b", False)]
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql("update runs set workflow = repeat('x', 200) where batch_id = %s", (batch.id,))
    assert [line.number for line in feeding.ends(ledger, batch.id, after=1, limit=10, size=150)] == [2]
    rest = feeding.ends(ledger, batch.id, after=2, limit=3, size=10**6)
    assert [(line.number, line.run is None) for line in rest] == [(3, True), (4, False), (5, False)]
