"""Admission in Lua against its twin in Python: the same cases, then any order that hypothesis thinks of."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from goblin.money import MOST
from tests.fakes.asks import NOON, Both, ask, begin, end, place, verdict

HOUR, DAY = 3_600_000, 86_400_000
AT = NOON // 1000


@dataclass(frozen=True)
class Do:
    """A verb, the answer that is due, and how far the clock moves before it (ms)."""

    verb: str
    value: dict[str, Any]
    answer: list[Any]
    after: int = 0


def admit(answer: list[Any], attempt: str, *places: dict[str, Any], after: int = 0, **fields: Any) -> Do:
    return Do("admit", ask(attempt, *places, **fields), answer, after)


def admitted(index: int = 0, *short: Any, after: int = 0, probe: bool = False) -> list[Any]:
    """`short`: reason, wait and what is short for each candidate before."""
    return ["admitted", index, NOON + after, "1", int(probe), *short]


RUN = [["run:1", 250, 0, DAY]]
BOTH = [["run:1", 1000, 0, DAY], ["all/hour", 250, HOUR, 0]]
ONE_SLOT = {"concurrency": 1}
PER_MINUTE = {"rpm": 2}
TOKENS = {"tpm": 100, "tokens": 60}
BAD = verdict("bad")

CASES: dict[str, list[Do]] = {
    "without limits everything is admitted": [admit(admitted(), "a"), admit(admitted(), "b")],
    "a budget holds the worst case and no more": [
        admit(admitted(), "a", budgets=RUN),
        admit(admitted(), "b", budgets=RUN),
        admit(["refused", "held", -1, "run:1 250 0 200"], "c", budgets=RUN),
    ],
    "nobody knows when held money comes back, whenever its window ends": [
        admit(admitted(), "a", place(amount=250), budgets=BOTH),
        admit(["refused", "held", -1, f"all/hour@{AT} 250 0 250"], "b", budgets=BOTH),
    ],
    "what a call did not cost is free again": [
        admit(admitted(), "a", budgets=RUN),
        admit(admitted(), "b", budgets=RUN),
        Do("settle", end("a", 40), ["settled"]),
        admit(admitted(), "c", budgets=RUN),
        admit(["refused", "held", -1, "run:1 250 40 200"], "d", budgets=RUN),
    ],
    "money that is spent does not come back": [
        admit(admitted(), "a", budgets=RUN),
        Do("settle", end("a", 160), ["settled"]),
        admit(["refused", "budget", -1, "run:1 250 160 0"], "b", budgets=RUN),
    ],
    "a call that is dearer than a whole budget is refused for good, whatever else is short": [
        admit(admitted(), "a", budgets=BOTH),
        Do("settle", end("a", 100), ["settled"]),
        admit(["refused", "too_dear", -1, f"all/hour@{AT} 250 100 0"], "b", place(amount=950), budgets=BOTH),
        admit(["refused", "too_dear", -1, "run:1 1000 100 0"], "b", place(amount=1001), budgets=BOTH),
        admit(admitted(), "b", place(amount=150), budgets=BOTH),
    ],
    "an hour pays for what it admitted, the next has its own money": [
        admit(admitted(), "a", budgets=BOTH),
        Do("settle", end("a", 200), ["settled", f"all/hour@{AT}"]),
        admit(["refused", "budget", HOUR, f"all/hour@{AT} 250 200 0"], "b", budgets=BOTH),
        admit(admitted(after=HOUR), "b", after=HOUR, budgets=BOTH),
    ],
    "a hold is settled in the window that admitted it": [
        admit(admitted(), "a", budgets=BOTH),
        Do("settle", end("a", 200), ["settled", f"all/hour@{AT}"], after=HOUR),
        admit(admitted(after=HOUR), "b", budgets=BOTH),
        admit(admitted(after=HOUR), "c", budgets=BOTH),
    ],
    "with money short a cheaper candidate runs": [
        admit(
            admitted(1, "too_dear", -1, "run:1 250 0 0"),
            "a",
            place("dear/large", 300),
            place("near/small", 20),
            budgets=RUN,
        ),
    ],
    "with no money at all a free candidate runs": [
        admit(admitted(), "a", budgets=[["run:1", 100, 0, DAY]]),
        Do("settle", end("a", 100), ["settled", "run:1"]),
        admit(
            admitted(1, "budget", -1, "run:1 100 100 0"),
            "b",
            place("dear/large", 1),
            place("own/llama", 0),
            budgets=[["run:1", 100, 0, DAY]],
        ),
    ],
    "a provider's own budget stops that provider alone": [
        admit(
            admitted(1, "too_dear", -1, f"provider:dear/day@{(NOON - DAY // 2) // 1000} 200 0 0"),
            "a",
            place("dear/large", 300, budgets=[["provider:dear/day", 200, DAY, 0]]),
            place("near/small", 20),
        ),
    ],
    "a refusal takes nothing": [
        admit(admitted(), "a", place(**ONE_SLOT), budgets=RUN),
        admit(["refused", "slots", -1, "near"], "b", place(**ONE_SLOT), budgets=RUN),
        admit(["refused", "slots", -1, "near"], "c", place(**ONE_SLOT), budgets=RUN),
        Do("settle", end("a", 50), ["settled"]),
        admit(admitted(), "d", place(**ONE_SLOT), budgets=RUN),
    ],
    "a slot that nobody gives back is free when its call must have ended": [
        admit(admitted(), "a", place(**ONE_SLOT)),
        admit(["refused", "slots", -1, "near"], "b", place(**ONE_SLOT), after=29_999),
        admit(admitted(after=30_000), "b", place(**ONE_SLOT), after=1),
    ],
    "a rolling minute never has more requests than its limit": [
        admit(admitted(), "a", place(**PER_MINUTE)),
        admit(admitted(after=30_000), "b", place(**PER_MINUTE), after=30_000),
        admit(["refused", "requests", 30_750, "near"], "c", place(**PER_MINUTE)),
        admit(["refused", "requests", 1, "near"], "c", place(**PER_MINUTE), after=30_749),
        admit(admitted(after=60_750), "c", place(**PER_MINUTE), after=1),
        admit(["refused", "requests", 30_000, "near"], "d", place(**PER_MINUTE)),
    ],
    "what has left a window is not counted again when something else is short": [
        admit(admitted(), "a", place(rpm=2, **ONE_SLOT)),
        Do("settle", end("a"), ["settled"]),
        admit(admitted(after=30_000), "b", place(rpm=2, slot_ms=60_000, **ONE_SLOT), after=30_000),
        admit(["refused", "slots", -1, "near"], "c", place(rpm=2, **ONE_SLOT), after=31_000),
        Do("settle", end("b"), ["settled"]),
        admit(admitted(after=61_000), "c", place(rpm=2, **ONE_SLOT)),
    ],
    "a pace follows the burst": [
        admit(admitted(), "a", place(rpm=605, request_burst=200)),
        admit(admitted(), "b", place(rpm=605, request_burst=200)),
        admit(["refused", "requests", 100, "near"], "c", place(rpm=605, request_burst=200)),
        admit(admitted(after=100), "c", place(rpm=605, request_burst=200), after=100),
    ],
    "tokens are reserved before and exchanged for those used": [
        admit(admitted(), "a", place(**TOKENS)),
        admit(["refused", "tokens", 60_750, "near"], "b", place(**TOKENS)),
        Do("settle", end("a"), ["settled"]),
        admit(admitted(), "b", place(**TOKENS)),
        admit(["refused", "tokens", 60_750, "near"], "c", place(**TOKENS)),
    ],
    "output counts from the end of its call": [
        admit(admitted(), "a", place(**TOKENS)),
        Do("settle", end("a", input=10, output=50), ["settled"], after=40_000),
        admit(["refused", "tokens", 60_750, "near"], "b", place(**TOKENS)),
        admit(["refused", "tokens", 40_000, "near"], "b", place(**TOKENS), after=20_750),
        admit(admitted(after=100_750), "b", place(**TOKENS), after=40_000),
    ],
    "a vendor that counts on arrival gives nothing back": [
        admit(admitted(), "a", place(is_counted_on_arrival=True, **TOKENS)),
        Do("settle", end("a"), ["settled"]),
        admit(["refused", "tokens", 60_750, "near"], "b", place(**TOKENS)),
    ],
    "a call that is larger than the minute is refused for good": [
        admit(["refused", "too_large", -1, "near"], "a", place(tpm=100, tokens=101)),
    ],
    "what was never called gives everything back": [
        admit(admitted(), "a", place(rpm=1, tpm=100, tokens=100, concurrency=1), budgets=RUN),
        Do("release", {"attempt": "a"}, ["released"]),
        Do("release", {"attempt": "a"}, ["again"]),
        Do("settle", end("a", 40), ["again"]),
        admit(admitted(), "b", place(amount=250, rpm=1, tpm=100, tokens=100, concurrency=1), budgets=RUN),
    ],
    "asking twice takes one place": [
        admit(admitted(), "a", place("dear/large", 300), place("near/small"), budgets=[["run:1", 450, 0, DAY]]),
        admit(admitted(), "a", place("dear/large", 300), place("near/small"), budgets=[["run:1", 450, 0, DAY]]),
        admit(
            admitted(1, "held", -1, "run:1 450 0 300"),
            "b",
            place("dear/large", 300),
            place("near/small"),
            budgets=[["run:1", 450, 0, DAY]],
        ),
    ],
    "settling twice counts once": [
        admit(admitted(), "a", budgets=RUN),
        Do("settle", end("a", 100), ["settled"]),
        Do("settle", end("a", 100), ["again"]),
        admit(admitted(), "b", place(amount=150), budgets=RUN),
    ],
    "a call under way may hold more, where every budget above it has room": [
        admit(admitted(), "a", budgets=BOTH),
        admit(admitted(), "b", place(amount=50), budgets=BOTH),
        Do("extend", {"attempt": "a", "amount": 201}, ["refused"]),
        Do("extend", {"attempt": "a", "amount": 200}, ["extended"]),
        admit(["refused", "held", -1, f"all/hour@{AT} 250 0 250"], "c", place(amount=1), budgets=BOTH),
        Do("settle", end("a", 180), ["settled"]),
        Do("extend", {"attempt": "a", "amount": 200}, ["unknown"]),
        admit(admitted(), "c", place(amount=20), budgets=BOTH),
    ],
    "what was settled unseen is corrected, more than once if need be": [
        admit(admitted(), "a", budgets=BOTH),
        Do("settle", end("a", 100), ["settled"]),
        Do("correct", {"attempt": "a", "amount": 30}, ["corrected"]),
        Do("correct", {"attempt": "a", "amount": 120}, ["corrected"]),
        Do("settle", end("a", 100), ["again"]),
        admit(["refused", "budget", HOUR, f"all/hour@{AT} 250 120 0"], "b", place(amount=131), budgets=BOTH),
        admit(admitted(), "b", place(amount=130), budgets=BOTH),
    ],
    "a correction that comes first is the settlement": [
        admit(admitted(), "a", budgets=RUN),
        Do("correct", {"attempt": "a", "amount": 30}, ["settled"]),
        Do("settle", end("a", 100), ["again"]),
        Do("correct", {"attempt": "b", "amount": 30}, ["unknown"]),
        admit(admitted(), "b", place(amount=220), budgets=RUN),
    ],
    "an amount whose record was lost is added once": [
        Do("settle", end("a", 100, budgets=["run:1"]), ["added"]),
        Do("settle", end("a", 100, budgets=["run:1"]), ["again"]),
        admit(admitted(), "b", place(amount=150), budgets=RUN),
        admit(["refused", "held", -1, "run:1 250 100 150"], "c", place(amount=1), budgets=RUN),
    ],
    "an amount of an older generation was counted by the rebuild": [
        Do("settle", end("a", 100, generation="0", budgets=["run:1"]), ["counted"]),
        admit(admitted(), "b", place(amount=250), budgets=RUN),
    ],
    "the first to pass four fifths says so, once": [
        admit(admitted(), "a", budgets=RUN),
        Do("settle", end("a", 199), ["settled"]),
        admit(admitted(), "b", place(amount=40), budgets=RUN),
        Do("settle", end("b", 1), ["settled", "run:1"]),
        admit(admitted(), "c", place(amount=40), budgets=RUN),
        Do("settle", end("c", 1), ["settled"]),
    ],
    "money is exact up to nine million dollars": [
        admit(admitted(), "a", place(amount=MOST - 2), budgets=[["all", MOST, 0, 0]]),
        Do("settle", end("a", MOST - 3), ["settled", "all"]),
        admit(
            ["refused", "budget", -1, f"all {MOST} {MOST - 3} 0"],
            "b",
            place(amount=4),
            budgets=[["all", MOST, 0, 0]],
        ),
        admit(admitted(), "b", place(amount=3), budgets=[["all", MOST, 0, 0]]),
    ],
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
    "a limit that the vendor told is kept": [
        Do("judge", verdict("good", learned_requests=1), []),
        admit(admitted(), "a"),
        admit(["refused", "requests", 60_750, "near/small"], "b"),
    ],
    "what others sent with the same key counts until the vendor says that it is free again": [
        admit(admitted(), "a"),
        Do("judge", verdict("good", learned_requests=3, used_requests=2, requests_free_ms=8000), []),
        admit(admitted(), "b"),
        admit(["refused", "requests", 8250, "near/small"], "c"),
        admit(admitted(after=8250), "c", after=8250),
    ],
    "a limit that the vendor told may be used at once, five times": [
        Do("judge", verdict("good", learned_requests=30), []),
        *[admit(admitted(), f"a{number}", place(request_burst=0)) for number in range(5)],
        admit(["refused", "requests", 2016, "near/small"], "b", place(request_burst=0)),
    ],
    "what is ours already is not counted twice": [
        Do("judge", verdict("good", learned_tokens=100), []),
        admit(admitted(), "a", place(tokens=60)),
        Do("settle", end("a", input=30, output=30), ["settled"]),
        Do("judge", verdict("good", learned_tokens=100, used_tokens=60), []),
        admit(admitted(), "b", place(tokens=40)),
        admit(["refused", "tokens", 60_750, "near/small"], "c", place(tokens=1)),
    ],
    "what has become free since the vendor spoke does not count": [
        Do("judge", verdict("good", learned_requests=2, used_requests=2, requests_free_ms=0), []),
        admit(admitted(), "a"),
    ],
}  # fmt: skip


@pytest.fixture
def both(redis_url: str) -> Iterator[Both]:
    both = Both(redis_url)
    yield both
    both.client.close()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_lua_and_its_twin_answer_alike(both: Both, case: list[Do]) -> None:
    for number, do in enumerate(case):
        both.move(do.after)
        assert both.run(do.verb, do.value) == do.answer, f"at {number}: {do}"
        both.compare()


def test_without_a_generation_nothing_is_decided(both: Both) -> None:
    both.client.delete("{goblin}:generation")
    both.twin.generation = None
    assert both.run("admit", ask("a")) == ["rebuilding"]
    assert both.run("settle", end("a")) == ["rebuilding"]
    assert both.run("release", {"attempt": "a"}) == ["rebuilding"]
    assert both.run("correct", {"attempt": "a", "amount": 1}) == ["rebuilding"]


LIMITS = {"run:1": 900, "all/hour": 700}
BUDGETS = [["run:1", LIMITS["run:1"], 0, DAY], ["all/hour", LIMITS["all/hour"], HOUR, 0]]
RPM, TPM, SLOTS = 6, 200, 3
CANDIDATES = ("near/small", "near/large", "far/one")


class Machine(RuleBasedStateMachine):
    """Any sequence of verbs and clock moves. The limits are watched from outside, by what was admitted."""

    def __init__(self, redis_url: str) -> None:
        super().__init__()
        self.both = Both(redis_url)
        self.both.client.flushdb()
        begin(self.both.client)
        self.both.move(0)
        self.number = 0
        self.open: dict[str, dict[str, Any]] = {}
        self.sent: dict[str, tuple[int, str]] = {}  # what was not taken back: when, to whom
        self.admitted = self.settled = self.released = 0

    def teardown(self) -> None:
        self.both.client.close()

    @rule(
        names=st.lists(st.sampled_from(CANDIDATES), min_size=1, max_size=3, unique=True),
        amount=st.sampled_from([0, 1, 90, 100, 333]),
        tokens=st.sampled_from([0, 20, 70, 201]),
        on_arrival=st.booleans(),
    )
    def admit(self, names: list[str], amount: int, tokens: int, on_arrival: bool) -> None:
        self.number += 1
        places = [
            place(
                name, amount, tokens=tokens, is_counted_on_arrival=on_arrival, rpm=RPM, tpm=TPM, concurrency=SLOTS,
                request_burst=20_000, token_burst=30_000, budgets=[[f"provider:{name[:3]}/day", 800, DAY, 0]],
            )
            for name in names
        ]  # fmt: skip
        attempt = f"a{self.number}"
        answer = self.both.run("admit", ask(attempt, *places, budgets=BUDGETS))
        if answer[0] == "admitted":
            chosen = places[answer[1]]
            self.open[attempt] = chosen
            self.admitted += amount
            self.sent[attempt] = (self.both.now, chosen["provider"])

    @precondition(lambda self: self.open)
    @rule(data=st.data(), share=st.sampled_from([0.0, 0.5, 1.0]), verb=st.sampled_from(["good", "bad", "none", "cool"]))
    def settle(self, data: st.DataObject, share: float, verb: str) -> None:
        attempt = data.draw(st.sampled_from(sorted(self.open)))
        chosen = self.open.pop(attempt)
        self.both.run("judge", verdict(verb, attempt, chosen["candidate"]))
        used = int(chosen["tokens"] * share)
        answer = end(attempt, int(chosen["amount"] * share), input=used // 2, output=used - used // 2)
        assert self.both.run("settle", answer)[0] == "settled"
        assert self.both.run("settle", answer) == ["again"]
        self.settled += chosen["amount"]

    @precondition(lambda self: self.open)
    @rule(data=st.data(), times=st.sampled_from([1, 2, 5]))
    def extend(self, data: st.DataObject, times: int) -> None:
        attempt = data.draw(st.sampled_from(sorted(self.open)))
        amount = self.open[attempt]["amount"]
        if self.both.run("extend", {"attempt": attempt, "amount": times * amount}) == ["extended"]:
            self.open[attempt] = {**self.open[attempt], "amount": times * amount}
            self.admitted += (times - 1) * amount

    @precondition(lambda self: self.both.twin.settled)
    @rule(data=st.data(), amount=st.sampled_from([0, 1, 90]))
    def correct(self, data: st.DataObject, amount: int) -> None:
        attempt = data.draw(st.sampled_from(sorted(self.both.twin.settled)))
        if amount < self.both.twin.settled[attempt][0]:  # more would be more than was held
            self.both.run("correct", {"attempt": attempt, "amount": amount})

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        attempt = data.draw(st.sampled_from(sorted(self.open)))
        self.released += self.open.pop(attempt)["amount"]
        del self.sent[attempt]
        assert self.both.run("release", {"attempt": attempt}) == ["released"]

    @rule(name=st.sampled_from(CANDIDATES), verb=st.sampled_from(["good", "bad", "open", "cool"]))
    def hear(self, name: str, verb: str) -> None:
        self.both.run("judge", verdict(verb, "", name))

    @rule(
        name=st.sampled_from(CANDIDATES),
        limits=st.tuples(st.sampled_from([0, 3]), st.sampled_from([0, 200])),
        used=st.tuples(st.integers(0, 5), st.sampled_from([0, 50, 300])),
        free_ms=st.sampled_from([0, 1, 250, 10_000, 60_000, 70_000]),
    )
    def learn(self, name: str, limits: tuple[int, int], used: tuple[int, int], free_ms: int) -> None:
        told = {
            "learned_requests": limits[0], "learned_tokens": limits[1], "used_requests": used[0],
            "used_tokens": used[1], "requests_free_ms": free_ms, "tokens_free_ms": free_ms,
        }  # fmt: skip
        self.both.run("judge", verdict("good", "", name, **told))

    @rule(ms=st.sampled_from([1, 249, 250, 3000, 10_000, 30_000, 60_500, 60_750, HOUR]))
    def wait(self, ms: int) -> None:
        self.both.move(ms)

    @invariant()
    def they_agree_and_no_limit_is_passed(self) -> None:
        self.both.compare()
        held = sum(one["amount"] for one in self.open.values())
        assert held == self.admitted - self.settled - self.released
        for name, known in self.both.twin.budgets.items():
            assert known.held >= 0
            assert known.spent + known.held <= (known.limit or 0), name
        assert self.both.twin.budgets.get("run:1") is None or self.both.twin.budgets["run:1"].held == held
        for provider in ("near", "far"):
            recent = [at for at, who in self.sent.values() if who == provider and at > self.both.now - 60_000]
            assert len(recent) <= RPM
            assert sum(self.both.twin.windows[provider].tokens.values()) <= TPM
            taken = self.both.twin.slots[provider].values()
            assert sum(until > self.both.now for until in taken) <= SLOTS


def test_no_order_of_verbs_parts_them_or_passes_a_limit(redis_url: str) -> None:
    run_state_machine_as_test(
        lambda: Machine(redis_url), settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
    )
