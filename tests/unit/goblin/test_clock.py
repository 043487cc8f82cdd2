"""Time and identifiers."""

import time
from datetime import timedelta
from uuid import UUID

from goblin.clock import new_id, now
from tests.fakes.racing import at_once


def test_now_is_in_utc() -> None:
    assert now().utcoffset() == timedelta(0)


def test_an_id_is_a_uuid_of_version_seven() -> None:
    made = new_id()
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert abs((made.int >> 80) / 1_000 - time.time()) < 60


def test_ids_sort_by_the_millisecond_they_were_made_in() -> None:
    made: list[UUID] = []
    while not made or made[-1].int >> 80 < (made[0].int >> 80) + 3:
        made.append(new_id())
    assert [one.int >> 80 for one in made] == sorted(one.int >> 80 for one in made)
    by_time = {one.int >> 80: one for one in made}
    assert sorted(by_time.values()) == list(by_time.values())


def test_ids_made_at_once_are_different() -> None:
    made = at_once(*(lambda: [new_id() for _ in range(500)] for _ in range(8)))
    assert len({one for some in made if isinstance(some, list) for one in some}) == 4_000
