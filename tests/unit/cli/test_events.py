"""Server-sent events: read as the standard says, and taken up again where they broke."""

from collections.abc import Iterator

import pytest

from cli.client import Answered, Api
from cli.events import events, read

FIRST = 'retry: 1000\n\nid: 1-0\nevent: delta\ndata: {"step": "step1"}\n\n: keep-alive\n\n'
CUT = 'id: 1-1\nevent: delta\ndata: {"step": "half'
LAST = 'id: 1-2\nevent: run.finished\ndata: {"outcome":\ndata: "succeeded"}\n\n'


@pytest.fixture
def client(api: object) -> Iterator[Api]:
    with Api(api.url, key="secret") as client:  # type: ignore[attr-defined]
        yield client


def test_comments_and_an_event_that_was_cut_are_not_told() -> None:
    found = list(read((FIRST + CUT).split("\n")))
    assert [(event.id, event.type, event.data) for event in found] == [("1-0", "delta", {"step": "step1"})]


def test_a_stream_that_breaks_is_taken_up_behind_the_last_event(api: object, client: Api) -> None:
    api.answer("GET", "/v1/runs/r/events", (200, FIRST + CUT), (503, "{}"), (200, LAST))  # type: ignore[attr-defined]
    found = list(events(client, "r"))
    assert [event.id for event in found] == ["1-0", "1-2"]
    assert found[-1].data == {"outcome": "succeeded"}
    asked = api.asked  # type: ignore[attr-defined]
    assert [one.headers.get("last-event-id") for one in asked] == [None, "1-0", "1-0"]
    assert asked[0].headers["authorization"] == "Bearer secret"


def test_a_run_that_does_not_exist_is_not_waited_for(api: object, client: Api) -> None:
    with pytest.raises(Answered, match="nothing here"):
        list(events(client, "unknown"))
