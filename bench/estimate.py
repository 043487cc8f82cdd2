"""How far token estimates are from the real counts of OpenAI's vocabularies, on prose, code, data and other scripts.

The counts come from the package bpe-openai, which carries the vocabularies and downloads nothing. Texts are looked at
in pieces of 200, 1,000 and 10,000 characters: what matters is how low an estimate can be, because money is held for it.
"""

import base64
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import mean

from bench.ground import Ground
from bench.table import Row
from providers.tokens import estimate

ROOT = Path(__file__).parent.parent
HERE = Path(__file__).parent / "texts"
VOCABULARIES = ("o200k_base", "cl100k_base")
SIZES = (200, 1_000, 10_000)  # characters of a piece
PACKAGES = ("alembic", "fastapi", "httpx", "sqlalchemy")
HASHES = [hashlib.sha256(str(nr).encode()) for nr in range(1_500)]


def measure(_: Ground) -> list[Row]:
    if find_spec("bpe_openai") is None:
        print("estimate: left out, it needs the package bpe-openai", file=sys.stderr)
        return []
    counters = [_counter(vocabulary) for vocabulary in VOCABULARIES]
    rows: list[Row] = []
    for kind, make in TEXTS.items():
        text, shares = make(), []
        for size in SIZES:
            pieces = [(estimate(piece), *(count(piece) for count in counters)) for piece in _pieces(text, size)]
            shares.append(min(est / max(counts) for est, *counts in pieces))
            usual = mean(est / one for est, one, *_ in pieces)
            rows.append(Row("estimate", f"{kind} by {size}, mean share of {VOCABULARIES[0]}", usual, "x"))
        rows.append(Row("estimate", f"{kind}, lowest share of either", min(shares), "x"))
    return rows


def _counter(vocabulary: str) -> Callable[[str], int]:
    from bpe_openai import get_encoding

    encoding = get_encoding(vocabulary)
    return lambda text: len(encoding.encode_ordinary(text))


def _pieces(text: str, size: int) -> Iterator[str]:
    for at in range(0, max(1, len(text) - size // 2), size):
        yield text[at : at + size]


def _english() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md")))


def _own_code() -> str:
    rooms = ("goblin", "workflow", "providers", "ledger", "routing", "workers", "scheduler", "api", "cli")
    return "\n".join(path.read_text(encoding="utf-8") for room in rooms for path in sorted((ROOT / room).rglob("*.py")))


def _others_code() -> str:
    found = (find_spec(name) for name in PACKAGES)
    folders = [Path(spec.origin).parent for spec in found if spec is not None and spec.origin]
    return "\n".join(path.read_text(encoding="utf-8") for folder in folders for path in sorted(folder.glob("*.py")))


def _minified() -> str:
    """Code without the white space that it can do without."""
    return re.sub(r"\s*([^\w\s])\s*", r"\1", re.sub(r"\s+", " ", _own_code()))


def _chinese() -> str:
    return (HERE / "chinese.txt").read_text(encoding="utf-8")


def _languages() -> dict[str, str]:
    parts = re.split(r"^== (.+)\n", (HERE / "languages.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _data() -> str:
    """JSON as programs write it, with ids, hashes and numbers."""
    return json.dumps(
        [
            {"id": one.hexdigest(), "at": f"2026-11-{nr % 28 + 1:02d}T08:00:00Z", "amount": nr / 7}
            for nr, one in enumerate(HASHES[:400])
        ]
    )


def _table() -> str:
    """Numbers in columns."""
    return "\n".join(f"{nr:>6}  {nr * 37 % 1_000}.{nr % 10}   {nr / 7:.4f}  {nr % 3}.{nr % 5}.1" for nr in range(3_000))


def _base64() -> str:
    return base64.b64encode(b"".join(one.digest() for one in HASHES)).decode()


def _hex() -> str:
    return "".join(one.hexdigest() for one in HASHES)


def _emoji() -> str:
    composed = ("👩‍💻", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "❤️")
    return "".join(chr(0x1F300 + one) for digest in HASHES for one in digest.digest()) + "".join(composed) * 500


TEXTS: Mapping[str, Callable[[], str]] = {
    "English": _english,
    "Python of this house": _own_code,
    "Python of others": _others_code,
    "minified code": _minified,
    "Chinese": _chinese,
    "JSON": _data,
    "table": _table,
    "base64": _base64,
    "hex": _hex,
    "emoji": _emoji,
    **{language: partial(str, text) for language, text in _languages().items()},
}
