"""The waiting rooms on a real Valkey: order, turns, and that nobody waits twice or gets lost."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goblin import kv
from goblin.clock import new_id
from routing.waiting import Waiter, WaitingRooms


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with kv.connect(redis_url) as made:
        yield made


@pytest.fixture
def rooms(client: redis.Redis) -> WaitingRooms:
    return WaitingRooms(client)


def waiter(nr: int = 0, **about: object) -> Waiter:
    return Waiter(UUID(int=(1_000_000 + nr) << 80 | nr), 0, 1, **about)  # type: ignore[arg-type]


def names(rooms: WaitingRooms, room: str, count: int = 99) -> list[str]:
    return [message["name"] for message in rooms.call([room], count)]


def enter(rooms: WaitingRooms, name: str, one: Waiter, *where: str) -> int:
    return rooms.enter(one, {"name": name}, dict.fromkeys(where or ("a",)))


def test_steps_are_called_by_priority_then_deadline_then_arrival(rooms: WaitingRooms) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=1)
    enter(rooms, "late", waiter(3))
    enter(rooms, "early", waiter(1))
    enter(rooms, "due later", waiter(5, deadline=soon + timedelta(hours=1)))
    enter(rooms, "due soon", waiter(6, deadline=soon))
    enter(rooms, "urgent", waiter(9, priority=-3))
    assert names(rooms, "a") == ["urgent", "due soon", "due later", "early", "late"]


def test_a_step_that_is_called_leaves_every_room(rooms: WaitingRooms) -> None:
    enter(rooms, "one", waiter(1), "a", "b")
    enter(rooms, "two", waiter(2), "b")
    assert names(rooms, "a") == ["one"]
    assert names(rooms, "b") == ["two"]
    assert names(rooms, "a") == names(rooms, "b") == []
    assert rooms.occupied() == frozenset()


def test_entering_again_keeps_the_place_and_takes_the_newer_message(rooms: WaitingRooms) -> None:
    enter(rooms, "stale", waiter(1), "a", "b")
    enter(rooms, "second", waiter(2), "a")
    assert enter(rooms, "fresh", waiter(1), "a") == 1
    assert names(rooms, "a") == ["fresh", "second"]
    assert names(rooms, "b") == []


def test_who_was_refused_after_the_call_stands_first_again(rooms: WaitingRooms) -> None:
    for nr in range(3):
        enter(rooms, str(nr), waiter(nr))
    assert names(rooms, "a", 1) == ["0"]
    enter(rooms, "0", waiter(0))
    assert names(rooms, "a") == ["0", "1", "2"]


def test_who_has_had_a_turn_in_vain_stands_behind_those_who_have_not(rooms: WaitingRooms) -> None:
    enter(rooms, "tried it out", waiter(0, since_ms=2_000_000))
    enter(rooms, "two", waiter(2))
    enter(rooms, "one", waiter(1))
    assert names(rooms, "a") == ["one", "two", "tried it out"]


def test_keys_take_turns_by_their_weights(rooms: WaitingRooms) -> None:
    for nr in range(60):
        enter(rooms, "busy", waiter(nr, key="busy"))
        enter(rooms, "heavy", waiter(100 + nr, key="heavy", weight=2.0))
    served = names(rooms, "a", 60)
    assert served.count("heavy") == 40
    assert served.count("busy") == 20


def test_a_key_that_was_away_gets_no_credit_for_it(rooms: WaitingRooms) -> None:
    for nr in range(40):
        enter(rooms, "busy", waiter(nr, key="busy"))
    names(rooms, "a", 20)
    for nr in range(20):
        enter(rooms, "new", waiter(100 + nr, key="new"))
    assert names(rooms, "a", 20).count("new") == 10


def test_the_number_of_others_in_the_emptiest_room_is_told(rooms: WaitingRooms) -> None:
    assert [enter(rooms, str(nr), waiter(nr, key=str(nr % 2))) for nr in range(4)] == [0, 1, 2, 3]
    assert enter(rooms, "x", waiter(9), "a", "b") == 0


def test_those_of_whom_no_room_knows_are_missing(rooms: WaitingRooms) -> None:
    known, lost = waiter(1), waiter(2)
    enter(rooms, "known", known)
    assert rooms.missing([known, lost]) == [lost]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.sets(st.sampled_from("abc"), min_size=1), st.sampled_from(["", "x", "y"])),
        max_size=30,
    ),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), max_size=20),
)
def test_everybody_is_called_exactly_once(
    client: redis.Redis, entries: list[tuple[int, set[str], str]], calls: list[tuple[str, int]]
) -> None:
    client.flushdb()
    rooms = WaitingRooms(client)
    for nr, where, key in entries:
        enter(rooms, str(nr), waiter(nr, key=f"{key}{nr % 2}"), *sorted(where))
    called = [name for room, count in calls for name in names(rooms, room, count)]
    called += [name for room in sorted(rooms.occupied()) for name in names(rooms, room)]
    assert sorted(called) == sorted({str(nr) for nr, _, _ in entries})
    assert [name for room in "abc" for name in names(rooms, room)] == []
    assert rooms.occupied() == frozenset()


def test_the_clock_calls_one_of_each_room_whose_moment_has_come(rooms: WaitingRooms) -> None:
    for nr in range(2):
        rooms.enter(waiter(nr), {"name": f"now {nr}"}, {"soon": 0})
    rooms.enter(waiter(5), {"name": "later"}, {"far": 3_600_000})
    assert [message["name"] for message in rooms.call_due()] == ["now 0"]
    assert rooms.call_due() == []
    rooms.enter(waiter(6), {"name": "sooner"}, {"far": 0})
    assert [message["name"] for message in rooms.call_due()] == ["later"]


def test_ids_of_runs_sort_by_arrival() -> None:
    older, newer = Waiter(new_id(), 0, 1), Waiter(UUID(int=new_id().int + (5 << 80)), 0, 1)
    assert older.place < newer.place


def test_a_step_whose_time_is_over_is_called_by_the_clock_and_nobody_else_is(rooms: WaitingRooms) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    hour = 3_600_000
    rooms.enter(waiter(1), {"name": "patient"}, {"a": hour})
    rooms.enter(waiter(2, priority=9, deadline=past), {"name": "late"}, {"a": hour, "b": hour})
    rooms.enter(waiter(3, deadline=past + timedelta(hours=1)), {"name": "in time"}, {"a": hour})
    assert [message["name"] for message in rooms.call_due()] == ["late"]
    assert rooms.call_due() == []
    assert names(rooms, "b") == []
    assert names(rooms, "a") == ["in time", "patient"]


def test_a_step_that_was_called_in_time_is_not_called_again_when_its_time_is_over(rooms: WaitingRooms) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    rooms.enter(waiter(1, deadline=past), {"name": "one"}, {"a": 3_600_000})
    assert names(rooms, "a") == ["one"]
    assert rooms.call_due() == []
