"""The door to Postgres: a lost connection costs a caller nothing, a lost server costs an error of ours."""

import re
from collections.abc import Iterator
from importlib.resources import files
from uuid import uuid4

import pytest
from psycopg import ProgrammingError
from sqlalchemy import select, text

from goblin.errors import LeaseLost, Unavailable
from ledger import attempts, marks, runs
from ledger.models import Mark, Run
from ledger.session import Ledger, statement
from ledger.states import RunStatus, StepStatus
from tests.fakes.racing import at_once, begin, until
from tests.fakes.runs import SUCCESS, accept, claim, one, request
from tests.fakes.wire import Wire

NOWHERE = "postgresql://goblin@127.0.0.1:1/goblin"


@pytest.fixture
def wire(database_url: str) -> Iterator[Wire]:
    with Wire(database_url) as wire:
        yield wire


@pytest.fixture
def far(wire: Wire) -> Iterator[Ledger]:
    """A ledger at the other end of the wire, connected once."""
    ledger = Ledger(wire.url, connections=4)
    marks.get(ledger, "nothing")
    yield ledger
    ledger.close()


def kill_backends(ledger: Ledger) -> None:
    with ledger.engine.connect() as connection:
        connection.execute(
            text(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"
            )
        )


def fill_pool(ledger: Ledger, size: int) -> None:
    connections = [ledger.engine.connect() for _ in range(size)]
    for connection in connections:
        connection.close()


def test_a_server_that_is_not_there_is_unavailable() -> None:
    ledger = Ledger(NOWHERE)
    with pytest.raises(Unavailable, match="Postgres cannot be reached") as caught:
        ledger.run("marks.get", name="x")
    assert caught.value.http_status == 503
    assert caught.value.retry_after
    with pytest.raises(Unavailable):
        ledger.read(select(Mark.value))
    with pytest.raises(Unavailable), ledger.transaction():
        raise AssertionError("there is no transaction")


def test_no_error_shows_a_password_or_a_parameter(ledger: Ledger) -> None:
    wrong = ledger.engine.url.set(username="nobody", password="hunter2").render_as_string(hide_password=False)
    with pytest.raises(Unavailable) as caught:
        Ledger(wrong).run("marks.get", name="x")
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.as_value()}"
    with pytest.raises(ProgrammingError) as failed:
        ledger.run("steps.look", run="my secret prompt", idx={})
    assert "my secret prompt" not in str(failed.value)


def test_a_statement_works_after_its_pooled_connections_were_ended(ledger: Ledger, database_url: str) -> None:
    other = Ledger(database_url, connections=8)
    fill_pool(other, 8)
    kill_backends(ledger)
    assert at_once(*(lambda: marks.get(other, "nothing") for _ in range(8))) == [None] * 8
    with other.transaction() as transaction:
        assert transaction.run("marks.get", name="nothing") == []
    kill_backends(ledger)
    with other.transaction() as transaction:
        assert transaction.run("marks.get", name="nothing") == []
    kill_backends(ledger)
    assert other.read(select(Run.id)) == []
    other.close()


def test_a_statement_works_after_a_restart(far: Ledger, wire: Wire) -> None:
    fill_pool(far, 4)
    wire.shut()
    with pytest.raises(Unavailable):
        marks.get(far, "nothing")
    wire.mend()
    assert marks.get(far, "nothing") is None


def test_a_patient_statement_outlives_an_outage(far: Ledger, wire: Wire) -> None:
    run = accept(far)
    made = claim(run)
    attempts.open_attempt(far, made)
    wire.shut()
    settling = begin(lambda: attempts.settle(far, made.attempt, SUCCESS, goblin="chat", key_id=None))
    with pytest.raises(Unavailable):
        marks.get(far, "while it is away")
    assert not settling.done()
    wire.mend()
    assert settling.result().status == StepStatus.SUCCEEDED


def test_patience_ends(far: Ledger, wire: Wire) -> None:
    wire.shut()
    with pytest.raises(Unavailable):
        far.run("marks.get", patience=0.3, name="x")


def test_a_claim_outlives_an_outage_with_what_was_admitted_for_it(far: Ledger, wire: Wire) -> None:
    run = accept(far)
    wire.shut()
    opening = begin(lambda: attempts.open_attempt(far, claim(run)))
    with pytest.raises(Unavailable):
        marks.get(far, "while it is away")
    assert not opening.done()
    wire.mend()
    assert opening.result() == 1


def test_a_claim_whose_answer_was_lost_is_found_again(far: Ledger, wire: Wire) -> None:
    run = accept(far)
    made = claim(run)
    wire.lose_answer()
    assert attempts.open_attempt(far, made) == 1
    assert attempts.open_attempt(far, claim(run)) is None
    assert one(far, "select count(*) from attempts where run_id = %s", run) == (1,)


def test_a_call_whose_taking_was_not_answered_is_taken_all_the_same(far: Ledger, wire: Wire) -> None:
    made = claim(accept(far), owner=None)
    attempts.open_attempt(far, made)
    owner = uuid4()
    wire.lose_answer()
    taken = attempts.take(far, made.attempt, owner, 60)
    assert taken is not None
    assert taken.number == 1
    assert attempts.take(far, made.attempt, uuid4(), 60) is None


def test_a_primary_that_was_demoted_is_an_outage_and_left_for_the_next_one(database: str, ledger: Ledger) -> None:
    near, far = Ledger(database, connections=1), Ledger(database, connections=2)
    made = claim(accept(near))
    attempts.open_attempt(near, made)
    name = near.engine.url.database
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql(f"alter database {name} set default_transaction_read_only = on")
    settling = begin(lambda: attempts.settle(far, made.attempt, SUCCESS, goblin="chat", key_id=None))
    with pytest.raises(Unavailable):
        far.run("marks.set", name="colour", value="red")
    with pytest.raises(Unavailable), far.transaction() as transaction:
        transaction.run("marks.set", name="colour", value="red")
    assert not settling.done()
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql(f"alter database {name} set default_transaction_read_only = off")
    assert settling.result().status == StepStatus.SUCCEEDED
    near.close()
    far.close()


