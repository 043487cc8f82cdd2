"""Every dialect that is spoken, by the name that catalog rows use."""

from collections.abc import Mapping
from types import MappingProxyType

from providers.wire.anthropic import Anthropic
from providers.wire.bedrock import Bedrock
from providers.wire.cloudflare import Cloudflare
from providers.wire.cohere import Cohere
from providers.wire.dialect import Dialect
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
