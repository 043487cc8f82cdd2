"""Signatures of reasoning, as vendors make them who want it back unchanged with the calls that it led to."""

import hashlib
from base64 import b64encode
from collections.abc import Sequence

from providers.simulator.refusal import Kind, Refused


def seal(thought: str) -> str:
    return b64encode(hashlib.sha256(f"sealed: {thought}".encode()).digest()).decode()


def check(blocks: Sequence[tuple[str, str]], *, calls: bool, thinks: bool) -> None:
    """The blocks (text, signature) of a turn that ends a conversation but for the results of its calls.

    Raises Refused for a text that is not the one which was signed, and for calls without blocks while the model is to
    think on.
    """
    if any(signature != seal(thought) for thought, signature in blocks):
        raise Refused(Kind.BAD_REQUEST, "Invalid `signature` in `thinking` block")
    if calls and thinks and not blocks:
        raise Refused(Kind.BAD_REQUEST, "Expected `thinking` or `redacted_thinking`, but found `tool_use`.")
