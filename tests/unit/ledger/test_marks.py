"""How long Postgres has been in reach, by its own clock."""

import pytest

from ledger import marks
from ledger.session import Ledger


@pytest.mark.parametrize(
    ("age", "is_calm"),
    [
        ("value = (now() - interval '6 s')::text", True),
        ("value = (now() - interval '4 s')::text", False),  # again, and not for so long
        ("value = (now() - interval '60 s')::text, set_at = now() - interval '3 s'", False),  # not any more
    ],
)
def test_calm_is_when_postgres_was_in_reach_until_now_for_so_long(ledger: Ledger, age: str, is_calm: bool) -> None:
    marks.watch(ledger, 5)
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql(f"update marks set {age} where name = 'watched'")
    assert marks.is_calm(ledger, 5) is is_calm
