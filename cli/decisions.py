"""The decisions of a run for people: who was ranked and by what, who was passed over, refused or resting, and why."""

from collections.abc import Iterable, Mapping
from typing import Any

from cli import show
from goblin.money import to_usd

COLUMNS = (
    "  candidate", ">score", ">latency", ">cost", ">success", ">bandwidth", ">first token", ">tokens/s", ">worst case"
)  # fmt: skip


def put(step: str, taken: Mapping[str, Any]) -> None:
    """One decision: for whom, what was needed, and every reason."""
    show.put(f"{step}{_heading(taken)}")
    for line in _lines(taken):
        show.put(f"  {line}")
    decision = taken["decision"]
    if rows := [_row(one) for one in decision.get("candidates", ())]:
        show.put_table(COLUMNS, rows)
    for said, reasons in (("resting", "resting"), ("no room", "short"), ("not", "refused")):
        for reason, names in show.by_reason(decision.get(reasons, {})).items():
            show.put(f"  {said} {', '.join(names)}: {reason}")
    show.put()


def has_strayed(steps: Iterable[Mapping[str, Any]]) -> bool:
    """Whether any decision does not follow again from what was kept of it."""
    return any(one["reproduced"] is False for step in steps for one in step["decisions"])


def put_replay(steps: Iterable[Mapping[str, Any]]) -> None:
    """How many decisions follow again from what was kept of them, with a line for each that does not."""
    known = [(step["id"], one) for step in steps for one in step["decisions"] if one["reproduced"] is not None]
    for step, one in known:
        if not one["reproduced"]:
            number = f" attempt {one['number']}" if one["number"] else ""
            show.put(f"{step}{number}: what was kept leads elsewhere")
    again = sum(one["reproduced"] is True for _, one in known)
    show.put(f"{again} of {len(known)} decisions follow again from what was kept of them")


def _heading(taken: Mapping[str, Any]) -> str:
    if taken["number"]:
        return f" attempt {taken['number']}: {taken['provider']}/{taken['model']} ({taken['status']})"
    return ": nobody" if taken["status"] == "failed" else ": waited"


def _lines(taken: Mapping[str, Any]) -> Iterable[str]:
    decision = taken["decision"]
    if cached := decision.get("cache"):
        yield f"the answer of {cached['step']} of run {cached['run']}, to an identical request; nobody was called"
        return
    if "flight" in decision:
        yield str(decision["flight"])
    if need := decision.get("need"):
        yield f"need: {_need(need)}"
    if weights := decision.get("weights"):
        shown = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
        yield f"weights: {shown}; {decision['required_bandwidth']:g} tokens/s score full marks"
    if price := decision.get("price"):
        rates = f"{_usd(price['input'])} in and {_usd(price['output'])} out per million tokens ({price['source']})"
        yield f"price: {rates}; held {show.dollars(taken['hold_usd'])}"


def _need(need: Mapping[str, Any]) -> str:
    parts = [
        need["task_class"],
        f"about {need.get('input_tokens', 0):,} tokens in",
        f"at most {need.get('output_tokens', 0):,} out",
    ]
    if need.get("provider"):
        parts.append("pinned to " + "/".join(filter(None, (need["provider"], need.get("model")))))
    parts += [f"only {name} {', '.join(need[name])}" for name in ("providers", "models") if need.get(name)]
    if need.get("preferred"):
        parts.append(f"rather {', '.join(need['preferred'])}")
    if need.get("prefer_local"):
        parts.append("rather local")
    if need.get("context_above"):
        parts.append(f"a window above {need['context_above']:,} tokens")
    return ", ".join(parts)


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    terms = (f"{one[name]:.3f}" for name in ("score", "latency", "cost", "success", "bandwidth"))
    speed = (show.seconds(one["ttft_s"]), f"{one['tokens_per_second']:.0f}", show.dollars(one["worst_case_usd"]))
    marks = "".join(f" ({mark})" for mark in ("local", "reasoning") if one[mark])
    return f"  {one['provider']}/{one['model']}{marks}", *terms, *speed


def _usd(nanousd: int) -> str:
    return show.dollars(to_usd(nanousd).rstrip("0").rstrip("."))
