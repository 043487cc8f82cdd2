"""Results in OpenAI's form, as its own client reads them."""

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from ledger.feeding import EndedLine, EndedRun, Said
from ledger.states import BatchStatus, RunStatus, StepStatus
from workers.line import COMPLETIONS, RUNS
from workers.result import result_of, result_of_none

BATCH, RUN = uuid.UUID(int=1), uuid.UUID(int=2)
NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)
STEP = Said(
    0, "chat", StepStatus.SUCCEEDED, "sim", "small", "hi", None, cost=1_500, finish="stop", input=7, cached=2,
    written=5, reasoning=1,
)  # fmt: skip
CALLS = [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
SHORT = {"type": "budget_exhausted", "message": "no money", "details": {"budget": "batch:x"}}


def told(
    endpoint: str = COMPLETIONS,
    *steps: Said,
    status: RunStatus = RunStatus.SUCCEEDED,
    ends_as: BatchStatus = BatchStatus.COMPLETED,
) -> tuple[bool, dict[str, Any]]:
    run = EndedRun(RUN, status, "chat: hello", {}, 1_500, NOON, NOON, steps or (STEP,))
    result = result_of(BATCH, endpoint, ends_as, EndedLine(3, "a", None, run))
    assert result.number == 3
    return result.is_good, json.loads(result.body)


def test_an_answer_is_a_completion_with_its_usage() -> None:
    is_good, line = told()
    assert is_good
    assert (line["custom_id"], line["error"], line["response"]["status_code"]) == ("a", None, 200)
    assert line["response"]["request_id"] == str(RUN)
    body = ChatCompletion.model_validate(line["response"]["body"])
    assert (body.model, body.choices[0].message.content, body.created) == ("small", "hi", int(NOON.timestamp()))
    assert body.usage
    assert (body.usage.prompt_tokens, body.usage.completion_tokens, body.usage.total_tokens) == (7, 5, 12)
    assert line["response"]["body"]["cost_usd"] == "0.000001500"


def test_calls_of_tools_are_the_message() -> None:
    said = json.dumps({"role": "assistant", "content": None, "tool_calls": CALLS})
    _, line = told(COMPLETIONS, replace(STEP, output=said, finish="tool"))
    choice = ChatCompletion.model_validate(line["response"]["body"]).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls
    assert [call.id for call in choice.message.tool_calls] == ["c1"]


@pytest.mark.parametrize("output", ["Let me look.", "", "7", "[]", '{"at": "here"}', '{"tool_calls": []}', "[" * 9000])
def test_what_is_no_message_of_calls_is_text_whatever_its_end_was_called(output: str) -> None:
    is_good, line = told(COMPLETIONS, replace(STEP, output=output, finish="tool"))
    choice = ChatCompletion.model_validate(line["response"]["body"]).choices[0]
    assert (is_good, choice.finish_reason, choice.message.content) == (True, "stop", output)


@pytest.mark.parametrize(("finish", "reason"), [("length", "length"), (None, "stop"), ("filtered", "content_filter")])
def test_why_an_answer_ended_is_said_in_their_words(finish: str | None, reason: str) -> None:
    _, line = told(COMPLETIONS, replace(STEP, finish=finish))
    assert line["response"]["body"]["choices"][0]["finish_reason"] == reason


def test_a_run_is_shown_with_its_steps() -> None:
    is_good, line = told(RUNS, STEP, replace(STEP, idx=1, output="more"))
    assert is_good
    body = line["response"]["body"]
    assert (body["id"], body["outcome"], [step["id"] for step in body["steps"]]) == (
        str(RUN),
        "succeeded",
        ["step1", "step2"],
    )
    assert body["steps"][1]["usage"] == {"input": 7, "cache_read": 2, "output": 5, "reasoning": 1}


def test_a_failure_says_why_with_the_status_that_a_request_would_have_had() -> None:
    failed = replace(STEP, status=StepStatus.FAILED, output=None, error=SHORT)
    is_good, line = told(COMPLETIONS, failed, status=RunStatus.FAILED)
    assert not is_good
    assert line["error"] == {"code": "budget_exhausted", "message": "no money", "line": 3}
    assert (line["response"]["status_code"], line["response"]["body"]["error"]["type"]) == (
        402,
        "invalid_request_error",
    )


@pytest.mark.parametrize(
    ("ends_as", "code"),
    [
        (BatchStatus.CANCELLED, "batch_cancelled"),
        (BatchStatus.EXPIRED, "batch_expired"),
        (BatchStatus.COMPLETED, "cancelled"),
    ],
)
def test_a_line_that_was_cut_says_by_what(ends_as: BatchStatus, code: str) -> None:
    _, line = told(status=RunStatus.CANCELLED, ends_as=ends_as)
    assert line["error"]["code"] == code


def test_a_line_that_never_ran_has_no_request() -> None:
    bad = EndedLine(9, None, {"type": "bad_json", "message": "no JSON"}, None)
    line = json.loads(result_of(BATCH, RUNS, BatchStatus.COMPLETED, bad).body)
    assert (line["custom_id"], line["response"]["request_id"], line["response"]["status_code"]) == (None, "", 400)


@pytest.mark.parametrize(
    ("ends_as", "code"),
    [
        (BatchStatus.CANCELLED, "batch_cancelled"),
        (BatchStatus.EXPIRED, "batch_expired"),
        (BatchStatus.FAILED, "budget_exhausted"),
    ],
)
def test_a_line_that_was_not_begun_has_no_response(ends_as: BatchStatus, code: str) -> None:
    result = result_of_none(BATCH, ends_as, 9, "a")
    line = json.loads(result.body)
    assert (result.number, result.is_good, line["custom_id"], line["response"]) == (9, False, "a", None)
    assert (line["error"]["code"], line["error"]["line"]) == (code, 9)
