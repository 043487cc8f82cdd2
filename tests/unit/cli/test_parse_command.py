"""`goblin parse`: offline, a tree for people, the API's form for programs, a caret for mistakes."""

import json
from collections.abc import Callable

from typer.testing import Result

Goblin = Callable[..., Result]
COMPLEX = (
    "docs-writer: document code THEN code-writer: write tests AND analyze: check coverage "
    "THEN IF_SUCCESS deploy: prepare release"
)


def test_a_workflow_is_drawn_as_a_tree(goblin: Goblin) -> None:
    result = goblin("parse", COMPLEX)
    assert result.exit_code == 0
    assert [line.lstrip("│├└─ ").split("  ")[0].rstrip() for line in result.stdout.splitlines()] == [
        "4 steps, up to 2 at once",
        "step1 docs-writer: document code",
        "THEN side by side",
        "step2 code-writer: write tests",
        "step3 analyze: check coverage",
        "THEN IF_SUCCESS step4 deploy: prepare release",
    ]


def test_what_a_condition_looks_at_is_marked(goblin: Goblin) -> None:
    marked = [line for line in goblin("parse", COMPLEX).stdout.splitlines() if "a condition looks at it" in line]
    assert ["step2" in marked[0], "step3" in marked[1], len(marked)] == [True, True, 2]


def test_groups_pins_and_otherwise_are_shown(goblin: Goblin) -> None:
    text = 'chat: a THEN IF_CONTAINS("x") (chat: b THEN chat: c) AND chat@openai/gpt-9: d ELSE chat: e'
    shown = goblin("parse", text).stdout
    for part in ('THEN IF_CONTAINS "x" side by side', "group", "THEN step3", "chat @ openai/gpt-9: d", "ELSE step5"):
        assert part in shown


def test_json_has_the_form_of_the_api(goblin: Goblin) -> None:
    value = json.loads(goblin("parse", COMPLEX, "--json").stdout)
    assert [value[key] for key in ("total_batches", "max_parallel", "depth")] == [1, 2, 0]
    assert [step["id"] for step in value["steps"]] == ["step1", "step2", "step3", "step4"]
    assert value["steps"][3]["dependencies"] == ["step2", "step3"]


def test_a_mistake_is_pointed_at_and_exits_2(goblin: Goblin) -> None:
    result = goblin("parse", "chat: a THEN")
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].startswith("goblin: line 1, column 13:")
    assert lines[1:3] == ["  chat: a THEN", "              ^"]
    assert "hint:" in result.stderr


def test_a_goblin_of_ones_own_is_known(goblin: Goblin, tmp_path: object) -> None:
    with open("goblin.toml", "w") as file:  # noqa: PTH123 - the folder that the command runs in
        file.write('[goblins.poet]\ninstructions = "Rhyme."\ntask_class = "fast"\n')
    assert "poet: a poem" in goblin("parse", "poet: a poem").stdout


def test_steps_without_a_label_go_to_the_default_goblin(goblin: Goblin) -> None:
    assert "step1 summarize: it all" in goblin("parse", "it all", "--default-goblin", "summarize").stdout
    assert goblin("parse", "it all", "--default-goblin", "nobody").exit_code == 2
