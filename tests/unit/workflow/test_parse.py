"""The language as people write it: what is read, and as what."""

import pytest
from hypothesis import given

from tests.fakes.plans import nasty_tasks
from workflow.parse import parse
from workflow.plan import Condition, On, Plan, Sequence, Stage, Step

GOBLINS = [
    "docs-writer", "code-writer", "analyze", "review", "plan", "optimize", "deploy", "chat", "translate", "summarize",
]  # fmt: skip


def read(text: str, default: str | None = "chat") -> Plan:
    return parse(text, goblins=GOBLINS, default_goblin=default)


def tasks(text: str) -> list[str]:
    return [step.task for step in read(text).steps]


@pytest.mark.parametrize(
    ("text", "goblins", "dependencies"),
    [
        ("docs-writer: test", ["docs-writer"], [()]),
        ("task1 THEN task2 THEN task3", ["chat"] * 3, [(), (0,), (1,)]),
        ("task1 AND task2 AND task3", ["chat"] * 3, [(), (), ()]),
        ("docs-writer: document code THEN code-writer: write tests", ["docs-writer", "code-writer"], [(), (0,)]),
        (
            "docs-writer: document this code THEN code-writer: write unit tests",
            ["docs-writer", "code-writer"],
            [(), (0,)],
        ),
        (
            "docs-writer: document this code THEN code-writer: write a unit test",
            ["docs-writer", "code-writer"],
            [(), (0,)],
        ),
        (
            "docs-writer: document this code THEN code-writer: write tests",
            ["docs-writer", "code-writer"],
            [(), (0,)],
        ),
        (
            "analyze: check code quality THEN IF_SUCCESS optimize: improve performance",
            ["analyze", "optimize"],
            [(), (0,)],
        ),
        (
            "docs-writer: document code THEN code-writer: write tests AND analyze: check coverage"
            " THEN IF_SUCCESS deploy: prepare release",
            ["docs-writer", "code-writer", "analyze", "deploy"],
            [(), (0,), (0,), (1, 2)],
        ),
    ],
)
def test_everyday_workflows_are_read(text: str, goblins: list[str], dependencies: list[tuple[int, ...]]) -> None:
    plan = read(text)
    assert [step.goblin for step in plan.steps] == goblins
    assert [plan.dependencies(step.idx) for step in plan.steps] == dependencies


def test_and_binds_tighter_than_then() -> None:
    a, b, c, d = (Step(idx, "chat", task) for idx, task in enumerate("abcd"))
    assert read("a AND b THEN c AND d") == Plan(Sequence((Stage((a, b)), Stage((c, d)))))


def test_a_condition_governs_its_whole_stage_and_else_belongs_to_it() -> None:
    a, b, c, d, e, f = (Step(idx, "chat", task) for idx, task in enumerate("abcdef"))
    conditional = Stage((b, c), Condition(On.CONTAINS, "x"), Stage((d, e)))
    assert read('a THEN IF_CONTAINS("x") b AND c ELSE d AND e THEN f') == Plan(
        Sequence((Stage((a,)), conditional, Stage((f,))))
    )


def test_groups_hold_workflows() -> None:
    a, b, c, d = (Step(idx, "chat", task) for idx, task in enumerate("abcd"))
    group = Sequence((Stage((b,)), Stage((c,), Condition(On.FAILURE))))
    assert read("a AND (b THEN IF_FAILURE c) THEN d") == Plan(Sequence((Stage((a, group)), Stage((d,)))))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("(chat: a)", "a"),
        ("((a THEN b))", "a THEN b"),
        ("(a AND b) AND ((c))", "a AND b AND c"),
        ("a THEN ((b THEN c) )", "a THEN (b THEN c)"),
        ("(a)THEN(b)", "a THEN b"),
    ],
)
def test_groups_that_change_nothing_vanish(text: str, plain: str) -> None:
    assert read(text) == read(plain)


