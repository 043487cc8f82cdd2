"""What a provider can do wrong. The class facts say what may follow; routing and the breakers read nothing else.

    ProviderFault
    ├── Unreachable, Overloaded, BrokenStream, Malformed, ServerError     once more, then elsewhere, then after a pause
    ├── TimedOut(phase)                                                   elsewhere, then after a pause
    ├── Throttled(retry_after)                                            after the delay, or elsewhere
    ├── QuotaSpent, BadCredentials                                        elsewhere; the whole key is out
    ├── UnknownModel                                                      elsewhere
    ├── ToolsRefused                                                      elsewhere
    ├── PrefillRefused                                                    anywhere, from the beginning
    └── Rejected
        ├── BadRequest, ContentFiltered                                   nowhere
        └── ContextTooLong                                                a larger window only

Messages may quote the vendor, clipped; they never hold a key or a prompt.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Literal, TypeAlias

from goblin.errors import Breaker, GoblinError, Retry

Phase: TypeAlias = Literal["connect", "first_token", "stall", "total"]


class ProviderFault(GoblinError):
    slug: ClassVar[str] = "provider_fault"
    http_status = 502
    other_candidate = Retry.YES
    breaker = Breaker.COUNT


class Unreachable(ProviderFault):
    """No connection, or one that ended before any answer."""

    slug = "unreachable"
    same_candidate = Retry.ONCE


class Overloaded(ProviderFault):
    slug = "overloaded"
    same_candidate = Retry.ONCE


class BrokenStream(ProviderFault):
    """An answer that began and did not end as a whole one."""

    slug = "broken_stream"
    same_candidate = Retry.ONCE


class Malformed(ProviderFault):
    """An answer that is not in the provider's dialect, or larger than any honest one."""

    slug = "malformed"
    same_candidate = Retry.ONCE


class ServerError(ProviderFault):
    slug = "server_error"
    same_candidate = Retry.ONCE


class TimedOut(ProviderFault):
    """One of our own limits has passed; `details["phase"]` says which."""

    slug = "timed_out"
    http_status = 504
    same_candidate = Retry.ALONE

    def __init__(self, message: str, phase: Phase) -> None:
        super().__init__(message, phase=phase)


class Throttled(ProviderFault):
    """Too many requests or tokens for now; `retry_after` (seconds) when the vendor says for how long."""

    slug = "throttled"
    http_status = 429
    same_candidate = Retry.LATER
    breaker = Breaker.COOL


class QuotaSpent(ProviderFault):
    """The vendor's account is empty or its cap is reached: waiting does not help."""

    slug = "quota_spent"
    breaker = Breaker.OPEN


class BadCredentials(ProviderFault):
    slug = "bad_credentials"
    breaker = Breaker.OPEN


class UnknownModel(ProviderFault):
    """This provider has no such model (retired, renamed, not pulled), or no way to it; others may serve the step."""

    slug = "unknown_model"


class PrefillRefused(ProviderFault):
    """It does not go on with an answer that another one began, though its row says so."""

    slug = "prefill_refused"
    http_status = 422
    same_candidate = Retry.YES
    breaker = Breaker.IGNORE


class ToolsRefused(ProviderFault):
    """The model cannot be given tools; others may take them."""

    slug = "tools_refused"
    http_status = 422
    breaker = Breaker.IGNORE


class Rejected(ProviderFault):
    """The request itself is at fault."""

    slug = "rejected"
    http_status = 422
    other_candidate = Retry.NEVER
    breaker = Breaker.IGNORE


class BadRequest(Rejected):
    slug = "bad_request"


class ContentFiltered(Rejected):
    slug = "content_filtered"


class ContextTooLong(Rejected):
    slug = "context_too_long"
    other_candidate = Retry.LARGER


# By which a vendor says that it has not done what was asked.
DECLINED = (Throttled, QuotaSpent, BadCredentials, UnknownModel, ToolsRefused, PrefillRefused, Rejected)


class DeadlinePassed(GoblinError):
    """The caller's time is over, whatever a provider may still say; nobody is at fault."""

    slug = "deadline_passed"
    http_status = 504


class Cancelled(GoblinError):
    """We cut the call ourselves; nobody is at fault."""

    slug = "cancelled"
    http_status = 409


# What a vendor's answer can mean; a catalog file names them by slug.
ANSWERED: Mapping[str, type[ProviderFault]] = MappingProxyType(
    {
        fault.slug: fault
        for fault in (
            Overloaded, Malformed, ServerError, Throttled, QuotaSpent, BadCredentials,
            UnknownModel, ToolsRefused, BadRequest, ContentFiltered, ContextTooLong,
        )
    }
)  # fmt: skip
