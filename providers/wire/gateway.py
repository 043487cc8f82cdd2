"""What gateways in front of many vendors say (LiteLLM's proxy and its like): often with status 400, whatever is wrong.

The words of an exception stand in the message, so that they are read here, and the status is not believed.
"""

from providers.errors import (
    BadCredentials,
    BadRequest,
    ContentFiltered,
    ContextTooLong,
    Overloaded,
    QuotaSpent,
    ServerError,
    Throttled,
    UnknownModel,
)
from providers.wire.complaint import rule

_ANY = (400, 401, 403, 404, 429)

# Read before a dialect's own words, which a gateway quotes. One model's vendor refused the gateway's key: its other
# models may serve, and our key to the gateway is not to blame.
UPSTREAM = (
    rule(
        UnknownModel,
        status=(400, 401, 403),
        contains=("litellm.authenticationerror", "litellm.permissiondeniederror"),
    ),
    rule(UnknownModel, status=(401, 403), contains=("litellm.badrequesterror",)),
)
RULES = (
    rule(BadRequest, status=(400,), contains=("invalid request format",)),
    rule(
        UnknownModel,
        "key_model_access_denied",
        "team_model_access_denied",
        "user_model_access_denied",
        "org_model_access_denied",
    ),
    rule(QuotaSpent, "budget_exceeded"),
    rule(
        BadCredentials, "token_not_found_in_db", "expired_key", "no_db_connection"
    ),  # the last: a key, and nobody to ask
    rule(ContextTooLong, status=_ANY, contains=("contextwindowexceedederror",)),
    rule(ContentFiltered, status=_ANY, contains=("contentpolicyviolationerror",)),
    rule(
        BadCredentials,
        status=_ANY,
        contains=("authenticationerror", "permissiondeniederror", "invalid proxy server token"),
    ),
    rule(
        UnknownModel,
        status=(400, 404),
        contains=(
            "invalid model name passed",
            "there is no 'model_name'",
            "notfounderror",
            "is not a valid model",
            "model not exist",
        ),
    ),
    rule(QuotaSpent, status=_ANY, contains=("budgetexceedederror", "budget has been exceeded")),
    rule(
        Overloaded,
        status=_ANY,
        contains=("no healthy deployment", "serviceunavailableerror"),
    ),
    rule(Throttled, status=_ANY, contains=("litellm.ratelimiterror", "no deployments available")),  # it says until when
    rule(
        ServerError,
        status=(400,),
        contains=("litellm.internalservererror", "litellm.apiconnectionerror", "litellm.timeout"),
    ),
)
