"""Embeddings without a model: hashed words, counted, scaled to length 1. Texts that share words are near each other."""

import re
from math import sqrt
from zlib import crc32

_WORD = re.compile(r"\w+")


def embed(text: str, dimensions: int) -> list[float]:
    values = [0.0] * dimensions
    for word in _WORD.findall(text.lower()) or [""]:
        digest = crc32(word.encode("utf-8", "replace"))
        values[digest % dimensions] += 1.0 if digest & 0x8000_0000 else -1.0
    length = sqrt(sum(value * value for value in values)) or 1.0
    return [value / length for value in values]
