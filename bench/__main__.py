"""`python -m bench [NAME …]`: runs the named benchmarks, or all of them, and shows one table.

Only the ratios mean something, and only within one run: each contender had the same machine, at the same time.
"""

import sys
from collections.abc import Callable, Mapping

from bench import admission, batch, calls_held, estimate, first_token, memory, noop_flow, score, steps_per_second
from bench.ground import Ground
from bench.table import Row, save, show

BENCHES: Mapping[str, Callable[[Ground], list[Row]]] = {
    "noop_flow": noop_flow.measure,
    "calls_held": calls_held.measure,
    "first_token": first_token.measure,
    "steps_per_second": steps_per_second.measure,
    "memory": memory.measure,
    "score": score.measure,
    "admission": admission.measure,
    "estimate": estimate.measure,
    "batch": batch.measure,
}


def main(names: list[str]) -> int:
    if unknown := set(names) - BENCHES.keys():
        print(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    rows: list[Row] = []
    for name in names or BENCHES:
        print(f"{name} …", file=sys.stderr, flush=True)
        with Ground.prepared() as ground:  # each begins with empty servers
            rows += BENCHES[name](ground)
    show(rows)
    print(f"written to {save(rows)}")
    sys.unraisablehook = lambda _: None  # results of plain Celery's client complain when the interpreter ends them
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
