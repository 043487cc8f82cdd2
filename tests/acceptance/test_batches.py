"""Batches by OpenAI's own client, with all that stands behind them: scheduler, workers, simulated providers."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import Batch

from cli.launch import Launch
from tests.processes import PATIENCE_S

MODEL = "sim-llama"


@pytest.fixture(scope="module")
def official(launch: Launch) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{launch.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def completion(name: str, *said: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": one} for one in said]
    body = {"model": MODEL, "messages": messages, **more}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}


def lines(*values: Any) -> bytes:
    return b"".join(one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in values)


def begin(official: openai.OpenAI, content: bytes, endpoint: str = "/v1/chat/completions", **more: Any) -> Batch:
    file = official.files.create(file=("lines.jsonl", content), purpose="batch")
    return official.batches.create(
        input_file_id=file.id,
        endpoint=endpoint,
        completion_window="24h",
        **more,  # type: ignore[arg-type]
    )


def ended(official: openai.OpenAI, batch: Batch) -> Batch:
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        batch = official.batches.retrieve(batch.id)
        if batch.status in {"completed", "failed", "expired", "cancelled"}:
            return batch
        time.sleep(0.05)
    raise TimeoutError(f"the batch is {batch.status}")


def content(official: openai.OpenAI, file: str | None) -> list[dict[str, Any]]:
    return [] if file is None else [json.loads(line) for line in official.files.content(file).text.splitlines()]


def names(found: Sequence[dict[str, Any]]) -> list[str]:
    return [one["custom_id"] for one in found]


def test_lines_are_answered_in_their_order_with_what_they_used(official: openai.OpenAI) -> None:
    batch = begin(official, lines(*(completion(f"n{n}", f"say {n}") for n in range(30))), metadata={"job": "nightly"})
    assert (batch.object, batch.endpoint, batch.request_counts and batch.request_counts.total) == (
        "batch",
        "/v1/chat/completions",
        30,
    )
    end = ended(official, batch)
    assert (end.status, end.error_file_id, end.metadata) == ("completed", None, {"job": "nightly"})
    assert end.request_counts
    assert (end.request_counts.completed, end.request_counts.failed) == (30, 0)
    found = content(official, end.output_file_id)
    assert names(found) == [f"n{n}" for n in range(30)]
    for n, one in enumerate(found):
        assert (one["error"], one["response"]["status_code"]) == (None, 200)
        body = openai.types.chat.ChatCompletion.model_validate(one["response"]["body"])
        assert f"say {n}" in (body.choices[0].message.content or "")
        assert body.choices[0].finish_reason == "stop"
        assert body.usage
        assert body.usage.total_tokens == body.usage.prompt_tokens + body.usage.completion_tokens > 0
    assert end.output_file_id
    about = official.files.retrieve(end.output_file_id)
    assert (about.purpose, about.bytes) == ("batch_output", len(official.files.content(about.id).content))


def test_a_bad_line_fails_alone_with_its_number_and_the_reason(official: openai.OpenAI) -> None:
    bad: dict[str, tuple[Any, str]] = {
        "not JSON": (b'{"custom_id": "x", \n', "not JSON"),
        "empty": (b"\n", "not JSON"),
        "no text": (b"\xff\xfe\n", "not JSON"),
        "no name": ({"method": "POST", "url": "/v1/chat/completions", "body": {}}, "custom_id"),
        "method": ({**completion("method", "hi"), "method": "GET"}, "POST"),
        "url": ({**completion("url", "hi"), "url": "/v1/embeddings"}, "url"),
        "key": ({**completion("key", "hi"), "urll": "x"}, "unknown key 'urll'"),
        "model": (completion("model", "hi", model="sim-lama"), "sim-llama"),
        "parameter": (completion("parameter", "hi", logit_bias={"9": 1}), "logit_bias"),
        "wordless": (completion("wordless", "hi", model="anthropic/sim-claude", seed=7), "sim-claude: takes no seed"),
        "nobody": (completion("nobody", "hi", model="sim-claude", seed=7), "sim-claude: takes no seed"),
        "unknown": (completion("unknown", "hi", temprature=0.5), "temperature"),
        "image": (completion("image", "hi", messages=[{"role": "user", "content": [{"type": "image_url"}]}]), "text"),
        "double": (completion("good0", "again"), "custom_id"),
        "storable": (completion("storable", "a\0b"), "U+0000"),
        "large": (completion("large", "word " * 200_000), "do not fit"),
    }
    good = [completion(f"good{n}", "hello") for n in range(len(bad) + 1)]
    mixed = [one for pair in zip(good, [value for value, _ in bad.values()], strict=False) for one in pair]
    end = ended(official, begin(official, lines(*mixed, good[-1])))
    assert end.status == "completed"
    assert names(content(official, end.output_file_id)) == [f"good{n}" for n in range(len(good))]
    errors = content(official, end.error_file_id)
    assert [one["error"]["line"] for one in errors] == [2 * n + 2 for n in range(len(bad))]
    for one, (_, reason) in zip(errors, bad.values(), strict=True):
        assert reason in one["error"]["message"], one
        assert one["response"]["status_code"] >= 400
        assert one["response"]["body"]["error"]["message"] == one["error"]["message"]


def test_how_an_answer_is_drawn_and_its_form_reach_who_answers(official: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"said": {"type": "string"}, "sure": {"type": "boolean"}}}
    formed = {"type": "json_schema", "json_schema": {"name": "saying", "schema": schema, "strict": True}}
    drawn = {"top_p": 0.9, "seed": 7, "frequency_penalty": 0.5, "presence_penalty": -0.5, "temperature": 0.1}
    batch = begin(
        official,
        lines(
            completion("whole", "say fox", model="sim-gpt", **drawn),
            completion("stopped", "say fox", model="sim-gpt", stop=["You asked", "The main"], **drawn),
            completion("any", "say fox", model="sim-gpt", response_format={"type": "json_object"}),
            completion("formed", "say fox", model="sim-gpt", response_format=formed),
        ),
    )
    end = ended(official, batch)
    assert end.error_file_id is None, content(official, end.error_file_id)
    found = content(official, end.output_file_id)
    said = {one["custom_id"]: one["response"]["body"]["choices"][0]["message"]["content"] for one in found}
    assert "You asked: say fox" in said["whole"]
    assert said["stopped"]
    assert "You asked" not in said["stopped"]
    assert "say fox" in json.loads(said["any"])["answer"]
    told = json.loads(said["formed"])
    assert (set(told), told["sure"]) == ({"said", "sure"}, True)
    assert "say fox" in told["said"]


def test_workflows_are_lines_too(official: openai.OpenAI, client: httpx.Client) -> None:
    def line(name: str, workflow: str) -> dict[str, Any]:
        return {"custom_id": name, "method": "POST", "url": "/v1/runs", "body": {"workflow": workflow}}

    batch = begin(
        official,
        lines(line("two", "chat: hello THEN summarize: that"), line("wrong", "chta: hello"), line("one", "chat: hi")),
        "/v1/runs",
    )
    end = ended(official, batch)
    two, one = content(official, end.output_file_id)
    assert (two["custom_id"], one["custom_id"]) == ("two", "one")
    run = client.get(f"/v1/runs/{two['response']['request_id']}").json()
    assert [step["output"] for step in two["response"]["body"]["steps"]] == [step["output"] for step in run["steps"]]
    assert run["options"] == {"priority": 10, "on_budget": "wait"}
    (wrong,) = content(official, end.error_file_id)
    assert (wrong["custom_id"], wrong["error"]["line"]) == ("wrong", 2)
    assert "chat" in wrong["error"]["message"]


def test_what_is_wrong_is_told_in_words_that_the_client_shows(official: openai.OpenAI) -> None:
    file = official.files.create(file=("a.jsonl", lines(completion("a", "hi"))), purpose="batch")
    with pytest.raises(openai.UnprocessableEntityError, match="purpose must be batch"):
        official.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune")
    with pytest.raises(openai.NotFoundError, match="no file 'nothing'"):
        begin_with(official, "nothing")
    with pytest.raises(openai.UnprocessableEntityError, match="endpoint"):
        begin_with(official, file.id, endpoint="/v1/embeddings")
    with pytest.raises(openai.UnprocessableEntityError, match="completion_window"):
        begin_with(official, file.id, completion_window="soon")
    with pytest.raises(openai.UnprocessableEntityError, match="did you mean metadata") as caught:
        begin_with(official, file.id, extra_body={"metdata": {}})
    assert caught.value.code == "invalid"
    empty = official.files.create(file=("a.jsonl", b"\n"), purpose="batch")
    with pytest.raises(openai.UnprocessableEntityError, match="no lines"):
        begin_with(official, empty.id)


def begin_with(official: openai.OpenAI, file: str, **more: Any) -> Batch:
    asked = {"endpoint": "/v1/chat/completions", "completion_window": "24h", **more}
    return official.batches.create(input_file_id=file, **asked)


def test_files_are_listed_read_and_deleted(official: openai.OpenAI) -> None:
    made = [official.files.create(file=(f"{n}.jsonl", b'{"a": 1}\r\n{"b": 2}'), purpose="batch") for n in range(3)]
    listed = [one.id for one in official.files.list(purpose="batch", limit=2)]  # the client turns the pages
    assert listed[:3] == [one.id for one in reversed(made)]
    assert official.files.content(made[0].id).content == b'{"a": 1}\n{"b": 2}\n'
    assert official.files.retrieve(made[0].id).filename == "0.jsonl"
    assert official.files.delete(made[0].id).deleted
    with pytest.raises(openai.NotFoundError):
        official.files.retrieve(made[0].id)
    with pytest.raises(openai.NotFoundError):
        official.files.delete(made[0].id)


def goblin(launch: Launch, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "GOBLIN_URL": launch.url, "GOBLIN_API_KEY": ""}
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "batch", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_batch_is_submitted_watched_and_fetched_from_the_command_line(launch: Launch, tmp_path: Path) -> None:
    file, fetched = tmp_path / "lines.jsonl", tmp_path / "out.jsonl"
    file.write_bytes(lines(*(completion(f"n{n}", "hello") for n in range(20))))
    begun = goblin(launch, "submit", str(file), "--budget", "1.50", "--label", "job=nightly", "--watch", "--json")
    assert begun.returncode == 0, begun.stderr
    batch = json.loads(begun.stdout)
    assert (batch["status"], batch["budget_usd"], batch["metadata"]) == ("completed", "1.500000000", {"job": "nightly"})
    assert batch["id"] in begun.stderr
    assert "20 of 20 lines" in begun.stderr
    assert goblin(launch, "status", batch["id"]).stdout == "completed: 20 of 20 lines\n"
    assert goblin(launch, "results", batch["id"], "-o", str(fetched)).returncode == 0
    assert fetched.read_text() == goblin(launch, "results", batch["id"]).stdout
    assert names([json.loads(line) for line in fetched.read_text().splitlines()]) == [f"n{n}" for n in range(20)]
    none = goblin(launch, "results", batch["id"], "--errors")
    assert (none.returncode, none.stderr) == (2, "goblin: no line has failed\n")
    late = goblin(launch, "cancel", batch["id"])
    assert (late.returncode, late.stderr) == (2, "goblin: nothing of this batch is left to cancel: it is completed\n")


def test_a_line_that_failed_shows_in_the_exit_code(launch: Launch, tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_bytes(lines(completion("good", "hello"), completion("bad", "hello", reasoning_effort="high")))
    ended = goblin(launch, "submit", str(file), "--watch")
    told, hint = ended.stdout.splitlines()
    assert (ended.returncode, told) == (1, "completed: 1 of 2 lines, 1 failed")
    assert hint.startswith("why lines have failed: goblin batch results --errors batch_")
    file.write_text("hello\n")
    assert goblin(launch, "submit", str(file)).returncode == 2


def test_a_cancelled_batch_keeps_what_was_done(official: openai.OpenAI) -> None:
    batch = begin(official, lines(*(completion(f"n{n}", "tell me a long story") for n in range(3_000))))
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        found = official.batches.retrieve(batch.id)
        if found.request_counts and found.request_counts.completed:
            break
    official.batches.cancel(batch.id)
    end = ended(official, batch)
    assert end.status == "cancelled"
    assert end.request_counts
    done = content(official, end.output_file_id)
    assert 0 < len(done) == end.request_counts.completed < 3_000
    rest = content(official, end.error_file_id)
    assert {one["error"]["code"] for one in rest} == {"batch_cancelled"}
    assert sorted(names([*done, *rest])) == sorted(f"n{n}" for n in range(3_000))
    assert end.request_counts.failed == len(rest)
    assert official.batches.cancel(batch.id).status == "cancelled"
    assert batch.id in [one.id for one in official.batches.list(limit=3)]
