"""Rate-limit headers as vendors send them, and as nobody should: whatever cannot be read says nothing."""

from datetime import UTC, datetime

import pytest

from providers.limit import Gauge, Limits, read

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
EPOCH = int(NOW.timestamp())
DATE = {"date": "Sun, 22 Nov 2026 12:00:00 GMT"}

OPENAI = {
    "x-ratelimit-limit-requests": "5000",
    "x-ratelimit-remaining-requests": "4999",
    "x-ratelimit-reset-requests": "12ms",
    "x-ratelimit-limit-tokens": "160000",
    "x-ratelimit-remaining-tokens": "159976",
    "x-ratelimit-reset-tokens": "9ms",
    "x-ratelimit-limit-tokens_usage_based": "170000",
    "x-ratelimit-remaining-tokens_usage_based": "159976",
}
GROQ = {  # requests per day, tokens per minute
    "x-ratelimit-limit-requests": "14400",
    "x-ratelimit-remaining-requests": "14370",
    "x-ratelimit-reset-requests": "2m59.56s",
    "x-ratelimit-limit-tokens": "18000",
    "x-ratelimit-remaining-tokens": "17997",
    "x-ratelimit-reset-tokens": "7.66s",
}
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "49",
    "anthropic-ratelimit-requests-reset": "2026-11-22T12:00:02Z",
    "anthropic-ratelimit-tokens-limit": "40000",
    "anthropic-ratelimit-tokens-remaining": "39000",
    "anthropic-ratelimit-tokens-reset": "2026-11-22T12:00:01Z",
    "anthropic-ratelimit-input-tokens-limit": "30000",
    "anthropic-ratelimit-input-tokens-remaining": "29000",
    "anthropic-ratelimit-input-tokens-reset": "2026-11-22T12:00:01Z",
}
PARTS = {
    "anthropic-ratelimit-input-tokens-limit": "30000",
    "anthropic-ratelimit-input-tokens-remaining": "29000",
    "anthropic-ratelimit-input-tokens-reset": "2026-11-22T12:00:01Z",
    "anthropic-ratelimit-output-tokens-limit": "8000",
    "anthropic-ratelimit-output-tokens-remaining": "7500",
    "anthropic-ratelimit-output-tokens-reset": "2026-11-22T12:00:04Z",
}
AZURE = {
    "x-ratelimit-limit-requests": "10",
    "x-ratelimit-remaining-requests": "0",
    "x-ratelimit-reset-requests": "37",
    "x-ratelimit-limit-tokens": "-1",
    "x-ratelimit-remaining-tokens": "-1",
    "x-ratelimit-renewalperiod-tokens": "60",
    "retry-after-ms": "37000",
}
CEREBRAS = {
    "x-ratelimit-limit-requests-day": "1000000000",
    "x-ratelimit-remaining-requests-day": "999997455",
    "x-ratelimit-reset-requests-day": "33011.382867097855",
    "x-ratelimit-limit-tokens-minute": "1000000000",
    "x-ratelimit-remaining-tokens-minute": "999998298",
    "x-ratelimit-reset-tokens-minute": "11.382867097854614",
}
MISTRAL = {
    "x-ratelimit-limit-req-minute": "300",
    "x-ratelimit-remaining-req-minute": "299",
    "x-ratelimit-limit-tokens-minute": "500000",
    "x-ratelimit-remaining-tokens-minute": "499990",
    "x-ratelimit-tokens-query-cost": "10",
}
TOGETHER = {
    "x-ratelimit-limit": "600",
    "x-ratelimit-remaining": "599",
    "x-ratelimit-reset": "1",
    "x-tokenlimit-limit": "180000",
    "x-tokenlimit-remaining": "179990",
}


