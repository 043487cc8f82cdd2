"""Bytes of a vendor through its dialect's decoder."""

from providers.message import Event
from providers.wire.spoken import SPOKEN
from tests.fakes.vendor import provider


def decode(dialect: str, *pieces: bytes, whole: bool = True) -> list[Event]:
    decoder = SPOKEN[dialect].decoder(provider(dialect=dialect))
    events: list[Event] = []
    for piece in pieces:
        decoder.feed(piece, events)
    if whole:
        decoder.end(events)
    return events
