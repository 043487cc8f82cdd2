"""Every dialect that is spoken, by the name that catalog rows use, and what cannot be said in it."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from providers.provider import Model, Provider
from providers.wire.anthropic import Anthropic
from providers.wire.bedrock import Bedrock
from providers.wire.cloudflare import Cloudflare
from providers.wire.cohere import Cohere
from providers.wire.dialect import JSON, UNREASONED, Dialect
from providers.wire.gemini import Gemini
from providers.wire.ollama import Ollama
from providers.wire.openai import OpenAi
from providers.wire.replicate import Replicate

SPOKEN: Mapping[str, Dialect] = MappingProxyType(
    {
        "openai": OpenAi(),
        "anthropic": Anthropic(),
        "gemini": Gemini(),
        "ollama": Ollama(),
        "cohere": Cohere(),
        "replicate": Replicate(),
        "bedrock": Bedrock(),
        "cloudflare": Cloudflare(),
    }
)

TOOLLESS = frozenset({"replicate"})  # dialects that have no word for tools

# Packages that a dialect needs and that are not installed with the rest; the optional extra has the dialect's name.
NEEDS: Mapping[str, str] = MappingProxyType({"bedrock": "botocore"})


def unsayable(provider: Provider, model: Model, wishes: Iterable[str], *, reasons: bool) -> str | None:
    """What of a Sampling's wishes cannot be asked of a model, and why; None when all of it can.

    `reasons` says that it is to reason if it is able to.
    """
    spoken, ways = SPOKEN[provider.dialect], {**provider.quirks, **model.quirks}
    names = ways.get("sampling", {})
    is_bare = reasons and model.reasoning and ways.get("reasoning_temperature") is False
    for wish in wishes:
        told = f"response_format {wish}" if wish in JSON else wish
        if wish not in names and wish not in spoken.words and wish not in spoken.forms:
            return f"takes no {told}: its dialect has no word for it"
        if names.get(wish) is False:
            return f"takes no {told}"
        if is_bare and wish in UNREASONED:
            return f"takes no {told} while it reasons"
    return None
