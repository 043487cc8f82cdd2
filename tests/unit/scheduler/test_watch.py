"""Whether Postgres is in reach is known whatever the duties do."""

from datetime import datetime

from ledger.session import Ledger
from scheduler.watch import Watch
from tests.fakes.racing import until
from tests.fakes.recovery import Place
from tests.fakes.runs import one


def seen_at(ledger: Ledger) -> datetime:
    moment: datetime = one(ledger, "select set_at from marks where name = 'watched'").set_at
    return moment


def test_postgres_is_watched_while_no_duty_is_done_also_after_it_was_out_of_reach(place: Place, database: str) -> None:
    ledger = Ledger(database, connections=1)
    watch = Watch(ledger, 12, every=0.01)
    before = seen_at(place.ledger)
    watch.start()
    until(lambda: seen_at(place.ledger) > before, "a look")
    with place.ledger.engine.connect() as connection:
        connection.exec_driver_sql(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        before = connection.exec_driver_sql("select clock_timestamp()").scalar_one()
    until(lambda: seen_at(place.ledger) > before, "a look afterwards")
    watch.stop()
