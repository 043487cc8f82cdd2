"""`goblin batch`, against an API that says what the test wants."""

import json
from typing import Any

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
