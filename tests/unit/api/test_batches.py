"""Files and batches over HTTP: bounds, whose they are, and what is answered while nobody feeds."""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import httpx
import pytest

from goblin.errors import NotFound
from goblin.settings import Settings
from ledger import files, keys
from ledger.session import Ledger
from tests.unit.api.conftest import Api

LINE = json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/runs", "body": {"workflow": "chat: hi"}}).encode()
SMALL = {"file_bytes": 10_000, "line_bytes": 1_000, "lines": 20}


@pytest.fixture
def settings(settings_of: Callable[[str, str], Settings], database: str, redis_url: str) -> Settings:
    made = settings_of(database, redis_url)
    return made.model_copy(update={"batches": made.batches.model_copy(update=SMALL)})


def upload(client: httpx.Client, content: bytes = LINE, **fields: str) -> httpx.Response:
    return client.post("/v1/files", data={"purpose": "batch", **fields}, files={"file": ("a.jsonl", content)})


def begin(client: httpx.Client, file: str, **more: Any) -> httpx.Response:
    return client.post("/v1/batches", json={"input_file_id": file, "endpoint": "/v1/runs", **more})


def lines_kept(api: Api) -> int:
    with api.hand.ledger.engine.connect() as connection:
        return int(connection.exec_driver_sql("select count(*) from file_lines").scalar_one())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"x" * 999 + b"\n" + b"x" * 1_001, "line 2 is larger than 1000 bytes"),
        (b"x\n" * 21, "more than 20 lines"),
        (b"\n" * 20 + b"x", "more than 20 lines"),
        ((b"x" * 900 + b"\n") * 12, "larger than 10000 bytes"),
    ],
)
def test_a_file_beyond_a_bound_is_refused_and_leaves_nothing(api: Api, content: bytes, reason: str) -> None:
    answer = upload(api.client, content)
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too_large")
    assert reason in answer.json()["detail"]
    assert answer.json()["error"]["message"] == answer.json()["detail"]
    assert lines_kept(api) == 0


def test_a_form_that_goes_on_behind_its_file_is_refused(api: Api) -> None:
    form = api.client.build_request("POST", "/v1/files", data={"purpose": "batch"}, files={"file": ("a", LINE)})
    headers = {"Content-Type": form.headers["content-type"]}
    assert api.client.post("/v1/files", content=form.read() + b" " * 1_000, headers=headers).status_code == 200
    before = lines_kept(api)
    answer = api.client.post("/v1/files", content=form.read() + b" " * 2**21, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too_large")
    assert lines_kept(api) == before


@pytest.mark.parametrize(
    ("content", "lines"), [(b"a\nb", 2), (b"a\r\nb\r\n\n\n", 2), (b"a\n\nb", 3), (b"", 0), (b"\n \n", 0)]
)
def test_lines_are_counted_as_editors_do(api: Api, content: bytes, lines: int) -> None:
    made = upload(api.client, content).json()
    assert (made["lines"], made["bytes"]) == (lines, len(content))
    assert lines_kept(api) == lines


def test_a_form_may_name_its_file_first_and_must_say_what_it_is_for(api: Api) -> None:
    file = {"file": ("a.jsonl", LINE)}
    assert api.client.post("/v1/files", files=[("file", file["file"]), ("purpose", (None, "batch"))]).status_code == 200
    for fields, reason in (
        ({}, "purpose"),
        ({"purpose": "assistants"}, "purpose"),
        ({"purpose": "batch", "expires_after[seconds]": "10"}, "3600"),
        ({"purpose": "batch", "expire_after": "1"}, "did you mean"),
    ):
        answer = api.client.post("/v1/files", data=fields, files=file)
        assert answer.status_code == 422
        assert reason in answer.json()["detail"]
    assert api.client.post("/v1/files", json={}).status_code == 400
    assert lines_kept(api) == 1


def test_a_file_is_kept_for_less_if_its_upload_asks_for_it(api: Api) -> None:
    made = upload(api.client, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "7200"}).json()
    assert made["expires_at"] - made["created_at"] == 7200


