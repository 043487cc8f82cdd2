"""`goblin parse`: a workflow as a tree, or as the JSON of POST /parse. Offline."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.tree import Tree

    from goblin.settings import Settings
    from workflow.plan import Plan, Sequence, Stage, Step


def parse(
    text: Annotated[str, typer.Argument(help="The workflow.")],
    default_goblin: Annotated[str, typer.Option(help="Who takes the steps without a label.")] = "chat",
    as_json: Annotated[bool, typer.Option("--json", help="The form of POST /parse.")] = False,
) -> None:
    """Show how a workflow is understood. Nothing is run."""
    from cli import show
    from goblin.settings import load

    plan = plan_of(text, load(), default_goblin)
    if as_json:
        show.put_json(as_value(plan))
    else:
        show.console().print(drawing(plan))


def plan_of(text: str, settings: "Settings", default_goblin: str | None) -> "Plan":
    """Raises WorkflowSyntaxError."""
    from workflow.parse import Limits
    from workflow.parse import parse as read

    limits = settings.limits
    bounds = Limits(limits.workflow_bytes, limits.workflow_steps, limits.workflow_depth)
    return read(text, goblins=settings.goblins, default_goblin=default_goblin, limits=bounds)


def as_value(plan: "Plan") -> dict[str, Any]:
    steps = [
        {
            "id": step.id,
            "goblin": step.goblin,
            "task": step.task,
            "dependencies": [plan.steps[idx].id for idx in plan.dependencies(step.idx)],
            "provider": step.provider,
            "model": step.model,
        }
        for step in plan.steps
    ]
    return {"steps": steps, "total_batches": 1, "max_parallel": plan.max_parallel, "depth": plan.depth}


def drawing(plan: "Plan") -> "Tree":
    from rich.text import Text
    from rich.tree import Tree

    count = len(plan.steps)
    at_once = f", up to {plan.max_parallel} at once" if plan.max_parallel > 1 else ""
    tree = Tree(Text(f"{count} step{'s' if count > 1 else ''}{at_once}", style="bold"), guide_style="dim")
    _add_stages(tree, plan.root, plan)
    return tree


def _add_stages(tree: "Tree", sequence: "Sequence", plan: "Plan") -> None:
    for index, stage in enumerate(sequence.stages):
        for word, side in _sides(stage, is_first=index == 0):
            _add_side(tree, word, side, plan)


def _sides(stage: "Stage", *, is_first: bool) -> "Iterator[tuple[str, Stage]]":
    condition = stage.condition
    needle = f' "{condition.needle}"' if condition and condition.needle else ""
    yield ("" if is_first else f"THEN {condition.on}{needle}" if condition else "THEN"), stage
    if stage.otherwise:
        yield "ELSE", stage.otherwise


def _add_side(tree: "Tree", word: str, stage: "Stage", plan: "Plan") -> None:
    from rich.text import Text

    from workflow.plan import Step

    if len(stage.branches) == 1 and isinstance(stage.branches[0], Step):
        tree.add(_line(word, stage.branches[0], plan))
        return
    title = f"{word} side by side" if len(stage.branches) > 1 else word
    node = tree.add(Text(title.strip() or "first", style="yellow"))
    for branch in stage.branches:
        if isinstance(branch, Step):
            node.add(_line("", branch, plan))
        else:
            _add_stages(node.add(Text("group", style="yellow")), branch, plan)


def _line(word: str, step: "Step", plan: "Plan") -> Any:
    from rich.text import Text

    pin = "".join(f" @ {name}" for name in ["/".join(part for part in (step.provider, step.model) if part)] if name)
    gate = "  (a condition looks at it)" if step.idx in plan.gates else ""
    return Text.assemble(
        (f"{word} " if word else "", "yellow"),
        (step.id, "dim"),
        " ",
        (step.goblin, "cyan"),
        (pin, "magenta"),
        ": ",
        " ".join(step.task.split()),
        (gate, "dim"),
    )
