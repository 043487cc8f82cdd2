"""Health checks: who is asked for its list, how often, and what the breakers make of the answer."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
import redis
from pydantic import SecretStr

from goblin import kv
from goblin.clock import new_id
from goblin.errors import GoblinError
from ledger import marks
from ledger.session import Ledger
from providers.errors import BadCredentials, QuotaSpent, Unreachable
from providers.provider import Model, Provider
from routing.admission import Admission, Admitted, Used
from routing.ask import Ask, Place, Rate
from routing.breaker import Knobs, seen
from routing.refusal import Reason, Refused
from routing.script import Scripts
from scheduler.probe import Probe
from tests.fakes.asks import begin
from tests.fakes.vendor import Connection, Vendor, provider

LIST = json.dumps({"object": "list", "data": [{"id": "small"}]}).encode()
KEY = provider("http://sim.test").fingerprint
HOUR, MOMENT = 3_600.0, 0.001  # intervals within which nothing, and everything, was heard long ago


def answer(status: str = "200 OK", body: bytes = LIST) -> Callable[[Connection], None]:
    def script(connection: Connection) -> None:
        connection.request()
        connection.send(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)

    return script


REFUSED = answer("401 Unauthorized", b'{"error": {"message": "wrong key"}}')
DOWN = answer("503 Service Unavailable", b"")


@dataclass
class Fleet:
    """What a scheduler's probe sees; `ask` of it what a step would be told."""

    ledger: Ledger
    client: redis.Redis
    providers: list[Provider] = field(default_factory=list)
    knobs: Knobs = field(default_factory=lambda: Knobs(rest_base_ms=1, rest_max_ms=1))

    @property
    def admission(self) -> Admission:
        return Admission(Scripts(self.client), self.knobs)

    def probe(self, interval: float = MOMENT) -> bool:
        return Probe(self.ledger, self.admission, lambda: self.providers, interval, patience=0.5).go()

    def ask(self, name: str = "sim") -> Admitted | Refused:
        return self.admission.admit(Ask(new_id(), (Place(name, f"{name}/small", 0, 10, Rate(), 60_000, key=KEY),)))

    def called(self, error: GoblinError | None, times: int = 1) -> None:
        for _ in range(times):
            given = self.ask()
            assert isinstance(given, Admitted)
            self.admission.conclude(given, Used(0), seen(error))

    def refuse_the_key(self) -> None:
        """For no time at all."""
        self.admission.observe("sim", None, replace(seen(BadCredentials("x")), rest_ms=0), key=KEY)


@pytest.fixture
def place(database_url: str, redis_url: str) -> Iterator[Fleet]:
    ledger, client = Ledger(database_url), kv.connect(redis_url)
    begin(client)
    yield Fleet(ledger, client)
    client.close()
    ledger.close()


def sim(url: str, **fields: object) -> Provider:
    return replace(provider(url, models=(Model("small"),)), id="sim", **fields)  # type: ignore[arg-type]


def short(given: Admitted | Refused) -> Reason | None:
    return given.reasons[0].reason if isinstance(given, Refused) else None


def test_a_wrong_key_is_found_before_a_step_is_spent_on_it(place: Fleet) -> None:
    with Vendor(REFUSED) as vendor:
        place.providers = [sim(vendor.url)]
        place.probe()
    assert short(place.ask()) is Reason.LOCKED


def test_a_key_that_works_for_calls_may_be_refused_its_list(place: Fleet) -> None:
    place.called(None)
    with Vendor(REFUSED) as vendor:
        place.providers = [sim(vendor.url)]
        place.probe()
        assert vendor.connections == 1
    assert isinstance(place.ask(), Admitted)


def test_a_key_that_was_mended_is_found_before_its_rest_is_over(place: Fleet) -> None:
    place.called(None)
    place.called(BadCredentials("no such key"))
    assert short(place.ask()) is Reason.LOCKED
    with Vendor(REFUSED) as vendor:
        place.providers = [sim(vendor.url)]
        place.probe()
    assert short(place.ask()) is Reason.LOCKED
    with Vendor(answer()) as vendor:
        place.providers = [sim(vendor.url)]
        place.probe()
    assert isinstance(place.ask(), Admitted)


