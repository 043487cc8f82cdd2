"""The only contact with Celery's canvas: a plan becomes chains, groups and chords of signatures that hold ids only.

Every step of a plan gets a message, also those that will be skipped: guards decide when it arrives. Signatures are
immutable, so nothing but the order travels through the canvas; the truth is read from the ledger.
"""

import uuid
from collections.abc import Collection
from typing import TypeAlias

from celery import Celery, chain, chord, group
from celery.canvas import Signature
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from goblin.errors import Unavailable
from workers.app import BATCH, STEPS, provider_queue
from workflow.plan import Plan, Sequence, Stage, Step

STEP, CALL, JOIN, SOUND = "goblin.step", "goblin.call", "goblin.join", "goblin.sound"
_Part: TypeAlias = Signature | list[Signature]  # a message, or several side by side


def publish(
    app: Celery, plan: Plan, run: uuid.UUID, epoch: int, settled: Collection[int] = (), queue: str = STEPS
) -> None:
    """Send the messages for what is left of a run. Raises Unavailable when the broker does not take them."""
    canvas = compile_canvas(app, plan, run, epoch, settled, queue)
    if canvas is not None:
        send(canvas)


def sound(app: Celery, sent_at: str, of: str | None = None) -> None:
    """Drop a line into a provider's queue, BATCH, or that of the steps: whoever takes it proves that all that was sent
    before has been taken.

    It may lie in a long queue for up to an hour. Raises Unavailable as `publish` does.
    """
    queue = STEPS if of is None else of if of == BATCH else provider_queue(of)
    args = (sent_at, of)
    send(app.signature(SOUND, args=args, immutable=True, queue=queue, expires=3_600, ignore_result=True))


def compile_canvas(
    app: Celery, plan: Plan, run: uuid.UUID, epoch: int, settled: Collection[int] = (), queue: str = STEPS
) -> Signature | None:
    """The canvas of all steps but the settled ones; None when nothing is left."""
    return _Compiler(app, run, epoch, frozenset(settled), queue).sequence(plan.root)


def send(canvas: Signature) -> None:
    """Publish a message or a canvas. Raises Unavailable when the broker does not take it."""
    try:
        canvas.apply_async()
    except (OperationalError, RedisError, OSError) as error:
        raise Unavailable("the broker cannot be reached", retry_after=2) from error


def step_signature(app: Celery, run: uuid.UUID, idx: int, epoch: int, goblin: str, queue: str = STEPS) -> Signature:
    where = f"run {run} step {idx + 1}"
    return app.signature(
        STEP,
        args=(run.hex, idx, epoch),
        immutable=True,
        queue=queue,
        shadow=goblin,
        argsrepr=where,
        kwargsrepr="",
        ignore_result=True,
    )


class _Compiler:
    def __init__(self, app: Celery, run: uuid.UUID, epoch: int, settled: frozenset[int], queue: str) -> None:
        self._app = app
        self._run = run
        self._epoch = epoch
        self._settled = settled
        self._queue = queue

    def sequence(self, sequence: Sequence, last: Signature | None = None) -> Signature | None:
        """`last` closes a sequence that ends side by side, where one message must stand for all of it."""
        parts = [part for stage in sequence.stages for part in self._stage(stage)]
        rest = last if parts and isinstance(parts[-1], list) else None
        for part in reversed(parts):
            rest = self._before(part, rest)
        return rest

    def _stage(self, stage: Stage) -> list[_Part]:
        branches = [made for branch in stage.every_branch if (made := self._branch(branch)) is not None]
        return branches if len(branches) < 2 else [branches]

    def _branch(self, branch: Step | Sequence) -> Signature | None:
        if isinstance(branch, Sequence):
            return self.sequence(branch, last=self._join())
        if branch.idx in self._settled:
            return None
        return step_signature(self._app, self._run, branch.idx, self._epoch, branch.goblin, self._queue)

    def _before(self, part: _Part, rest: Signature | None) -> Signature:
        if isinstance(part, list):
            header = group(part, app=self._app)
            return chord(header, rest, app=self._app) if rest is not None else header
        if rest is None:
            return part
        return chain(part, rest, app=self._app)

    def _join(self) -> Signature:
        return self._app.signature(
            JOIN, immutable=True, queue=self._queue, shadow="join", argsrepr=f"run {self._run}", ignore_result=True
        )
