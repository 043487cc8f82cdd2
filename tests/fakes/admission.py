"""The verbs of routing/lua in plain Python, one dictionary per key and every sum taken anew: slow, and plain to see.

Takes and answers what the scripts take and answer; `now` (Unix ms) is an argument. Nothing expires but by `now`.
"""

import math
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

GRAIN = 250  # ms of a window's bucket
RAMP_STEP, RAMP_STEPS = 3000, 10
IN_A_ROW = 4

Answer = list[Any]


@dataclass
class Budget:
    spent: int = 0
    held: int = 0
    limit: int | None = None
    alerted: int | None = None


@dataclass
class Window:
    requests: dict[int, int] = field(default_factory=lambda: defaultdict(int))  # by bucket
    tokens: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    first: int = 0  # the oldest bucket that counts
    last: int = 0
    request_tat: float = 0
    token_tat: float = 0

    def look(self, now: int, span: int) -> None:
        self.first = max(self.first, (now - span) // GRAIN)
        for counts in (self.requests, self.tokens):
            for bucket in [bucket for bucket in counts if bucket < self.first]:
                del counts[bucket]

    def bucket(self, now: int) -> int:
        return max(now // GRAIN, self.last)

    def add(self, bucket: int, requests: int, tokens: int) -> None:
        if bucket >= self.first:
            self.requests[bucket] += requests
            self.tokens[bucket] += tokens


@dataclass
class Breaker:
    is_open: bool = False
    generation: int = 0
    until: int = 0
    streak: int = 0
    probe: str = ""
    probe_until: int = 0
    ramp: int = 0
    let: int = 0
    cool: int = 0
    start: int | None = None
    row: int = 0  # failures since the last success
    rate: tuple[int, int, int, int] = (0, 0, 0, 0)  # good, bad of this period, and of the one before
    lock: str = ""
    learned: tuple[int, int, int] = (0, 0, 0)  # requests, tokens, until

    def why_not(self, now: int, held: Collection[str]) -> tuple[str, int] | None:
        if self.cool > now:
            return "cooling", self.cool - now
        if self.is_open:
            if self.until > now:
                return "locked" if self.lock else "open", self.until - now
            return ("probing", -1) if self.probe in held and self.probe_until > now else None
        step = (now - self.ramp) // RAMP_STEP
        if self.ramp and step < RAMP_STEPS and self.let >= 2**step:
            return "ramp", self.ramp + (step + 1) * RAMP_STEP - now
        return None


class Twin:
    def __init__(self, generation: str | None = "1") -> None:
        self.generation = generation
        self.budgets: dict[str, Budget] = {}
        self.windows: dict[str, Window] = defaultdict(Window)
        self.breakers: dict[str, Breaker] = defaultdict(Breaker)
        self.slots: dict[str, dict[str, int]] = defaultdict(dict)
        self.records: dict[str, dict[str, Any]] = {}
        self.settled: dict[str, tuple[int, list[str]]] = {}  # for what, and the budgets that paid

    def run(self, verb: str, value: dict[str, Any], now: int) -> Answer:
        return getattr(self, verb)(value, now)  # type: ignore[no-any-return]

    # admit

    def admit(self, ask: dict[str, Any], now: int) -> Answer:
        if self.generation is None:
            return ["rebuilding"]
        attempt = ask["attempt"]
        if (record := self.records.get(attempt)) is not None:
            for index, one in enumerate(ask["candidates"]):
                if one["candidate"] == record["one"]["candidate"]:
                    return ["admitted", index, record["at"], self.generation, int(record["is_probe"])]
        short_of: Answer = []
        for index, one in enumerate(ask["candidates"]):
            short = self._short(ask, one, now)
            if short is None:
                return ["admitted", index, now, self.generation, int(self._take(ask, one, now)), *short_of]
            short_of += short
        return ["refused", *short_of]

    def _short(self, ask: dict[str, Any], one: dict[str, Any], now: int) -> list[Any] | None:
        for name in (one["provider"], one["candidate"]):
            if (why := self.breakers[name].why_not(now, self.records)) is not None:
                return [*why, f"{name} {self.breakers[name].lock}" if why[0] == "locked" else name]
        if (money := self._money(ask, one, now)) is not None:
            return money
        for name, limits in self._scopes(one, now, ask["span"]):
            window = self.windows[name]
            window.look(now, ask["span"])
            if (full := _full(window, limits, one["tokens"], now, ask["span"])) is not None:
                return [*full, name]
        slots = self.slots[one["provider"]]
        taken = sum(until > now for until in slots.values())
        return ["slots", -1, one["provider"]] if one["concurrency"] and taken >= one["concurrency"] else None

    def _money(self, ask: dict[str, Any], one: dict[str, Any], now: int) -> list[Any] | None:
        amount, found = one["amount"], None
        if amount == 0:
            return None
        for name, limit, ends in _lines(ask, one, now):
            known = self.budgets.get(name, Budget())
            wait = ends - now if ends else -1
            what = f"{name} {limit} {known.spent} {known.held}"
            if amount > limit:
                return ["too_dear", -1, what]
            if known.spent + amount > limit:
                found = found if found and found[0] == "budget" else ["budget", wait, what]
            elif found is None and known.spent + known.held + amount > limit:
                found = ["held", -1, what]
        return found

    def _scopes(self, one: dict[str, Any], now: int, span: int) -> list[tuple[str, dict[str, Any]]]:
        scopes = [(one["provider"], one)] if one["rpm"] or one["tpm"] else []
        requests, tokens, until = self.breakers[one["candidate"]].learned
        if until > now:
            burst = max(span / 10, 5 * span / max(requests, 1))
            scopes.append((one["candidate"], {**one, "rpm": requests, "tpm": tokens, "request_burst": burst}))
        return scopes

    def _take(self, ask: dict[str, Any], one: dict[str, Any], now: int) -> bool:
        attempt, is_probe = ask["attempt"], False
        for name in (one["provider"], one["candidate"]):
            breaker = self.breakers[name]
            if breaker.is_open:
                breaker.probe, breaker.probe_until, is_probe = attempt, now + one["slot_ms"], True
            elif breaker.ramp and (now - breaker.ramp) // RAMP_STEP < RAMP_STEPS:
                breaker.let += 1
            elif breaker.ramp:
                breaker.ramp = breaker.let = breaker.streak = 0
        scopes = []
        for name, limits in self._scopes(one, now, ask["span"]):
            window, span = self.windows[name], ask["span"]
            bucket = window.bucket(now)
            window.add(bucket, 1, one["tokens"])
            window.last = bucket
            if limits["rpm"]:
                window.request_tat = max(window.request_tat, now) + span / limits["rpm"]
            if limits["tpm"]:
                window.token_tat = max(window.token_tat, now) + one["tokens"] * span / limits["tpm"]
            scopes.append((name, bucket, limits["rpm"], limits["tpm"]))
        if one["concurrency"]:
            self.slots[one["provider"]][attempt] = now + one["slot_ms"]
        names = []
        for name, limit, _ in _lines(ask, one, now):
            known = self.budgets.setdefault(name, Budget())
            known.limit = limit
            known.held += one["amount"]
            names.append(name)
        self.records[attempt] = {
            "at": now, "one": one, "is_probe": is_probe, "budgets": names, "scopes": scopes, "span": ask["span"],
            "generations": [self.breakers[name].generation for name in (one["provider"], one["candidate"])],
        }  # fmt: skip
        self.settled.pop(attempt, None)
        return is_probe

    # settle, release

    def settle(self, ask: dict[str, Any], now: int) -> Answer:
        attempt = ask["attempt"]
        if self.generation is None:
            return ["rebuilding"]
        if attempt in self.settled:
            return ["again"]
        if attempt not in self.records:
            if ask["generation"] != self.generation:
                return ["counted"]
            for name in ask["budgets"]:
                self.budgets.setdefault(name, Budget()).spent += ask["amount"]
            self.settled[attempt] = ask["amount"], ask["budgets"]
            return ["added"]
        record = self.records[attempt]
        reserved = record["one"]["tokens"]
        if not record["one"]["is_counted_on_arrival"]:
            for name, bucket, _, tpm in record["scopes"]:
                window = self.windows[name]
                window.look(now, record["span"])
                window.add(bucket, 0, ask["input"] - reserved)
                window.last = window.bucket(now)
                window.add(window.last, 0, ask["output"])
                if tpm:
                    window.token_tat += (ask["input"] + ask["output"] - reserved) * record["span"] / tpm
        return ["settled", *self._give_back(attempt, ask["amount"])]

    def extend(self, ask: dict[str, Any], now: int) -> Answer:
        attempt = ask["attempt"]
        if self.generation is None:
            return ["rebuilding"]
        if attempt not in self.records:
            return ["unknown"]
        record = self.records[attempt]
        more = ask["amount"] - record["one"]["amount"]
        above = [self.budgets[name] for name in record["budgets"]]
        if any(known.spent + known.held + more > (known.limit or 0) for known in above):
            return ["refused"]
        for known in above:
            known.held += more
        record["one"] = {**record["one"], "amount": ask["amount"]}
        return ["extended"]

    def correct(self, ask: dict[str, Any], now: int) -> Answer:
        attempt = ask["attempt"]
        if self.generation is None:
            return ["rebuilding"]
        if attempt in self.records:
            self._give_back(attempt, ask["amount"])
            return ["settled"]
        if attempt not in self.settled:
            return ["unknown"]
        before, names = self.settled[attempt]
        for name in names:
            self.budgets[name].spent += ask["amount"] - before
        self.settled[attempt] = ask["amount"], names
        return ["corrected"]

    def release(self, ask: dict[str, Any], now: int) -> Answer:
        attempt = ask["attempt"]
        if self.generation is None:
            return ["rebuilding"]
        if attempt in self.settled:
            return ["again"]
        if attempt not in self.records:
            return ["unknown"]
        record = self.records[attempt]
        for name, bucket, rpm, tpm in record["scopes"]:
            window = self.windows[name]
            window.look(now, record["span"])
            window.add(bucket, -1, -record["one"]["tokens"])
            window.last = window.bucket(now)
            window.request_tat -= record["span"] / rpm if rpm else 0
            window.token_tat -= record["one"]["tokens"] * record["span"] / tpm if tpm else 0
        for name in (record["one"]["provider"], record["one"]["candidate"]):
            breaker = self.breakers[name]
            if breaker.probe == attempt:
                breaker.probe, breaker.probe_until = "", 0
        self._give_back(attempt, 0)
        return ["released"]

    def _give_back(self, attempt: str, amount: int) -> list[str]:
        record, alerts = self.records.pop(attempt), []
        for name in record["budgets"]:
            known = self.budgets[name]
            known.held -= record["one"]["amount"]
            known.spent += amount
            if amount > 0 and known.limit is not None and known.spent >= 0.8 * known.limit:
                alerts += [name] if known.alerted != known.limit else []
                known.alerted = known.limit
        self.slots[record["one"]["provider"]].pop(attempt, None)
        self.settled[attempt] = amount, record["budgets"]
        return alerts

    # judge

    def judge(self, ask: dict[str, Any], now: int) -> Answer:
        changes: Answer = []
        record = self.records.get(ask["attempt"]) if self.generation else None
        for place, name in enumerate((ask["provider"], ask["candidate"])):
            breaker = self.breakers[name]
            verdict = "none" if place and ask["verdict"] == "open" else ask["verdict"]
            if not ask["attempt"] or (record and record["generations"][place] == breaker.generation):
                judge = self._judge_open if breaker.is_open else self._judge_closed
                changes += [name, what] if (what := judge(breaker, ask, verdict, now)) else []
            cool_ms = ask["rest_ms"] if verdict == "cool" else ask["cool_ms"]
            if place and cool_ms and now + cool_ms > breaker.cool:
                breaker.cool = now + cool_ms
                changes += [name, "cooled"]
            if place and (ask["learned_requests"] or ask["learned_tokens"]):
                breaker.learned = (ask["learned_requests"], ask["learned_tokens"], now + ask["learned_ms"])
                if self.generation is not None:
                    self._learn(self.windows[name], ask, now)
        return changes

    def _learn(self, window: Window, ask: dict[str, Any], now: int) -> None:
        span = ask["span"]
        window.look(now, span)
        window.last = window.bucket(now)
        others = max(0, ask["used_requests"] - sum(window.requests.values()))
        if ask["requests_free_ms"] > 0:
            window.add((now + min(ask["requests_free_ms"], span) - span) // GRAIN, others, 0)
        others = max(0, ask["used_tokens"] - sum(window.tokens.values()))
        if ask["tokens_free_ms"] > 0:
            window.add((now + min(ask["tokens_free_ms"], span) - span) // GRAIN, 0, others)

    def _judge_closed(self, breaker: Breaker, ask: dict[str, Any], verdict: str, now: int) -> str:
        if verdict == "open":
            return _trip(breaker, now, ask["rest_ms"], ask["lock"])
        if verdict not in ("good", "bad"):
            return ""
        start = now if breaker.start is None else breaker.start
        good, bad, good_before, bad_before = breaker.rate
        row = breaker.row
        if now - start >= 2 * ask["period_ms"]:
            start, good, bad, good_before, bad_before, row = now, 0, 0, 0, 0, 0
        elif now - start >= ask["period_ms"]:
            start, good, bad, good_before, bad_before = start + ask["period_ms"], 0, 0, good, bad
        good, bad = good + (verdict == "good"), bad + (verdict == "bad")
        breaker.start, breaker.rate = start, (good, bad, good_before, bad_before)
        breaker.row = 0 if verdict == "good" else row + 1
        if breaker.row >= IN_A_ROW * ask["samples"]:
            return _trip(breaker, now, _rest(breaker, ask))
        calls, failures = sum(breaker.rate), bad + bad_before
        is_back = breaker.ramp and (now - breaker.ramp) // RAMP_STEP < RAMP_STEPS
        if verdict == "bad" and calls >= (1 if is_back else ask["samples"]) and failures >= ask["threshold"] * calls:
            return _trip(breaker, now, _rest(breaker, ask))
        return ""

    def _judge_open(self, breaker: Breaker, ask: dict[str, Any], verdict: str, now: int) -> str:
        if breaker.until > now or (ask["attempt"] and breaker.probe != ask["attempt"]):
            return ""
        if verdict == "good":
            breaker.lock = ""
            breaker.is_open, breaker.until, breaker.probe, breaker.probe_until = False, 0, "", 0
            breaker.ramp, breaker.let, breaker.generation = now, 0, breaker.generation + 1
            return "closed"
        if verdict in ("bad", "open"):
            is_of_key = verdict == "open"
            rest = ask["rest_ms"] if is_of_key else _rest(breaker, ask)
            return _trip(breaker, now, rest, ask["lock"] if is_of_key else "")
        breaker.probe, breaker.probe_until = "", 0
        return ""


def _lines(ask: dict[str, Any], one: dict[str, Any], now: int) -> list[tuple[str, int, int]]:
    lines = []
    for name, limit, window, _ in (*ask["budgets"], *one["budgets"]):
        start = now // window * window if window else 0
        lines.append((f"{name}@{start // 1000}" if window else name, limit, start + window if window else 0))
    return lines


def _full(window: Window, limits: dict[str, Any], tokens: int, now: int, span: int) -> tuple[str, int] | None:
    wait: float = 0
    reason = ""

    def consider(name: str, ms: float) -> None:
        nonlocal wait, reason
        if ms > wait:
            wait, reason = ms, name

    def paced(tat: float, limit: int, cost: int, burst: int) -> float:
        due = cost * span / limit
        return math.floor(max(tat - now, 0) - max(burst - due, 0))

    def leaves(counts: dict[int, int], excess: int) -> int:
        for bucket in sorted(counts):
            excess -= counts[bucket]
            if excess <= 0:
                return (bucket + 1) * GRAIN + span - now
        return span

    if limits["rpm"]:
        if (excess := sum(window.requests.values()) + 1 - limits["rpm"]) > 0:
            consider("requests", leaves(window.requests, excess))
        consider("requests", paced(window.request_tat, limits["rpm"], 1, limits["request_burst"]))
    if limits["tpm"]:
        if tokens > limits["tpm"]:
            return "too_large", -1
        if (excess := sum(window.tokens.values()) + tokens - limits["tpm"]) > 0:
            consider("tokens", leaves(window.tokens, excess))
        consider("tokens", paced(window.token_tat, limits["tpm"], tokens, limits["token_burst"]))
    return (reason, math.ceil(wait)) if reason else None


def _trip(breaker: Breaker, now: int, rest: int, lock: str = "") -> str:
    breaker.lock = lock
    breaker.is_open, breaker.until, breaker.generation = True, now + rest, breaker.generation + 1
    breaker.probe, breaker.probe_until, breaker.ramp, breaker.let = "", 0, 0, 0
    breaker.start, breaker.row, breaker.rate, breaker.streak = None, 0, (0, 0, 0, 0), breaker.streak + 1
    return "opened"


def _rest(breaker: Breaker, ask: dict[str, Any]) -> int:
    return int(min(ask["rest_base_ms"] * 2**breaker.streak, ask["rest_max_ms"]))
