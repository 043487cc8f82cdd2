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
from routing.waiting import AGAIN_MS, LONGEST_MS, NAMED, WAITERS, Called, Waiter, WaitingRooms

CLOCK = f'local function now_ms() return tonumber(redis.call("GET", "{WAITERS}:clock")) end'


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with kv.connect(redis_url) as made:
        yield made


@pytest.fixture
def rooms(client: redis.Redis) -> WaitingRooms:
    return WaitingRooms(client)


class Moved:
    """Rooms whose time stands still until it is moved."""

    def __init__(self, client: redis.Redis) -> None:
        self.rooms = WaitingRooms(client, clock=CLOCK)
        self._client = client
        self._now = 0
        self.move(1_000_000)

    def move(self, ms: int) -> None:
        self._now += ms
        self._client.set(f"{WAITERS}:clock", self._now)

    def looks(self, ms: int, enters: bool) -> list[int]:
        """When the clock calls somebody, counted from now; who is called comes back at once if it `enters`."""
        begin, found = self._now, []
        while self._now - begin < ms:
            self.move(100)
            for _ in self.rooms.call_due():
                found.append(self._now - begin)
                if enters:
                    enter(self.rooms, "one", waiter(1))
        return found


@pytest.fixture
def moved(client: redis.Redis) -> Moved:
    return Moved(client)


def waiter(nr: int = 0, **about: object) -> Waiter:
    return Waiter(UUID(int=(1_000_000 + nr) << 80 | nr), 0, 1, **about)  # type: ignore[arg-type]


def names(rooms: WaitingRooms, room: str, count: int = 99) -> list[str]:
    return named(rooms.call([room], count))


def named(called: list[Called]) -> list[str]:
    return [one.message["name"] for one in called]


def enter(rooms: WaitingRooms, name: str, one: Waiter, *where: str) -> dict[str, int]:
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
    assert enter(rooms, "fresh", waiter(1), "a") == {"a": 0}
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


def test_a_turn_in_vain_is_had_again(rooms: WaitingRooms) -> None:
    """Three are called for each place, as when one of them is freed, and two are not there yet: else one key might have
    the turns that count, and another one those that do not."""
    known = {f"light {nr}": waiter(nr, key="light") for nr in range(60)}
    known |= {f"heavy {nr}": waiter(100 + nr, key="heavy", weight=2.0) for nr in range(60)}
    for name, one in known.items():
        enter(rooms, name, one)
    served = []
    for nr in range(90):
        (name,) = names(rooms, "a", 1)
        if nr % 3 == 2:
            served.append(name.partition(" ")[0])
        else:
            rooms.enter(known[name], {"name": name}, {"a": None}, vain="a")
    assert (served.count("heavy"), served.count("light")) == (20, 10)


def test_a_key_that_was_away_gets_no_credit_for_it(rooms: WaitingRooms) -> None:
    for nr in range(40):
        enter(rooms, "busy", waiter(nr, key="busy"))
    names(rooms, "a", 20)
    for nr in range(20):
        enter(rooms, "new", waiter(100 + nr, key="new"))
    assert names(rooms, "a", 20).count("new") == 10


def test_no_number_that_a_key_may_choose_takes_the_turns_of_others(rooms: WaitingRooms) -> None:
    for nr in range(40):
        enter(rooms, "modest", waiter(nr, key="modest"))
        enter(rooms, "greedy", waiter(100 + nr, key="greedy", priority=-100))
    served = names(rooms, "a", 40)
    assert served.count("modest") == served.count("greedy") == 20


def test_what_may_wait_is_behind_the_steps_of_all_keys_and_takes_turns_there(rooms: WaitingRooms) -> None:
    for nr in range(3):
        enter(rooms, "batch", waiter(nr, key="a", priority=1))
        enter(rooms, "nightly", waiter(10 + nr, key="b", priority=100))
    enter(rooms, "chat", waiter(50, key="b"))
    served = names(rooms, "a", 5)
    assert served[0] == "chat"
    assert served[1:].count("batch") == served[1:].count("nightly") == 2


def test_those_are_told_who_are_called_before_it(rooms: WaitingRooms) -> None:
    """One step of each other key comes before the key's next, of a busy key no more of its many."""
    assert [enter(rooms, "busy", waiter(nr, key="busy"))["a"] for nr in range(4)] == [0, 1, 2, 3]
    assert enter(rooms, "modest", waiter(10, key="modest"), "a", "b") == {"a": 1, "b": 0}
    assert enter(rooms, "modest", waiter(11, key="modest")) == {"a": 3}
    assert enter(rooms, "urgent", waiter(12, key="busy", priority=-1)) == {"a": 1}
    assert enter(rooms, "batch", waiter(13, key="modest", priority=1)) == {"a": 7}
    assert enter(rooms, "busy", waiter(3, key="busy")) == {"a": 6}


