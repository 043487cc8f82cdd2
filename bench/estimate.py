"""How far token estimates are from the real counts of OpenAI's vocabularies, on prose, code, Chinese and data.

The counts come from the package bpe-openai, which carries the vocabularies and downloads nothing. Texts are looked at
in pieces of a thousand characters: what matters is how low an estimate can be, because money is held for it.
"""

import base64
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from statistics import mean

from bench.ground import Ground
from bench.table import Row
from providers.tokens import estimate

ROOT = Path(__file__).parent.parent
VOCABULARIES = ("o200k_base", "cl100k_base")
PIECE = 1_000  # characters
PACKAGES = ("alembic", "fastapi", "httpx", "sqlalchemy")


def measure(_: Ground) -> list[Row]:
    if find_spec("bpe_openai") is None:
        print("estimate: left out, it needs the package bpe-openai", file=sys.stderr)
        return []
    rows: list[Row] = []
    for vocabulary in VOCABULARIES:
        count = _counter(vocabulary)
        for kind, text in TEXTS.items():
            shares = [estimate(piece) / count(piece) for piece in _pieces(text())]
            rows.append(Row("estimate", f"{kind}, mean share of {vocabulary}", mean(shares), "x"))
            rows.append(Row("estimate", f"{kind}, lowest share of {vocabulary}", min(shares), "x"))
    return rows


def _counter(vocabulary: str) -> Callable[[str], int]:
    from bpe_openai import get_encoding

    encoding = get_encoding(vocabulary)
    return lambda text: len(encoding.encode_ordinary(text))


def _pieces(text: str) -> Iterator[str]:
    for at in range(0, max(1, len(text) - PIECE // 2), PIECE):
        yield text[at : at + PIECE]


def _english() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md")))


def _own_code() -> str:
    rooms = ("goblin", "workflow", "providers", "ledger", "routing", "workers", "scheduler", "api", "cli")
    return "\n".join(path.read_text(encoding="utf-8") for room in rooms for path in sorted((ROOT / room).rglob("*.py")))


def _others_code() -> str:
    found = (find_spec(name) for name in PACKAGES)
    folders = [Path(spec.origin).parent for spec in found if spec is not None and spec.origin]
    return "\n".join(path.read_text(encoding="utf-8") for folder in folders for path in sorted(folder.glob("*.py")))


def _chinese() -> str:
    return (Path(__file__).parent / "texts" / "chinese.txt").read_text(encoding="utf-8")


def _data() -> str:
    """JSON as programs write it, with ids, hashes and numbers."""
    rows = [
        {
            "id": hashlib.sha256(str(nr).encode()).hexdigest(),
            "at": f"2026-11-{nr % 28 + 1:02d}T08:00:00Z",
            "amount": nr / 7,
        }
        for nr in range(400)
    ]
    return json.dumps(rows)


def _base64() -> str:
    return base64.b64encode(b"".join(hashlib.sha256(str(nr).encode()).digest() for nr in range(1_500))).decode()


TEXTS: Mapping[str, Callable[[], str]] = {
    "English": _english,
    "Chinese": _chinese,
    "Python of this house": _own_code,
    "Python of others": _others_code,
    "JSON": _data,
    "base64": _base64,
}
