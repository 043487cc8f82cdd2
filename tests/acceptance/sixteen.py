"""`make faults`: what providers do wrong, through the real queue, and which of the sixteen the caller never felt."""

import re
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

# a fault -> what the ids of its tests look like
FAULTS = {
    "429 with Retry-After": r"delay_that_a_provider_asks|goes_elsewhere_at_once",
    "429 for ever": r"throttles_for_ever",
    "one 500, then healthy": r"fails_once",
    "503 for ever": r"asked_twice_and_the_step_fails|after_two_calls\[503",
    "reset before the headers": r"after_two_calls\[reset",
    "no answer at all": r"never_answers_is_asked_once",
    "first token after 20 s": r"first_token_that_does_not_come",
    "cut after 40 of 60 tokens": r"half_an_answer_(is_taken_back.*\[cut|is_finished)",
    "a stall of 30 s": r"half_an_answer_is_taken_back.*\[stall",
    "a malformed chunk": r"\[malformed",
    "no [DONE]": r"without_the_last_word",
    "context too long": r"prompt_that_is_too_long",
    "a content-policy refusal": r"refusal_of_the_content",
    "a fallback that rejects prefill": r"refuses_to_go_on",
    "down for a while, then healthy": r"outage_is_noticed",
    "accounting": r"every_attempt_is_entered",
}


class Seen:
    """What became of every test: its id -> whether all of it passed."""

    def __init__(self) -> None:
        self.passed: dict[str, bool] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed[report.nodeid] = self.passed.get(report.nodeid, True) and report.passed

    def of(self, pattern: str) -> list[bool]:
        return [passed for test, passed in self.passed.items() if re.search(pattern, test)]


def main() -> int:
    seen = Seen()
    order = ["-q", "-p", "no:cacheprovider", "--disable-warnings", str(Path(__file__).with_name("test_faults.py"))]
    is_whole = pytest.main(order, [seen]) == pytest.ExitCode.OK
    table = Table("what the provider does", "tests", "")
    kept = 0
    for fault, pattern in FAULTS.items():
        found = seen.of(pattern)
        is_kept = bool(found) and all(found)
        kept += is_kept
        table.add_row(fault, str(len(found)), "[green]✔[/]" if is_kept else "[bold red]✘[/]")
    Console().print(table, f"{kept} of {len(FAULTS)}")
    return 0 if is_whole and kept == len(FAULTS) else 1


if __name__ == "__main__":
    sys.exit(main())
