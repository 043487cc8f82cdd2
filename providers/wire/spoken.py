"""Every dialect that is spoken, by the name that catalog rows use."""

from collections.abc import Mapping
from types import MappingProxyType

from providers.wire.anthropic import Anthropic
from providers.wire.dialect import Dialect
from providers.wire.gemini import Gemini
from providers.wire.ollama import Ollama
from providers.wire.openai import OpenAi

SPOKEN: Mapping[str, Dialect] = MappingProxyType(
    {"openai": OpenAi(), "anthropic": Anthropic(), "gemini": Gemini(), "ollama": Ollama()}
)
