"""What is wrong with a text, in words: one function per mistake, each naming the spot, what was expected and a cure."""

from collections.abc import Collection
from difflib import get_close_matches

from workflow.syntax import AND, CONDITIONS, ELSE, THEN, Kind, Token, WorkflowSyntaxError

_LISTED = 12  # goblins that an error names at most
_AS_TEXT = 'to have {word} as text, put the task in quotes: "… {word} …"'


def too_long(source: str, offset: int, max_bytes: int) -> WorkflowSyntaxError:
    return WorkflowSyntaxError(
        f"the workflow is longer than {max_bytes} bytes",
        source=source,
        offset=offset,
        expected=f"at most {max_bytes} bytes of text",
        suggestion="hand long material over as the run's input, and let the tasks refer to it",
    )


def unstorable(source: str, offset: int) -> WorkflowSyntaxError:
    return WorkflowSyntaxError(
        f"the character U+{ord(source[offset]):04X} cannot be stored",
        source=source,
        offset=offset,
        expected="text without NUL characters and lone surrogates",
        suggestion="remove it; such characters come from binary files and from wrong encodings",
    )


def too_many_steps(source: str, token: Token, max_steps: int) -> WorkflowSyntaxError:
    return _at(
        source,
        token,
        f"the workflow has more than {max_steps} steps",
        expected=f"at most {max_steps} steps",
        suggestion="split the work into several runs, or into a batch",
    )


def too_deep(source: str, opening: Token, max_depth: int) -> WorkflowSyntaxError:
    return _at(
        source,
        opening,
        f"groups stand more than {max_depth} deep in each other",
        expected=f"at most {max_depth} groups around a step",
        suggestion="dissolve groups: AND binds tighter than THEN, so most are not needed",
    )


def unknown_goblin(source: str, token: Token, name: str, goblins: Collection[str]) -> WorkflowSyntaxError:
    return _at(
        source,
        token,
        f'unknown goblin "{name}"',
        expected=_known(goblins),
        suggestion=f'{_nearest(name, goblins)}to have it as text, put the task in quotes: "{name}: …"',
    )


def unknown_default(source: str, name: str, goblins: Collection[str]) -> WorkflowSyntaxError:
    return WorkflowSyntaxError(
        f'unknown default goblin "{name}"',
        source=source,
        offset=0,
        expected=_known(goblins),
        suggestion=f"{_nearest(name, goblins)}the default_goblin of a request serves the steps without a label",
    )


def bad_pin(source: str, token: Token, name: str) -> WorkflowSyntaxError:
    return _at(
        source,
        token,
        "this label pins its step to nothing that can be named",
        expected=f"{name}@provider: or {name}@provider/model:",
        suggestion=f"complete the pin, as in {name}@ollama/llama3: …, or drop it",
    )


def no_goblin(source: str, token: Token, goblins: Collection[str]) -> WorkflowSyntaxError:
    name, colon, _ = token.text.partition(":")
    is_tight = bool(colon) and name in goblins
    cure = f"put a space behind the colon ({name}: …)" if is_tight else "put a label in front (chat: …)"
    return _at(
        source,
        token,
        "no goblin is named for this step",
        expected="a label, for there is no default goblin",
        suggestion=f"{cure} or give the request a default_goblin",
    )


def no_branch(source: str, before: Token | None, token: Token) -> WorkflowSyntaxError:
    """Something else stands where a step or a group should begin."""
    if token.text in CONDITIONS:
        return stray_condition(source, token)
    if token.kind is Kind.KEYWORD:
        return _at(
            source,
            token,
            f"{token.text} stands where a step should begin",
            expected="a step or a group",
            suggestion=f"put a step in front of {token.text}, or remove it; {_AS_TEXT.format(word=token.text)}",
        )
    if token.kind is Kind.CLOSE and before and before.kind is Kind.OPEN:
        return _at(source, before, "this group is empty", "a step in it", "put a step between the parentheses")
    if token.kind is Kind.CLOSE and not before:
        return unopened(source, token)
    if not before:
        return _at(source, token, "the workflow is empty", "a step", "write what is to be done, as in chat: say hello")
    return _at(
        source,
        token,
        f"nothing follows {before.text}",
        expected="a step or a group",
        suggestion=f"put a step behind {before.text}, or remove it; {_AS_TEXT.format(word=before.text)}",
    )


