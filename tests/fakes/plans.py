"""Hypothesis strategies: plans as the parser makes them, and what their steps may become."""

from hypothesis import strategies as st

from workflow.outcome import Outcome, Settled
from workflow.plan import Condition, On, Plan, Sequence, Stage, Step

GOBLINS = ("docs-writer", "code-writer", "analyze", "review", "plan", "chat")
WORDS = ("approved", "Rejected", "straße", "needs work")

goblins = st.sampled_from(GOBLINS)
pins = st.sampled_from([(None, None), ("ollama", None), ("ollama", "coder:1.3b"), ("x.y-z", "a/b-3:free@c_d")])
tasks = st.sampled_from(["write tests", "say hello", "check it", "translate that"])
needles = st.sampled_from([*WORDS, "STRASSE", "APPROVED\n", 'a "\\" b', " "])
conditions = st.none() | st.one_of(
    st.just(Condition(On.SUCCESS)),
    st.just(Condition(On.FAILURE)),
    needles.map(lambda needle: Condition(On.CONTAINS, needle)),
)

# Pieces that the language gives a meaning to, so that tasks are made of them more often than chance would.
_PIECES = (
    "THEN",
    "AND",
    "ELSE",
    "IF_SUCCESS",
    "IF_CONTAINS",
    "(",
    ")",
    '"',
    "\\",
    " ",
    "\n",
    "\r\n",
    "chat: ",
    "\xa0",
    "é",
)
_storable = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
nasty_tasks = st.one_of(
    st.lists(st.sampled_from(_PIECES) | _storable, min_size=1, max_size=12).map("".join),
    st.lists(st.sampled_from(_PIECES) | _storable, min_size=1, max_size=8).map(" ".join),
    st.text(_storable, min_size=1, max_size=20),
).filter(str.strip)

succeeded = st.lists(st.sampled_from(WORDS), max_size=2).map(lambda words: Settled(Outcome.SUCCEEDED, " ".join(words)))
outcomes = succeeded | st.just(Settled(Outcome.FAILED))
"""What a step that runs may come to."""

any_outcomes = outcomes | st.sampled_from([Settled(Outcome.CANCELLED), Settled(Outcome.SKIPPED)])
"""The same, and what may befall it from outside."""


class _Grower:
    """Draws a tree in text order, so that steps are numbered as they come; `left` is how many may still come."""

    def __init__(self, draw: st.DrawFn, tasks: st.SearchStrategy[str], size: int) -> None:
        self.draw = draw
        self.tasks = tasks
        self.left = size
        self.count = 0

    def has_more(self) -> bool:
        return self.left > 0 and self.draw(st.booleans())

    def sequence(self, depth: int, is_group: bool) -> Sequence:
        stages = [self.stage(depth, keep=1 if is_group else 0)]
        while self.has_more() or (is_group and len(stages) == 1):
            condition = self.draw(conditions)
            stage = self.stage(depth)
            otherwise = self.stage(depth) if condition and self.has_more() else None
            stages.append(Stage(stage.branches, condition, otherwise))
        return Sequence(tuple(stages))

    def stage(self, depth: int, keep: int = 0) -> Stage:
        """`keep` steps are left for what must still follow."""
        self.left -= keep
        branches = [self.branch(depth)]
        while self.has_more():
            branches.append(self.branch(depth))
        self.left += keep
        return Stage(tuple(branches))

    def branch(self, depth: int) -> Step | Sequence:
        if depth and self.left > 1 and self.draw(st.booleans()):
            return self.sequence(depth - 1, is_group=True)
        provider, model = self.draw(pins)
        step = Step(self.count, self.draw(goblins), self.draw(self.tasks), provider, model)
        self.count += 1
        self.left -= 1
        return step


@st.composite
def plans(draw: st.DrawFn, max_steps: int = 12, max_depth: int = 3, tasks: st.SearchStrategy[str] = tasks) -> Plan:
    """Plans in the parser's normal form: no group of a single stage, no workflow that is a single group."""
    root = _Grower(draw, tasks, size=draw(st.integers(1, max_steps))).sequence(max_depth, is_group=False)
    match root.stages:
        case (Stage(branches=(Sequence() as group,)),):
            return Plan(group)
    return Plan(root)
