"""What error answers mean: the class decides what may follow, so status alone never does."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goblin.errors import Breaker, GoblinError, Retry
from goblin.settings import Settings
from providers import errors
from providers.errors import (
    BadCredentials,
    BadRequest,
    ContentFiltered,
    ContextTooLong,
    Malformed,
    Overloaded,
    ProviderFault,
    QuotaSpent,
    ServerError,
    Throttled,
    TimedOut,
    ToolsRefused,
    UnknownModel,
)
from providers.registry import load
from providers.wire.spoken import SPOKEN
from tests.fakes.vendor import KEY, provider

REGISTRY = load(Settings(), {})


def fault(dialect: str, status: int, body: Any, **headers: str) -> ProviderFault:
    said = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return SPOKEN[dialect].fault(provider(dialect=dialect), status, named, said)


def openai(**said: Any) -> dict[str, Any]:
    return {"error": {"message": "words", "type": None, "param": None, "code": None, **said}}


def anthropic(kind: str, message: str = "words", **more: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message, **more}, "request_id": "req_1"}


def gemini(code: int, status: str, *details: Any, message: str = "words") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def cloudflare(code: int) -> dict[str, Any]:
    return {"success": False, "errors": [{"code": code, "message": "words"}], "result": None, "messages": []}


PER_DAY = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "RequestsPerDayPerProject"}],
}
PER_MINUTE = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "RequestsPerMinute"}]}
LIMIT_PER_DAY = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "RATE_LIMIT_EXCEEDED",
    "metadata": {"service": "aiplatform.googleapis.com", "quota_limit": "RequestsPerDayPerProject"},
}
RETRY_SOON = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}
BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}


@pytest.mark.parametrize(
    ("dialect", "status", "body", "meaning"),
    [
        ("openai", 401, openai(code="invalid_api_key"), BadCredentials),
        ("openai", 403, openai(), BadCredentials),
        ("openai", 429, openai(code="rate_limit_exceeded"), Throttled),
        ("openai", 429, openai(code="slow_down"), Throttled),
        ("openai", 429, openai(type="insufficient_quota", code="insufficient_quota"), QuotaSpent),
        ("openai", 429, openai(type="insufficient_quota", code="project_spend_limit_exceeded"), QuotaSpent),
        ("openai", 429, openai(code="credit_balance_exhausted"), QuotaSpent),
        ("openai", 402, openai(), QuotaSpent),
        ("openai", 429, openai(code="billing_not_active", type="billing_not_active"), QuotaSpent),
        (
            "openai",
            429,
            openai(code="rate_limit_exceeded", message="Request too large for m (TPM): Limit 9, Requested 10."),
            ContextTooLong,
        ),
        ("openai", 413, openai(code="rate_limit_exceeded", message="Request too large for model `m`"), ContextTooLong),
        ("openai", 400, openai(message="Your organization must be verified to stream this model."), UnknownModel),
        ("openai", 429, openai(type="engine_overloaded_error"), Overloaded),
        ("openai", 503, openai(), Overloaded),
        ("openai", 400, openai(code="context_length_exceeded"), ContextTooLong),
        ("openai", 400, openai(message="Range of input length should be [1, 9]"), ContextTooLong),
        ("openai", 400, openai(message="Your request exceeded model token limit: 8192"), ContextTooLong),
        ("openai", 400, openai(type="exceed_context_size_error", code=400), ContextTooLong),
        ("openai", 400, openai(message="Invalid 'input[0]': maximum input length is 8192 tokens."), ContextTooLong),
        ("openai", 400, openai(code="content_filter"), ContentFiltered),
        ("openai", 400, openai(type="invalid_request_error"), BadRequest),
        ("openai", 422, {"detail": [{"msg": "field required"}]}, BadRequest),
        ("openai", 404, openai(code="model_not_found"), UnknownModel),
        ("openai", 500, openai(), ServerError),
        ("openai", 502, b"<html>Bad Gateway</html>", ServerError),
        ("openai", 503, openai(type="unavailable_error", message="Loading model"), Overloaded),
        ("openai", 429, {"object": "error", "message": "words", "type": "x", "code": "1300"}, Throttled),
        ("openai", 200, {"base_resp": {"status_code": 1002, "status_msg": "words"}}, ServerError),
        ("openai", 500, {"error": "a plain string"}, ServerError),
        ("openai", 429, [openai(code=429)], Throttled),
        ("openai", 302, b"", Malformed),
        ("openai", 408, b"", ServerError),
        ("openai", 404, openai(code=404, message="No endpoints found that support tool use."), ToolsRefused),
        ("ollama", 400, {"error": "registry.ollama.ai/library/m does not support tools"}, ToolsRefused),
        ("bedrock", 400, {"message": "This model doesn't support tool use."}, ToolsRefused),
        ("bedrock", 400, {"message": "This model doesn\u2019t support tool use."}, ToolsRefused),
        (
            "gemini",
            400,
            gemini(400, "INVALID_ARGUMENT", message="Function calling is not enabled for models/gemma"),
            ToolsRefused,
        ),
        ("anthropic", 401, anthropic("authentication_error"), BadCredentials),
        ("anthropic", 403, anthropic("permission_error"), BadCredentials),
        ("anthropic", 402, anthropic("billing_error"), QuotaSpent),
        ("anthropic", 429, anthropic("rate_limit_error"), Throttled),
        (
            "anthropic",
            429,
            anthropic("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}),
            QuotaSpent,
        ),
        ("anthropic", 400, anthropic("invalid_request_error", "Your credit balance is too low"), QuotaSpent),
        ("anthropic", 400, anthropic("invalid_request_error", "prompt is too long: 9 tokens > 8"), ContextTooLong),
        ("anthropic", 400, anthropic("invalid_request_error"), BadRequest),
        ("anthropic", 400, anthropic("invalid_request_error", "This organization has been disabled."), BadCredentials),
        (
            "anthropic",
            400,
            anthropic("invalid_request_error", "Output blocked by content filtering policy"),
            ContentFiltered,
        ),
        ("anthropic", 413, anthropic("request_too_large"), ContextTooLong),
        ("anthropic", 404, anthropic("not_found_error"), UnknownModel),
        ("anthropic", 529, anthropic("overloaded_error"), Overloaded),
        ("anthropic", 500, anthropic("api_error"), ServerError),
        ("anthropic", 504, anthropic("timeout_error"), ServerError),
        ("gemini", 400, gemini(400, "INVALID_ARGUMENT", BAD_KEY, message="API key not valid."), BadCredentials),
        ("gemini", 403, gemini(403, "PERMISSION_DENIED"), BadCredentials),
        (
            "gemini",
            400,
            gemini(400, "FAILED_PRECONDITION", message="User location is not supported for the API use."),
            BadCredentials,
        ),
        (
            "gemini",
            400,
            gemini(400, "FAILED_PRECONDITION", message="Gemini API free tier is not available in your country."),
            BadCredentials,
        ),
        ("gemini", 429, gemini(429, "RESOURCE_EXHAUSTED", PER_MINUTE), Throttled),
        ("gemini", 429, gemini(429, "RESOURCE_EXHAUSTED", PER_DAY), QuotaSpent),
        ("gemini", 429, gemini(429, "RESOURCE_EXHAUSTED", PER_MINUTE, PER_DAY, RETRY_SOON), QuotaSpent),
        ("gemini", 429, gemini(429, "RESOURCE_EXHAUSTED", LIMIT_PER_DAY), QuotaSpent),
        ("gemini", 429, gemini(429, "x", message="Quota exceeded: requests_per_day_per_model"), QuotaSpent),
        ("gemini", 402, gemini(402, "FAILED_PRECONDITION"), QuotaSpent),
        ("gemini", 503, gemini(503, "UNAVAILABLE"), Overloaded),
        ("gemini", 500, gemini(500, "INTERNAL"), ServerError),
        ("gemini", 504, gemini(504, "DEADLINE_EXCEEDED"), ServerError),
        (
            "gemini",
            400,
            gemini(400, "INVALID_ARGUMENT", message="The input exceeds the maximum number of tokens allowed"),
            ContextTooLong,
        ),
        (
            "gemini",  # as Vertex says it
            400,
            gemini(400, "INVALID_ARGUMENT", message="the input token count is 3000 but model only supports up to 2048"),
            ContextTooLong,
        ),
        ("gemini", 400, gemini(400, "INVALID_ARGUMENT"), BadRequest),
        ("gemini", 404, gemini(404, "NOT_FOUND"), UnknownModel),
        ("ollama", 404, {"error": "model 'x' not found, try pulling it first"}, UnknownModel),
        ("ollama", 400, {"error": '"m" does not support chat'}, UnknownModel),
        ("ollama", 400, {"error": '"m" does not support thinking'}, UnknownModel),
        ("ollama", 401, {"error": "unauthorized"}, BadCredentials),
        ("ollama", 429, {"error": "too many"}, Throttled),
        ("ollama", 502, {"error": "upstream"}, Overloaded),
        ("ollama", 503, {"error": "busy"}, Overloaded),
        ("ollama", 500, {"error": "the runner has ended"}, ServerError),
        ("ollama", 400, {"error": "the prompt exceeds the context length"}, ContextTooLong),
        ("ollama", 400, {"error": "the input length exceeds the context length"}, ContextTooLong),
        ("ollama", 500, {"error": "input exceeds maximum context length"}, ContextTooLong),
        ("ollama", 400, {"error": "invalid"}, BadRequest),
        ("cohere", 401, {"message": "invalid api token"}, BadCredentials),
        ("cohere", 402, {"message": "words"}, QuotaSpent),
        ("cohere", 429, {"message": "words"}, Throttled),
        ("cohere", 429, {"message": "You are using a Trial key, limited to 1000 API calls / month"}, QuotaSpent),
        ("cohere", 400, {"message": "too many tokens: size limit exceeded by 9 tokens."}, ContextTooLong),
        ("cohere", 422, {"message": "words"}, BadRequest),
        ("cohere", 404, {"message": "model 'x' not found"}, UnknownModel),
        ("cohere", 498, {"message": "blocked"}, ContentFiltered),
        ("cohere", 503, {"message": "words"}, Overloaded),
        ("replicate", 401, {"title": "Unauthenticated", "detail": "words", "status": 401}, BadCredentials),
        ("replicate", 402, {"title": "words", "detail": "words", "status": 402}, QuotaSpent),
        ("replicate", 404, {"detail": "words", "status": 404}, UnknownModel),
        ("replicate", 422, {"title": "Input validation failed", "detail": "- input: words", "status": 422}, BadRequest),
        ("replicate", 429, {"detail": "Request was throttled.", "status": 429}, Throttled),
        ("cloudflare", 429, cloudflare(3036), QuotaSpent),
        ("cloudflare", 429, cloudflare(3040), Overloaded),
        ("cloudflare", 429, cloudflare(971), Throttled),
        ("cloudflare", 413, cloudflare(3006), ContextTooLong),
        ("cloudflare", 408, cloudflare(3007), ServerError),
        ("cloudflare", 400, cloudflare(5007), UnknownModel),
        ("cloudflare", 404, cloudflare(3042), UnknownModel),
        ("cloudflare", 403, cloudflare(5018), BadCredentials),
        ("cloudflare", 400, cloudflare(5006), BadRequest),
    ],
)
def test_an_error_answer_means(dialect: str, status: int, body: Any, meaning: type[ProviderFault]) -> None:
    assert type(fault(dialect, status, body)) is meaning


@pytest.mark.parametrize(
    ("kind", "status", "message", "meaning"),
    [
        ("ThrottlingException", 429, "Too many requests", Throttled),
        ("ThrottlingException", 429, "Too many tokens per day", QuotaSpent),
        ("ServiceQuotaExceededException", 400, "words", QuotaSpent),
        ("AccessDeniedException", 403, "words", BadCredentials),
        ("AccessDeniedException", 403, "You don't have access to the model", UnknownModel),
        ("UnrecognizedClientException", 403, "The security token is invalid", BadCredentials),
        ("ExpiredTokenException", 403, "words", BadCredentials),
        ("ResourceNotFoundException", 404, "words", UnknownModel),
        ("ValidationException", 400, "The provided model identifier is invalid.", UnknownModel),
        ("ValidationException", 400, "Invocation of m with on-demand throughput isn\u2019t supported.", UnknownModel),
        ("ValidationException", 400, "This action doesn't support the model that you provided.", UnknownModel),
        ("ValidationException", 400, "This model version has reached the end of its life.", UnknownModel),
        ("ValidationException", 400, "Operation not allowed", UnknownModel),
        ("ValidationException", 400, "Input is too long for requested model.", ContextTooLong),
        ("ValidationException", 400, "400 Bad Request: Too many input tokens. Max input tokens: 8192", ContextTooLong),
        ("ValidationException", 400, "Malformed input request: expected maxLength: 50000, actual: 9", ContextTooLong),
        ("ValidationException", 400, "words", BadRequest),
        ("ModelNotReadyException", 429, "words", Overloaded),
        ("ServiceUnavailableException", 503, "words", Overloaded),
        ("ModelTimeoutException", 408, "words", ServerError),
        ("ModelErrorException", 424, "words", ServerError),
        ("InternalServerException", 500, "words", ServerError),
    ],
)
def test_bedrock_tells_in_a_header(kind: str, status: int, message: str, meaning: type[ProviderFault]) -> None:
    told = fault("bedrock", status, {"message": message}, x_amzn_errortype=f"{kind}:http://internal.amazon.com/")
    assert type(told) is meaning
    assert message in told.message


@pytest.mark.parametrize(
    ("name", "status", "body", "meaning"),
    [
        ("qwen", 429, openai(code="insufficient_quota"), Throttled),
        ("qwen", 403, openai(code="Arrearage"), QuotaSpent),
        ("zhipu", 429, {"error": {"code": "1113", "message": "words"}}, QuotaSpent),
        ("zhipu", 429, {"error": {"code": "1302", "message": "words"}}, Throttled),
        ("zhipu", 429, {"error": {"code": "1305", "message": "words"}}, Overloaded),
        ("zhipu", 400, {"error": {"code": "1261", "message": "words"}}, ContextTooLong),
        ("zhipu", 400, {"error": {"code": "1301", "message": "words"}}, ContentFiltered),
        ("zhipu", 401, {"error": {"code": "1002", "message": "words"}}, BadCredentials),
        ("moonshot", 429, openai(type="exceeded_current_quota_error"), QuotaSpent),
        ("moonshot", 429, openai(type="rate_limit_reached_error"), Throttled),
        ("moonshot", 403, openai(message="insufficient balance"), QuotaSpent),
        ("moonshot", 403, openai(message="not allowed"), BadCredentials),
        ("openrouter", 403, {"error": {"code": 403, "message": "flagged by moderation"}}, ContentFiltered),
        ("openrouter", 402, {"error": {"code": 402, "message": "credits"}}, QuotaSpent),
        ("openai", 429, openai(code="insufficient_quota"), QuotaSpent),
        ("scaleway", 422, {"error": "MODEL_NOT_FOUND", "status": 422, "message": "words"}, UnknownModel),
        ("scaleway", 422, openai(message="Model not found"), UnknownModel),
        ("scaleway", 422, openai(message="The model `m` does not exist."), UnknownModel),
        ("scaleway", 422, openai(message="This model's maximum context length is 9 tokens"), ContextTooLong),
        ("scaleway", 422, openai(message="temperature must be at most 2 for this model"), BadRequest),
        ("fireworks", 412, openai(message="Account u is suspended, possibly due to a spending limit"), QuotaSpent),
        ("fireworks", 412, openai(message="a precondition has failed"), UnknownModel),
        ("jina", 400, {"detail": {"message": "Text exceeds the model's maximum of 9 tokens."}}, ContextTooLong),
        ("jina", 400, {"detail": "words"}, BadRequest),
        ("voyage", 400, {"detail": "One does not fit into the model's context window of 9 tokens."}, ContextTooLong),
        ("voyage", 400, {"detail": "The max allowed tokens per submitted batch is 9."}, BadRequest),
    ],
)
def test_a_row_may_say_what_its_own_codes_mean(name: str, status: int, body: Any, meaning: type[ProviderFault]) -> None:
    vendor = REGISTRY.get(name)
    spoken = SPOKEN.get(vendor.dialect, SPOKEN["openai"])
    assert type(spoken.fault(vendor, status, {}, json.dumps(body).encode())) is meaning


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry_after_ms": "1500", "retry_after": "9"}, openai(), 1.5),
        ({"retry_after": "2.5"}, openai(), 2.5),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:10 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, openai(), 10.0),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:28:10 GMT"}, openai(), 0.0),
        ({"retry_after": "soon"}, openai(), None),
        ({"retry_after": "nan"}, openai(), None),
        ({"retry_after": "-3"}, openai(), 0.0),
        ({}, gemini(429, "x", {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}), 17.0),
        ({}, {"detail": "Request was throttled. Your rate limit resets in ~30s."}, 30.0),
        ({}, openai(message="Please try again in 1m2.5s. Visit us."), 62.5),
        ({}, openai(message="Please try again in 850ms."), 0.85),
        ({}, openai(message="no hint"), None),
    ],
)
def test_how_long_to_wait_is_read_from_headers_then_from_the_body(
    headers: dict[str, str], body: Any, seconds: float | None
) -> None:
    throttled = fault("openai", 429, body, **headers)
    assert throttled.retry_after == (pytest.approx(seconds) if seconds is not None else None)


def test_a_message_quotes_the_vendor_in_one_short_line_without_the_key() -> None:
    message = fault("openai", 400, openai(message=f"Incorrect\n  key {KEY} given. " + "x" * 5000)).message
    assert "Incorrect key [key] given." in message
    assert KEY not in message
    assert len(message) < 360


def test_a_code_that_holds_the_key_is_shown_without_it() -> None:
    shown = fault("openai", 401, {"error": {"code": f"{KEY} is no key"}}).message
    assert KEY.lower() not in shown.lower()
    assert "is no key" in shown


def test_a_page_of_markup_is_not_quoted() -> None:
    assert "<" not in fault("openai", 502, b"<html><body>Bad Gateway</body></html>").message


@pytest.mark.parametrize("dialect", SPOKEN)
@given(
    status=st.integers(100, 599), body=st.binary(max_size=100) | st.text().map(lambda text: json.dumps(text).encode())
)
def test_any_answer_means_something(dialect: str, status: int, body: bytes) -> None:
    assert isinstance(fault(dialect, status, body), ProviderFault)


FACTS = {
    "prefill_refused": (422, Retry.YES, Retry.YES, Breaker.IGNORE),
    "unreachable": (502, Retry.ONCE, Retry.YES, Breaker.COUNT),
    "overloaded": (502, Retry.ONCE, Retry.YES, Breaker.COUNT),
    "broken_stream": (502, Retry.ONCE, Retry.YES, Breaker.COUNT),
    "malformed": (502, Retry.ONCE, Retry.YES, Breaker.COUNT),
    "server_error": (502, Retry.ONCE, Retry.YES, Breaker.COUNT),
    "timed_out": (504, Retry.ALONE, Retry.YES, Breaker.COUNT),
    "throttled": (429, Retry.LATER, Retry.YES, Breaker.COOL),
    "quota_spent": (502, Retry.NEVER, Retry.YES, Breaker.OPEN),
    "bad_credentials": (502, Retry.NEVER, Retry.YES, Breaker.OPEN),
    "unknown_model": (502, Retry.NEVER, Retry.YES, Breaker.COUNT),
    "bad_request": (422, Retry.NEVER, Retry.NEVER, Breaker.IGNORE),
    "content_filtered": (422, Retry.NEVER, Retry.NEVER, Breaker.IGNORE),
    "context_too_long": (422, Retry.NEVER, Retry.LARGER, Breaker.IGNORE),
    "tools_refused": (422, Retry.NEVER, Retry.YES, Breaker.IGNORE),
}


def test_the_facts_of_every_fault_are_those_of_the_table() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ProviderFault)]
    facts = {
        kind.slug: (kind.http_status, kind.same_candidate, kind.other_candidate, kind.breaker)
        for kind in kinds
        if kind not in (ProviderFault, errors.Rejected)
    }
    assert facts == FACTS


def test_a_time_out_says_which_limit_passed() -> None:
    value = TimedOut("words", "stall").as_value()
    assert value == {"type": "timed_out", "message": "words", "details": {"phase": "stall"}}
    assert isinstance(TimedOut("words", "total"), GoblinError)


def test_a_name_that_no_database_can_hold_is_mended() -> None:
    told = fault("openai", 418, b'{"error": {"code": "a\\ud800b\\u0000c"}}').message
    assert "a\ufffdb\ufffdc" in told
    assert told.encode()