def test_files_and_batches_are_seen_by_their_key_alone(
    settings: Settings, environ: Mapping[str, str], hand: Any, serve: Callable[..., Any]
) -> None:
    ledger: Ledger = hand.ledger
    anne, ben = (keys.create(ledger, name) for name in ("anne", "ben"))
    with serve(settings, environ) as url:
        hers, his = (
            httpx.Client(base_url=url, headers={"authorization": f"Bearer {secret}"}, timeout=20)
            for secret in (anne, ben)
        )
        file = upload(hers).json()["id"]
        batch = begin(hers, file).json()["id"]
        assert hers.get(f"/v1/batches/{batch}").json()["status"] == "validating"
        for method, path in (
            ("GET", f"/v1/files/{file}"),
            ("GET", f"/v1/files/{file}/content"),
            ("DELETE", f"/v1/files/{file}"),
            ("GET", f"/v1/batches/{batch}"),
            ("POST", f"/v1/batches/{batch}/cancel"),
        ):
            assert his.request(method, path).status_code == 404
        assert begin(his, file).status_code == 404
        assert his.get("/v1/files").json()["data"] == his.get("/v1/batches").json()["data"] == []
        assert hers.get("/v1/files").json()["first_id"] == file
        hers.close()
        his.close()


def test_a_file_that_a_batch_reads_is_not_deleted(api: Api) -> None:
    file = upload(api.client).json()["id"]
    batch = begin(api.client, file, budget_usd="0.5", metadata={"a": "b"}).json()
    assert (batch["budget_usd"], batch["metadata"], batch["request_counts"]["total"]) == ("0.500000000", {"a": "b"}, 1)
    assert api.client.delete(f"/v1/files/{file}").status_code == 409
    assert api.client.post(f"/v1/batches/{batch['id']}/cancel").json()["status"] == "cancelling"
    assert api.client.post(f"/v1/batches/{batch['id']}/cancel").json()["status"] == "cancelling"


def test_a_download_whose_file_goes_meanwhile_does_not_end_as_a_whole_one(api: Api) -> None:
    file = uuid.UUID(upload(api.client, b"a\n" * 20).json()["id"].removeprefix("file-"))
    known = files.view(api.hand.ledger, file, None)
    arriving = files.content(api.hand.ledger, replace(known, lines=21))
    assert next(arriving) == b"a\n" * 20
    with pytest.raises(NotFound):
        next(arriving)


def test_a_batch_is_one_submission_of_its_key(
    settings: Settings, environ: Mapping[str, str], hand: Any, serve: Callable[..., Any]
) -> None:
    secret = keys.create(hand.ledger, "carl", keys.Limits(rpm=2))
    with (
        serve(settings, environ) as url,
        httpx.Client(base_url=url, headers={"authorization": f"Bearer {secret}"}, timeout=20) as client,
    ):
        file = upload(client, LINE * 2).json()["id"]
        assert begin(client, file, completion_window="soon").status_code == 422  # what is refused was none
        answers = [begin(client, file) for _ in range(3)]
        assert [one.status_code for one in answers] == [200, 200, 429]
        assert "retry-after" in answers[2].headers
        assert len(client.get("/v1/batches").json()["data"]) == 2


def test_files_are_listed_by_their_purpose(api: Api) -> None:
    file = upload(api.client).json()["id"]
    found = {purpose: api.client.get("/v1/files", params={"purpose": purpose}) for purpose in ("batch", "other", "\0")}
    assert [one["id"] for one in found["batch"].json()["data"]] == [file]
    assert found["other"].json()["data"] == []
    assert found["\0"].status_code == 422


def test_batches_are_listed_newest_first_page_by_page(api: Api) -> None:
    file = upload(api.client).json()["id"]
    made = [begin(api.client, file).json()["id"] for _ in range(5)]
    first = api.client.get("/v1/batches", params={"limit": 3}).json()
    rest = api.client.get("/v1/batches", params={"limit": 3, "after": first["last_id"]}).json()
    assert [one["id"] for one in (*first["data"], *rest["data"])] == made[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)


@pytest.mark.parametrize("window", ["soon", "0h", "15d", "24", "-1h", "1w"])
def test_a_window_is_minutes_hours_or_days(api: Api, window: str) -> None:
    file = upload(api.client).json()["id"]
    answer = begin(api.client, file, completion_window=window)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, "completion_window")
