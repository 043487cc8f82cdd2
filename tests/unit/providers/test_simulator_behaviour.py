"""The grammar of model names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.simulator.behaviour import BadDirective, Behaviour, Break, Think, parse
from providers.simulator.refusal import Kind


@pytest.mark.parametrize(
    ("name", "behaviour"),
    [
        ("sim-fast", Behaviour("sim-fast")),
        ("m+tokens=60+speed=50+ttft=0.2", Behaviour("m", tokens=60, speed=50.0, ttft=0.2)),
        ("m+per=3+cached=4", Behaviour("m", per=3, cached=4)),
        ("m+cut=40", Behaviour("m", breaks=(Break.CUT, 40))),
        ("m+midfail=2", Behaviour("m", breaks=(Break.FAIL, 2))),
        ("m+malformed=2", Behaviour("m", breaks=(Break.GARBAGE, 2))),
        ("m+stall=20:30", Behaviour("m", stall=(20, 30.0))),
        ("m+fail=429+after=2", Behaviour("m", refuse=Kind.RATE, status=429, retry_after=2.0)),
        ("m+fail=418", Behaviour("m", refuse=Kind.BAD_REQUEST, status=418)),
        ("m+fail=599", Behaviour("m", refuse=Kind.SERVER, status=599)),
        ("m+quota", Behaviour("m", refuse=Kind.QUOTA)),
        ("m+ok+quota", Behaviour("m", refuse=Kind.QUOTA, is_ok=True)),
        ("m+filtered", Behaviour("m", filtered=True)),
        ("m+filtered=400", Behaviour("m", refuse=Kind.FILTERED)),
        ("m+reset+silent", Behaviour("m", reset=True, silent=True)),
        ("m+flaky=2+len+echo", Behaviour("m", flaky=2, length=True, echo=True)),
        ("m+nodone+nousage", Behaviour("m", done=False, usage=False)),
        ("m+think", Behaviour("m", think=Think.CONTENT)),
        ("m+think=hidden+thinktag", Behaviour("m", think=Think.HIDDEN, thinktag=True)),
        ("m+say=aGk", Behaviour("m", say="hi")),
        ("m+say=aGk=", Behaviour("m", say="hi")),
        ("m+verdict=FAIL", Behaviour("m", verdict="FAIL")),
        ("m+prefill=refused", Behaviour("m", prefill="refused")),
        ("m+speed=5+speed=0", Behaviour("m", speed=0.0)),
    ],
)
def test_directives_are_read(name, behaviour):
    assert parse(name) == behaviour


def test_a_later_refusal_wins_with_its_own_status():
    assert parse("m+fail=500+auth") == Behaviour("m", refuse=Kind.AUTH)


@pytest.mark.parametrize(
    "name",
    [
        "m+",
        "m+nonsense",
        "m+tokens",
        "m+tokens=-1",
        "m+tokens=a",
        "m+per=0",
        "m+ttft=nan",
        "m+ttft=inf",
        "m+speed=-1",
        "m+fail=200",
        "m+fail=600",
        "m+stall=20",
        "m+stall=a:1",
        "m+say=*",
        "m+say=_w",
        "m+verdict=MAYBE",
        "m+echo=1",
        "m+quota=1",
        "m+ok=201",
        "m+think=aloud",
        "m+filtered=500",
    ],
)
def test_a_bad_directive_is_named(name):
    with pytest.raises(BadDirective) as caught:
        parse(name)
    assert "+" + name.partition("+")[2] in str(caught.value)


@given(st.text())
def test_any_text_is_read_or_refused(text):
    try:
        assert parse(text).base == text.partition("+")[0]
    except BadDirective:
        assert "+" in text
