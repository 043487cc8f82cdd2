"""A stream of events as one value."""

from collections.abc import Iterable

from providers.message import Event, Finish, Report, Text, Thought, Usage


def collect(events: Iterable[Event]) -> tuple[str, str, Finish | None, Usage | None]:
    """Text, thoughts, how it ended, and the tokens as last reported (None = the vendor did not say)."""
    texts: list[str] = []
    thoughts: list[str] = []
    finish: Finish | None = None
    usage: Usage | None = None
    for event in events:
        match event:
            case Text(text):
                texts.append(text)
            case Thought(text):
                thoughts.append(text)
            case Finish():
                finish = event
            case Report():
                usage = event.usage
    return "".join(texts), "".join(thoughts), finish, usage
