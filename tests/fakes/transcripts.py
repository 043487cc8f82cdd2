"""Answers as vendors send them, by dialect, and what they say."""

from tests.fakes.said import Transcript
from tests.fakes.transcript import anthropic, bedrock, cloudflare, cohere, gemini, litellm, ollama, openai, replicate

TRANSCRIPTS: tuple[Transcript, ...] = (
    *anthropic.SAID,
    *bedrock.SAID,
    *cloudflare.SAID,
    *cohere.SAID,
    *gemini.SAID,
    *litellm.SAID,
    *ollama.SAID,
    *openai.SAID,
    *replicate.SAID,
)
