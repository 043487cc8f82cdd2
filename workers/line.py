"""A line of a batch file becomes an order, or an error of its own: nothing that stands in a line harms another one."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn

from pydantic import Field, ValidationError

from goblin.errors import GoblinError, UsageError
from ledger.feeding import FedLine
from ledger.files import Line
from workers.completion import CompletionRequest
from workers.order import Desk, Order
from workers.request import Request, RunRequest, Text, shown

COMPLETIONS, RUNS = "/v1/chat/completions", "/v1/runs"
ENDPOINTS = (COMPLETIONS, RUNS)
BEHIND = 10  # the priority of a line that names none: whoever waits for an answer goes first
DOUBLE = {"type": "double_custom_id", "message": "another line of this file has the same custom_id"}
_LONGEST_NAME = 512
_SHOWN = 5  # reasons against candidates


class BadJson(UsageError):
    slug = "bad_json"
    http_status = 400


class Invalid(UsageError):
    slug = "invalid"


class LineRequest(Request):
    custom_id: Annotated[Text, Field(min_length=1, max_length=_LONGEST_NAME)]
    method: Literal["POST"]
    url: Text
    body: dict[str, Any]


def read(desk: Desk, endpoint: str, line: Line) -> FedLine:
    """What a line of a batch for an endpoint becomes."""
    name = None
    try:
        value = _loaded(line.body)
        name = _name(value)
        order = _order(desk, endpoint, value)
        return FedLine(line.number, name, order.as_run(desk.check(order)))
    except GoblinError as error:
        return FedLine(line.number, name, _as_value(error))


def name_of(line: Line) -> str | None:
    """The custom_id of a line of which nothing else is read."""
    try:
        return _name(_loaded(line.body))
    except UsageError:
        return None


def _loaded(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise BadJson(f"the line is not JSON: {error.msg} at character {error.pos + 1}") from None
    except (ValueError, RecursionError):
        raise BadJson("the line is not JSON that can be read") from None
    if not isinstance(value, dict):
        raise Invalid("the line must be a JSON object")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _name(value: Mapping[str, Any]) -> str | None:
    """The custom_id, so that also a bad line can be known again."""
    name = value.get("custom_id")
    try:
        return (
            name
            if isinstance(name, str) and len(name) <= _LONGEST_NAME and "\0" not in name and name.encode()
            else None
        )
    except UnicodeEncodeError:
        return None


def _order(desk: Desk, endpoint: str, value: Mapping[str, Any]) -> Order:
    try:
        line = LineRequest.model_validate(value)
        if line.url != endpoint:
            raise Invalid(f"url: the batch is for {endpoint}, not for {line.url[:100]!r}", field="url")
        return _completion(desk, line.body) if endpoint == COMPLETIONS else _run(line.body)
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_input=False)
        first = max(mistakes, key=lambda one: len(one["loc"]))  # of what a value may be, that which it resembles most
        field = ".".join(str(part) for part in first["loc"] if "[" not in str(part))
        message = str(first["msg"]).removeprefix("Value error, ")
        raise Invalid(shown(f"{field}: {message}" if field else message), field=shown(field)) from None


def _completion(desk: Desk, body: Mapping[str, Any]) -> Order:
    order = CompletionRequest.model_validate(body).order(desk)
    return Order(order.workflow, input=order.input, options=_behind(order.options), plan=order.plan)


def _run(body: Mapping[str, Any]) -> Order:
    request = RunRequest.model_validate(body)
    return Order(
        request.workflow,
        request.default_goblin,
        request.input.model_dump(exclude_none=True),
        _behind(request.options.as_value()),
    )


def _behind(options: Mapping[str, Any]) -> dict[str, Any]:
    """Lines wait for money and stand behind those who wait for an answer, unless they say otherwise."""
    return {"on_budget": "wait", "priority": BEHIND, **options}


def _as_value(error: GoblinError) -> dict[str, Any]:
    """In one message with its cure; the reasons bounded, for a line may be refused by a whole catalog at once."""
    value, details = error.as_value(), dict(error.details)
    if (cure := details.get("suggestion")) is not None:
        value["message"] = f"{error.message}; {cure}"
    reasons = details.get("reasons")
    if isinstance(reasons, Mapping):
        concerned = {who: why for who, why in reasons.items() if "/" in who and "pinned to" not in why} or reasons
        value["details"] = {**details, "reasons": dict(list(concerned.items())[:_SHOWN])}
        value["message"] = "; ".join(
            [error.message, *(f"{who}: {why}" for who, why in concerned.items())][: 1 + _SHOWN]
        )
    return value
