"""What providers do wrong, each seen from both sides: by whoever asked for the run, and by the provider.

A goblin of its own favours each faulty provider; who else may serve is said by the run. Runs that disturb nobody are
all submitted at the start, so that their waiting is done at once.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.embedded import Stack
from tests.fakes.ran import WHOLE, Ran, calls, outcomes
from tests.processes import Processes
from tests.world import Sim, World, world

HASTY = {"first_token_timeout": 1, "stall_timeout": 1}
SIMS = (
    Sim("good", (WHOLE,)),
    Sim("goes-on", (f"{WHOLE}+prefill=on",), options={"prefill": True}),
    Sim("cannot-go-on", (f"{WHOLE}+prefill=refused",), options={"prefill": True}),
    Sim("large", (WHOLE,)),
    Sim("small", (WHOLE,), context=1_000),
    Sim("throttled", (WHOLE,)),
    Sim("throttling", (f"{WHOLE}+fail=429+after=60",)),
    Sim("stubborn", (f"{WHOLE}+fail=429+after=0",)),
    Sim("hiccup", (f"{WHOLE}+flaky=1",)),
    Sim("dead", (f"{WHOLE}+fail=503",)),
    Sim("ill", (f"{WHOLE}+fail=503",)),
    Sim("resetting", (f"{WHOLE}+reset",)),
    Sim("mute", (f"{WHOLE}+cut=0",)),
    Sim("breaking", (f"{WHOLE}+midfail=0",)),
    Sim("gibbering", (f"{WHOLE}+malformed=0",)),
    Sim("silent", (f"{WHOLE}+silent",), options=HASTY),
    Sim("slow", (f"{WHOLE}+ttft=20",)),
    Sim("cut", (f"{WHOLE}+cut=40",)),
    Sim("cut-too", (f"{WHOLE}+cut=40",)),
    Sim("cut-as-well", (f"{WHOLE}+cut=40",), "anthropic"),
    Sim("stalling", (f"{WHOLE}+stall=20:30",), options=HASTY),
    Sim("babbling", (f"{WHOLE}+malformed=20",)),
    Sim("abrupt", (f"{WHOLE}+nodone",)),
    Sim("narrow", (f"{WHOLE}+context",), context=2_000),
    Sim("prudish", (f"{WHOLE}+filtered=400",)),
    Sim("prudent", (f"{WHOLE}+filtered",)),
    Sim("outage", (WHOLE,)),
)
# name of a run -> its favourite, and who else may serve it
RUNS = {
    "throttled, another there": ("throttling", "good"),
    "always throttled": ("stubborn",),
    "one 500": ("hiccup", "good"),
    "always 503": ("dead",),
    "503, another there": ("ill", "good"),
    "reset": ("resetting", "good"),
    "cut before a word": ("mute", "good"),
    "failed before a word": ("breaking", "good"),
    "malformed before a word": ("gibbering", "good"),
    "no answer": ("silent", "good"),
    "no answer, alone": ("silent",),
    "late first token": ("slow", "good"),
    "cut, begun anew": ("cut", "good"),
    "cut, continued": ("cut-too", "goes-on"),
    "cut, prefill refused": ("cut-as-well", "cannot-go-on"),
    "stall": ("stalling", "good"),
    "malformed": ("babbling", "good"),
    "no done": ("abrupt", "good"),
    "context": ("narrow", "small", "large"),
    "context, none larger": ("narrow", "small"),
    "refused prompt": ("prudish", "good"),
    "refused answer": ("prudent", "good"),
}


def _settings() -> str:
    goblin = 'instructions = "x"\ntask_class = "fast"\nmax_output_tokens = 200\n'
    favourites = {name: f'providers = ["{name}"]\n' for name in sorted({first for first, *_ in RUNS.values()})}
    goblins = {
        "chat": "",
        **favourites,
        "outage": 'providers = ["outage"]\n',
    }
    tables = "\n".join(f"[goblins.{name}]\n{goblin}{more}" for name, more in goblins.items())
    return f"[routing]\noutage_patience = 0\n[worker]\nlease = 6\n{tables}"


@pytest.fixture(scope="module")
def place(
    processes: Processes, stack: Stack, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("faults")
    redis_url = f"{stack.redis_url.rpartition('/')[0]}/13"
    with world(processes, folder, database_url, redis_url, *SIMS, extra=_settings()) as made:
        made.redis.flushdb()
        made.start_worker("w1")
        made.start_worker("w2")
        made.start_scheduler()
        yield made


@pytest.fixture(scope="module")
def ran(place: World) -> dict[str, Ran]:
    return {
        name: Ran(place, place.submit(place.plan(f"{served[0]}: do it"), providers=served))
        for name, served in RUNS.items()
    }


# -- refused for now


def test_a_delay_that_a_provider_asks_for_is_kept_by_the_whole_fleet(place: World, ran: dict[str, Ran]) -> None:
    place.sim_post("faults", {"name": "throttled", "directives": "+fail=429+after=2"})
    first = place.submit(place.plan("chat@throttled: hello"))
    place.until(lambda: calls(place, "throttled"))
    place.sim_post("faults", {"name": "throttled", "directives": ""})
    others = [Ran(place, place.submit(place.plan("chat@throttled: hello"))) for _ in range(6)]
    assert all(one.is_whole() for one in (Ran(place, first), *others))
    refused, *served = calls(place, "throttled")
    assert refused["status"] == 429
    assert [call["status"] for call in served] == [200] * 7
    assert served[0]["time"] - refused["time"] >= 2
    assert "step.waiting" in Ran(place, first).kinds


def test_a_throttled_step_goes_elsewhere_at_once_when_there_is_another(place: World, ran: dict[str, Ran]) -> None:
    one = ran["throttled, another there"]
    assert one.tries == [("throttling", "failed", "throttled"), ("good", "succeeded", None)]
    assert one.is_whole()
    assert one.charges == [("good", True)]
    assert outcomes(place, "throttling") == [(429, "error")]


def test_one_that_throttles_for_ever_is_not_hammered(place: World, ran: dict[str, Ran]) -> None:
    one = ran["always throttled"]
    assert one.tries == [("stubborn", "failed", "throttled")] * 6
    assert (one.row.status, one.step.error["type"], one.entries) == ("failed", "throttled", [])
    made = [call["time"] for call in calls(place, "stubborn")]
    assert len(made) == 6
    assert all(sum(begin <= other < begin + 3 for other in made) <= 4 for begin in made)


# -- failing before an answer


def test_one_that_fails_once_is_asked_again(place: World, ran: dict[str, Ran]) -> None:
    one = ran["one 500"]
    assert one.tries == [("hiccup", "failed", "server_error"), ("hiccup", "succeeded", None)]
    assert one.is_whole()
    assert one.charges == [("hiccup", True)]
    assert outcomes(place, "hiccup") == [(500, "error"), (200, "whole")]


def test_one_that_always_fails_is_asked_twice_and_the_step_fails_with_the_reason(
    place: World, ran: dict[str, Ran]
) -> None:
    one = ran["always 503"]
    assert one.tries == [("dead", "failed", "overloaded")] * 2
    assert (one.row.status, one.step.error["type"], one.entries) == ("failed", "no_candidate", [])
    assert "answered 503" in one.step.error["message"]
    assert outcomes(place, "dead") == [(503, "error")] * 2


@pytest.mark.parametrize(
    ("name", "favourite", "fault", "seen", "may_be_billed"),
    [
        ("503, another there", "ill", "overloaded", (503, "error"), False),
        ("reset", "resetting", "unreachable", (0, "error"), True),  # the question had been sent
        ("cut before a word", "mute", "broken_stream", (200, "cut"), True),
        ("failed before a word", "breaking", "server_error", (200, "error"), True),
        ("malformed before a word", "gibbering", "malformed", (200, "cut"), True),
    ],
)
def test_one_that_always_fails_is_left_for_another_after_two_calls(
    place: World, ran: dict[str, Ran], name: str, favourite: str, fault: str, seen: tuple[int, str], may_be_billed: bool
) -> None:
    one = ran[name]
    assert one.tries == [(favourite, "failed", fault), (favourite, "failed", fault), ("good", "succeeded", None)]
    assert one.is_whole()
    assert one.charges == [(favourite, False)] * 2 * may_be_billed + [("good", True)]
    assert 2 <= len(outcomes(place, favourite)) <= 4  # a kept connection that ends at once was perhaps dead before
    assert set(outcomes(place, favourite)) == {seen}
    entered = sum(entry.amount_nanousd for entry in one.entries if entry.provider == favourite)
    assert sum(call["nanousd"] for call in calls(place, favourite)) <= entered


def test_a_route_that_never_answers_is_asked_once(place: World, ran: dict[str, Ran]) -> None:
    one, alone = ran["no answer"], ran["no answer, alone"]
    assert one.tries == [("silent", "failed", "timed_out"), ("good", "succeeded", None)]
    assert one.is_whole()
    assert one.charges == [("silent", False), ("good", True)]
    assert one.entries[0].output_tokens == 0
    assert alone.tries == [("silent", "failed", "timed_out")]
    assert (alone.row.status, alone.step.error["type"]) == ("failed", "no_candidate")
    assert outcomes(place, "silent") == [(0, "client_gone")] * 2


def test_a_first_token_that_does_not_come_is_not_waited_for_while_another_could_serve(
    place: World, ran: dict[str, Ran]
) -> None:
    one = ran["late first token"]
    assert one.tries == [("slow", "failed", "timed_out"), ("good", "succeeded", None)]
    assert one.attempts[0].error["message"] == "slow sent nothing within 12 s"
    assert one.attempts[0].duration_ms < 15_000
    assert one.is_whole()
    assert outcomes(place, "slow") == [(200, "client_gone")]
    [call] = calls(place, "slow")
    assert one.charges == [("slow", False), ("good", True)]
    assert (one.entries[0].amount_nanousd > 0) == (call["nanousd"] > 0)


# -- failing in the middle of an answer


@pytest.mark.parametrize(
    ("name", "favourite", "fault", "seen"),
    [
        ("cut, begun anew", "cut", "broken_stream", (200, "cut")),
        ("stall", "stalling", "timed_out", (200, "client_gone")),
        ("malformed", "babbling", "malformed", (200, "cut")),
    ],
)
def test_half_an_answer_is_taken_back_and_the_whole_one_comes_from_another(
    place: World, ran: dict[str, Ran], name: str, favourite: str, fault: str, seen: tuple[int, str]
) -> None:
    one = ran[name]
    assert one.tries == [(favourite, "failed", fault), ("good", "succeeded", None)]
    again = ["step.started", "delta", "step.finished", "run.finished"]
    assert one.kinds == ["step.started", "delta", "step.reset", *again]
    assert one.is_whole()
    assert one.charges == [(favourite, False), ("good", True)]
    assert one.entries[0].output_tokens > 0
    assert outcomes(place, favourite) == [seen]


def test_half_an_answer_is_finished_by_another_that_can_go_on_with_it(place: World, ran: dict[str, Ran]) -> None:
    one = ran["cut, continued"]
    assert one.tries == [("cut-too", "failed", "broken_stream"), ("goes-on", "succeeded", None)]
    assert one.kinds == ["step.started", "delta", "step.started", "delta", "step.finished", "run.finished"]
    assert one.is_whole()
    assert one.charges == [("cut-too", False), ("goes-on", True)]
    [half], [rest] = calls(place, "cut-too"), calls(place, "goes-on")
    assert (half["output_tokens"], rest["output_tokens"]) == (40, 20)
    assert one.entries[1].output_tokens == 20
    assert one.row.cost_nanousd == sum(entry.amount_nanousd for entry in one.entries)


def test_one_that_refuses_to_go_on_with_an_answer_is_asked_for_a_whole_one(place: World, ran: dict[str, Ran]) -> None:
    one = ran["cut, prefill refused"]
    assert one.tries == [
        ("cut-as-well", "failed", "broken_stream"),
        ("cannot-go-on", "failed", "prefill_refused"),
        ("cannot-go-on", "succeeded", None),
    ]
    assert one.kinds.count("step.reset") == 1
    assert one.is_whole()
    assert one.charges == [("cut-as-well", False), ("cannot-go-on", True)]
    assert outcomes(place, "cannot-go-on") == [(400, "error"), (200, "whole")]


def test_an_answer_without_the_last_word_of_its_protocol_is_whole_if_it_says_so(
    place: World, ran: dict[str, Ran]
) -> None:
    one = ran["no done"]
    assert one.tries == [("abrupt", "succeeded", None)]
    assert one.is_whole()
    assert one.charges == [("abrupt", True)]
    [call] = calls(place, "abrupt")
    assert one.entries[0].output_tokens == call["output_tokens"]
    assert one.attempts[0].duration_ms < 5_000


# -- requests at fault


def test_a_prompt_that_is_too_long_is_sent_to_a_larger_window_only(place: World, ran: dict[str, Ran]) -> None:
    one, stuck = ran["context"], ran["context, none larger"]
    assert one.tries == [("narrow", "failed", "context_too_long"), ("large", "succeeded", None)]
    assert one.is_whole()
    assert stuck.tries == [("narrow", "failed", "context_too_long")]
    assert (stuck.row.status, stuck.step.error["type"]) == ("failed", "no_candidate")
    assert stuck.step.error["details"]["reasons"].keys() >= {f"narrow/{WHOLE}+context", f"small/{WHOLE}"}
    assert outcomes(place, "narrow") == [(400, "error")] * 2
    assert outcomes(place, "small") == []


@pytest.mark.parametrize(
    ("name", "favourite", "seen"),
    [("refused prompt", "prudish", (400, "error")), ("refused answer", "prudent", (200, "whole"))],
)
def test_a_refusal_of_the_content_is_returned_and_not_routed_around(
    place: World, ran: dict[str, Ran], name: str, favourite: str, seen: tuple[int, str]
) -> None:
    one = ran[name]
    assert one.tries == [(favourite, "failed", "content_filtered")]
    assert (one.row.status, one.step.error["type"]) == ("failed", "content_filtered")
    assert outcomes(place, favourite) == [seen]


# -- an outage


def test_an_outage_is_noticed_once_for_all_and_its_end_soon(place: World) -> None:
    def serve() -> Ran:
        return Ran(place, place.submit(place.plan("outage: do it"), providers=["outage", "good"]))

    before = serve()
    assert before.tries == [("outage", "succeeded", None)]
    place.sim_post("faults", {"name": "outage", "directives": "+fail=503"})
    during = [serve() for _ in range(20)]
    assert all(one.is_whole() and one.tries[-1] == ("good", "succeeded", None) for one in during)
    assert sum(status == 503 for status, _ in outcomes(place, "outage")) < 20
    place.sim_post("faults", {"name": "outage", "directives": ""})
    place.until(lambda: serve().tries == [("outage", "succeeded", None)], 30)


# -- accounting


def test_every_attempt_is_entered_for_whom_it_called_and_only_answers_are_answers(
    place: World, ran: dict[str, Ran]
) -> None:
    for name, one in ran.items():
        [answered] = [try_ for try_ in one.attempts if try_.status == "succeeded"] or [None]
        if answered is None:
            assert one.row.status == "failed", name
            continue
        assert (one.step.provider, one.step.model) == (answered.provider, answered.model), name
        [measured] = [entry for entry in one.entries if entry.is_measured]
        assert (measured.attempt_id, measured.provider, measured.model) == (
            answered.id,
            answered.provider,
            answered.model,
        )
        assert all(not entry.is_measured for entry in one.entries if entry.attempt_id != answered.id), name
        assert one.row.cost_nanousd == sum(entry.amount_nanousd for entry in one.entries), name
    for provider in ("hiccup", "goes-on", "abrupt", "large"):
        entered = place.one("select sum(amount_nanousd) as amount from entries where provider = %s", provider)
        assert entered is not None
        assert entered.amount == sum(call["nanousd"] for call in calls(place, provider))