@pytest.mark.parametrize(
    ("headers", "requests", "tokens"),
    [
        pytest.param(OPENAI, Gauge(5000, 4999, 0.012), Gauge(160_000, 159_976, pytest.approx(0.009)), id="openai"),
        pytest.param(GROQ, None, Gauge(18_000, 17_997, 7.66), id="groq"),
        pytest.param(ANTHROPIC, Gauge(50, 49, 2), Gauge(40_000, 39_000, 1), id="anthropic"),
        pytest.param(PARTS, None, Gauge(38_000, 36_500, 4), id="input and output apart"),
        pytest.param(AZURE, Gauge(10, 0, 37), None, id="azure"),
        pytest.param(CEREBRAS, None, Gauge(10**9, 999_998_298, pytest.approx(11.38, abs=0.01)), id="cerebras"),
        pytest.param(MISTRAL, Gauge(300, 299), Gauge(500_000, 499_990), id="mistral"),
        pytest.param(TOGETHER, Gauge(600, 599, 1), Gauge(180_000, 179_990), id="together"),
        pytest.param(
            {"x-ratelimit-limit-tokens-prompt": "60000", "x-ratelimit-limit-tokens-generated": "6000"},
            None,
            Gauge(66_000),
            id="fireworks",
        ),
        pytest.param(
            {"x-ratelimitbysize-limit-minute": "500000", "x-ratelimitbysize-remaining-minute": "499000"},
            None,
            Gauge(500_000, 499_000),
            id="mistral, older",
        ),
        pytest.param(
            {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "3", "x-ratelimit-reset": str((EPOCH + 30) * 1000)},
            Gauge(20, 3, 30),
            None,
            id="a moment in Unix milliseconds",
        ),
        pytest.param(
            {"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "90", "ratelimit-reset": "50"},
            Gauge(100, 90, 50),
            None,
            id="as the drafts of a standard had it",
        ),
    ],
)
def test_a_vendor_s_headers_say_what_it_allows(
    headers: dict[str, str], requests: Gauge | None, tokens: Gauge | None
) -> None:
    limits = read(headers, NOW)
    assert limits is not None
    assert (limits.requests, limits.tokens) == (requests, tokens)


@pytest.mark.parametrize(
    ("reset", "seconds"),
    [
        ("6m0s", 360),
        ("1h2m3s", 3723),
        ("250ms", 0.25),
        ("59.7", 59.7),
        ("2026-11-22T12:00:10Z", 10),
        ("2026-11-22T13:00:10+01:00", 10),
        ("2026-11-22T11:59:00Z", 0),
        ("Sun, 22 Nov 2026 12:00:09 GMT", 9),
        (str(EPOCH + 12), 12),
        (f"{(EPOCH + 12) * 1000}", 12),
        ("soon", None),
        ("2026-11-22T12:00:10", None),
        ("inf", None),
        ("", None),
    ],
)
def test_a_reset_comes_in_many_units(reset: str, seconds: float | None) -> None:
    said = {"x-ratelimit-limit-tokens-minute": "10", "x-ratelimit-reset-tokens-minute": reset}
    assert read(said, NOW) == Limits(tokens=Gauge(10, None, seconds))


def test_a_moment_counts_from_the_answer_s_own_date() -> None:
    later = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
    assert read({**ANTHROPIC, **DATE}, later) == read(ANTHROPIC, NOW)


def test_what_is_used_up_says_when_it_comes_back_whatever_its_period() -> None:
    spent = {**CEREBRAS, "x-ratelimit-remaining-requests-day": "0", "x-ratelimit-reset-requests-day": "3600"}
    limits = read(spent, NOW)
    assert limits is not None
    assert (limits.empty_s, limits.requests) == (3600, None)
    azure = read(AZURE, NOW)
    assert azure is not None
    assert azure.empty_s == 37


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain", "x-request-id": "limit"},
        {"x-ratelimit-limit-requests": "many"},
        {"x-ratelimit-limit-requests": "0", "x-ratelimit-remaining-requests": "0"},
        {"x-ratelimit-limit-requests": "nan"},
        {"x-ratelimit-remaining-requests": "5"},
        {"x-ratelimit-limit-requests-fortnight": "5"},
        {"x-ratelimit-policy": "5;w=60", "x-ratelimit-resource": "core"},
        {"x-ratelimit-": "5"},
        {"limit": "5"},
    ],
)
def test_what_cannot_be_read_says_nothing(headers: dict[str, str]) -> None:
    assert read(headers, NOW) is None


def test_what_is_used_is_the_rest_of_the_limit() -> None:
    assert [Gauge(10, 3).used, Gauge(10).used, Gauge(10, 30).used] == [7, 0, 0]
