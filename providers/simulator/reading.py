"""Understands a prompt a little: its task, the names in its code, whether it asks for a verdict."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

_FENCE = re.compile(r"```([\w+#.-]*)[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_TASK = re.compile(r"^[#>*\s]*task\b[ \t*]*:?[ \t*]*\n?(.+)$", re.IGNORECASE | re.MULTILINE)
_NAMES = re.compile(r"\b(?:def|function|func|fn)\s+(\w+)\s*\(([^)\n]*)\)|\bclass\s+([A-Z]\w*)")
_SUBSCRIPT = re.compile(r"\[[^\[\]]*\]")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|_+")
_SHOWN = 4  # names; more would bore


@dataclass(frozen=True, slots=True)
class Name:
    """A function or a class found in code."""

    word: str
    parameters: tuple[str, ...]
    is_class: bool

    def spoken(self) -> str:
        return _HUMP.sub(" ", self.word).strip().lower() or self.word

    def call(self) -> str:
        return self.word if self.is_class else f"{self.word}({', '.join(self.parameters)})"


@dataclass(frozen=True, slots=True)
class Reading:
    """What was understood of a prompt. The salt decides between phrases of equal worth."""

    task: str
    language: str
    names: tuple[Name, ...]
    is_judged: bool
    salt: bytes

    def pick(self, choices: Sequence[str]) -> str:
        return choices[self.salt[0] % len(choices)]

    def subject(self) -> str:
        return f"`{self.names[0].word}`" if self.names else "the input"

    def listed(self) -> str:
        return listed([name.word for name in self.names]) if self.names else "the input"

    def is_javascript(self) -> bool:
        return self.language in ("javascript", "js", "typescript", "ts")


def read(prompt: str, salt: str) -> Reading:
    """The first fence with names in it is taken for the code."""
    fences = _FENCE.findall(prompt)
    language, names = next(
        ((language, found) for language, code in fences if (found := _names(code))),
        (fences[0][0] if fences else "", _names(prompt)),
    )
    return Reading(
        task=_task(prompt),
        language=language.lower(),
        names=names,
        is_judged="VERDICT: PASS" in prompt and "VERDICT: FAIL" in prompt,
        salt=hashlib.sha256(f"{salt}\0{prompt}".encode("utf-8", "replace")).digest(),
    )


def listed(words: Sequence[str]) -> str:
    """`a`, `b` and `c`"""
    *rest, last = [f"`{word}`" for word in words]
    return f"{', '.join(rest)} and {last}" if rest else last


def _task(prompt: str) -> str:
    if found := _TASK.search(prompt):
        return _sentence(found[1])
    prose = [line for line in _FENCE.sub("\n", prompt).splitlines() if line.strip() and "VERDICT" not in line]
    return _sentence(prose[-1]) if prose else "nothing in particular."


def _sentence(text: str) -> str:
    text = text.strip()[:200]
    return text if text.endswith((".", "?", "!")) else text + "."


def _names(code: str) -> tuple[Name, ...]:
    found: dict[str, Name] = {}
    for function, parameters, class_ in _NAMES.findall(code):
        name = Name(function or class_, _parameters(parameters), is_class=bool(class_))
        if not name.word.startswith(("test_", "_")):
            found.setdefault(name.word, name)
    return tuple(found.values())[:_SHOWN]


def _parameters(text: str) -> tuple[str, ...]:
    while (plain := _SUBSCRIPT.sub("", text)) != text:  # commas within types part no parameters
        text = plain
    names = (re.split(r"[:=\s]", part.strip(), maxsplit=1)[0] for part in text.split(","))
    return tuple(name for name in names if name and name not in ("self", "cls", "*", "/"))
