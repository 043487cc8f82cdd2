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


@pytest.mark.parametrize(
    ("text", "tokens"),  # as the o200k vocabulary counts them
    [(PROSE * 30, 691), (CODE * 20, 760), (CHINESE * 20, 400), (BASE64 * 10, 590)],
    ids=["prose", "code", "chinese", "base64"],
)
def test_an_estimate_is_not_low_and_not_far_above_the_count(text: str, tokens: int) -> None:
    assert 0.9 * tokens <= estimate(text) <= 2.2 * tokens


def test_nothing_has_no_tokens() -> None:
    assert estimate("") == 0


@given(st.text())
def test_any_text_can_be_estimated(text: str) -> None:
    assert 0 <= estimate(text) <= 2 * len(text.encode())


@given(st.text(), st.integers(2, 50))
def test_many_times_the_text_is_as_many_times_the_tokens(text: str, times: int) -> None:
    assert estimate(f"{text}\n" * times) == pytest.approx(estimate(f"{text}\n") * times, abs=times)


@given(st.lists(st.text(max_size=40), max_size=9))
def test_a_text_in_pieces_has_the_tokens_of_the_whole(pieces: list[str]) -> None:
    tally = Tally()
    assert sum(map(tally.add, pieces)) == tally.tokens == estimate("".join(pieces))


@pytest.mark.parametrize(
    "text", [PROSE * 30, CODE * 20, CHINESE * 20, BASE64 * 10], ids=["prose", "code", "chinese", "base64"]
)
@pytest.mark.parametrize("size", [1, 3])
def test_a_text_letter_by_letter_has_no_more_tokens_than_the_whole(text: str, size: int) -> None:
    tally = Tally()
    for start in range(0, len(text), size):
        tally.add(text[start : start + size])
    assert tally.tokens == pytest.approx(estimate(text), abs=len(text) // 400)


def test_a_chat_has_more_than_its_texts() -> None:
    said = (Message("system", PROSE), Message("user", CODE))
    assert estimate_chat(chat(messages=said)) > estimate(PROSE) + estimate(CODE)
