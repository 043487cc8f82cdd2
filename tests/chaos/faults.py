"""What may befall an installation, drawn by a seed, and done to it one after the other."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from redis.exceptions import RedisError

from tests.chaos.town import PARTS, Town
from tests.processes import ProcessContainer

READY_S = 30.0  # that a killed server has to come back
LADEN_S = 120.0  # that a process has, as all that are running go on meanwhile


@dataclass(frozen=True)
class Fault:
    """`what` befalls `whom`; `seconds` is how long it lasts, if it does, `rest` how long nothing follows."""

    what: str
    whom: str
    seconds: float
    rest: float

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.1f} s" if self.what in LASTING else ""
        return f"{self.what} {self.whom}{lasts}"


@dataclass(frozen=True)
class Moment:
    """A fault that was done: from when to when (Unix seconds)."""

    fault: Fault
    begun: float
    ended: float


LASTING = {"freeze", "shut", "silence", "lose"}
WEIGHTS = {
    "kill": 5,
    "term": 2,
    "freeze": 3,
    "shut": 4,
    "silence": 3,
    "lose": 3,
    "drop": 3,
    "flush": 1,
    "restart": 2,
    "crash": 1,
}


def drawn_faults(place: Town, rng: random.Random, *, longest: float, rest: float) -> Iterator[Fault]:
    """Without end. `longest` and `rest` are seconds at most."""
    workers = [one.name for one in place.workers]
    everybody = ["api", *(one.name for one in place.schedulers), *workers]
    wires = sorted(f"{name}-{part}" for name, part in place.wires if part != PARTS[2] or name in workers)
    targets: Mapping[str, list[str]] = {
        "kill": everybody + 2 * workers,
        "term": everybody,
        "freeze": everybody,
        **dict.fromkeys(("shut", "silence", "lose"), wires),
        "drop": list(place.queues),
        "flush": ["redis"],
        "restart": ["redis", "postgres"],
        "crash": ["redis", "postgres"],
    }
    while True:
        (what,) = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))
        yield Fault(what, rng.choice(targets[what]), rng.uniform(1, longest), rng.uniform(0.5, rest))


def do(place: Town, fault: Fault) -> Moment:
    """Let it happen, and be over."""
    begun = time.time()
    _DOINGS[fault.what](place, fault)
    return Moment(fault, begun, time.time())


def last(place: Town, seconds: float) -> None:
    """Let time pass."""
    end = time.monotonic() + seconds
    place.until(lambda: time.monotonic() >= end, seconds + 5)


def _kill(place: Town, fault: Fault) -> None:
    victim = place.container(fault.whom)
    victim.kill("SIGKILL")
    victim.start()
    place.until(victim.is_ready, LADEN_S)


def _term(place: Town, fault: Fault) -> None:
    victim = place.container(fault.whom)
    victim.teardown()
    victim.start()
    place.until(victim.is_ready, LADEN_S)


def _freeze(place: Town, fault: Fault) -> None:
    pid = place.container(fault.whom).pid
    os.kill(pid, signal.SIGSTOP)
    try:
        last(place, fault.seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


def _shut(place: Town, fault: Fault) -> None:
    """Connections are closed, and refused."""
    wire = place.wires[_ends(fault.whom)]
    wire.shut()
    last(place, fault.seconds)
    wire.mend()


def _silence(place: Town, fault: Fault) -> None:
    """Nothing arrives, and all of it does afterwards."""
    wire = place.wires[_ends(fault.whom)]
    wire.silence()
    last(place, fault.seconds)
    wire.mend()


def _lose(place: Town, fault: Fault) -> None:
    """Nothing arrives, and then the connections are found closed."""
    wire = place.wires[_ends(fault.whom)]
    wire.silence()
    last(place, fault.seconds)
    wire.cut()
    wire.mend()


def _drop(place: Town, fault: Fault) -> None:
    """A queue loses what lies in it."""
    place.redis.delete(fault.whom)


def _flush(place: Town, fault: Fault) -> None:
    place.redis.flushall()


def _restart(place: Town, fault: Fault) -> None:
    server = _server(place, fault.whom)
    server.teardown()
    _start_again(place, server)


def _crash(place: Town, fault: Fault) -> None:
    server = _server(place, fault.whom)
    server.kill("SIGKILL")
    _start_again(place, server)


def _server(place: Town, name: str) -> ProcessContainer:
    return place.valkey if name == "redis" else place.postgres


def _start_again(place: Town, server: ProcessContainer) -> None:
    """A Postgres that was killed does not start before its last children have ended."""

    def has_started() -> bool:
        server.start()
        try:
            return server.ready()
        except ChildProcessError:
            return False

    place.until(has_started, READY_S)
    place.until(lambda: _answers(place), READY_S)


def _answers(place: Town) -> bool:
    try:
        return bool(place.redis.ping())
    except RedisError:
        return False


def _ends(whom: str) -> tuple[str, str]:
    name, _, part = whom.partition("-")
    return name, part


_DOINGS: Mapping[str, Callable[[Town, Fault], None]] = {
    "kill": _kill,
    "term": _term,
    "freeze": _freeze,
    "shut": _shut,
    "silence": _silence,
    "lose": _lose,
    "drop": _drop,
    "flush": _flush,
    "restart": _restart,
    "crash": _crash,
}
