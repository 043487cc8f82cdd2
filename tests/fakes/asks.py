"""Values for the verbs of admission, and a Redis whose verbs read the time from a key."""

import time
from dataclasses import dataclass
from typing import Any

import redis

from goblin import kv
from routing import budget
from routing.ask import ARRIVAL_MS
from routing.script import PREFIX, Scripts, server_of
from tests.fakes.admission import Twin

CLOCK = 'local function now_ms() return tonumber(redis.call("GET", KEYS[1] .. ":clock")) end'
DAY_MS = 86_400_000
NOON = (time.time_ns() // 1_000_000 // DAY_MS + 1) * DAY_MS + DAY_MS // 2  # tomorrow's, so that Redis forgets nothing
SPAN = 60_500
REACH = 900_000  # that a call found open is believed to last


def begin(client: redis.Redis, prefix: str = PREFIX) -> None:
    """Empty counters of the generation "1", as a rebuild leaves them."""
    client.mset({f"{prefix}:generation": "1", f"{prefix}:server": server_of(client)})


def place(candidate: str = "near/small", amount: int = 100, **fields: Any) -> dict[str, Any]:
    made = {
        "provider": candidate.partition("/")[0],
        "key": "",
        "candidate": candidate,
        "amount": amount,
        "tokens": 10,
        "is_counted_on_arrival": False,
        "slot_ms": 30_000,
        "concurrency": 0,
        "rpm": 0,
        "tpm": 0,
        "request_burst": 60_500,
        "token_burst": 60_500,
        "budgets": [],
    }
    return made | fields


def ask(attempt: str, *places: dict[str, Any], budgets: list[list[Any]] | None = None) -> dict[str, Any]:
    return {"attempt": attempt, "span": SPAN, "budgets": budgets or [], "candidates": list(places) or [place()]}


def end(attempt: str, amount: int = 60, **fields: Any) -> dict[str, Any]:
    made = {"attempt": attempt, "amount": amount, "input": 4, "output": 3, "generation": "1", "budgets": []}
    return made | fields


def arrival(attempt: str) -> dict[str, Any]:
    return {"attempt": attempt, "late": ARRIVAL_MS}


def verdict(verdict: str, attempt: str = "", candidate: str = "near/small", **fields: Any) -> dict[str, Any]:
    made = {
        "attempt": attempt,
        "provider": candidate.partition("/")[0],
        "key": "",
        "candidate": candidate,
        "verdict": verdict,
        "rest_ms": 5000,
        "cool_ms": 0,
        "lock": "bad_credentials",
        "reason": "so it is",
        "threshold": 0.8,
        "samples": 3,
        "period_ms": 30_000,
        "rest_base_ms": 4000,
        "rest_max_ms": 10_000,
        "learned_requests": 0,
        "learned_tokens": 0,
        "learned_ms": 600_000,
        "used_requests": 0,
        "used_tokens": 0,
        "requests_free_ms": 60_000,
        "tokens_free_ms": 60_000,
        "span": SPAN,
    }
    return made | fields


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
    """The answer: `short` is reason, wait and what is short for each candidate before."""
    return ["admitted", index, NOON + after, "1", int(probe), *short]


class Both:
    """The scripts and their twin at one time that stands still until it is moved."""

    def __init__(self, redis_url: str, prefix: str = PREFIX) -> None:
        self.client: redis.Redis = kv.connect(redis_url)
        self.scripts = Scripts(self.client, prefix=prefix, clock=CLOCK)
        self.twin = Twin()
        self.now = NOON
        self.kept: dict[str, str] = {}  # of the breakers, as the ledger would
        begin(self.client, prefix)
        self.move(0)

    def move(self, ms: int) -> None:
        self.now += ms
        self.client.set(f"{self.scripts.prefix}:clock", self.now)

    def run(self, verb: str, value: dict[str, Any]) -> list[Any]:
        """The answer on which both agree."""
        ours = self.scripts.run(verb, value, *value.get("candidates", ()))
        if verb == "judge":
            self.kept |= dict(zip(ours[::3], ours[2::3], strict=True))
            ours = [part for place, part in enumerate(ours) if place % 3 != 2]
        theirs = self.twin.run(verb, value, self.now)
        assert ours == theirs, f"{verb} {value}"
        return ours

    def go(self, case: list[Do]) -> None:
        for number, do in enumerate(case):
            self.move(do.after)
            if do.verb == "lose":
                self.lose()
            else:
                assert self.run(do.verb, do.value) == do.answer, f"at {number}: {do}"
            self.compare()

    def lose(self) -> None:
        """Redis is emptied and loaded with what is kept and who is under way; windows have no places but theirs."""
        root = f"{self.scripts.prefix}:counters:1:"
        calls = [self._call(attempt, record) for attempt, record in self.twin.records.items()]
        spent = [[name, known.spent, 0, 0] for name, known in self.twin.budgets.items()]
        self.client.delete(*self.client.scan_iter(match=f"{self.scripts.prefix}*"))
        begin(self.client, self.scripts.prefix)
        self.move(0)
        recent = sorted((call for call in calls if call["at"] >= self.now - SPAN), key=lambda call: int(call["at"]))
        made = [[call[name], call["at"], call["tokens"]] for call in recent for name in ("provider", "candidate")]
        head = {"generation": "1", "now": self.now, "span": SPAN, "calls": made, "worked": []}
        self.scripts.run("load", {**head, "spent": spent, "breakers": list(self.kept.items()), "holds": calls})
        self.twin = self.twin.after_loss(REACH, self.now - SPAN)
        assert self.client.zcard(f"{root}holds") == len(calls)

    def _call(self, attempt: str, record: dict[str, Any]) -> dict[str, Any]:
        one = record["one"]
        return {
            "attempt": attempt,
            "at": record["at"],
            "provider": one["provider"],
            "candidate": one["candidate"],
            "amount": one["amount"],
            "tokens": one["tokens"],
            "slot_until": record["at"] + REACH,
            "budgets": [[name, 0, 0] for name in record["budgets"]],
        }

    def compare(self) -> None:
        """Both hold the same counts."""
        root = f"{self.scripts.prefix}:counters:1:"
        for name, known in self.twin.budgets.items():
            state = budget.read(name, self.client.hget(f"{root}money", name) or "")
            assert (state.spent, state.held) == (known.spent, known.held), name
        assert set(self.client.zrange(f"{root}holds", 0, -1)) == set(self.twin.records)
        for name in self.twin.windows:
            if fields := self.client.hgetall(f"{root}window:{name}"):
                counts = {key: int(value) for key, value in fields.items() if key[1:].isdigit() and int(value)}
                assert int(fields["requests"]) == sum(n for key, n in counts.items() if key[0] == "r"), (name, fields)
                assert int(fields["tokens"]) == sum(n for key, n in counts.items() if key[0] == "t"), (name, fields)
        for name, slots in self.twin.slots.items():
            taken = self.client.zrangebyscore(f"{root}slots:{name}", f"({self.now}", "+inf")
            assert set(taken) == {attempt for attempt, until in slots.items() if until > self.now}
