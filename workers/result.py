"""What became of a line, as a line of the output file or of the error file, in the form of OpenAI's batches."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from goblin.errors import BudgetExhausted, kind_of
from goblin.money import to_usd
from ledger.feeding import EndedLine, EndedRun, Result, Said
from ledger.states import BatchStatus, RunStatus, StepStatus
from workers.line import COMPLETIONS

_FINISHES = {"stop": "stop", "length": "length", "filtered": "content_filter"}
_CLOSED: Mapping[BatchStatus, Mapping[str, str]] = {
    BatchStatus.EXPIRED: {
        "type": "batch_expired",
        "message": "the batch's completion window was over before this line had ended",
    },
    BatchStatus.CANCELLED: {"type": "batch_cancelled", "message": "the batch was cancelled before this line had ended"},
}
_NOT_BEGUN: Mapping[BatchStatus, Mapping[str, str]] = {
    BatchStatus.EXPIRED: {
        "type": "batch_expired",
        "message": "the batch's completion window was over before this line was begun",
    },
    BatchStatus.CANCELLED: {"type": "batch_cancelled", "message": "the batch was cancelled before this line was begun"},
    BatchStatus.FAILED: {
        "type": BudgetExhausted.slug,
        "message": "the batch's budget was spent before this line was begun",
    },
}
_GONE = {"type": "not_found", "message": "the run of this line was forgotten before its result was written"}
_CANCELLED = {"type": "cancelled", "message": "the run of this line was cancelled"}


def as_openai(error: Mapping[str, Any], status: int) -> dict[str, Any]:
    """An error in OpenAI's form; `code` is ours."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {
        "message": error["message"],
        "type": kind,
        "param": error.get("details", {}).get("field"),
        "code": error["type"],
    }


def result_of(batch: uuid.UUID, endpoint: str, ends_as: BatchStatus, line: EndedLine) -> Result:
    """The result of a line of a batch that ends so."""
    run, error = line.run, line.error
    if run is None:
        return _bad(batch, line, error or _GONE, None)
    if run.status is RunStatus.SUCCEEDED:
        body = completion(run) if endpoint == COMPLETIONS else as_value(run)
        return Result(line.number, True, _line(batch, line.number, line.name, _response(200, run, body), None))
    return _bad(batch, line, _why(run, ends_as), run, with_run=endpoint != COMPLETIONS)


def result_of_none(batch: uuid.UUID, ends_as: BatchStatus, number: int, name: str | None) -> Result:
    """The result of a line that was not begun when its batch ended so: nobody was asked, so nobody has responded."""
    error = _NOT_BEGUN[ends_as]
    return Result(number, False, _line(batch, number, name, None, _told(error, number)))


def completion(run: EndedRun) -> dict[str, Any]:
    """The one step of a run as a chat completion."""
    (step,) = run.steps
    calling = _calling(step)
    return {
        "id": f"chatcmpl-{run.id.hex}",
        "object": "chat.completion",
        "created": int((run.finished_at or run.created_at).timestamp()),
        "model": step.model,
        "provider": step.provider,
        "choices": [
            {
                "index": 0,
                "message": {**(calling or {"role": "assistant", "content": step.output}), "refusal": None},
                "logprobs": None,
                "finish_reason": "tool_calls" if calling else _FINISHES.get(step.finish or "", "stop"),
            }
        ],
        "usage": {
            "prompt_tokens": step.input,
            "completion_tokens": step.written,
            "total_tokens": step.input + step.written,
            "prompt_tokens_details": {"cached_tokens": step.cached},
            "completion_tokens_details": {"reasoning_tokens": step.reasoning},
        },
        "cost_usd": to_usd(run.cost),
    }


def as_value(run: EndedRun) -> dict[str, Any]:
    """A run as its submitter reads it, without its attempts: those are at its own address."""
    return {
        "id": str(run.id),
        "status": run.status,
        "outcome": run.status,
        "workflow": run.workflow,
        "cost_usd": to_usd(run.cost),
        "created_at": run.created_at.isoformat(),
        "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        "metadata": run.metadata,
        "steps": [_step(step) for step in run.steps],
    }


def _calling(step: Said) -> dict[str, Any] | None:
    """Calls of tools are an output that is a message already; any other is text, whatever its end was called."""
    if step.finish != "tool":
        return None
    try:
        message = json.loads(step.output or "")
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and message.get("tool_calls") else None


def _step(step: Said) -> dict[str, Any]:
    shown = asdict(step)
    usage = {"input": step.input, "cache_read": step.cached, "output": step.written, "reasoning": step.reasoning}
    for name in ("idx", "cost", "finish", "input", "cached", "written", "reasoning"):
        del shown[name]
    return {"id": f"step{step.idx + 1}", **shown, "usage": usage, "cost_usd": to_usd(step.cost)}


def _why(run: EndedRun, ends_as: BatchStatus) -> Mapping[str, Any]:
    if run.status is RunStatus.CANCELLED:
        return _CLOSED.get(ends_as, _CANCELLED)
    failed = [step.error for step in run.steps if step.status is StepStatus.FAILED and step.error is not None]
    return failed[-1] if failed else {"type": "failed", "message": "the run has failed"}


def _bad(
    batch: uuid.UUID, line: EndedLine, error: Mapping[str, Any], run: EndedRun | None, *, with_run: bool = False
) -> Result:
    status = kind_of(error).http_status
    body: dict[str, Any] = {"error": as_openai(error, status)}
    if run is not None and with_run:
        body["run"] = as_value(run)
    response = _response(status, run, body)
    return Result(line.number, False, _line(batch, line.number, line.name, response, _told(error, line.number)))


def _told(error: Mapping[str, Any], number: int) -> dict[str, Any]:
    return {"code": error["type"], "message": error["message"], "line": number}


def _response(status: int, run: EndedRun | None, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"status_code": status, "request_id": str(run.id) if run is not None else "", "body": body}


def _line(
    batch: uuid.UUID,
    number: int,
    name: str | None,
    response: Mapping[str, Any] | None,
    error: Mapping[str, Any] | None,
) -> bytes:
    value = {"id": f"batch_req_{batch.hex}_{number}", "custom_id": name, "response": response, "error": error}
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