def empty_task(source: str, token: Token) -> WorkflowSyntaxError:
    reads_keyword = token.kind is Kind.KEYWORD
    return _at(
        source,
        token,
        "the task is empty",
        expected="what the goblin is to do",
        suggestion="write the task behind its label"
        + (f"; {_AS_TEXT.format(word=token.text)}" if reads_keyword else ", as in chat: say hello"),
    )


def stray(source: str, token: Token) -> WorkflowSyntaxError:
    """A stage is complete and something follows that cannot."""
    if token.text == ELSE:
        return _at(
            source,
            token,
            "this ELSE belongs to no condition",
            expected=f"{THEN}, {AND} or the end",
            suggestion=f"write {THEN} IF_SUCCESS … ELSE …; {_AS_TEXT.format(word=ELSE)}",
        )
    if token.text in CONDITIONS:
        return stray_condition(source, token)
    return _at(
        source,
        token,
        "text follows a group",
        expected=f"{THEN}, {AND} or the end behind the parenthesis",
        suggestion='a task that begins with a parenthesis takes a label, as in chat: (…) …, or quotes: "(…) …"',
    )


def stray_condition(source: str, token: Token) -> WorkflowSyntaxError:
    return _at(
        source,
        token,
        f"{token.text} does not stand right behind a {THEN}",
        expected="a condition only between THEN and the stage that it governs",
        suggestion=f"write … {THEN} {token.text} …; {_AS_TEXT.format(word=token.text)}",
    )


def bad_needle(source: str, token: Token) -> WorkflowSyntaxError:
    return _at(
        source,
        token,
        "IF_CONTAINS does not say what to look for",
        expected="a text in quotes and parentheses that is not empty",
        suggestion='write IF_CONTAINS("approved")',
    )


def unopened(source: str, closing: Token) -> WorkflowSyntaxError:
    return _at(
        source,
        closing,
        "this parenthesis closes nothing",
        expected="an opening one before it",
        suggestion='remove it, or put the task in quotes to have it as text: chat: "… ) …"',
    )


def unclosed(source: str, opening: Token) -> WorkflowSyntaxError:
    return _at(
        source,
        opening,
        "this parenthesis is never closed",
        expected="a closing one behind it",
        suggestion='close it, or put the task in quotes to have it as text: chat: "… ( …"',
    )


def unclosed_quote(source: str, token: Token) -> WorkflowSyntaxError:
    return _at(
        source,
        token,
        "this quote is never closed",
        expected='a closing " behind it',
        suggestion='close it, or put the task in quotes with a backslash before the quote: chat: "… \\" …"',
    )


def _at(source: str, token: Token, message: str, expected: str, suggestion: str) -> WorkflowSyntaxError:
    return WorkflowSyntaxError(message, source=source, offset=token.start, expected=expected, suggestion=suggestion)


def _known(goblins: Collection[str]) -> str:
    names = sorted(goblins)
    more = ", …" if len(names) > _LISTED else ""
    return f"one of {', '.join(names[:_LISTED])}{more}" if names else "a goblin, but none is configured"


def _nearest(name: str, goblins: Collection[str]) -> str:
    """The goblins that may have been meant: part of the name, or spelled alike; letter case ignored."""
    folded = name.casefold()
    known = {goblin.casefold(): goblin for goblin in sorted(goblins)}
    parts = [goblin for goblin in known if len(folded) > 2 and folded in goblin]
    near = dict.fromkeys(parts + get_close_matches(folded, known))
    return f"did you mean {' or '.join(known[goblin] for goblin in list(near)[:3])}? " if near else ""