def test_who_left_is_before_nobody(rooms: WaitingRooms) -> None:
    for nr in range(4):
        enter(rooms, str(nr), waiter(nr, key=str(nr % 2)), "a", "b")
    names(rooms, "a", 3)
    assert enter(rooms, "new", waiter(9, key="new"), "a", "b") == {"a": 1, "b": 1}


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
    called += [name for room in sorted(rooms.occupied() or ()) for name in names(rooms, room)]
    assert sorted(called) == sorted({str(nr) for nr, _, _ in entries})
    assert [name for room in "abc" for name in names(rooms, room)] == []
    assert rooms.occupied() == frozenset()


def test_the_clock_calls_one_of_each_room_whose_moment_has_come(rooms: WaitingRooms) -> None:
    for nr in range(2):
        rooms.enter(waiter(nr), {"name": f"now {nr}"}, {"soon": 0})
    rooms.enter(waiter(5), {"name": "later"}, {"far": 3_600_000})
    assert rooms.call_due() == [Called({"name": "now 0"}, "soon")]
    assert rooms.call_due() == []
    rooms.enter(waiter(6), {"name": "sooner"}, {"far": 0})
    assert rooms.call_due() == [Called({"name": "later"}, "far")]


def test_ids_of_runs_sort_by_arrival() -> None:
    older, newer = Waiter(new_id(), 0, 1), Waiter(UUID(int=new_id().int + (5 << 80)), 0, 1)
    assert older.place < newer.place


def test_a_step_whose_time_is_over_is_called_by_the_clock_and_nobody_else_is(rooms: WaitingRooms) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    hour = 3_600_000
    rooms.enter(waiter(1), {"name": "patient"}, {"a": hour})
    rooms.enter(waiter(2, priority=9, deadline=past), {"name": "late"}, {"a": hour, "b": hour})
    rooms.enter(waiter(3, deadline=past + timedelta(hours=1)), {"name": "in time"}, {"a": hour})
    assert rooms.call_due() == [Called({"name": "late"}, "")]
    assert rooms.call_due() == []
    assert names(rooms, "b") == []
    assert names(rooms, "a") == ["in time", "patient"]


def test_a_step_that_was_called_in_time_is_not_called_again_when_its_time_is_over(rooms: WaitingRooms) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    rooms.enter(waiter(1, deadline=past), {"name": "one"}, {"a": 3_600_000})
    assert names(rooms, "a") == ["one"]
    assert rooms.call_due() == []


def test_a_room_of_which_nothing_is_known_is_looked_into_ever_more_seldom(moved: Moved) -> None:
    enter(moved.rooms, "one", waiter(1))
    seconds = [ms // 1_000 for ms in moved.looks(4 * LONGEST_MS, enters=True)]
    assert seconds == [1, 2, 4, 8, 16, 32, 62, 92]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_release_makes_the_clock_look_soon_again(moved: Moved, is_there: bool) -> None:
    """Also one that found nobody, as who waited was just being refused."""
    enter(moved.rooms, "one", waiter(1))
    moved.looks(40_000, enters=True)
    if not is_there:
        moved.looks(30_000, enters=False)
    moved.rooms.call(["a"])
    enter(moved.rooms, "one", waiter(1))
    assert moved.looks(10_000, enters=False) == [AGAIN_MS]


def test_a_known_moment_is_kept_however_seldom_the_clock_has_looked(moved: Moved) -> None:
    enter(moved.rooms, "one", waiter(1))
    moved.looks(40_000, enters=True)
    moved.rooms.enter(waiter(2), {"name": "other"}, {"a": 300})
    assert moved.looks(1_000, enters=False) == [300]


def test_places_of_which_nobody_knows_whose_they_are_are_looked_for_at_once(moved: Moved) -> None:
    enter(moved.rooms, "one", waiter(1))
    moved.rooms.enter(waiter(2), {"name": "other"}, {"far": 3_600_000})
    moved.looks(40_000, enters=True)
    moved.rooms.hurry()
    assert moved.looks(2_500, enters=True) == [100, 1_100]


def test_rooms_are_named_while_they_are_few(rooms: WaitingRooms) -> None:
    for nr in range(NAMED):
        enter(rooms, "one", waiter(nr), f"room {nr}")
    assert rooms.occupied() == {f"room {nr}" for nr in range(NAMED)}
    enter(rooms, "one", waiter(NAMED), "one more")
    assert rooms.occupied() is None


def test_a_place_whose_step_redis_has_forgotten_keeps_nobody(rooms: WaitingRooms, client: redis.Redis) -> None:
    enter(rooms, "forgotten", waiter(1))
    enter(rooms, "known", waiter(2))
    client.hdel(WAITERS, waiter(1).id)
    assert names(rooms, "a") == ["known"]
