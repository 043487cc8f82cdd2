"""Admission in Lua against its twin in Python, in any order that hypothesis thinks of."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.fakes.asks import Both, arrival, ask, begin, end, place, verdict

HOUR, DAY = 3_600_000, 86_400_000
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
        key=st.sampled_from(["old", "new"]),
    )
    def admit(self, names: list[str], amount: int, tokens: int, on_arrival: bool, key: str) -> None:
        self.number += 1
        places = [
            place(
                name, amount, key=key, tokens=tokens, is_counted_on_arrival=on_arrival, rpm=RPM, tpm=TPM,
                concurrency=SLOTS, request_burst=20_000, token_burst=30_000,
                budgets=[[f"provider:{name[:3]}/day", 800, DAY, 0]],
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
        self.both.run("judge", verdict(verb, attempt, chosen["candidate"], key=chosen["key"]))
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
        self.sent.pop(attempt, None)
        assert self.both.run("release", {"attempt": attempt}) == ["released"]

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def arrive(self, data: st.DataObject) -> None:
        """The call is made now, however long ago it was admitted."""
        attempt = data.draw(st.sampled_from(sorted(self.open)))
        if self.both.run("arrive", arrival(attempt)) == ["arrived"] and attempt in self.sent:
            self.sent[attempt] = (self.both.now, self.open[attempt]["provider"])

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def vacate(self, data: st.DataObject) -> None:
        self.both.run("vacate", {"attempt": data.draw(st.sampled_from(sorted(self.open)))})

    @rule(
        name=st.sampled_from(CANDIDATES),
        verb=st.sampled_from(["good", "bad", "open", "cool"]),
        key=st.sampled_from(["old", "new"]),
    )
    def hear(self, name: str, verb: str, key: str) -> None:
        self.both.run("judge", verdict(verb, "", name, key=key))

    @rule()
    def lose(self) -> None:
        """The windows are built anew from the ledger, which is none of this."""
        self.both.lose()
        self.sent = {}

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
            assert known.limit is None or known.spent + known.held <= known.limit, name
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
