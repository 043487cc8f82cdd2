"""What `goblin explain` makes of the decisions of a run."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

Goblin = Callable[..., Result]
CANDIDATE = {
    "score": 0.5, "latency": 0.25, "cost": 0.75, "success": 1.0, "bandwidth": 0.125, "ttft_s": 1.5, "priority": 1,
    "tokens_per_second": 12.0, "worst_case_usd": "0.000450000", "local": False, "reasoning": False,
}  # fmt: skip
CALLED = {
    "number": 1,
    "provider": "near",
    "model": "small",
    "status": "succeeded",
    "hold_usd": "0.000450000",
    "reproduced": True,
    "decision": {
        "need": {
            "task_class": "fast", "input_tokens": 1_200, "output_tokens": 500, "prefer_local": True,
            "provider": "near", "providers": ["near", "far"], "preferred": ["far"],
        },
        "weights": {"latency": 0.4, "cost": 0.3, "success": 0.2, "bandwidth": 0.1},
        "required_bandwidth": 50.0,
        "candidates": [
            {"provider": "far", "model": "large", **CANDIDATE, "score": 0.625, "reasoning": True},
            {"provider": "near", "model": "small", **CANDIDATE, "local": True},
        ],
        "short": {"far/large": "far takes no more requests for now, free in 2.0 s"},
        "resting": {"near/small": "it was slow"},
        "refused": {"openai": "no key: set OPENAI_API_KEY", "groq": "no key: set GROQ_API_KEY", "x/y": "too small"},
        "price": {"input": 150_000_000, "output": 600_000_000, "source": "the operator"},
    },
}  # fmt: skip
CACHED = {
    **CALLED,
    "reproduced": None,
    "decision": {"cache": {"run": "ab", "step": "step7"}},
}
NOBODY = {
    "number": None, "provider": None, "model": None, "status": "waiting", "hold_usd": None, "reproduced": None,
    "decision": {"flight": "an identical request is under way"},
}  # fmt: skip


@pytest.fixture
def explain(goblin: Goblin, api: Any) -> Callable[..., Result]:
    def asked(*decisions: dict[str, Any], options: tuple[str, ...] = ()) -> Result:
        answer = {"id": "r", "steps": [{"id": "step1", "decisions": list(decisions)}]}
        api.answer("GET", "/v1/runs/r/decisions", (200, json.dumps(answer)))
        return goblin("explain", "r", *options, GOBLIN_URL=api.url)

    return asked


def test_a_decision_is_told_with_all_that_led_to_it(explain: Callable[..., Result]) -> None:
    result = explain(CALLED)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "step1 attempt 1: near/small (succeeded)"
    assert lines[1] == (
        "need: fast, about 1,200 tokens in, at most 500 out, pinned to near, only providers near, far, rather far,"
        " rather local"
    )
    assert lines[2] == "weights: latency 0.4, cost 0.3, success 0.2, bandwidth 0.1; 50 tokens/s score full marks"
    assert lines[3] == "price: $0.15 in and $0.6 out per million tokens (the operator); held $0.000450000"
    assert lines[5] == "far/large (reasoning) 0.625 0.250 0.750 1.000 0.125 1.5 s 12 $0.000450000"
    assert lines[6] == "near/small (local) 0.500 0.250 0.750 1.000 0.125 1.5 s 12 $0.000450000"
    assert lines[7:11] == [
        "resting near/small: it was slow",
        "no room far/large: far takes no more requests for now, free in 2.0 s",
        "not openai, groq: no key",
        "not x/y: too small",
    ]


def test_an_answer_from_the_cache_says_whose_it_was(explain: Callable[..., Result]) -> None:
    result = explain(CACHED, NOBODY)
    assert "  the answer of step7 of run ab, to an identical request; nobody was called\n" in result.stdout
    assert "step1: waited\n  an identical request is under way\n" in result.stdout


def test_a_replay_that_leads_to_every_choice_again_succeeds(explain: Callable[..., Result]) -> None:
    result = explain(CALLED, CALLED, CACHED, options=("--replay",))
    assert result.exit_code == 0
    assert result.stdout == "2 of 2 decisions follow again from what was kept of them\n"


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_replay_that_leads_elsewhere_fails(explain: Callable[..., Result], more: tuple[str, ...]) -> None:
    result = explain(CALLED, {**CALLED, "number": 2, "reproduced": False}, options=("--replay", *more))
    assert result.exit_code == 1
    if not more:
        assert result.stdout.splitlines() == [
            "step1 attempt 2: what was kept leads elsewhere",
            "1 of 2 decisions follow again from what was kept of them",
        ]
