"""The leases that this process holds: one thread renews them all in one statement, and cuts the calls that must end.

A lease that does not come back belongs to somebody else now; one that comes back as cancelled was asked to stop.
While Postgres is away nothing is cut: calls go on, and settling waits.
"""

import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import redis
import structlog
from redis.client import PubSub

from goblin.errors import LeaseLost, Unavailable
from goblin.kv import outages
from ledger import attempts
from ledger.session import Ledger
from providers.call import Control
from providers.errors import Cancelled

CANCEL = "goblin:cancel"  # pub/sub: a run id, so that its calls need not wait for the next renewal
EAR_S = 1.0  # between two signs of life of Redis; the ledger is asked as often while there is none
ECHO_S = 0.5  # after a cancel, for calls that were about to begin when it came
DISPATCH_LEASE = 60.0  # seconds that an admitted call may lie in its provider's queue
_log = structlog.get_logger()


@dataclass(slots=True)
class Held:
    """A call in flight. `spent` (nano-dollars so far) is written by its step and read by the renewal."""

    control: Control
    spent: int


class Leases:
    """One per worker process; `owner` is new at every start, so that a restarted worker is another one.

    The `ledger` is its own: where others wait for a lock with all connections of the process, leases are still renewed.
    """

    def __init__(self, ledger: Ledger, client: redis.Redis, duration: float) -> None:
        self.owner = uuid.uuid4()
        self.duration = duration  # seconds
        self._ledger = ledger
        self._client = client
        self._held: dict[uuid.UUID, Held] = {}
        self._lock = threading.Lock()
        self._hurry = threading.Event()
        self._alone: set[uuid.UUID] = set()
        self.is_draining = False  # nothing more is claimed
        self.is_stopped = False

    def start(self) -> None:
        for target in (self._renew_always, self._listen_always):
            threading.Thread(target=target, name=target.__name__, daemon=True).start()

    def drain(self, grace: float) -> None:
        """Claim nothing more, and `stop` when the calls in flight have had `grace` seconds to end."""
        self.is_draining = True
        timer = threading.Timer(grace, self.stop)
        timer.daemon = True
        timer.start()

    def stop(self) -> None:
        """Give every lease back in one statement, with what its call has spent, and end the calls."""
        self.is_draining = self.is_stopped = True
        self._hurry.set()
        with self._lock:
            held = dict(self._held)
        self._end(held)

    @property
    def count(self) -> int:
        return len(self._held)

    @contextmanager
    def alone(self, attempt: uuid.UUID) -> Iterator[bool]:
        """Whether no other message of this process has the attempt just now: whoever is alone may take it again when
        Postgres was lost before it answered."""
        with self._lock:
            is_alone = attempt not in self._alone
            self._alone.add(attempt)
        try:
            yield is_alone
        finally:
            if is_alone:
                with self._lock:
                    self._alone.remove(attempt)

    @contextmanager
    def hold(self, attempt: uuid.UUID, control: Control, spent: int) -> Iterator[Held]:
        held = Held(control, spent)
        with self._lock:
            self._held[attempt] = held
        try:
            if self.is_stopped:  # that passed by this call: it was claimed already, and is not made any more
                held.spent = 0
                self._end({attempt: held})
            yield held
        finally:
            with self._lock:
                del self._held[attempt]

    def _end(self, held: Mapping[uuid.UUID, Held]) -> None:
        for one in held.values():
            one.control.cut(LeaseLost("this worker is stopping"))
        if held:
            attempts.release(self._ledger, self.owner, {attempt: one.spent for attempt, one in held.items()})

    def _renew_always(self) -> None:
        pause_s = self.duration / 3
        while not self.is_stopped:
            pause_s = ECHO_S if self._hurry.wait(pause_s) else self.duration / 3
            self._hurry.clear()
            with self._lock:
                spent = {attempt: held.spent for attempt, held in self._held.items()}
            if spent and not self.is_stopped:
                self._renew(spent)

    def _renew(self, spent: dict[uuid.UUID, int]) -> None:
        try:
            ours, cancelled = attempts.renew(self._ledger, self.owner, self.duration, spent)
        except Exception as error:  # noqa: BLE001
            # whatever went wrong, the next turn must come: without it every lease of this process would run out
            _log.warning("leases.not_renewed", held=len(spent), reason=str(error))
            return
        for attempt in spent:
            if attempt not in ours:
                self._cut(attempt, LeaseLost("another worker owns this step now"))
            elif attempt in cancelled:
                self._cut(attempt, Cancelled("it was cancelled"))

    def _cut(self, attempt: uuid.UUID, error: LeaseLost | Cancelled) -> None:
        with self._lock:
            held = self._held.get(attempt)
        if held is not None:
            held.control.cut(error)

    def _listen_always(self) -> None:
        """The message only hurries the renewal; what it says is asked of the ledger, also while nothing is heard."""
        while not self.is_stopped:
            try:
                with outages(), self._client.pubsub(ignore_subscribe_messages=True) as channel:  # type: ignore[no-untyped-call]
                    channel.subscribe(CANCEL)
                    self._listen(channel)
            except Unavailable:
                self._hurry.set()
                threading.Event().wait(EAR_S)

    def _listen(self, channel: PubSub) -> None:
        """Redis is asked for a sign of life all the time: a network that swallows everything says nothing of it."""
        was_heard = False
        while not self.is_stopped:
            channel.ping()
            is_heard = self._hear(channel)
            if not (is_heard and was_heard):  # a cancel may have passed meanwhile
                self._hurry.set()
            was_heard = is_heard

    def _hear(self, channel: PubSub) -> bool:
        """Listen for a while; whether Redis gave its sign of life."""
        end, is_heard = time.monotonic() + EAR_S, False
        while (left := end - time.monotonic()) > 0:
            match channel.get_message(timeout=left):
                case {"type": "pong"}:
                    is_heard = True
                case {"type": "message"}:
                    self._hurry.set()
        return is_heard