@pytest.mark.parametrize(
    "task",
    [
        "write add(a, b)",
        "compare (cats AND dogs)",
        "call f(g(h) THEN i(j))",
        'print("(")',
        "port it to ANDROID",
        "explain IF_SUCCESSFUL and IF-THEN-ELSE and AND/OR",
        "this and then that else if_success",
        'explain the word "THEN" and "AND" please',
        "https://example.org/a:b is broken",
        "see https://example.org: it is broken",
        "10:30 is when",
        "chat:hello",
        "chat:(hello)",
        'chat:"hello" there',
        "don't: stop",
        "x" * 31 + ": is no label",
        "two\r\nlines\nhere",
        "日本語で 書く",
        '"quoted" words "THEN" more',
        "a back\\slash",
    ],
)
def test_what_only_looks_like_syntax_is_text(task: str) -> None:
    assert tasks(task) == [task]
    assert tasks(f"chat: {task}") == [task]
    assert tasks(f"(x THEN {task}) AND z") == ["x", task, "z"]


@pytest.mark.parametrize(
    ("source", "task"),
    [
        ('"cats AND dogs"', "cats AND dogs"),
        ('chat: "note: (a"', "note: (a"),
        (r'"say \"hi\" to C:\\new and C:\new"', r'say "hi" to C:\new and C:\new'),
        ('  " kept "  ', " kept "),
        ('("a) b")', "a) b"),
    ],
)
def test_a_task_that_is_one_string_is_unquoted(source: str, task: str) -> None:
    assert tasks(source) == [task]


@given(nasty_tasks)
def test_quotes_take_anything_literally(task: str) -> None:
    quoted = '"' + task.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert tasks(f"a THEN {quoted}AND {quoted}") == ["a", task, task]


def test_a_keyword_may_touch_quotes_and_parentheses() -> None:
    assert tasks('"a"THEN(b AND"c")') == ["a", "b", "c"]


def test_a_needle_has_the_same_escapes_as_a_task() -> None:
    stage = read(r'a THEN IF_CONTAINS ( "a \"b\" \\ (THEN" ) b').root.stages[1]
    assert stage.condition == Condition(On.CONTAINS, r'a "b" \ (THEN')


@pytest.mark.parametrize(
    ("label", "pin"),
    [
        ("chat:", ("chat", None, None)),
        ("chat@ollama:", ("chat", "ollama", None)),
        ("chat@ollama/deepseek-coder:1.3b:", ("chat", "ollama", "deepseek-coder:1.3b")),
        ("chat@openrouter/meta-llama/llama-3:free:", ("chat", "openrouter", "meta-llama/llama-3:free")),
        ("docs-writer@cloudflare/@cf/meta/llama_3.1:", ("docs-writer", "cloudflare", "@cf/meta/llama_3.1")),
    ],
)
@pytest.mark.parametrize("space", [" ", "\n", "\t", "\r\n"])
def test_a_label_names_a_goblin_and_may_pin_provider_and_model(
    label: str, pin: tuple[str, str | None, str | None], space: str
) -> None:
    (step,) = read(f"{label}{space}hi there").steps
    assert (step.goblin, step.provider, step.model) == pin
    assert step.task == "hi there"


def test_an_unlabelled_branch_takes_label_and_pin_of_the_step_before_it_in_its_stage() -> None:
    plan = read("a AND review@ollama/x: b AND (c AND d) AND (e THEN f) AND g THEN h")
    labels = [(step.task, step.goblin, step.model) for step in plan.steps]
    assert labels == [
        ("a", "chat", None),
        ("b", "review", "x"),
        ("c", "chat", None),
        ("d", "chat", None),
        ("e", "chat", None),
        ("f", "chat", None),
        ("g", "review", "x"),
        ("h", "chat", None),
    ]


def test_a_default_goblin_is_not_needed_where_every_stage_begins_with_a_label() -> None:
    assert [step.goblin for step in read("chat: a AND b THEN plan: c", default=None).steps] == ["chat", "chat", "plan"]
