"""The breakers of admission, in Lua against their twin in Python: the same cases, a loss of Redis among them."""

import pytest

from tests.fakes.asks import Both, Do, admit, admitted, end, place, verdict

BAD = verdict("bad")
LOSE = Do("lose", {}, [])

CASES: dict[str, list[Do]] = {
    "failures open a candidate's breaker and its provider's": [
        Do("judge", BAD, []),
        Do("judge", BAD, []),
        Do("judge", BAD, ["near", "opened", "near/small", "opened"]),
        admit(["refused", "open", 4000, "near"], "a"),
    ],
    "who has done well for long is opened by failures in a row": [
        *[Do("judge", verdict("good"), [])] * 50,
        *[Do("judge", BAD, [])] * 11,
        Do("judge", BAD, ["near", "opened", "near/small", "opened"]),
    ],
    "a success between them is the end of a row": [
        *[Do("judge", verdict("good"), [])] * 50,
        *[Do("judge", BAD, [])] * 11,
        Do("judge", verdict("good"), []),
        *[Do("judge", BAD, [])] * 11,
    ],
    "a candidate rests alone when another of its provider does well": [
        *[Do("judge", verdict("good", candidate="near/large"), [])] * 3,
        *[Do("judge", BAD, [])] * 2,
        Do("judge", BAD, ["near/small", "opened"]),
        admit(admitted(1, "open", 4000, "near/small"), "a", place("near/small"), place("near/large")),
    ],
    "failures of long ago are forgotten": [
        Do("judge", BAD, []),
        Do("judge", BAD, []),
        Do("judge", BAD, [], after=60_000),
        admit(admitted(after=60_000), "a"),
    ],
    "a refused key opens at once, for every model": [
        Do("judge", verdict("open", rest_ms=9000), ["near", "opened"]),
        admit(["refused", "locked", 9000, "near bad_credentials"], "a", place("near/large")),
    ],
    "one probe at a time, then a slow return": [
        Do("judge", verdict("open"), ["near", "opened"]),
        admit(admitted(after=5000, probe=True), "a", after=5000),
        admit(["refused", "probing", -1, "near"], "b"),
        Do("judge", verdict("good", "a"), ["near", "closed"]),
        admit(admitted(after=5000), "b"),
        admit(["refused", "ramp", 3000, "near"], "c"),
        admit(admitted(after=8000), "c", after=3000),
        admit(["refused", "ramp", 3000, "near"], "d"),
        admit(admitted(after=35_000), "d", after=27_000),
        admit(admitted(after=35_000), "e"),
    ],
    "a probe that fails makes the rest longer": [
        Do("judge", verdict("open"), ["near", "opened"]),
        admit(admitted(after=5000, probe=True), "a", after=5000),
        Do("judge", verdict("bad", "a"), ["near", "opened"]),
        admit(["refused", "open", 8000, "near"], "b"),
    ],
    "a probe that says nothing lets the next one try": [
        Do("judge", verdict("open"), ["near", "opened"]),
        admit(admitted(after=5000, probe=True), "a", after=5000),
        Do("judge", verdict("none", "a"), []),
        admit(admitted(after=5000, probe=True), "b"),
    ],
    "a probe that was never called lets the next one try": [
        Do("judge", verdict("open"), ["near", "opened"]),
        admit(admitted(after=5000, probe=True), "a", after=5000),
        Do("release", {"attempt": "a"}, ["released"]),
        admit(admitted(after=5000, probe=True), "b"),
    ],
    "a probe that nobody opened lets the next one try, and has no say any more": [
        Do("judge", verdict("open"), ["near", "opened"]),
        admit(admitted(after=5000, probe=True), "a", after=5000),
        Do("vacate", {"attempt": "a"}, ["vacated"]),
        admit(admitted(after=5000, probe=True), "b"),
        Do("vacate", {"attempt": "a"}, ["unknown"]),
        Do("judge", verdict("bad", "a"), []),
        admit(["refused", "probing", -1, "near"], "c"),
        Do("judge", verdict("good", "b"), ["near", "closed"]),
    ],
    "a probe whose worker went away lets the next one try once its hold is settled": [
        Do("judge", verdict("open"), ["near", "opened"]),
        admit(admitted(after=5000, probe=True), "a", after=5000),
        Do("settle", end("a", 40), ["settled"]),
        admit(admitted(after=5000, probe=True), "b"),
        Do("judge", verdict("good", "a"), []),
        Do("judge", verdict("good", "b"), ["near", "closed"]),
    ],
    "a probe that never answers lets the next one try after the longest call": [
        Do("judge", verdict("open"), ["near", "opened"]),
        admit(admitted(after=5000, probe=True), "a", after=5000),
        admit(admitted(after=35_000, probe=True), "b", after=30_000),
        Do("judge", verdict("good", "a"), []),
        Do("judge", verdict("good", "b"), ["near", "closed"]),
    ],
    "a late answer of an older generation changes nothing": [
        admit(admitted(), "old"),
        Do("judge", verdict("open"), ["near", "opened"]),
        admit(admitted(after=5000, probe=True), "a", after=5000),
        Do("judge", verdict("good", "old"), []),
        Do("judge", verdict("open", "old"), []),
        Do("judge", verdict("good", "a"), ["near", "closed"]),
        Do("judge", verdict("open", "old"), []),
    ],
    "a vendor that asks for time gets it from everybody": [
        Do("judge", verdict("cool", rest_ms=7000), ["near/small", "cooled"]),
        Do("judge", verdict("cool", rest_ms=2000), []),
        admit(["refused", "cooling", 7000, "near/small"], "a"),
        admit(admitted(after=7000), "a", after=7000),
    ],
    "a failure whose vendor names a delay counts and is kept": [
        Do("judge", verdict("bad", cool_ms=3000), ["near/small", "cooled"]),
        admit(["refused", "cooling", 3000, "near/small"], "a"),
        admit(admitted(after=3000), "a", after=3000),
    ],
    "a key that was refused is not used again before its rest is over, another one is tried at once": [
        Do("judge", verdict("open", key="old"), ["near", "opened"]),
        admit(["refused", "locked", 5000, "near bad_credentials"], "a", place(key="old")),
        admit(admitted(probe=True), "b", place(key="new")),
        admit(["refused", "probing", -1, "near"], "c", place(key="new")),
        Do("judge", verdict("good", "b", key="new"), ["near", "closed"]),
        admit(admitted(), "c", place(key="old")),
    ],
    "another key that is refused, too, rests as long": [
        Do("judge", verdict("open", key="old"), ["near", "opened"]),
        admit(admitted(after=4000, probe=True), "a", place(key="new"), after=4000),
        Do("judge", verdict("open", "a", key="new"), ["near", "opened"]),
        admit(["refused", "locked", 5000, "near bad_credentials"], "b", place(key="new")),
    ],
    "a list that was refused and is given shows that a key is mended": [
        admit(admitted(), "a"),
        Do("judge", verdict("open", "a"), ["near", "opened"]),
        Do("judge", verdict("good"), []),
        Do("judge", verdict("open"), []),
        Do("judge", verdict("good"), ["near", "closed"]),
        admit(admitted(), "b"),
    ],
    "a list that is given to another key shows that it works": [
        Do("judge", verdict("open", key="old"), ["near", "opened"]),
        Do("judge", verdict("open", key="older"), ["near", "opened"]),
        Do("judge", verdict("good", key="new"), ["near", "closed"]),
    ],
    "a key that the ledger says was refused, once or more, is not taken for one whose list was refused": [
        Do("judge", verdict("open", key="old", again=True), ["near", "opened"]),
        Do("judge", verdict("open", key="old", again=True), []),
        Do("judge", verdict("good", key="old"), []),
        admit(["refused", "locked", 5000, "near bad_credentials"], "a", place(key="old")),
        admit(admitted(probe=True), "a", place(key="new")),
    ],
    "who fails is not closed by a list before its rest is over": [
        *[Do("judge", BAD, [])] * 2,
        Do("judge", BAD, ["near", "opened", "near/small", "opened"]),
        Do("judge", verdict("good", key="new"), []),
        Do("judge", verdict("good"), ["near", "closed", "near/small", "closed"], after=4000),
    ],
    "an open breaker outlives Redis, and the next rest is longer": [
        *[Do("judge", BAD, [])] * 2,
        Do("judge", BAD, ["near", "opened", "near/small", "opened"]),
        LOSE,
        admit(["refused", "open", 4000, "near"], "a"),
        admit(admitted(after=4000, probe=True), "a", after=4000),
        Do("judge", verdict("bad", "a"), ["near", "opened", "near/small", "opened"]),
        admit(["refused", "open", 8000, "near"], "b"),
    ],
    "a key that was refused is known after a loss": [
        Do("judge", verdict("open", key="old"), ["near", "opened"]),
        LOSE,
        admit(["refused", "locked", 5000, "near bad_credentials"], "a", place(key="old")),
        Do("judge", verdict("good", key="old"), ["near", "closed"]),
    ],
    "a vendor that asked for time gets it after a loss": [
        Do("judge", verdict("cool", rest_ms=7000), ["near/small", "cooled"]),
        LOSE,
        admit(["refused", "cooling", 7000, "near/small"], "a"),
        admit(admitted(after=7000), "a", after=7000),
    ],
    "a probe that is under way when all is lost is still the only one, and has its say": [
        Do("judge", verdict("open"), ["near", "opened"]),
        admit(admitted(after=5000, probe=True), "a", after=5000),
        LOSE,
        admit(["refused", "probing", -1, "near"], "b"),
        Do("judge", verdict("good", "a"), ["near", "closed"]),
        Do("settle", end("a"), ["settled"]),
        admit(admitted(after=5000), "b"),
    ],
    "a probe under way that is settled unseen lets the next one try": [
        Do("judge", verdict("open"), ["near", "opened"]),
        admit(admitted(after=5000, probe=True), "a", after=5000),
        LOSE,
        Do("settle", end("a"), ["settled"]),
        admit(admitted(after=5000, probe=True), "b"),
    ],
    "calls under way when all is lost are counted as they end": [
        *[admit(admitted(), attempt) for attempt in "abc"],
        LOSE,
        Do("judge", verdict("bad", "a"), []),
        Do("judge", verdict("bad", "b"), []),
        Do("judge", verdict("bad", "c"), ["near", "opened", "near/small", "opened"]),
    ],
    "a call of an older generation has no say after a loss either": [
        admit(admitted(), "old"),
        Do("judge", verdict("open"), ["near", "opened"], after=1),
        LOSE,
        admit(admitted(after=5001, probe=True), "a", after=5000),
        Do("judge", verdict("good", "old"), []),
        Do("judge", verdict("good", "a"), ["near", "closed"]),
    ],
    "a slow return goes on after a loss": [
        Do("judge", verdict("open"), ["near", "opened"]),
        Do("judge", verdict("good"), ["near", "closed"], after=5000),
        admit(admitted(after=5000), "a"),
        LOSE,
        admit(["refused", "ramp", 3000, "near"], "b"),
        admit(admitted(after=8000), "b", after=3000),
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_lua_and_its_twin_answer_alike(both: Both, case: list[Do]) -> None:
    both.go(case)
