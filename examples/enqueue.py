#!/usr/bin/env python
"""Submit many runs from a JSONL file, a bounded number at once. Run it again and nothing is submitted twice.

    python enqueue.py --make 10000 rows.jsonl      write a sample
    python enqueue.py rows.jsonl                   submit it to the API at GOBLIN_URL (http://127.0.0.1:3001)

A line is the body of POST /v1/runs: {"workflow": "summarize: this text", "input": {"text": "…"}, "options": {…}}.
Every line has an Idempotency-Key made from the file's name, its number and its content, so that the API knows a line
that it has taken before. Lines that were taken are noted in rows.jsonl.done, so that a second pass is quick, too.
Needs httpx and rich.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PATIENCE = 8  # tries of one line while the API is busy or away
TOLD_EVERY = 1_000  # lines, where there is no progress bar

Line = tuple[int, str, str]  # its number, its Idempotency-Key, its text


def read(file: Path, done: set[str]) -> Iterator[Line]:
    """The lines that are not done yet, one at a time: a file of a million lines takes no memory."""
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            key = hashlib.sha256(f"{file.name}:{number}:{line}".encode()).hexdigest()
            if key not in done:
                yield number, key, line


async def submit(client: httpx.AsyncClient, line: Line) -> str:
    """ "new", "known", or why it was refused. Waits as long as the API asks to when it is busy."""
    _, key, text = line
    pause = 0.5
    for _ in range(PATIENCE):
        try:
            answer = await client.post("/v1/runs", content=text, headers={"Idempotency-Key": key})
        except httpx.TransportError as error:
            reason, wait = f"no answer from the API: {error}", pause
        else:
            if answer.status_code == 202:
                return "known" if answer.headers.get("Idempotent-Replayed") else "new"
            if answer.status_code not in (429, 503):
                return describe(answer)
            reason, wait = describe(answer), float(answer.headers.get("Retry-After", pause))
        await asyncio.sleep(wait * random.uniform(1, 1.25))  # not all at the same moment
        pause = min(2 * pause, 30)
    return reason


def describe(answer: httpx.Response) -> str:
    try:
        return f"{answer.status_code}: {answer.json()['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code}"


async def submit_all(client: httpx.AsyncClient, file: Path, window: int) -> Counter[str]:
    """Keeps `window` requests in flight. Returns how many lines were new, known and refused."""
    note = file.with_name(file.name + ".done")
    done = set(note.read_text().split()) if note.exists() else set()
    lines, counts = read(file, done), Counter(skipped=len(done))
    total = sum(1 for line in file.open("rb") if line.strip()) - len(done)

    async def work() -> None:
        for line in lines:  # one iterator for all: each line is taken once
            outcome = await submit(client, line)
            if outcome in ("new", "known"):
                counts[outcome] += 1
                noted.write(line[1] + "\n")
            else:
                counts["refused"] += 1
                bar.console.print(f"line {line[0]}: {outcome}", style="red", highlight=False)
            bar.advance(task)
            sent = counts["new"] + counts["known"] + counts["refused"]
            if bar.disable and sent % TOLD_EVERY == 0:
                print(f"{sent} of {total}", flush=True)

    columns = (TextColumn("submitting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with note.open("a") as noted, Progress(*columns, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task("", total=total)
        await asyncio.gather(*(work() for _ in range(window)))
    return counts


def make(count: int, file: Path) -> None:
    """Write a sample."""
    with file.open("w", encoding="utf-8") as rows:
        for number in range(1, count + 1):
            row = {
                "workflow": "summarize: summarize this review in one sentence",
                "input": {"text": f"Review {number}: the parcel came on day {number % 9 + 1} and the fit was good."},
                "options": {"on_budget": "wait", "priority": -10, "metadata": {"row": str(number)}},
            }
            rows.write(json.dumps(row) + "\n")


async def main() -> int:
    parser = argparse.ArgumentParser(description="Submit a run for every line of a JSONL file.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--url", default=os.environ.get("GOBLIN_URL", "http://127.0.0.1:3001"))
    parser.add_argument("--window", type=int, default=64, help="requests in flight")
    parser.add_argument("--make", type=int, metavar="N", help="write a sample of N lines to the file instead")
    options = parser.parse_args()
    if options.make is not None:
        make(options.make, options.file)
        print(f"{options.make} lines in {options.file}")
        return 0
    if not options.file.is_file():
        parser.error(f"no file {options.file}: write a sample with --make 10000 {options.file}")
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("GOBLIN_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    limits = httpx.Limits(max_connections=options.window)
    async with httpx.AsyncClient(base_url=options.url, headers=headers, limits=limits, timeout=30) as client:
        counts = await submit_all(client, options.file, options.window)
    print(", ".join(f"{counts[name]} {name}" for name in ("new", "known", "skipped", "refused")))
    return 1 if counts["refused"] else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
