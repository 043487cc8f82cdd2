"""Batches under way: behind those who wait, within their money and their time, and whatever dies meanwhile."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from cli.servers import free_port
from goblin.money import from_usd
from ledger import batches
from ledger.batches import BatchView
from ledger.states import BatchStatus
from routing.budget import of_batch
from tests.fakes.lines import begin, completion, is_over, read
from tests.fakes.runs import assert_books_balance
from tests.processes import Processes
from tests.world import Sim, World, world
from workers.halt import halt

QUICK, SLOW, ENDLESS = "sim-instant+tokens=20", "sim-instant+ttft=0.5", "sim-instant+ttft=300"
EXTRA = (
    "[worker]\nlease = 3\nconcurrency = {slots}\n[batches]\nwindow = {window}\n[routing]\nhealth_check_interval = 600\n"
)
Start = Callable[..., World]


@pytest.fixture
def start(processes: Processes, database: str, redis_url: str, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as taken:

        def made(*, slots: int = 50, window: int = 40) -> World:
            sim = Sim("sim", (QUICK, SLOW, ENDLESS), options={"timeout": 600})
            extra = EXTRA.format(slots=slots, window=window)
            place = taken.enter_context(world(processes, tmp_path, database, redis_url, sim, extra=extra))
            place.start_worker()
            return place

        yield made


def ended(place: World, batch: uuid.UUID, patience: float = 60) -> BatchView:
    found: BatchView = place.until(lambda: is_over(place.ledger, batch), patience)
    return found


def sent(place: World, batch: uuid.UUID) -> int:
    """Runs of the batch whose messages have been sent."""
    return len(place.all("select 1 from runs where batch_id = %s and published_epoch > 0", batch))


def calls(place: World) -> int:
    """That have ended, as the provider saw them."""
    return len(place.sim_get("calls"))


def calls_open(place: World) -> int:
    """That are under way, as the provider sees them."""
    return int(place.sim_get("limits").get("sim", {}).get("concurrent", 0))


def test_a_run_that_somebody_waits_for_passes_a_full_window(start: Start) -> None:
    place = start(slots=4, window=60)
    place.start_scheduler()
    batch = begin(place.ledger, (completion(f"n{n}", model=SLOW) for n in range(200)))
    place.until(lambda: sent(place, batch) >= 40)
    run = place.submit(place.plan("chat@sim: hello"))
    place.finished(run)
    overtaken = place.one(
        """
        select count(*) as n
        from attempts a join runs r on r.id = a.run_id, runs mine join attempts m on m.run_id = mine.id
        where r.batch_id = %s and mine.id = %s and a.started_at > mine.created_at and a.started_at < m.started_at
        """,
        batch,
        run,
    )
    assert overtaken
    assert overtaken.n <= 2 * 4  # those that were being taken; dozens stood before it
    assert batches.request_cancel(place.ledger, batch)
    ended(place, batch)


def test_a_batch_spends_its_budget_to_the_last_call_that_fits_and_begins_no_more(start: Start) -> None:
    place = start()
    place.start_scheduler()
    budget = from_usd("0.0002")
    lines = (completion(f"n{n}", model=QUICK, max_tokens=20) for n in range(600))
    batch = begin(place.ledger, lines, budget=budget)
    end = ended(place, batch)
    assert end.status is BatchStatus.FAILED
    assert end.error
    assert (end.error["type"], end.error["line"] <= 600) == ("budget_exhausted", True)
    good, bad = read(place.ledger, end.output_file_id), read(place.ledger, end.error_file_id)
    assert {one["error"]["code"] for one in bad} == {"budget_exhausted"}
    tried = [one for one in bad if one["response"] is not None]
    assert all(of_batch(batch, 0).name in one["error"]["message"] for one in tried)
    assert len(good) + len(tried) == end.error["line"] - 1 < 600
    assert sorted(one["custom_id"] for one in (*good, *bad)) == sorted(f"n{n}" for n in range(600))
    spent = [from_usd(one["response"]["body"]["cost_usd"]) for one in good]
    holds = {row.hold_nanousd for row in place.all("select hold_nanousd from attempts")}
    assert len(good) == len(spent) == calls(place)
    assert budget - max(holds) < sum(spent) <= budget  # not one call more would have fitted
    assert_books_balance(place.ledger)


def test_what_is_open_when_the_window_is_over_is_cut_and_told_so(start: Start) -> None:
    place = start(window=10)
    place.start_scheduler()
    lines = [
        *(completion(f"q{n}", model=QUICK) for n in range(6)),
        *(completion(f"e{n}", model=ENDLESS) for n in range(30)),
    ]
    batch = begin(place.ledger, lines, window_s=4)
    end = ended(place, batch)
    assert end.status is BatchStatus.EXPIRED
    assert [one["custom_id"] for one in read(place.ledger, end.output_file_id)] == [f"q{n}" for n in range(6)]
    bad = read(place.ledger, end.error_file_id)
    assert {one["error"]["code"] for one in bad} == {"batch_expired"}
    assert [one["custom_id"] for one in bad] == [f"e{n}" for n in range(30)]
    cut = [one for one in bad if one["response"] is not None]
    assert end.error
    assert end.error["line"] == 6 + len(cut) + 1 <= 36
    assert_books_balance(place.ledger)


def test_a_cancel_cuts_every_call_at_once_and_keeps_what_was_done(start: Start) -> None:
    place = start()
    place.start_scheduler()
    lines = [
        *(completion(f"q{n}", model=QUICK) for n in range(5)),
        *(completion(f"e{n}", model=ENDLESS) for n in range(200)),
    ]
    batch = begin(place.ledger, lines)
    place.until(lambda: calls_open(place) >= 30 and calls(place) == 5)
    assert batches.request_cancel(place.ledger, batch)
    halt(place.ledger, place.redis, batch)
    end = ended(place, batch)
    assert end.status is BatchStatus.CANCELLED
    assert [one["custom_id"] for one in read(place.ledger, end.output_file_id)] == [f"q{n}" for n in range(5)]
    bad = read(place.ledger, end.error_file_id)
    assert [one["custom_id"] for one in bad] == [f"e{n}" for n in range(200)]
    assert {one["error"]["code"] for one in bad} == {"batch_cancelled"}
    begun = place.one("select count(*) as n from batch_lines where batch_id = %s", batch)
    assert begun
    assert begun.n < 205
    place.until(lambda: calls_open(place) == 0)  # the provider saw the others hang up
    charged = place.all("select 1 from entries")
    assert 5 + 30 <= calls(place) <= len(charged)  # a call that was cut while it was sent may cost, and was never seen
    assert_books_balance(place.ledger)


def test_a_killed_feeder_and_an_emptied_redis_lose_and_double_nothing(start: Start) -> None:
    place = start()
    scheduler = place.start_scheduler()
    batch = begin(place.ledger, (completion(f"n{n}", model=QUICK) for n in range(400)))
    for share in (60, 160):
        place.until(lambda share=share: batches.view(place.ledger, batch, None).counts.completed >= share)
        scheduler.kill("SIGKILL")
        scheduler = place.start_scheduler(f"scheduler{share}")
    place.until(lambda: batches.view(place.ledger, batch, None).counts.completed >= 260)
    place.redis.flushdb()
    end = ended(place, batch)
    assert (end.status, end.counts.completed, end.error_file_id) == (BatchStatus.COMPLETED, 400, None)
    assert [one["custom_id"] for one in read(place.ledger, end.output_file_id)] == [f"n{n}" for n in range(400)]
    assert calls(place) == 400
    assert_books_balance(place.ledger)


def is_arriving(place: World) -> bool:
    """Whether somebody is copying a file into the ledger just now."""
    return bool(
        place.all("select 1 from pg_stat_activity where state = 'active' and query like %s", "%copy file_lines%stdin%")
    )


def test_an_upload_that_is_killed_leaves_nothing(start: Start) -> None:
    place = start()
    port = free_port()
    api = place.start_api(port)
    begun = []

    def body() -> Iterator[bytes]:
        yield b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
        for n in range(3_000):
            yield completion(f"n{n}", model=QUICK, said="word " * 50) + b"\n"
            if n == 2_000:
                place.until(lambda: is_arriving(place))
                begun.append(True)
                api.kill("SIGKILL")

    headers = {"content-type": "multipart/form-data; boundary=x"}
    with pytest.raises(httpx.HTTPError):
        httpx.post(f"http://127.0.0.1:{port}/v1/files", content=body(), headers=headers, trust_env=False)
    assert begun
    place.until(lambda: not is_arriving(place))
    assert place.all("select 1 from files") == place.all("select 1 from file_lines") == []
