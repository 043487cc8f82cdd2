"""Calls the steps that wait: after a release at once, and by the clock when a room's moment has come.

The thread looks ten times a second on behalf of all that wait, in one command; no step looks for itself.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from goblin.errors import Unavailable
from routing.waiting import Called, WaitingRooms

TICK = 0.1  # seconds
ROOM = "goblin_room"  # header of a message: the room that its step was called out of
_log = structlog.get_logger()


class Waker:
    """One per worker process. `send` publishes a message; one that is lost on the way is found missing by recovery."""

    def __init__(self, rooms: WaitingRooms, send: Callable[[Mapping[str, Any]], None]) -> None:
        self.rooms = rooms
        self._send = send
        self._occupied: frozenset[str] | None = frozenset()
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._tick_always, name="waker", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def freed(self, rooms: Iterable[str], count: int = 1) -> None:
        """There may be room again: call the next of each. Costs nothing while nobody waits there, as far as that is
        known of so many rooms."""
        known = self._occupied
        occupied = [room for room in dict.fromkeys(rooms) if known is None or room in known]
        if occupied:
            self._call(lambda: self.rooms.call(occupied, count))

    def call(self, rooms: Sequence[str], count: int = 1) -> None:
        """Call the next of each, whoever has come until now."""
        self._call(lambda: self.rooms.call(rooms, count))

    def _tick_always(self) -> None:
        while not self._stopped.wait(TICK):
            self._call(self._tick)

    def _tick(self) -> list[Called]:
        self._occupied = self.rooms.occupied()
        return [] if self._occupied == frozenset() else self.rooms.call_due()

    def _call(self, take: Callable[[], list[Called]]) -> None:
        try:
            for called in take():
                self._send_one(_as_sent(called))
        except Exception as error:  # noqa: BLE001
            # whatever went wrong, the clock must go on: without it nobody here would be called again
            _log.warning("waiting.not_called", reason=str(error))

    def _send_one(self, message: Mapping[str, Any]) -> None:
        try:
            self._send(message)
        except Unavailable as away:
            _log.warning("waiting.not_sent", reason=away.message)


def _as_sent(called: Called) -> Mapping[str, Any]:
    """The message, which says where its step was called: who cannot use the place lets the next one there have it."""
    if not called.room:
        return called.message
    options = called.message.get("options", {})
    return {**called.message, "options": {**options, "headers": {**(options.get("headers") or {}), ROOM: called.room}}}
