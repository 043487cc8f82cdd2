"""Text to plan.

    workflow  := stage { THEN [ condition ] stage [ ELSE stage ] }
    stage     := branch { AND branch }
    condition := IF_SUCCESS | IF_FAILURE | IF_CONTAINS "(" string ")"
    branch    := step | "(" workflow ")"
    step      := [ label ":" ] task
    label     := goblin [ "@" provider [ "/" model ] ]

One function per rule, one token of lookahead, nothing read twice: linear in the text. A task runs up to the next
keyword or the end of its group; strings and balanced parentheses in it are text, and a task that is one string is
unquoted. A label reaches the unlabelled branches after it in its stage, never across a parenthesis. Groups that change
nothing vanish. Whether a pinned provider exists is for others to say; `complaint` finds the words for every mistake.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from goblin.errors import ConfigError
from workflow import complaint
from workflow.plan import Condition, On, Plan, Sequence, Stage, Step
from workflow.syntax import AND, CONDITIONS, ELSE, THEN, Kind, Token, WorkflowSyntaxError, scan, unquote

__all__ = ["Limits", "WorkflowSyntaxError", "parse"]

_NAME = re.compile(r"[\w-]{1,30}")
_PIN = re.compile(r"([\w.-]+)(?:/(.+))?")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_DEEPEST = 100  # every level of nesting takes a few Python frames


@dataclass(frozen=True, slots=True)
class Limits:
    """What a workflow may take: bytes of UTF-8, steps, and groups one inside the other."""

    max_bytes: int = 65536
    max_steps: int = 200
    max_depth: int = 20

    def __post_init__(self) -> None:
        if self.max_depth > _DEEPEST:
            raise ConfigError(f"groups nest at most {_DEEPEST} deep: set max_depth to that or less")


_DEFAULT_LIMITS = Limits()


def parse(text: str, *, goblins: Collection[str], default_goblin: str | None, limits: Limits = _DEFAULT_LIMITS) -> Plan:
    """The plan of a workflow. Raises WorkflowSyntaxError, and nothing else, for a text that is none."""
    _check_text(text, limits.max_bytes)
    if default_goblin is not None and default_goblin not in goblins:
        raise complaint.unknown_default(text, default_goblin, goblins)
    return _Parser(text, frozenset(goblins), default_goblin, limits).plan()


def _check_text(text: str, max_bytes: int) -> None:
    # A character takes at least a byte, so a text that is far too long need not be encoded whole.
    encoded = text[: max_bytes + 1].encode("utf-8", "surrogatepass")
    if len(encoded) > max_bytes:
        raise complaint.too_long(text, len(encoded[:max_bytes].decode("utf-8", "ignore")), max_bytes)
    if unstorable := _UNSTORABLE.search(text):
        raise complaint.unstorable(text, unstorable.start())


@dataclass(frozen=True, slots=True)
class _Label:
    goblin: str
    provider: str | None = None
    model: str | None = None


class _Parser:
    def __init__(self, source: str, goblins: frozenset[str], default_goblin: str | None, limits: Limits) -> None:
        self._source = source
        self._goblins = goblins
        self._default = _Label(default_goblin) if default_goblin else None
        self._limits = limits
        self._tokens = scan(source)
        self._before: Token | None = None  # the one just taken
        self._token = next(self._tokens)
        self._count = 0
        self._depth = 0

    def plan(self) -> Plan:
        root = self._sequence()
        if self._token.kind is Kind.CLOSE:
            raise complaint.unopened(self._source, self._token)
        match root.stages:
            case (Stage(branches=(Sequence() as group,)),):
                return Plan(group)
        return Plan(root)

    def _sequence(self) -> Sequence:
        stages = [self._stage()]
        while self._takes(THEN):
            stages.append(self._conditional() if self._token.text in CONDITIONS else self._stage())
        if self._token.kind not in (Kind.END, Kind.CLOSE):
            raise complaint.stray(self._source, self._token)
        return Sequence(tuple(stages))

    def _conditional(self) -> Stage:
        condition = self._condition()
        stage = self._stage()
        otherwise = self._stage() if self._takes(ELSE) else None
        return Stage(stage.branches, condition, otherwise)

    def _condition(self) -> Condition:
        on = On(self._advance().text)
        return Condition(on, self._needle() if on is On.CONTAINS else None)

    def _needle(self) -> str:
        parts = []
        for kind in (Kind.OPEN, Kind.STRING, Kind.CLOSE):
            if self._token.kind is Kind.QUOTE:
                raise complaint.unclosed_quote(self._source, self._token)
            if self._token.kind is not kind or self._token.text == '""':
                raise complaint.bad_needle(self._source, self._token)
            parts.append(self._advance().text)
        return unquote(parts[1])

    def _stage(self) -> Stage:
        branches: list[Step | Sequence] = []
        label = self._default
        while True:
            if self._token.kind in (Kind.KEYWORD, Kind.CLOSE, Kind.END):
                raise complaint.no_branch(self._source, self._before, self._token)
            if self._token.kind is Kind.OPEN:
                branches += self._group()
            else:
                label = self._label() or label
                branches.append(self._step(label))
            if not self._takes(AND):
                return Stage(tuple(branches))

    def _group(self) -> tuple[Step | Sequence, ...]:
        """What a group adds to its stage: itself, or the branches of its only stage, which mean the same there."""
        opening = self._advance()
        if self._depth == self._limits.max_depth:
            raise complaint.too_deep(self._source, opening, self._limits.max_depth)
        self._depth += 1
        group = self._sequence()
        self._depth -= 1
        if self._token.kind is Kind.END:
            raise complaint.unclosed(self._source, opening)
        self._advance()
        return group.stages[0].branches if len(group.stages) == 1 else (group,)

    def _label(self) -> _Label | None:
        """The label in front of a task, taken; None when the task has none."""
        token = self._token
        behind = self._source[token.end : token.end + 1]
        if not token.text.endswith(":") or (behind and not behind.isspace()):
            return None
        name, at, pin = token.text[:-1].partition("@")
        if not _NAME.fullmatch(name):
            return None
        if name not in self._goblins:
            raise complaint.unknown_goblin(self._source, token, name, self._goblins)
        pinned = _PIN.fullmatch(pin)
        if at and not pinned:
            raise complaint.bad_pin(self._source, token, name)
        self._advance()
        return _Label(name, *pinned.groups()) if pinned else _Label(name)

    def _step(self, label: _Label | None) -> Step:
        if label is None:
            raise complaint.no_goblin(self._source, self._token, self._goblins)
        if self._count == self._limits.max_steps:
            raise complaint.too_many_steps(self._source, self._token, self._limits.max_steps)
        step = Step(self._count, label.goblin, self._task(), label.provider, label.model)
        self._count += 1
        return step

    def _task(self) -> str:
        first, last = self._token, self._last_of_task()
        if last is None:
            raise complaint.empty_task(self._source, first)
        if first is last and first.kind is Kind.STRING:
            task = unquote(first.text)
            if not task.strip():
                raise complaint.empty_task(self._source, first)
            return task
        return self._source[first.start : last.end]

    def _last_of_task(self) -> Token | None:
        """Takes the tokens of a task and returns the last one; None when there is none to take."""
        last = None
        opened: list[Token] = []
        while self._token.kind is not Kind.END:
            match self._token.kind:
                case Kind.QUOTE:
                    raise complaint.unclosed_quote(self._source, self._token)
                case Kind.KEYWORD | Kind.CLOSE if not opened:
                    return last
                case Kind.OPEN:
                    opened.append(self._token)
                case Kind.CLOSE:
                    opened.pop()
            last = self._advance()
        if opened:
            raise complaint.unclosed(self._source, opened[-1])
        return last

    def _takes(self, keyword: str) -> bool:
        if self._token.text != keyword:
            return False
        self._advance()
        return True

    def _advance(self) -> Token:
        self._before = taken = self._token
        self._token = next(self._tokens, taken)  # an END is never passed
        return taken
