"""Says something plausible about what was read: docs, tests, a review, a release note, in the manner of the task."""

import re
from collections.abc import Callable

from providers.simulator.reading import Name, Reading, listed


def compose(reading: Reading) -> str:
    """The text of an answer. A prompt that asks for a verdict gets a review, without the verdict."""
    if reading.is_judged:
        return _review(reading)
    for pattern, write in _MANNERS:
        if pattern.search(reading.task):
            return write(reading)
    return _chat(reading)


def reason(reading: Reading) -> str:
    """What a reasoning model thinks before it answers."""
    return (
        f"The task is: {reading.task} I was given {reading.listed()}. "
        f"First I look at {reading.subject()} and what its callers may expect. "
        "Then I answer briefly and say what I could not check."
    )


def _docs(reading: Reading) -> str:
    if not reading.names:
        return (
            f"## Overview\n\n{reading.task}\n\nThere is no function or class here, so this covers the input as a whole."
        )
    caution = reading.pick(
        (
            "Arguments are not checked: pass values of the expected type.",
            "Has no side effects; calling it twice gives the same result.",
            "Raises whatever its arguments raise; nothing is swallowed.",
        )
    )
    return "\n\n".join(_entry(name, caution) for name in reading.names)


def _entry(name: Name, caution: str) -> str:
    if name.is_class:
        return f"## `{name.word}`\n\nRepresents one {name.spoken()} and keeps what belongs to it in one place."
    takes = listed(name.parameters) if name.parameters else "nothing"
    return f"## `{name.call()}`\n\nTakes {takes} and returns the result of {name.spoken()}. {caution}"


def _tests(reading: Reading) -> str:
    if reading.is_javascript():
        tests = [_javascript_test(name) for name in reading.names]
        return _fenced(reading.language, "\n\n".join(tests) or "test.todo('the input is handled');")
    functions = [name for name in reading.names if not name.is_class]
    if not functions:
        return f"There is no function to call here. What a test should show: {reading.task}"
    imports = f"from module import {', '.join(name.word for name in functions)}"
    return _fenced("python", "\n\n\n".join([imports, *map(_python_test, functions)]))


def _python_test(name: Name) -> str:
    return f"def test_{name.word}_gives_a_result():\n    assert {name.word}({_numbers(name)}) is not None"


def _javascript_test(name: Name) -> str:
    call = f"{'new ' if name.is_class else ''}{name.word}({_numbers(name)})"
    return f'test("{name.spoken()} gives a result", () => {{\n  expect({call}).toBeDefined();\n}});'


def _numbers(name: Name) -> str:
    return ", ".join(str(number) for number, _ in enumerate(name.parameters, 1))


def _review(reading: Reading) -> str:
    risk = reading.pick(
        (
            "inputs are not validated; a wrong type surfaces late.",
            "there is no test for the empty case.",
            "names are clear, but the return value is not documented.",
        )
    )
    return (
        f"I looked at {reading.listed()}.\n\n"
        "- Correctness: the main path does what its name says.\n"
        "- Readability: short and easy to follow.\n"
        f"- Risk: {risk}\n\n"
        "Nothing here blocks the next step."
    )


def _deploy(reading: Reading) -> str:
    return (
        f"# Release note\n\n- Ships {reading.listed()}: {reading.task}\n"
        "- Checks: tests are green, no migration is needed.\n"
        "- Rollout: 10 % first, everything after an hour without errors.\n"
        "- Rollback: redeploy the version before."
    )


def _optimize(reading: Reading) -> str:
    advice = reading.pick(
        (
            "compute once outside the loop and reuse it",
            "cache by argument, with a bounded size",
            "stream instead of building a list",
        )
    )
    return (
        f"The cost of {reading.subject()} is in repeated work. Suggestion: {advice}. "
        "Measure before and after; the result stays the same."
    )


def _plan(reading: Reading) -> str:
    return (
        f"Goal: {reading.task}\n\n"
        f"1. Write down what {reading.subject()} must do, with one example.\n"
        "2. Make the smallest change that does it.\n"
        "3. Test the example and the empty case.\n"
        "4. Review, then ship."
    )


def _summarize(reading: Reading) -> str:
    about = f"It defines {reading.listed()}." if reading.names else "It makes one point and supports it."
    return f"In short: {reading.task} {about}"


def _write(reading: Reading) -> str:
    name = reading.names[0] if reading.names else Name("solve", ("value",), is_class=False)
    result = name.parameters[0] if name.parameters else None
    parameters = ", ".join(name.parameters)
    if reading.is_javascript():
        code = f"// {reading.task}\nfunction {name.word}({parameters}) {{\n  return {result or 'null'};\n}}"
        return _fenced(reading.language, code)
    return _fenced("python", f"# {reading.task}\ndef {name.word}({parameters}):\n    return {result}")


def _chat(reading: Reading) -> str:
    opening = reading.pick(("Here is what I can say.", "A short answer.", "Gladly."))
    return (
        f"{opening} You asked: {reading.task} "
        f"The main thing about {reading.subject()} is to keep it simple and to check the result."
    )


def _fenced(language: str, code: str) -> str:
    return f"```{language}\n{code}\n```"


_MANNERS: tuple[tuple[re.Pattern[str], Callable[[Reading], str]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), write)
    for pattern, write in (
        (r"\btests?\b", _tests),
        (r"\b(deploy|release|roll ?out|ship)", _deploy),
        (r"\b(analy[sz]|review|quality|audit|coverage|check)", _review),
        (r"\b(document|docs?\b|docstring|comment|explain)", _docs),
        (r"\b(optimi[sz]|performance|faster|speed)", _optimize),
        (r"\bplan\b", _plan),
        (r"\bsummar", _summarize),
        (r"\b(write|implement|refactor|fix|generate|code)\b", _write),
    )
)
