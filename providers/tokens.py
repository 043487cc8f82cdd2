"""Token counts before a call, without a vocabulary: estimates that lean high, because money is held for them."""

import json
import math
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from providers.message import Chat, Message

_LETTERS = (string.ascii_letters + string.whitespace).encode()
_WORD = re.compile(rb"[A-Z]?[a-z]+|[A-Z]+")
_MARGIN = 1.15  # other vendors' vocabularies cut finer than the one that this was measured against
_PER_MESSAGE = 4  # role and separators, in every chat format seen
_PER_CHAT = 3
_TO_LAST_SEAM = re.compile(r"(?s).*[\x00-@\[-`{-\x7f]")  # an ASCII character that is no letter ends a word for sure
_LONGEST_TAIL = 400  # characters


def estimate(text: str) -> int:
    """About how many tokens a text has.

    A token is up to six letters of a word (two, if it is all capitals), one or two digits or signs, one CJK character,
    or two letters of another alphabet. Against the o200k vocabulary: prose, code, JSON, logs and hashes 1.05 to 1.3
    times the real count, base64 0.95, CJK 1.5 to 2; of a thousand characters never below 0.85 (`bench/estimate.py`).
    Routing corrects it by what each candidate was seen to count. Linear; 25 MB a second.
    """
    return _rounded(_count(text))


def _rounded(count: float) -> int:
    return math.ceil(round(count * _MARGIN, 6))


def _count(text: str) -> float:
    plain = text.encode("ascii", "ignore")
    # UTF-8 spends one further byte on an accented or Cyrillic letter, two on a CJK character, three on an emoji.
    wide = (len(text.encode("utf-8", "replace")) - len(text)) / 2
    words = sum((len(word) + 1) // 2 if word.isupper() else 1 + (len(word) - 1) // 6 for word in _WORD.findall(plain))
    signs = len(plain.translate(None, _LETTERS))
    return words + signs * 0.65 + plain.count(b"\n") * 0.6 + wide


def estimate_chat(chat: Chat) -> int:
    """About how many input tokens a call has."""
    return estimate_question(chat.messages, chat.tools)


def estimate_question(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> int:
    """About how many input tokens it takes to ask so."""
    return _PER_CHAT + estimate_tools(tools) + sum(map(_estimate_message, messages))


def estimate_tools(tools: Sequence[Mapping[str, Any]]) -> int:
    """About how many input tokens it takes to describe tools."""
    return estimate(json.dumps(tools)) if tools else 0


def _estimate_message(message: Message) -> int:
    called = sum(estimate(call.name + call.arguments) for call in message.calls)
    return _PER_MESSAGE + estimate(message.content) + called


class Tally:
    """Estimates a text that comes in pieces, as a whole: pieces of words that belong together are one word."""

    def __init__(self) -> None:
        self.tokens = 0
        self._exact = 0.0  # of what no later piece can change
        self._tail = ""

    def add(self, text: str) -> int:
        """The tokens by which the estimate grows."""
        self._tail += text
        if end := _last_seam(self._tail):
            self._exact += _count(self._tail[:end])
            self._tail = self._tail[end:]
        before, self.tokens = self.tokens, max(self.tokens, _rounded(self._exact + _count(self._tail)))
        return self.tokens - before


def _last_seam(text: str) -> int:
    """Where no word goes on; anywhere when there is no such place for long."""
    if found := _TO_LAST_SEAM.match(text):
        return found.end()
    return len(text) if len(text) > _LONGEST_TAIL else 0
