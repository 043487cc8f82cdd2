"""Token estimates: no vocabulary, but never far off and rarely too low."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.message import Message
from providers.tokens import Tally, estimate, estimate_chat
from tests.fakes.vendor import chat

PROSE = "The quick brown fox jumps over the lazy dog, and then it went home to rest because the day was long. "
CODE = "def add(a, b):\n    if a is None:\n        return b\n    return [x[0] + y['k'] for x, y in zip(a, b)]\n"
CHINESE = "人工智能正在改变我们的生活方式，许多企业开始使用大型语言模型来提高效率。"
BASE64 = "Q2VydGFpbmx5IG5vdCBhIHdvcmQgYnV0IGEgbG9uZyBydW4gb2YgbGV0dGVycyBhbmQgZGlnaXRzIDEyMzQ1Njc4OTA="
HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
EMOJI = "👩‍💻👍🏽🇩🇪❤️😀"
TABLE = "1.6.1           1.6         2001        CNRI        yes (2)\n"


@pytest.mark.parametrize(
    ("text", "tokens"),  # as o200k or cl100k counts them, whichever counts more
    [
        (PROSE * 30, 691),
        (CODE * 20, 760),
        (CHINESE * 20, 660),
        (BASE64 * 10, 660),
        (HEX * 20, 841),
        (EMOJI * 20, 480),
        (TABLE * 20, 440),
    ],
    ids=["prose", "code", "chinese", "base64", "hex", "emoji", "table"],
)
def test_an_estimate_is_never_low_and_not_far_above_the_count(text: str, tokens: int) -> None:
    assert tokens <= estimate(text) <= 1.8 * tokens


def test_nothing_has_no_tokens() -> None:
    assert estimate("") == 0


@given(st.text())
def test_no_token_is_less_than_a_byte(text: str) -> None:
    assert 0 <= estimate(text) <= len(text.encode())


@given(st.text(), st.text())
def test_more_text_has_no_fewer_tokens(text: str, more: str) -> None:
    assert estimate(f"{text}\n") <= estimate(f"{text}\n{more}")


def test_a_short_text_may_stray_further_than_a_long_one() -> None:
    assert estimate(PROSE) / 1 > estimate(PROSE * 10) / 10 > estimate(PROSE * 100) / 100


@given(st.lists(st.text(max_size=40), max_size=9))
def test_a_text_in_pieces_has_the_tokens_of_the_whole(pieces: list[str]) -> None:
    tally = Tally()
    assert sum(map(tally.add, pieces)) == tally.tokens == Tally().add("".join(pieces))


@pytest.mark.parametrize(
    "text", [PROSE * 30, CODE * 20, CHINESE * 20, BASE64 * 10], ids=["prose", "code", "chinese", "base64"]
)
@pytest.mark.parametrize("size", [1, 3])
def test_a_text_letter_by_letter_has_no_more_tokens_than_the_whole(text: str, size: int) -> None:
    tally = Tally()
    for start in range(0, len(text), size):
        tally.add(text[start : start + size])
    assert tally.tokens == pytest.approx(Tally().add(text), abs=len(text) // 400)
    assert tally.tokens <= estimate(text)


def test_a_chat_has_more_than_its_texts() -> None:
    said = (Message("system", PROSE), Message("user", CODE))
    assert estimate_chat(chat(messages=said)) > estimate(PROSE) + estimate(CODE)