def test_a_settle_whose_answer_was_lost_is_not_a_loss(far: Ledger, wire: Wire) -> None:
    run = accept(far)
    made = claim(run)
    attempts.open_attempt(far, made)
    attempts.park(far, run, 0, {"task": "waits"})
    wire.lose_answer()
    closed = attempts.settle(far, made.attempt, SUCCESS, goblin="chat", key_id=None)
    assert (closed.status, closed.open_steps, closed.woken) == (StepStatus.SUCCEEDED, 0, ({"task": "waits"},))
    assert one(far, "select count(*), sum(amount_nanousd) from entries where run_id = %s", run) == (1, 700)


def test_a_correction_whose_answer_was_lost_is_entered_once(far: Ledger, wire: Wire, ledger: Ledger) -> None:
    run = accept(far)
    made = claim(run, lease=-1)
    attempts.open_attempt(far, made)
    attempts.abandon(far, calm=0, limit=10)
    wire.lose_answer()
    with pytest.raises(LeaseLost):
        attempts.settle(far, made.attempt, SUCCESS, goblin="chat", key_id=None)
    assert one(ledger, "select count(*), sum(amount_nanousd) from entries where run_id = %s", run) == (2, 700)


def test_a_submission_whose_answer_was_lost_is_found_again_by_its_key(far: Ledger, wire: Wire) -> None:
    wire.lose_answer()
    asked = request(idempotency_key="once")
    with pytest.raises(Unavailable):
        runs.submit(far, asked)
    again = runs.submit(far, asked)
    assert not again.is_new
    assert one(far, "select count(*) as found from runs where idempotency_key = 'once'").found == 1


@pytest.mark.parametrize("name", ["steps.loook", "step.look", "steps", "", "../session.look"])
def test_a_statement_that_does_not_exist_is_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        statement(name)


def every_statement() -> list[str]:
    return [
        f"{file.name.removesuffix('.sql')}.{name}"
        for file in files("ledger").joinpath("sql").iterdir()
        for name in re.findall(r"-- name: (\w+)", file.read_text())
    ]


@pytest.mark.parametrize(
    "name", [name for name in every_statement() if name != "files.lines"]
)  # a copy is not prepared
def test_postgres_understands_every_statement(ledger: Ledger, name: str) -> None:
    parameters = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement(name))))
    numbered = re.sub(r"%\((\w+)\)s", lambda match: f"${parameters.index(match[1]) + 1}", statement(name))
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql(f"prepare understood as {numbered}")
        connection.exec_driver_sql("deallocate understood")


def test_a_transaction_that_fails_leaves_nothing(ledger: Ledger) -> None:
    def fail_halfway() -> None:
        with ledger.transaction() as transaction:
            transaction.run("marks.set", name="half", value="done")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert marks.get(ledger, "half") is None


def test_a_duty_is_done_by_one_and_can_be_done_again(ledger: Ledger) -> None:
    with marks.duty(ledger, "sweep") as is_mine, marks.duty(ledger, "sweep") as is_mine_too:
        assert (is_mine, is_mine_too) == (True, False)
        with marks.duty(ledger, "another") as is_other:
            assert is_other
    with marks.duty(ledger, "sweep") as is_mine:
        assert is_mine


def test_a_duty_ends_with_the_process_that_has_it(ledger: Ledger, database_url: str) -> None:
    other = Ledger(database_url, connections=1)
    duty = marks.duty(other, "sweep")
    assert duty.__enter__()
    kill_backends(ledger)

    def is_free() -> bool:
        with marks.duty(ledger, "sweep") as is_mine:
            return is_mine

    until(is_free, "the duty is free")
    with pytest.raises(Unavailable):
        duty.__exit__(None, None, None)
    other.close()


def test_marks_are_set_and_the_drained_one_only_grows(ledger: Ledger) -> None:
    marks.put(ledger, "colour", "red")
    marks.put(ledger, "colour", "green")
    assert marks.get(ledger, "colour") == "green"
    early, late = "2026-01-01 10:00:00+00", "2026-01-01 10:00:01+00"
    marks.drained(ledger, late)
    marks.drained(ledger, early)
    assert marks.get(ledger, "drained") == late


def test_a_sounding_is_due_while_runs_are_open_and_the_last_one_has_come_back(database: str) -> None:
    ledger = Ledger(database, connections=1)
    assert marks.sound(ledger) is None
    run = accept(ledger)
    sounded = marks.sound(ledger)
    assert marks.sound(ledger) is None
    marks.drained(ledger, str(sounded))
    assert marks.sound(ledger) is not None
    marks.drained(ledger, "2100-01-01 00:00:00+00")
    runs.request_cancel(ledger, run)
    runs.finish(ledger, run, RunStatus.CANCELLED)
    assert marks.sound(ledger) is None
    ledger.close()


def test_a_transaction_that_says_nothing_any_more_lets_go_of_what_it_has_locked(ledger: Ledger) -> None:
    def has_turn() -> bool:
        with marks.duty(ledger, "frozen") as is_mine:
            return is_mine

    def freeze() -> None:
        with ledger.transaction(idle_s=0.2) as frozen:
            frozen.run("marks.try_lock", name="frozen")
            assert not has_turn()
            until(has_turn, "the turn of a scheduler that froze")

    with pytest.raises(Unavailable):
        freeze()
    assert has_turn()
