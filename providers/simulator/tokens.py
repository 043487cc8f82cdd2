"""The simulator's own tokens: up to six word characters, or one other sign, each with the white space before it.

One rule for prompts and answers; joining the tokens of a text gives the text back.
"""

import re

_TOKEN = re.compile(r"\s*\w{1,6}|\s*[^\w\s]|\s+")


def split(text: str) -> list[str]:
    return _TOKEN.findall(text)


def count(text: str) -> int:
    return len(_TOKEN.findall(text))
