"""`goblin batch`, against an API that says what the test wants."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

BATCH = "/v1/batches/batch_1"


def told(status: str, completed: int, **more: Any) -> tuple[int, str]:
    counts = {"total": 2, "completed": completed, "failed": 0}
    batch = {"id": "batch_1", "status": status, "request_counts": counts, "errors": None, "error_file_id": None}
    return 200, json.dumps({**batch, **more})


def test_a_watch_outlives_a_restart_of_the_api(api: Any, goblin: Any) -> None:
    away = (503, json.dumps({"type": "/problems/unavailable", "detail": "Postgres cannot be reached"}))
    api.answer("GET", BATCH, told("in_progress", 1), away, (502, "<html>"), told("completed", 2))
    seen = goblin("batch", "status", "batch_1", "--watch", GOBLIN_URL=api.url)
    assert (seen.exit_code, seen.stdout) == (0, "completed: 2 of 2 lines\n")


def test_a_batch_that_is_not_there_is_not_waited_for(api: Any, goblin: Any) -> None:
    api.answer("GET", BATCH, told("in_progress", 1), (404, json.dumps({"detail": "there is no such batch"})))
    seen = goblin("batch", "status", "batch_1", "--watch", GOBLIN_URL=api.url)
    assert (seen.exit_code, seen.stderr.splitlines()[-1]) == (2, "goblin: there is no such batch")


@pytest.fixture
def ended(api: Any) -> Any:
    api.answer("GET", BATCH, told("completed", 2, output_file_id="file-1"))
    api.answer("GET", "/v1/files/file-1/content", (200, "results\n"))
    return api


def test_results_go_into_a_pipe_and_do_not_take_its_place(ended: Any, goblin: Any) -> None:
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    seen = goblin("batch", "results", "batch_1", "-o", "pipe", GOBLIN_URL=ended.url)
    assert (seen.exit_code, os.read(reader, 100)) == (0, b"results\n")
    os.close(reader)
    assert Path("pipe").is_fifo()


def test_results_go_where_a_link_leads(ended: Any, goblin: Any) -> None:
    Path("link").symlink_to("results.jsonl")
    assert goblin("batch", "results", "batch_1", "-o", "link", GOBLIN_URL=ended.url).exit_code == 0
    assert Path("results.jsonl").read_text() == "results\n"
    assert Path("link").is_symlink()


def test_results_that_cannot_be_written_are_one_line(ended: Any, goblin: Any) -> None:
    seen = goblin("batch", "results", "batch_1", "-o", "nowhere/results.jsonl", GOBLIN_URL=ended.url)
    assert seen.exit_code == 2
    assert seen.stderr.startswith("goblin: cannot write ")
    assert len(seen.stderr.splitlines()) == 1


def test_a_budget_that_is_none_costs_no_upload(api: Any, goblin: Any) -> None:
    Path("runs.jsonl").write_text('{"url": "/v1/runs"}\n')
    seen = goblin("batch", "submit", "runs.jsonl", "--budget", "much", GOBLIN_URL=api.url)
    assert (seen.exit_code, api.asked) == (2, [])
    assert "as in 0.50" in seen.stderr


@pytest.mark.parametrize("first", ["", "hello", "[1]", "[" * 100_000, '{"url": 3}', '{"url": "/v1/other"}'])
def test_a_file_of_something_else_is_not_uploaded(api: Any, goblin: Any, first: str) -> None:
    Path("lines.jsonl").write_text(first)
    seen = goblin("batch", "submit", "lines.jsonl", GOBLIN_URL=api.url)
    assert (seen.exit_code, api.asked, len(seen.stderr.splitlines())) == (2, [], 1)
    assert "the first line of lines.jsonl" in seen.stderr


def test_lines_that_can_be_read_once_only_are_refused(api: Any, goblin: Any) -> None:
    read, write = os.pipe()
    os.write(write, b'{"url": "/v1/runs"}\n')
    os.close(write)
    seen = goblin("batch", "submit", f"/dev/fd/{read}", GOBLIN_URL=api.url)
    os.close(read)
    assert (seen.exit_code, api.asked) == (2, [])
    assert "read twice" in seen.stderr
