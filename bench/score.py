"""CPU of one decision among 300 candidates, 60 providers with five models each: who is eligible, and in which order."""

import json
import time
from collections.abc import Callable

from bench.ground import Ground, median
from bench.table import Row
from goblin.settings import RoutingSettings
from providers.price import Price
from providers.provider import Model, Provider
from routing.candidate import Need, eligible
from routing.health import EMPTY
from routing.route import Route, order

PROVIDERS, MODELS, DECISIONS, ROUNDS = 60, 5, 50, 7
NEED = Need("fast", input_tokens=1_000, output_tokens=500)
SETTINGS = RoutingSettings()


def measure(_: Ground) -> list[Row]:
    offers = [(provider, model) for provider in map(_provider, range(PROVIDERS)) for model in provider.models]
    route = _decide(offers)
    kept = json.dumps(route.as_value())
    return [
        Row("score", "ranking 300 candidates", _cpu_ms(lambda: _decide(offers)), "ms of CPU"),
        Row("score", "writing that decision down", _cpu_ms(lambda: json.dumps(route.as_value())), "ms of CPU"),
        Row("score", "size of that decision as JSON", len(kept) / 1024, "KiB"),
    ]


def _decide(offers: list[tuple[Provider, Model]]) -> Route:
    """What the router does with its registry and its snapshot."""
    candidates, refusals = eligible(offers, NEED)
    measured = [(candidate, EMPTY.measure(candidate)) for candidate in candidates]
    ranked = order(measured, NEED, SETTINGS.weights, SETTINGS.required_bandwidth, ())
    return Route(NEED, tuple(ranked), refusals, {}, SETTINGS)


def _cpu_ms(decide: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(DECISIONS):
            decide()
        times.append((time.process_time() - began) / DECISIONS)
    return 1e3 * median(times)


def _provider(number: int) -> Provider:
    models = tuple(
        Model(f"family-{nr}/model-{nr}-instruct", context=128_000, price=_price(number * nr * 10**6))
        for nr in range(MODELS)
    )
    return Provider(f"provider-{number}", f"Provider {number}", "openai", "http://bench.test", models=models)


def _price(rate: int) -> Price:
    return Price(rate, rate, rate, rate, "bench")
