"""The figures of a benchmark run: one table for people, one file for machines."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """`unit` x: a ratio, which is what may be compared between machines; all else shows where it comes from."""

    bench: str
    what: str
    value: float
    unit: str = ""


def show(rows: Sequence[Row]) -> None:
    table = Table("benchmark", "what", "value")
    table.columns[2].justify = "right"
    for before, row in zip((None, *rows), rows, strict=False):
        if before and before.bench != row.bench:
            table.add_section()
        is_new = before is None or before.bench != row.bench
        style = "bold" if row.unit == "x" else ""
        table.add_row(row.bench if is_new else "", row.what, f"{row.value:,.2f} {row.unit}".strip(), style=style)
    Console().print(table)


def save(rows: Sequence[Row]) -> Path:
    now = datetime.now(UTC)
    file = RESULTS / f"{now:%Y-%m-%dT%H%M%SZ}.json"
    file.parent.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    file.write_text(json.dumps({"at": now.isoformat(), **machine, "rows": [asdict(row) for row in rows]}, indent=1))
    return file