def test_a_list_is_no_news_of_a_key_that_may_only_list(place: Fleet) -> None:
    place.called(BadCredentials("not for calls"))
    with Vendor(answer()) as vendor:
        place.providers = [sim(vendor.url)]
        place.probe()
        assert vendor.connections == 1
    assert short(place.ask()) is Reason.LOCKED


def test_nobody_asks_about_an_empty_account_before_its_rest_is_over_unless_with_another_key(place: Fleet) -> None:
    place.called(QuotaSpent("pay first"))
    with Vendor(answer()) as vendor:
        place.providers = [sim(vendor.url)]
        place.probe()
        assert vendor.connections == 0
        place.providers = [replace(sim(vendor.url), key=SecretStr("another account's"))]
        place.probe()
        assert vendor.connections == 1
    assert isinstance(place.ask(), Admitted)


def test_one_that_answers_again_is_closed_without_a_call_and_comes_back_slowly(place: Fleet) -> None:
    place.refuse_the_key()
    with Vendor(answer()) as vendor:
        place.providers = [sim(vendor.url)]
        place.probe()
    first = place.ask()
    assert isinstance(first, Admitted)
    assert not first.is_probe
    assert short(place.ask()) is Reason.RAMP


def test_one_that_is_still_away_rests_again_and_no_step_tries_it(place: Fleet) -> None:
    place.called(Unreachable("away"), times=5)
    place.knobs = Knobs(rest_base_ms=60_000)
    with Vendor(DOWN) as vendor:
        place.providers = [sim(vendor.url)]
        place.probe()
        place.probe()
        assert vendor.connections == 1  # it rests now, so it is left alone
    assert short(place.ask()) is Reason.OPEN


def test_the_first_failure_after_a_return_opens_again(place: Fleet) -> None:
    """A list may be there while nothing else is."""
    place.refuse_the_key()
    with Vendor(answer()) as vendor:
        place.providers = [sim(vendor.url)]
        place.probe()
    place.knobs = Knobs(rest_base_ms=60_000)
    place.called(Unreachable("away"))
    assert short(place.ask()) is Reason.OPEN


def test_whoever_is_called_anyway_is_not_asked(place: Fleet) -> None:
    place.called(None)
    with Vendor(answer()) as vendor:
        place.providers = [sim(vendor.url)]
        place.probe(HOUR)
        assert vendor.connections == 0
        place.probe()
        assert vendor.connections == 1


def test_one_scheduler_s_check_is_everybody_s(place: Fleet) -> None:
    with Vendor(answer()) as vendor:
        place.providers = [sim(vendor.url)]
        assert place.probe(HOUR)
        assert place.probe(HOUR)
        assert vendor.connections == 1


def test_one_at_a_time_acts(place: Fleet) -> None:
    with marks.duty(place.ledger, "probe"):
        assert not place.probe()
    assert place.probe()


@pytest.mark.parametrize("lack", [{"obstacle": "set SIM_API_KEY"}, {"models": ()}, {"models_path": None}])
def test_whoever_cannot_be_asked_is_left_out(place: Fleet, lack: dict[str, object]) -> None:
    with Vendor(answer()) as vendor:
        place.providers = [replace(sim(vendor.url), **lack)]  # type: ignore[arg-type]
        place.probe()
        assert vendor.connections == 0
    assert place.admission.contacts([("sim", KEY)])[0].heard_ms is None


def test_a_call_that_tries_one_out_is_not_disturbed(place: Fleet) -> None:
    place.refuse_the_key()
    probe = place.ask()
    assert isinstance(probe, Admitted)
    assert probe.is_probe
    with Vendor(DOWN) as vendor:
        place.providers = [sim(vendor.url)]
        place.probe()
        assert vendor.connections == 0


def test_a_server_of_our_own_is_asked_like_any_other(place: Fleet) -> None:
    with Vendor(answer()) as vendor:
        place.providers = [sim(vendor.url, models=(), discovers=True, local=True)]
        place.probe()
        assert vendor.connections == 1
    assert place.admission.contacts([("sim", KEY)])[0].heard_ms is not None
