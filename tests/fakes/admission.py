"""The verbs of routing/lua in plain Python, one dictionary per key and every sum taken anew: slow, and plain to see.

Takes and answers what the scripts take and answer; `now` (Unix ms) is an argument. Nothing expires but by `now`.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from tests.fakes.breaker import Breaker
from tests.fakes.window import GRAIN, Window

Answer = list[Any]


@dataclass
class Budget:
    spent: int = 0
    held: int = 0
    limit: int | None = None
    alerted: int | None = None


class Twin:
    def __init__(self, generation: str | None = "1") -> None:
        self.generation = generation
        self.budgets: dict[str, Budget] = {}
        self.windows: dict[str, Window] = defaultdict(Window)
        self.breakers: dict[str, Breaker] = defaultdict(Breaker)
        self.slots: dict[str, dict[str, int]] = defaultdict(dict)
        self.records: dict[str, dict[str, Any]] = {}
        self.settled: dict[str, tuple[int, list[str]]] = {}  # for what, and the budgets that paid
        self.released: set[str] = set()  # those of them that were given back

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
                    passed = record.get("passed", [])
                    return ["admitted", index, record["at"], self.generation, int(record["is_probe"]), *passed]
        short_of: Answer = []
        for index, one in enumerate(ask["candidates"]):
            short = self._short(ask, one, now)
            if short is None:
                is_probe = self._take(ask, one, now)
                self.records[attempt]["passed"] = short_of
                return ["admitted", index, now, self.generation, int(is_probe), *short_of]
            short_of += short
        return ["refused", *short_of]

    def _short(self, ask: dict[str, Any], one: dict[str, Any], now: int) -> list[Any] | None:
        for name in (one["provider"], one["candidate"]):
            if (why := self.breakers[name].why_not(now, self.records, one["key"])) is not None:
                return [*why, f"{name} {self.breakers[name].lock}" if why[0] == "locked" else name]
        if (money := self._money(ask, one, now)) is not None:
            return money
        for name, limits in self._scopes(one, now, ask["span"]):
            window = self.windows[name]
            window.look(now, ask["span"])
            if (full := window.why_not(limits, one["tokens"], now, ask["span"])) is not None:
                return [*full, name]
        slots = self.slots[one["provider"]]
        taken = sum(until > now for until in slots.values())
        return ["slots", -1, one["provider"]] if one["concurrency"] and taken >= one["concurrency"] else None

    def _money(self, ask: dict[str, Any], one: dict[str, Any], now: int) -> list[Any] | None:
        amount, found = one["amount"], None
        if amount == 0:
            return None
        for name, limit, ends, spent in _lines(ask, one, now):
            known = self.budgets.get(name, Budget(spent))
            wait = ends - now if ends else -1
            what = f"{name} {limit} {known.spent} {known.held}"
            if amount > limit:
                return ["too_dear", -1, what]
            if known.spent + amount > limit:
                is_later = found is not None and found[1] != -1 and (wait == -1 or wait > found[1])
                found = ["budget", wait, what] if found is None or found[0] == "held" or is_later else found
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
            is_probe |= self.breakers[name].let_pass(attempt, now, one["slot_ms"])
        scopes = []
        for name, limits in self._scopes(one, now, ask["span"]):
            bucket = self.windows[name].take(limits, one["tokens"], now, ask["span"])
            scopes.append((name, bucket, limits["rpm"], limits["tpm"]))
        if one["concurrency"]:
            self.slots[one["provider"]][attempt] = now + one["slot_ms"]
        names = []
        for name, limit, _, spent in _lines(ask, one, now):
            known = self.budgets.setdefault(name, Budget(spent))
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
        if attempt in self.released:
            self.released.remove(attempt)
            names = self.settled[attempt][1]
            self.settled[attempt] = ask["amount"], names
            return ["added", *self._spend(names, 0, ask["amount"])]
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

    def arrive(self, ask: dict[str, Any], now: int) -> Answer:
        record = self.records.get(ask["attempt"])
        if self.generation is None:
            return ["rebuilding"]
        if record is None:
            return ["unknown"]
        if now - record.get("arrived", record["at"]) <= ask["late"]:
            return ["arrived"]
        tokens = record["one"]["tokens"]
        for name, bucket, rpm, tpm in record["scopes"]:
            window = self.windows[name]
            window.look(now, record["span"])
            if bucket < window.first and not window.has_room(rpm, tpm, tokens):
                return ["full"]
        moved = []
        for name, bucket, rpm, tpm in record["scopes"]:
            window = self.windows[name]
            window.add(bucket, -1, -tokens)
            window.last = window.bucket(now)
            window.add(window.last, 1, tokens)
            moved.append((name, window.last, rpm, tpm))
        self.records[ask["attempt"]] = {**record, "arrived": now, "scopes": moved}
        return ["arrived"]

    def extend(self, ask: dict[str, Any], now: int) -> Answer:
        attempt = ask["attempt"]
        if self.generation is None:
            return ["rebuilding"]
        if attempt not in self.records:
            return ["unknown"]
        record = self.records[attempt]
        more = ask["amount"] - record["one"]["amount"]
        above = [self.budgets[name] for name in record["budgets"]]
        if any(known.limit is None or known.spent + known.held + more > known.limit for known in above):
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
        self.released.discard(attempt)
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
        self._end_probe(attempt)
        self._give_back(attempt, 0)
        self.released.add(attempt)
        return ["released"]

    def vacate(self, ask: dict[str, Any], now: int) -> Answer:
        attempt = ask["attempt"]
        if self.generation is None:
            return ["rebuilding"]
        if attempt not in self.records:
            return ["unknown"]
        had_slot = self.slots[self.records[attempt]["one"]["provider"]].pop(attempt, None) is not None
        return ["vacated" if self._end_probe(attempt) or had_slot else "unknown"]

    def _end_probe(self, attempt: str) -> bool:
        one, was_probe = self.records[attempt]["one"], False
        for name in (one["provider"], one["candidate"]):
            breaker = self.breakers[name]
            if breaker.probe == attempt:
                breaker.probe, breaker.probe_until, was_probe = "", 0, True
        return was_probe

    def _give_back(self, attempt: str, amount: int) -> list[str]:
        record = self.records.pop(attempt)
        self.slots[record["one"]["provider"]].pop(attempt, None)
        self.settled[attempt] = amount, record["budgets"]
        return self._spend(record["budgets"], record["one"]["amount"], amount)

    def _spend(self, names: list[str], hold: int, amount: int) -> list[str]:
        alerts = []
        for name in names:
            known = self.budgets[name]
            known.held -= hold
            known.spent += amount
            if amount > 0 and known.limit is not None and known.spent >= 0.8 * known.limit:
                alerts += [name] if known.alerted != known.limit else []
                known.alerted = known.limit
        return alerts

    # a loss of Redis

    def after_loss(self, reach: int, since: int) -> "Twin":
        """Another one, of what was spent and kept, and of the calls under way, which may last `reach` ms in all. Those
        that were admitted from `since` on have their places."""
        other = Twin()
        other.breakers.update({name: one.kept() for name, one in self.breakers.items() if one.changed})
        other.budgets |= {name: Budget(known.spent) for name, known in self.budgets.items()}
        for attempt, record in sorted(self.records.items(), key=lambda item: item[1]["at"]):
            other._load(attempt, record, reach, is_recent=record["at"] >= since)
        return other

    def _load(self, attempt: str, record: dict[str, Any], reach: int, *, is_recent: bool) -> None:
        one, at = {**record["one"], "is_counted_on_arrival": True}, record["at"]
        generations, is_probe = [-1, -1], False
        for place, name in enumerate((one["provider"], one["candidate"])):
            breaker = self.breakers[name]
            if breaker.changed <= at:
                is_probe |= breaker.let_pass(attempt, at, reach)
                generations[place] = breaker.generation
            if is_recent:
                window = self.windows[name]
                window.last = window.bucket(at)
                window.add(window.last, 1, one["tokens"])
        for name in record["budgets"]:
            self.budgets.setdefault(name, Budget()).held += one["amount"]
        self.slots[one["provider"]][attempt] = at + reach
        scopes = [(name, at // GRAIN, 0, 0) for name in (one["provider"], one["candidate"])]
        self.records[attempt] = {
            "at": at, "one": one, "is_probe": is_probe, "budgets": record["budgets"], "scopes": scopes,
            "span": record["span"], "generations": generations,
        }  # fmt: skip

    # judge

    def judge(self, ask: dict[str, Any], now: int) -> Answer:
        changes: Answer = []
        record = self.records.get(ask["attempt"]) if self.generation else None
        for place, name in enumerate((ask["provider"], ask["candidate"])):
            breaker = self.breakers[name]
            verdict = "none" if place and ask["verdict"] == "open" else ask["verdict"]
            if not ask["attempt"] or (record and record["generations"][place] == breaker.generation):
                changes += [name, what] if (what := breaker.judge(ask, verdict, now)) else []
            cool_ms = ask["rest_ms"] if verdict == "cool" else ask["cool_ms"]
            if place and cool_ms and now + cool_ms > breaker.cool:
                breaker.cool, breaker.changed = now + cool_ms, max(now, breaker.changed + 1)
                changes += [name, "cooled"]
            if place and (ask["learned_requests"] or ask["learned_tokens"]):
                breaker.learned = (ask["learned_requests"], ask["learned_tokens"], now + ask["learned_ms"])
                if self.generation is not None:
                    self.windows[name].learn(ask, now)
        return changes


def _lines(ask: dict[str, Any], one: dict[str, Any], now: int) -> list[tuple[str, int, int, int]]:
    lines = []
    for name, limit, window, _, *spent in (*ask["budgets"], *one["budgets"]):
        start = now // window * window if window else 0
        known = spent[0] if spent else 0
        lines.append((f"{name}@{start // 1000}" if window else name, limit, start + window if window else 0, known))
    return lines
