"""What a gateway says of the vendors behind it: answers of LiteLLM's proxy, release 1.106.2, as they came.

Those without a database behind it were recorded; budgets and keys that a database knows are from its source.
"""

import json
from typing import Any

import pytest

from goblin.errors import Breaker, Retry
from providers.errors import (
    BadCredentials,
    BadRequest,
    ContentFiltered,
    ContextTooLong,
    Overloaded,
    ProviderFault,
    QuotaSpent,
    ServerError,
    Throttled,
    UnknownModel,
)
from providers.wire.spoken import SPOKEN
from tests.fakes.said import sse
from tests.fakes.transcript.litellm import piece
from tests.fakes.vendor import provider

OPENAI = SPOKEN["openai"]


def said(status: int, message: str, kind: str | None = "invalid_request_error", **headers: str) -> ProviderFault:
    """The fault that one answer is taken for. The proxy says the status once more, as the code."""
    error = {"message": message, "type": kind, "param": None, "code": str(status)}
    return OPENAI.fault(provider(), status, headers, json.dumps({"error": error}).encode())


def failed(words: str, group: str = "m") -> str:
    """The proxy tells which of its models failed."""
    return f"{words}\n\nLiteLLM: model group '{group}' failed with the error above. No fallback was attempted."


def quoted(error: str, kind: str, words: str) -> str:
    body = json.dumps({"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_1"})
    return failed(f"litellm.{error}: AnthropicException - b'{body}'")


def openai(error: str, words: str) -> str:
    return failed(f"litellm.{error}: OpenAIException - {words}")


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        (said(400, "No connected db.", "no_db_connection"), BadCredentials),
        (
            said(401, "Authentication Error, Invalid proxy server token passed. Received API Key = sk", "auth_error"),
            BadCredentials,
        ),
        (said(401, "words", "token_not_found_in_db"), BadCredentials),
        (said(400, "Authentication Error", "expired_key"), BadCredentials),
        (said(401, "words", "key_model_access_denied"), UnknownModel),
        (said(400, "Budget has been exceeded!", "budget_exceeded"), QuotaSpent),
        (said(400, "/chat/completions: Invalid model name passed in model=m. Call `/v1/models` to view"), UnknownModel),
    ],
)
def test_a_gateway_speaks_for_itself(fault: ProviderFault, meaning: type[ProviderFault]) -> None:
    assert type(fault) is meaning


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        (said(401, openai("BadRequestError", "The API key is missing or not valid.")), UnknownModel),
        (said(401, quoted("AuthenticationError", "authentication_error", "no"), "authentication_error"), UnknownModel),
        (said(400, "litellm.AuthenticationError: no such key"), UnknownModel),
        (said(403, openai("PermissionDeniedError", "not for you")), UnknownModel),
        (said(404, openai("NotFoundError", "model 'no-such-model' not found")), UnknownModel),
        (said(400, "litellm.NotFoundError: OpenAIException - no m"), UnknownModel),
        (said(400, openai("BadRequestError", "The request is not valid.")), BadRequest),
        (said(400, "litellm.BadRequestError: tools must be a list"), BadRequest),
        (said(400, "Invalid request format: litellm.APIConnectionError: 'str' object has no attribute"), BadRequest),
        (
            said(400, openai("BadRequestError", "The prompt is longer than the context window of this model.")),
            ContextTooLong,
        ),
        (
            said(
                400,
                quoted(
                    "ContextWindowExceededError: litellm.BadRequestError", "invalid_request_error", "prompt is too long"
                ),
            ),
            ContextTooLong,
        ),
        (said(400, "litellm.ContextWindowExceededError: m takes less"), ContextTooLong),
        (said(400, "litellm.ContentPolicyViolationError: no"), ContentFiltered),
        (said(429, openai("RateLimitError: RateLimitError", "Rate limit reached."), "throttling_error"), Throttled),
        (said(429, quoted("RateLimitError", "rate_limit_error", "Rate limit reached."), "throttling_error"), Throttled),
        (said(400, "litellm.RateLimitError: slower"), Throttled),
        (said(503, openai("ServiceUnavailableError", "overloaded"), "internal_server_error"), Overloaded),
        (said(500, openai("InternalServerError: InternalServerError", "words"), "internal_server_error"), ServerError),
        (said(500, openai("InternalServerError", "Connection error."), "internal_server_error"), ServerError),
        (said(500, "litellm.APIConnectionError: Response payload is not completed", None), ServerError),
        (said(408, failed("litellm.Timeout: APITimeoutError - Request timed out.")), ServerError),
    ],
)
def test_a_gateway_tells_what_became_of_one_of_its_models(fault: ProviderFault, meaning: type[ProviderFault]) -> None:
    assert type(fault) is meaning


def test_a_gateway_s_key_that_a_vendor_refuses_does_not_close_the_gateway() -> None:
    fault = said(401, openai("BadRequestError", "The API key is missing or not valid."))
    assert (fault.other_candidate, fault.same_candidate, fault.breaker) == (Retry.YES, Retry.NEVER, Breaker.COUNT)
    assert said(400, "No connected db.", "no_db_connection").breaker is Breaker.OPEN


def test_a_model_that_a_gateway_rests_is_asked_when_its_time_is_over() -> None:
    fault = said(
        429,
        "No deployments available for selected model, Try again in 30 seconds. All deployments for selected model are "
        "in cooldown. Passed model=m. pre-call-checks=False, cooldown_list=['0742']",
        "all_deployments_in_cooldown",
        **{"retry-after": "30"},
    )
    assert type(fault) is Throttled
    assert fault.retry_after == 30
    assert said(429, "No deployments available for selected model, Try again in 5 seconds.").retry_after == 5


def test_a_vendor_that_fails_in_the_middle_is_told_in_the_stream() -> None:
    error: dict[str, Any] = {
        "message": "litellm.APIConnectionError: OpenAIException - words",
        "type": None,
        "param": None,
        "code": "500",
    }
    decoder = OPENAI.decoder(provider())
    with pytest.raises(ServerError):
        decoder.feed(sse(piece(content="Gladly"), {"error": error}), [])
