"""Money, windows and slots of admission, in Lua against its twin in Python: the same cases."""

import pytest

from goblin.money import MOST
from tests.fakes.asks import NOON, Both, Do, admit, admitted, arrival, ask, end, place, verdict

HOUR, DAY = 3_600_000, 86_400_000
AT = NOON // 1000
MIDNIGHT = (NOON - DAY // 2) // 1000
RUN = [["run:1", 250, 0, DAY]]
BOTH = [["run:1", 1000, 0, DAY], ["all/hour", 250, HOUR, 0]]
ONE_SLOT = {"concurrency": 1}
PER_MINUTE = {"rpm": 2}
TOKENS = {"tpm": 100, "tokens": 60}

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
    "of two budgets that are spent the one that never begins anew is named": [
        admit(admitted(), "a", budgets=BOTH),
        Do("settle", end("a", 100), ["settled"]),
        admit(admitted(), "b", budgets=[["all/hour", 250, HOUR, 0], ["key:1", 150, 0, 0]]),
        Do("settle", end("b", 100), ["settled", f"all/hour@{AT}"]),
        admit(
            ["refused", "budget", -1, "key:1 150 100 0"],
            "c",
            budgets=[["all/hour", 250, HOUR, 0], ["key:1", 150, 0, 0]],
        ),
    ],
    "of two windows that are spent the one that ends last is named": [
        admit(admitted(), "a", budgets=[["all/hour", 100, HOUR, 0], ["all/day", 100, DAY, 0]]),
        Do("settle", end("a", 100), ["settled", f"all/hour@{AT}", f"all/day@{MIDNIGHT}"]),
        admit(
            ["refused", "budget", DAY // 2, f"all/day@{MIDNIGHT} 100 100 0"],
            "b",
            budgets=[["all/hour", 100, HOUR, 0], ["all/day", 100, DAY, 0]],
        ),
        admit(
            ["refused", "budget", DAY // 2, f"all/day@{MIDNIGHT} 100 100 0"],
            "b",
            budgets=[["all/day", 100, DAY, 0], ["all/hour", 100, HOUR, 0]],
        ),
    ],
    "of a budget that is not known here its asker knows what is spent": [
        admit(["refused", "budget", -1, "run:1 250 200 0"], "a", budgets=[["run:1", 250, 0, DAY, 200]]),
        admit(admitted(), "a", place(amount=50), budgets=[["run:1", 250, 0, DAY, 200]]),
        admit(["refused", "held", -1, "run:1 250 200 50"], "b", place(amount=1), budgets=[["run:1", 250, 0, DAY, 0]]),
        Do("settle", end("a", 40), ["settled", "run:1"]),
        admit(admitted(), "b", place(amount=10), budgets=[["run:1", 250, 0, DAY, 900]]),
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
    "a call that arrives late counts from then on": [
        admit(admitted(), "a", place(**PER_MINUTE)),
        Do("arrive", arrival("a"), ["arrived"], after=500),
        Do("arrive", arrival("a"), ["arrived"], after=39_500),
        admit(admitted(after=40_000), "b", place(**PER_MINUTE)),
        admit(["refused", "requests", 40_750, "near"], "c", place(**PER_MINUTE), after=20_000),
        admit(["refused", "requests", 500, "near"], "c", place(**PER_MINUTE), after=40_250),
        admit(admitted(after=100_750), "c", place(**PER_MINUTE), after=500),
    ],
    "a call that arrives late takes its tokens along, and settles them there": [
        admit(admitted(), "a", place(**TOKENS)),
        Do("arrive", arrival("a"), ["arrived"], after=40_000),
        admit(["refused", "tokens", 60_750, "near"], "b", place(**TOKENS)),
        Do("settle", end("a", input=10, output=10), ["settled"]),
        admit(admitted(after=40_000), "b", place(**TOKENS)),
    ],
    "a call that arrives when its place has left has room, or is not made": [
        admit(admitted(), "a", place(**PER_MINUTE)),
        admit(admitted(after=61_000), "b", place(**PER_MINUTE), after=61_000),
        Do("arrive", arrival("a"), ["arrived"]),
        admit(["refused", "requests", 60_750, "near"], "d", place(**PER_MINUTE)),
        admit(admitted(after=122_000), "c", place(**PER_MINUTE), after=61_000),
        admit(admitted(after=122_000), "d", place(**PER_MINUTE)),
        Do("arrive", arrival("b"), ["full"]),
        Do("release", {"attempt": "b"}, ["released"]),
        Do("arrive", arrival("b"), ["unknown"]),
        Do("arrive", arrival("c"), ["arrived"]),
        Do("arrive", arrival("a"), ["full"]),
    ],
    "a call that arrives after a loss keeps its place, or has none": [
        admit(admitted(), "a", place(**PER_MINUTE)),
        Do("lose", {}, []),
        Do("arrive", arrival("a"), ["arrived"], after=40_000),
        admit(admitted(after=60_000), "b", place(**PER_MINUTE), after=20_000),
        admit(["refused", "requests", 40_750, "near"], "c", place(**PER_MINUTE)),
        Do("arrive", arrival("a"), ["full"], after=60_000),
        Do("settle", end("a"), ["settled"]),
        Do("arrive", arrival("a"), ["unknown"]),
    ],
    "a call without limits may arrive at any time": [
        admit(admitted(), "a"),
        Do("arrive", arrival("a"), ["arrived"], after=90_000),
    ],
    "a call that is larger than the minute is refused for good": [
        admit(["refused", "too_large", -1, "near"], "a", place(tpm=100, tokens=101)),
    ],
    "what was never called gives everything back": [
        admit(admitted(), "a", place(rpm=1, tpm=100, tokens=100, concurrency=1), budgets=RUN),
        Do("release", {"attempt": "a"}, ["released"]),
        Do("release", {"attempt": "a"}, ["again"]),
        admit(admitted(), "b", place(amount=250, rpm=1, tpm=100, tokens=100, concurrency=1), budgets=RUN),
    ],
    "what was given back and called all the same is paid, once": [
        admit(admitted(), "a", budgets=RUN),
        Do("release", {"attempt": "a"}, ["released"]),
        Do("settle", end("a", 200), ["added", "run:1"]),
        Do("settle", end("a", 200), ["again"]),
        Do("correct", {"attempt": "a", "amount": 190}, ["corrected"]),
        Do("settle", end("a", 200), ["again"]),
        Do("release", {"attempt": "a"}, ["again"]),
        admit(["refused", "budget", -1, "run:1 250 190 0"], "b", place(amount=61), budgets=RUN),
    ],
    "what was given back and called unseen is corrected from nothing": [
        admit(admitted(), "a", budgets=RUN),
        Do("release", {"attempt": "a"}, ["released"]),
        Do("correct", {"attempt": "a", "amount": 30}, ["corrected"]),
        Do("settle", end("a", 100), ["again"]),
        admit(admitted(), "b", place(amount=220), budgets=RUN),
    ],
    "whose place went to others keeps the money, and may be called yet": [
        admit(admitted(), "a", place(amount=200, **ONE_SLOT), budgets=RUN),
        Do("vacate", {"attempt": "a"}, ["vacated"]),
        Do("vacate", {"attempt": "a"}, ["unknown"]),
        admit(admitted(), "b", place(amount=50, **ONE_SLOT), budgets=RUN),
        admit(["refused", "slots", -1, "near"], "c", place(amount=0, **ONE_SLOT), budgets=RUN),
        Do("settle", end("a", 200), ["settled", "run:1"]),
        admit(["refused", "slots", -1, "near"], "c", place(amount=0, **ONE_SLOT), budgets=RUN),
        Do("vacate", {"attempt": "a"}, ["unknown"]),
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
    "asked again, it says as before why others had no room": [
        admit(admitted(), "a", place("dear/large", 300), budgets=[["run:1", 450, 0, DAY]]),
        *[
            admit(
                admitted(1, "held", -1, "run:1 450 0 300"),
                "b",
                place("dear/large", 300),
                place("near/small"),
                budgets=[["run:1", 450, 0, DAY]],
            )
        ]
        * 2,
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


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_lua_and_its_twin_answer_alike(both: Both, case: list[Do]) -> None:
    both.go(case)


def test_without_a_generation_nothing_is_decided(both: Both) -> None:
    both.client.delete("{goblin}:generation")
    both.twin.generation = None
    assert both.run("admit", ask("a")) == ["rebuilding"]
    assert both.run("settle", end("a")) == ["rebuilding"]
    assert both.run("release", {"attempt": "a"}) == ["rebuilding"]
    assert both.run("arrive", arrival("a")) == ["rebuilding"]
    assert both.run("vacate", {"attempt": "a"}) == ["rebuilding"]
    assert both.run("correct", {"attempt": "a", "amount": 1}) == ["rebuilding"]
