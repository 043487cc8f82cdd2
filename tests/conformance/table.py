"""`make conformance`: runs the cases of this folder and prints who has passed which, so that a hole is seen.

A cell that no test fills must be known to have none; else it is a hole, and the exit code says so.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from tests.conformance import test_vectors
from tests.conformance.ways import HOUSES, WAYS

HERE = Path(__file__).parent
FILES = (
    "test_dialects.py",
    "test_tools.py",
    "test_vectors.py",
    "test_vectorize.py",
    *sorted(one.name for one in HERE.glob("test_sdk_*.py")),
)
# a case -> what the id of its tests looks like, without file and client
DIALECT_CASES = {
    "chat": r"what_is_said_comes_whole", "stream": r"tokens_come_as_they",
    "usage": r"(tokens|dimensions)_are_count|and_are_counted",
    "reasoning": r"reasoning_is_", "tool call": r"a_call_comes_whole|a_result_brings",
    "embeddings": r"texts_become_vectors", "upsert": r"an_upsert_is", "query": r"a_query_finds",
    "key": r"a_fault.*\+auth|wrong_key", "request": r"a_fault.*\+fail=400|wrong_number_of_dimensions",
    "model": r"a_fault.*\+fail=404|unknown_(model|index)",
    "throttled": r"a_fault.*\+fail=429|how_long_to_wait|limit_of_the_account",
    "quota": r"empty_account|a_fault.*\+quota", "server": r"a_fault.*\+fail=500",
    "overload": r"a_fault.*(\+fail=5[02][39]|\+overloaded)", "too long": r"a_fault.*\+context|too_long_is_told",
    "filtered": r"filtered_(answer|prompt)", "no route": r"a_fault.*\+reset", "silence": r"silent_vendor",
    "mid-stream": r"error_inside_a_stream", "cut": r"a_fault.*\+cut", "garbage": r"a_fault.*\+malformed",
    "error in 200": r"status_of_success|a_fault.*\+ok",
}  # fmt: skip
SDK_CASES = {
    "chat, usage": r"an_answer_is_about|a_run_waits|its_counts",
    "stream": r"a_stream_says",
    "reasoning": r"think|thought|reasoning",
    "tool call": r"calls_come|call_of_a_tool",
    "embeddings": r"embed|become_vectors",
    "index": r"nearest_vectors|metadata_comes|an_upsert|vectors_can_be_deleted|number_of_dimensions|index_is_described",
    "refusals": r"refusal_is_the",
    "mid-stream": r"error_in_mid_stream|failed_prediction",
    "cut": r"cut_(stream|answer)|cancelled",
}
# file or name of a client in the tests -> the package
PACKAGES = {
    "openai": "openai", "groq": "groq", "huggingface": "huggingface_hub", "mistralai": "mistralai",
    "mistral": "mistralai", "together": "together", "anthropic": "anthropic", "gemini": "google-genai",
    "ollama": "ollama", "cohere": "cohere", "bedrock": "boto3", "replicate": "replicate", "cloudflare": "cloudflare",
    "azure": "openai (Azure)",
}  # fmt: skip
ONLY = {"upsert": "dialect vectorize", "query": "dialect vectorize", "index": "client cloudflare"}
VECTORS = (*test_vectors.HOUSES, *test_vectors.VERTEX)
VECTORS_HAVE_NONE = "chat, stream, reasoning, tool call, quota, filtered, mid-stream"
# what a dialect as it is spoken here, or a client that speaks it, has no word for
HAS_NONE: Mapping[str, str] = {
    "dialect anthropic": "embeddings",
    "dialect bedrock": "error in 200",
    "dialect cloudflare": "embeddings, filtered",
    "dialect ollama": "quota, filtered",
    "dialect replicate": "embeddings, tool call, filtered, error in 200",
    "dialect groq": "embeddings",
    "dialect minimax": "embeddings",
    "dialect own": "embeddings, quota, filtered",
    "dialect vectorize": "chat, stream, reasoning, tool call, embeddings, too long, filtered, mid-stream",
    **dict.fromkeys((f"dialect {house}" for house in VECTORS), VECTORS_HAVE_NONE),
    "client anthropic": "embeddings",
    "client cloudflare": "stream, mid-stream, embeddings",
    "client huggingface_hub": "embeddings",
    "client replicate": "embeddings, tool call",
}


class Seen:
    """What became of every test: row and the rest of its id -> the outcomes."""

    def __init__(self) -> None:
        self.outcomes: dict[tuple[str, str], str] = {}
        self._rows: dict[str, str] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            given: Mapping[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
            if item.path.name.startswith("test_sdk_"):
                name = getattr(given.get("client"), "__name__", item.path.stem.removeprefix("test_sdk_"))
                self._rows[item.nodeid] = f"client {PACKAGES.get(name.lower().removeprefix('by_'), '')}"
            else:
                self._rows[item.nodeid] = f"dialect {given.get('vendor', '')}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        key = self._rows[report.nodeid], report.nodeid.partition("::")[2]
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[key] = report.outcome

    def cell(self, row: str, case: str, pattern: str) -> str:
        found = [end for (whose, what), end in self.outcomes.items() if whose == row and re.search(pattern, what)]
        if not found:
            has_none = case in HAS_NONE.get(row, "").split(", ") or ONLY.get(case, row) != row
            return "[dim]has none[/]" if has_none else "[bold red]HOLE[/]"
        if "failed" in found:
            return f"[bold red]{found.count('failed')} FAILED[/]"
        return "[yellow]skipped[/]" if "skipped" in found else f"[green]✔ {len(found)}[/]"


def main() -> int:
    seen = Seen()
    order = ["-q", "-p", "no:cacheprovider", "--disable-warnings", *(str(HERE / name) for name in FILES)]
    is_whole = pytest.main(order, [seen]) == pytest.ExitCode.OK
    shown = Console(width=None if sys.stdout.isatty() else 250)
    clients = dict.fromkeys(PACKAGES.values())
    for title, kind, rows, cases in (
        ("dialects", "dialect", (*WAYS, "vectorize", *VECTORS), DIALECT_CASES),
        ("vendors who speak openai's in words of their own", "dialect", HOUSES, DIALECT_CASES),
        ("clients", "client", clients, SDK_CASES),
    ):
        lines = {row: [seen.cell(f"{kind} {row}", *case) for case in cases.items()] for row in rows}
        table = Table(kind, *lines, title=f"{title} against the simulator", title_justify="left")
        for number, case in enumerate(cases):
            table.add_row(case, *(cells[number] for cells in lines.values()))
        shown.print(table)
        is_whole &= "bold red" not in str(lines)
    return 0 if is_whole else 1


if __name__ == "__main__":
    sys.exit(main())
