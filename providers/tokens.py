"""Token counts before a call, without a vocabulary: upper estimates, because money is held for them.

The yardstick is OpenAI's vocabularies o200k and cl100k; what other vendors count for each of their tokens stands in the
catalog (`counts`) and is corrected by what is seen (`routing/health.py`).
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from providers.message import Chat, Message
from providers.sampling import UNSAID, Sampling

UNKNOWN = 1.2  # tokens of a vendor whose vocabulary nobody compared, for each that is estimated
_WORD = re.compile(rb"[A-Z]?[a-z]+|[A-Z]+")
_DIGITS = re.compile(rb"[0-9]{1,3}")  # at most three share a token
_BEFORE_DIGIT = re.compile(rb"[ -/:-@\[-`{-~\t](?=[0-9])")  # shares none with what it stands before
_BLANKS = re.compile(rb"[ \t]{2,}")
_NO_SIGNS = bytes(code for code in range(256) if code >= 0x80 or chr(code).isalnum() or chr(code).isspace())
_COMMON = frozenset(
    b"""
    a about after all also an and any are as at back be because been before but by can case class code could
    data def different do does each else end even every file first for from function get give given go had has
    have he her here his how i if import in int into is it item its just key know last less like line list made
    make many may me method more most much must my name need new next no none not now number object of off old
    on once one only open or order other our out over own part path per point print raise read request result
    return right run same say see self set she should so some start state still str string such take test text
    than that the their them then there these they thing this those through time to true false two type under up
    us use used user using value very want was way we well were what when where which while who will with
    without word work would year you your
    """.split()
)
_LONG = 6  # letters that a word of one token has; what is longer may be no word of any language
_SCRIPTS = tuple(  # UTF-8's first byte tells the script: from, to, tokens of a character, what is there
    (bytes(range(first, last + 1)), weight)
    for first, last, weight in (
        (0xC2, 0xCB, 0.8),  # Latin with accents
        (0xCC, 0xCF, 1.05),  # Greek
        (0xD0, 0xD3, 0.92),  # Cyrillic
        (0xD4, 0xD7, 1.16),  # Armenian, Hebrew
        (0xD8, 0xDF, 1.23),  # Arabic
        (0xE0, 0xE0, 1.5),  # Indic, Thai
        (0xE1, 0xE1, 2.1),  # Georgian, Khmer, and Vietnamese's letters
        (0xE2, 0xE2, 1.75),  # signs
        (0xE3, 0xE3, 1.25),  # kana
        (0xE4, 0xE9, 1.5),  # Han
        (0xEA, 0xED, 1.4),  # Hangul
        (0xEE, 0xEF, 1.0),  # full-width signs
        (0xF0, 0xF4, 3.05),  # emoji, and all that is rare
    )
)
_STRAY = 1.2  # times the root of the bytes: by how much a text may stray from the rule; a short one strays further
_PER_MESSAGE = 4  # role and separators, in every chat format seen
_PER_CHAT = 3
_TO_LAST_SEAM = re.compile(r"(?s).*(?:[^A-Za-z0-9 \t](?=[^0-9])|[ \t](?=[^ \t0-9]))")  # nothing counted goes across
_LONGEST_TAIL = 400  # characters


def estimate(text: str) -> int:
    """How many tokens a text has at most, as far as that can be said: never below the count of o200k or cl100k in what
    `bench/estimate.py` looks at, 1.2 to 1.5 times the former in prose and code. Linear; some 8 MB a second.

    Too low only for what is hardly ever written: Han characters drawn at random have up to 2.4 tokens each.
    """
    size = len(text.encode("utf-8", "replace"))
    return min(size, math.ceil(_count(text) + _STRAY * math.sqrt(size)))  # no token is less than a byte


def _count(text: str) -> float:
    raw = text.encode("utf-8", "replace")
    words = sum(_word(word) * times for word, times in Counter(_WORD.findall(raw)).items())
    blanks = 0.9 * len(_BLANKS.findall(raw)) + 0.3 * raw.count(b"\n")
    signs = 0.66 * len(raw.translate(None, _NO_SIGNS))
    numbers = len(_DIGITS.findall(raw)) + 0.9 * len(_BEFORE_DIGIT.findall(raw))
    scripts = 0.0 if raw.isascii() else sum((len(raw) - len(raw.translate(None, of))) * per for of, per in _SCRIPTS)
    return round(words + numbers + signs + blanks + scripts, 6)


def _word(word: bytes) -> float:
    if len(word) > 1 and word.isupper():
        return 0.595 * len(word)
    if word.lower() in _COMMON:
        return 0.85
    return 1.55 + 0.7 * max(0, len(word) - _LONG)


def estimate_chat(chat: Chat) -> int:
    """How many input tokens a call has at most."""
    return estimate_question(chat.messages, chat.tools, chat.sampling)


def estimate_question(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = (), sampling: Sampling = UNSAID
) -> int:
    """How many input tokens it takes at most to ask so. A schema is told to the model."""
    texts = "\n".join(text for message in messages for text in _texts(message))
    schema = 0 if sampling.schema is None else estimate(json.dumps(sampling.response_format))
    return _PER_CHAT + estimate_tools(tools) + schema + _PER_MESSAGE * len(messages) + estimate(texts)


def estimate_tools(tools: Sequence[Mapping[str, Any]]) -> int:
    """How many input tokens it takes at most to describe tools."""
    return estimate(json.dumps(tools)) if tools else 0


def _texts(message: Message) -> Iterator[str]:
    yield message.content
    yield from (f"{call.name}\n{call.arguments}" for call in message.calls)
    yield from (one.text or one.signature for one in message.reasoned)


class Tally:
    """Estimates a text that comes in pieces, as a whole: pieces of words that belong together are one word.

    What was said is shown and, when its call breaks, charged: it leans high, and nothing is added for what may stray.
    """

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
        before, self.tokens = self.tokens, max(self.tokens, math.ceil(round(self._exact + _count(self._tail), 6)))
        return self.tokens - before


def _last_seam(text: str) -> int:
    """Where nothing goes on that counts as one; anywhere when there is no such place for long."""
    if found := _TO_LAST_SEAM.match(text):
        return found.end()
    return len(text) if len(text) > _LONGEST_TAIL else 0
