"""The handle of one call in flight: its clock, its limits, and the way for another thread to cut it."""

import contextlib
import socket
import threading
import time

from goblin.errors import GoblinError
from providers.errors import DECLINED, Phase, TimedOut, Unreachable
from providers.limit import Limits
from providers.provider import Deadlines

DRAIN_S = 1.0  # that a server may take to close an answer which is whole already
_WHAT = {
    "connect": "did not accept a connection",
    "first_token": "sent nothing",
    "stall": "fell silent",
    "total": "did not end its answer",
}


class Control:
    """Made by whoever starts a call, read by the thread that runs it. Moments are those of time.monotonic. It may serve
    several calls, one after the other: each has limits of its own, and once it is cut there is no next one.

    `ttft_s` is the measured time to the first token (seconds from the start of the call), None before it; `silence_s`
    the longest silence between two pieces of the answer so far; `connect_s` the longest time to connect, None while no
    connection had to be made.
    """

    __slots__ = (
        "_asked_at",
        "_deadlines",
        "_end",
        "_entered_at",
        "_error",
        "_has_delivered",
        "_is_answered",
        "_limit",
        "_lock",
        "_name",
        "_socket",
        "_started",
        "_total_at",
        "connect_s",
        "limits",
        "limits_at",
        "phase",
        "silence_s",
        "ttft_s",
    )

    def __init__(self) -> None:
        self._lock = threading.Condition(threading.Lock())
        self._error: GoblinError | None = None
        self._socket: socket.socket | None = None
        self._deadlines = Deadlines(0, 0, 0, 0)
        self._name = ""
        self._started = self._total_at = 0.0
        self._asked_at: float | None = None
        self._is_answered = self._has_delivered = False
        self._limit: float | None = None
        self._end: tuple[float, GoblinError] | None = None
        self._entered_at = 0.0
        self.limits: Limits | None = None  # the newest that was said of the vendor's rates
        self.limits_at = 0.0
        self.phase: Phase = "connect"
        self.ttft_s: float | None = None
        self.silence_s = 0.0
        self.connect_s: float | None = None

    def cut(self, error: GoblinError) -> None:
        """Ends the call from another thread: the thread that reads raises `error`. Of several errors the first stays.

        The socket is shut down, which wakes a thread that is blocked reading it; closing it would not.
        Name lookup and the TLS handshake cannot be interrupted: there the cut takes effect when they end.
        """
        with self._lock:
            if self._error is not None:
                return
            self._error = error
            self._lock.notify_all()
            if self._socket is not None:
                _shut_down(self._socket)

    def deadline(self) -> float | None:
        """When the call's next limit passes; None before it started and after it ended."""
        return self._limit

    def end_at(self, moment: float, error: GoblinError) -> None:
        """The caller's own deadline (time.monotonic), said before the start; the call is cut with `error` by then."""
        self._end = moment, error

    def expire(self, now: float) -> None:
        """Cuts the call if its limit, or its caller's, has passed."""
        if self._end is not None and now > self._end[0]:
            self.cut(self._end[1])
        if self._limit is not None and now > self._limit:
            self.cut(self._late(now))

    @property
    def is_asked(self) -> bool:
        """Whether a request was sent."""
        return self._asked_at is not None

    @property
    def error(self) -> GoblinError | None:
        """What the call was cut with."""
        return self._error

    def may_be_billed(self, end: GoblinError | None) -> bool:
        """Whether a vendor may send a bill for a question that ended so: it was cut off, by us or by the network; or it
        had begun to answer, and did not decline in words; or it had answered the first of several requests.
        """
        if self._error is not None or isinstance(end, Unreachable | TimedOut):
            return self.is_asked
        return self._has_delivered or (self._is_answered and not isinstance(end, DECLINED))

    def check(self) -> None:
        """Raises what the call was cut with, or TimedOut when a limit has passed."""
        self.expire(time.monotonic())
        if self._error is not None:
            raise self._error

    # The rest belongs to the thread that runs the call.

    def start(self, deadlines: Deadlines, name: str) -> None:
        """`name` is the provider's, for messages."""
        self._deadlines, self._name = deadlines, name
        self._started = time.monotonic()
        self._total_at = self._started + deadlines.total
        self._asked_at = self.ttft_s = None
        self._is_answered = self._has_delivered = False
        self.enter("first_token")
        self.check()

    def enter(self, phase: Phase) -> None:
        """A new phase begins, with its own limit."""
        seconds = {"connect": self._deadlines.connect, "first_token": self._deadlines.first_token}.get(
            phase, self._deadlines.stall
        )
        self.phase = phase
        self._entered_at = time.monotonic()
        self._limit = min(self._entered_at + seconds, self._total_at)

    def hear(self, limits: Limits | None, *, is_error: bool) -> None:
        """An answer has begun."""
        self._is_answered = not is_error
        if limits is not None:
            self.limits, self.limits_at = limits, time.monotonic()

    def first_token(self) -> None:
        if self.ttft_s is None:
            self.ttft_s = time.monotonic() - self._started

    def asked(self) -> None:
        """A request was sent. Of several, the first counts for the limit of the first token."""
        self._has_delivered |= self._is_answered  # nobody is asked for more before an answer has ended well
        self._is_answered = False
        if self.ttft_s is not None:
            self.enter("stall")
            return
        self.enter("first_token")
        if self._asked_at is None:
            self._asked_at = time.monotonic()
        self._limit = min(self._asked_at + self._deadlines.first_token, self._total_at)

    def rest(self, seconds: float) -> None:
        """Waits between two exchanges. Raises what the call is cut with, as soon as it is."""
        with self._lock:
            self._lock.wait_for(lambda: self._error is not None, seconds)
        self.check()

    def pause(self) -> None:
        """The answer's reader is busy with what it got: only the total limit counts."""
        self._limit = self._total_at
        if self.phase == "stall":
            self.silence_s = max(self.silence_s, time.monotonic() - self._entered_at)

    def drain(self) -> None:
        """The answer is whole; its connection may take a moment to end."""
        self._limit = time.monotonic() + min(DRAIN_S, self._deadlines.stall)

    def connected(self) -> None:
        """A connection is there, or its encryption, which counts as a part of it."""
        self.connect_s = max(self.connect_s or 0.0, time.monotonic() - self._entered_at)

    def attach(self, connection: socket.socket | None) -> None:
        """What to shut down from now on. Raises what the call was cut with in the meantime."""
        with self._lock:
            self._socket = connection
            if self._error is None:
                return
            if connection is not None:
                _shut_down(connection)
            raise self._error

    def finish(self) -> None:
        """The connection may serve another call now."""
        with self._lock:
            self._socket = None
        self._limit = None

    def late(self) -> TimedOut:
        """The error of a limit that the socket itself has noticed."""
        return self._late(time.monotonic())

    def _late(self, now: float) -> TimedOut:
        phase: Phase = "total" if now >= self._total_at else self.phase
        seconds = {
            "connect": self._deadlines.connect,
            "first_token": self._deadlines.first_token,
            "stall": self._deadlines.stall,
            "total": self._deadlines.total,
        }[phase]
        return TimedOut(f"{self._name} {_WHAT[phase]} within {seconds:g} s", phase)


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # SSLSocket.shutdown would first forget its session


class Watchdog:
    """One thread that cuts calls whose limits pass while their own threads wait. It starts with the first call."""

    def __init__(self, interval_s: float = 0.25) -> None:
        self._interval_s = interval_s
        self._live: set[Control] = set()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None

    def watch(self, control: Control) -> None:
        with self._wake:
            self._live.add(control)
            if self._thread is None or not self._thread.is_alive():  # the second after a fork
                self._thread = threading.Thread(target=self._run, name="call-watchdog", daemon=True)
                self._thread.start()
            elif len(self._live) == 1:
                self._wake.notify()

    def forget(self, control: Control) -> None:
        with self._wake:
            self._live.discard(control)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait(self._interval_s if self._live else None)
                live = tuple(self._live)
            now = time.monotonic()
            for control in live:
                control.expire(now)
