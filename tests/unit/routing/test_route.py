"""The decision: ranked from what is configured and known, kept as data from which its order follows again."""

import json
from pathlib import Path

import pytest
import redis

from goblin.settings import Settings, load
from providers.errors import BadCredentials, Throttled
from routing.admission import Admission
from routing.breaker import seen
from routing.health import Health
from routing.offers import Offers
from routing.replay import replay
from routing.route import Route, Router
from routing.script import Scripts
from tests.fakes.offers import need

TOML = """
[providers.dear]
base_url = "http://dear.test/v1"
api_key = "secret-of-dear"
models = [{id = "big", input_usd_mtok = "5", output_usd_mtok = "15", context = 100000}]

[providers.cheap]
base_url = "http://cheap.test/v1"
api_key = "secret-of-cheap"
models = [{id = "small", input_usd_mtok = "0.1", output_usd_mtok = "0.2", context = 8000}]

[providers.unpriced]
base_url = "http://unpriced.test/v1"
api_key = "x"
models = ["unheard-of"]
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "goblin.toml"
    file.write_text(TOML)
    return load(file, {})


@pytest.fixture
def router(settings: Settings) -> Router:
    return Router(Offers(settings, {}), settings.routing)


def names(route: Route) -> list[str]:
    return [one.candidate.name for one in route.candidates]


def test_all_that_can_serve_are_ranked_and_all_others_have_a_reason(router: Router) -> None:
    route = router.rank(need())
    assert names(route) == ["cheap/small", "dear/big"]
    assert "its price is not known" in route.refusals["unpriced/unheard-of"]
    assert "OPENAI_API_KEY" in route.refusals["openai"]
    assert route.resting == {}


def test_the_same_need_has_the_same_route(router: Router) -> None:
    assert router.rank(need()).as_value() == router.rank(need()).as_value()


def test_a_prompt_that_fits_one_window_goes_there(router: Router) -> None:
    assert names(router.rank(need(input_tokens=50_000))) == ["dear/big"]


def test_a_route_to_nobody_says_why_for_each_and_little_in_its_message(router: Router) -> None:
    route = router.rank(need(input_tokens=10**6))
    error = route.as_error()
    assert route.candidates == ()
    assert error.details["reasons"] == route.refusals
    assert {"cheap/small", "dear/big", "openai"} <= set(route.refusals)
    assert len(error.message) < 600
    assert f"and {len(route.refusals) - 3} more" in error.message


@pytest.mark.parametrize(
    ("provider", "input_tokens", "told"),
    [
        ("ollama", 1_000, "(ollama: no model found at http://localhost:11434)"),
        ("cheap", 10**6, "(cheap/small: about 1000500 tokens do not fit"),
    ],
)
def test_a_step_that_is_pinned_is_told_about_that_provider(
    router: Router, provider: str, input_tokens: int, told: str
) -> None:
    assert told in router.rank(need(provider=provider, input_tokens=input_tokens)).as_error().message


def test_what_was_nearly_chosen_is_told_before_what_has_no_key(router: Router) -> None:
    message = router.rank(need(input_tokens=10**6)).as_error().message
    assert "cheap/small: about" in message
    assert "dear/big: about" in message


def test_a_route_of_an_installation_without_providers_says_what_to_do() -> None:
    assert "set a key such as OPENAI_API_KEY" in Route(need(), (), {}, {}).as_error().message


@pytest.mark.parametrize("error", [Throttled("slow down", retry_after=60), BadCredentials("the key is wrong")])
def test_what_rests_comes_last_with_the_reason_and_is_not_refused(
    settings: Settings, client: redis.Redis, error: Throttled | BadCredentials
) -> None:
    Admission(Scripts(client)).observe("cheap", "cheap/small", seen(error))
    route = Router(Offers(settings, {}), settings.routing, Health(client)).rank(need())
    assert names(route) == ["dear/big", "cheap/small"]
    assert route.resting.keys() == {"cheap/small"}
    assert error.message in route.resting["cheap/small"]
    assert "cheap/small" not in route.refusals
    assert json.loads(json.dumps(route.as_value()))["resting"] == route.resting


def test_when_all_rest_their_order_stays(settings: Settings, client: redis.Redis) -> None:
    admission = Admission(Scripts(client))
    admission.observe("dear", "dear/big", seen(Throttled("slow down", retry_after=60)))
    admission.observe("cheap", "cheap/small", seen(Throttled("slow down", retry_after=90)))
    assert names(Router(Offers(settings, {}), settings.routing, Health(client)).rank(need())) == [
        "cheap/small",
        "dear/big",
    ]


def test_what_rests_elsewhere_is_none_of_this_route_s_business(settings: Settings, client: redis.Redis) -> None:
    Admission(Scripts(client)).observe("cheap", "cheap/large", seen(Throttled("slow down", retry_after=60)))
    assert Router(Offers(settings, {}), settings.routing, Health(client)).rank(need()).resting == {}


def test_a_decision_is_kept_as_data_from_which_its_order_follows(router: Router) -> None:
    asked = need(preferred=("dear",), providers=["dear", "cheap"], excluded={"x/y": "it timed out"})
    route = router.rank(asked)
    kept = json.loads(json.dumps(route.as_value()))
    assert [f"{provider}/{model}" for provider, model, *_ in kept["candidates"]] == names(route)
    assert kept["need"] == {
        "task_class": "fast",
        "input_tokens": 1_000,
        "output_tokens": 500,
        "providers": ["dear", "cheap"],
        "preferred": ["dear"],
        "excluded": {"x/y": "it timed out"},
    }
    assert kept["weights"] == {"latency": 0.4, "cost": 0.3, "success": 0.2, "bandwidth": 0.1}
    assert kept["required_bandwidth"] == 50
    again = replay(kept)
    assert again is not None
    assert again.is_reproduced
    plain = router.rank(need()).as_value()["candidates"]
    assert plain == sorted(plain, key=lambda one: -one[-1])


def test_no_decision_holds_a_key(router: Router) -> None:
    route = router.rank(need())
    assert "secret-of" not in f"{route!r} {route.as_value()}"
