"""Plans written back as text: what is written means the same, and only what needs quotes has them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.plans import GOBLINS, nasty_tasks, plans
from workflow.parse import parse
from workflow.plan import Plan
from workflow.text import text


def read(source: str) -> Plan:
    return parse(source, goblins=GOBLINS, default_goblin="chat")


@settings(deadline=None, max_examples=300)
@given(plans(tasks=nasty_tasks))
def test_what_is_written_is_read_back_as_the_same_plan(plan: Plan) -> None:
    assert parse(text(plan), goblins=GOBLINS, default_goblin=None) == plan


def workflows(branches: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    stages = st.lists(branches, min_size=1, max_size=3).map(" AND ".join)
    condition = st.sampled_from(["", "IF_SUCCESS", "IF_FAILURE", 'IF_CONTAINS( "a \\\\ b" )'])
    otherwise = st.just("") | stages.map(" ELSE {}".format)
    followed = st.builds(lambda c, s, o: f" THEN {c}\n{s}{o if c else ''}", condition, stages, otherwise)
    return st.builds(lambda first, rest: first + "".join(rest), stages, st.lists(followed, max_size=2))


tasks = st.sampled_from(
    ["a", " b  c", "chat: d", "review@x/y:1: (e AND f)", '"g AND h"', 'i "THEN" j', '"k\\"" l', "add(m)"]
)
sources = workflows(st.recursive(tasks, lambda inner: workflows(inner).map("({})".format), max_leaves=12))


@settings(deadline=None, max_examples=300)
@given(sources)
def test_written_text_is_written_the_same_again(source: str) -> None:
    written = text(read(source))
    assert text(read(written)) == written
    assert read(written) == read(source)


@pytest.mark.parametrize(
    ("source", "written"),
    [
        ("  a  THEN\n b", "chat: a THEN chat: b"),
        ("chat@ollama/x:1: a AND b", "chat@ollama/x:1: a AND chat@ollama/x:1: b"),
        ("((a THEN (b)))", "chat: a THEN chat: b"),
        ("a THEN IF_FAILURE (b AND c) ELSE (d THEN e)", "chat: a THEN IF_FAILURE chat: b AND chat: c ELSE "
         "(chat: d THEN chat: e)"),
        ('a THEN IF_CONTAINS( "x\\\\y\\"" ) b', 'chat: a THEN IF_CONTAINS("x\\\\y\\"") chat: b'),
    ],
)  # fmt: skip
def test_the_written_form_is_canonical(source: str, written: str) -> None:
    assert text(read(source)) == written


@pytest.mark.parametrize(
    ("task", "written"),
    [
        ("write add(a, b)", "write add(a, b)"),
        ("compare (cats AND dogs)", "compare (cats AND dogs)"),
        ('say "hi AND bye"', 'say "hi AND bye"'),
        ("ANDROID and AND/OR", "ANDROID and AND/OR"),
        ("note: this", "note: this"),
        ("C:\\new", "C:\\new"),
        ("cats AND dogs", '"cats AND dogs"'),
        ('"hi"', '"\\"hi\\""'),
        ('5" wide', '"5\\" wide"'),
        ("smile :)", '"smile :)"'),
        (" indented", '" indented"'),
        ("a\\ THEN b", '"a\\\\ THEN b"'),
    ],
)
def test_a_task_is_quoted_only_when_it_must_be(task: str, written: str) -> None:
    quoted = '"' + task.replace("\\", "\\\\").replace('"', '\\"') + '"'
    plan = read(f"chat: {quoted}")
    assert plan.steps[0].task == task
    assert text(plan) == f"chat: {written}"
