"""Runs the verbs in routing/lua: one round trip each, or many in one pipeline. The scripts are the contract.

A verb is its own file after the parts that it shares with others. It takes JSON values and answers a flat list.
Its text names the start of Redis that it is loaded into: no script outlives a restart.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

import redis
from redis.exceptions import NoScriptError

from goblin.kv import outages

_SERVER = "@SERVER@"
PREFIX = "{goblin}"  # a hash tag: in a cluster all keys live on one node, as one decision needs them
PARTS: Mapping[str, tuple[str, ...]] = {
    "admit": ("generation", "money", "window", "breaker"),
    "settle": ("generation", "money", "window", "hold"),
    "release": ("generation", "money", "window", "breaker", "hold"),
    "vacate": ("generation", "breaker", "hold"),
    "arrive": ("generation", "money", "window", "hold"),
    "extend": ("generation", "money"),
    "correct": ("generation", "money", "hold"),
    "observe": (),
    "judge": ("generation", "breaker", "window"),
    "load": ("generation", "money", "window", "breaker"),
    "use": (),
    "recall": ("cache",),
    "keep": ("cache",),
    "land": ("cache",),
}


Verb: TypeAlias = tuple[str, *tuple[Mapping[str, Any], ...]]  # a verb and its values


@cache
def source(path: str) -> str:
    return files("routing").joinpath(f"lua/{path}.lua").read_text()


class Scripts:
    """The verbs on one Redis, safe for many threads. `clock` is the Lua text that defines `now_ms()`: the server's own
    clock if not given."""

    def __init__(self, client: redis.Redis, *, prefix: str = PREFIX, clock: str | None = None) -> None:
        self.client = client
        self.prefix = prefix
        clock = source("part/clock") if clock is None else clock
        self._texts = {
            verb: "\n".join([clock, *(source(f"part/{part}") for part in parts), source(verb)])
            for verb, parts in PARTS.items()
        }
        self._digests: Mapping[str, str] = dict.fromkeys(PARTS, "0" * 40)  # known once they are loaded

    def root(self, generation: str) -> str:
        """What the keys of a generation's counters begin with."""
        return f"{self.prefix}:counters:{generation}:"

    def run(self, verb: str, *values: Mapping[str, Any]) -> list[Any]:
        """One verb in one round trip. Raises Unavailable when Redis cannot be reached."""
        (answer,) = self.run_all([(verb, *values)])
        return answer

    def run_all(self, verbs: Sequence[Verb]) -> list[list[Any]]:
        """Several verbs in order and in one round trip; each is atomic, all together are not."""
        with outages():
            try:
                return self._send(verbs)
            except NoScriptError:  # Redis was restarted, or its scripts were flushed: nothing has run
                self._load()
                return self._send(verbs)

    def _send(self, verbs: Sequence[Verb]) -> list[list[Any]]:
        if len(verbs) == 1:
            verb, *values = verbs[0]
            return [self.client.evalsha(self._digests[verb], 1, self.prefix, *map(written, values))]
        pipe = self.client.pipeline(transaction=False)
        for verb, *values in verbs:
            pipe.evalsha(self._digests[verb], 1, self.prefix, *map(written, values))
        return list(pipe.execute())

    def _load(self) -> None:
        """Load every verb, named after this start of the server. All goes through one connection, which no restart
        survives: so the name is that of the server which has the texts.
        """
        with self.client.pipeline() as pipe:
            pipe.watch(f"{self.prefix}:loader")  # type: ignore[no-untyped-call] # a key that nobody writes
            server = server_of(pipe)
            texts = {verb: text.replace(_SERVER, server) for verb, text in self._texts.items()}
            pipe.multi()
            for text in texts.values():
                pipe.execute_command("SCRIPT LOAD", text)  # type: ignore[no-untyped-call]
            pipe.execute()
        self._digests = {verb: hashlib.sha1(text.encode()).hexdigest() for verb, text in texts.items()}


def server_of(client: redis.Redis) -> str:
    """A name that Redis gives itself at every start."""
    return str(client.info("server")["run_id"])


def written(value: Mapping[str, Any]) -> str:
    """A verb's value as it is sent."""
    return json.dumps(value, separators=(",", ":"))
