"""The Celery tasks, thin: workers.step knows what a message means; here its result becomes what Celery shows."""

import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

from celery import Celery, Task, shared_task
from celery.exceptions import Ignore
from celery.signals import celeryd_after_setup, worker_shutdown, worker_shutting_down
from kombu.exceptions import OperationalError

from goblin.errors import LeaseLost, Unavailable
from ledger import attempts, marks
from ledger.states import StepStatus
from workers import step as steps
from workers.app import STEPS, App, provider_queue
from workers.canvas import CALL, JOIN, SOUND, STEP, send
from workers.consume import TakenRequest
from workers.errand import Busy, Done, Errand, HandOver, PassOn, Result, Stale, Turn, Wait
from workers.runtime import Runtime, build
from workers.wait import enter
from workers.wake import ROOM

Perform: TypeAlias = Callable[[Runtime], Result]
_STATUSES = {status.value for status in StepStatus}
_NAMES = {StepStatus.FAILED: "task-failed", StepStatus.SKIPPED: "task-skipped", StepStatus.CANCELLED: "task-revoked"}


class TruthfulRequest(TakenRequest):
    """Sends what a step became, not that its task returned: an outcome is a value in the canvas, also a failed one."""

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002 - Celery's name for it
        event, told = truth(fields) if type == "task-succeeded" else (type, fields)
        super().send_event(event, **told)


def truth(fields: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The event for a returned outcome, which arrives as the text of `as_line`."""
    line = str(fields.get("result", "")).removeprefix("'").removesuffix("'").replace("\\'", "'")
    status, _, rest = line.partition("|")
    name, _, error = rest.partition("|")
    if status not in _STATUSES:
        return "task-succeeded", dict(fields)
    shown = {"name": name, "runtime": fields.get("runtime")}
    event = _NAMES.get(StepStatus(status), "task-succeeded")
    if event == "task-failed":
        return event, {**shown, "exception": error, "traceback": ""}
    return event, {**shown, "result": status}


class StepTask(Task):
    Request = TruthfulRequest


class _Process:
    """The runtime of this worker process: one, made when the first task or the worker itself needs it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runtime: Runtime | None = None

    def runtime(self, app: App) -> Runtime:
        with self._lock:
            if self._runtime is None:
                self._runtime = build(app.settings, app.amqp.queues.consume_from, self.send(app))
                self._runtime.start()
            return self._runtime

    @staticmethod
    def send(app: Celery) -> Callable[[Mapping[str, Any]], None]:
        """How this process publishes messages that have waited. Raises Unavailable without the broker."""
        return lambda message: send(app.signature(dict(message)))

    def adopt(self, runtime: Runtime) -> None:
        with self._lock:
            self._runtime = runtime
            runtime.start()

    def drain(self) -> None:
        """Let the calls in flight end within the grace, then give them back."""
        if (runtime := self._runtime) is not None:
            runtime.leases.drain(runtime.settings.worker.grace)

    def close(self) -> None:
        if self._runtime is not None:
            self._runtime.stop()


process = _Process()


@shared_task(bind=True, base=StepTask, name=STEP)
def step(self: Task, run: str, idx: int, epoch: int) -> str:
    errand = Errand(uuid.UUID(run), idx, epoch, _turn(self))
    return _answer(self, errand, lambda runtime: steps.perform(runtime, errand))


@shared_task(bind=True, base=StepTask, name=CALL)
def call(self: Task, run: str, idx: int, epoch: int, attempt: str) -> str:
    errand = Errand(uuid.UUID(run), idx, epoch, _turn(self))
    return _answer(self, errand, lambda runtime: steps.call_admitted(runtime, errand, uuid.UUID(attempt)))


@shared_task(base=StepTask, name=JOIN)
def join() -> None:
    """Stands for steps side by side that ended; the next one reads from the ledger what they became."""


@shared_task(bind=True, name=SOUND, send_events=False)
def sound(self: Task, sent_at: str, of: str | None = None) -> None:
    marks.drained(process.runtime(self.app).ledger, sent_at, of)


def _answer(task: Task, errand: Errand, perform: Perform) -> str:
    """Turn the result of a step message into a return value, a wait, a hand-over or a silent end."""
    try:
        return _follow(task, errand, perform)
    except (LeaseLost, Unavailable) as gone:
        _show(task, "task-stale")  # recovery sends another one if there is still something to do
        raise Ignore from gone


def _follow(task: Task, errand: Errand, perform: Perform) -> str:
    runtime = process.runtime(task.app)
    while True:
        try:
            result = perform(runtime)
        finally:
            runtime.waker.freed(errand.turn.end())  # who was called and took no place has left it to others
        match result:
            case Done():
                _send(task.app, result.woken)
                return as_line(result)
            case Stale():
                _send(task.app, result.woken)
                _show(task, "task-stale")
                raise Ignore
            case HandOver():
                raise task.replace(_call_signature(task, errand, result))
            case PassOn():
                process.send(task.app)(_again(task))
                _show(task, "task-stale")
                raise Ignore
            case Wait():
                enter(runtime, result, _again(task))
                _show(task, "task-waiting")
                raise Ignore
            case Busy():
                if attempts.park(runtime.ledger, errand.run, errand.idx, _again(task)):
                    _show(task, "task-waiting")
                    raise Ignore


def _turn(task: Task) -> Turn:
    return Turn((task.request.headers or {}).get(ROOM, ""))


def _again(task: Task) -> dict[str, Any]:
    """The message once more, as readable in Flower as it was, and called out of no room."""
    headers = {name: value for name, value in (task.request.headers or {}).items() if name != ROOM}
    shown = {"argsrepr": task.request.argsrepr, "kwargsrepr": task.request.kwargsrepr, "headers": headers or None}
    return dict(task.signature_from_request(task.request, **shown))


def _show(task: Task, event: str) -> None:
    """What becomes of a message that ends without a word of Celery's. Whoever watches may miss it."""
    with suppress(OperationalError):
        task.send_event(event)


def as_line(done: Done) -> str:
    """The outcome as one line that `truth` can read back from an event: status, what Flower shows, the error."""
    shown = f"{done.goblin} @ {done.by}" if done.by else done.goblin
    return f"{done.status}|{shown}|{done.error or ''}"[:300]


def _call_signature(task: Task, errand: Errand, over: HandOver) -> Any:
    return task.app.signature(
        CALL,
        args=(errand.run.hex, errand.idx, errand.epoch, over.attempt.hex),
        immutable=True,
        queue=provider_queue(over.provider),
        shadow=f"{over.goblin} @ {over.provider}",
        argsrepr=f"run {errand.run} step {errand.idx + 1}",
        kwargsrepr="",
        ignore_result=True,
    )


def _send(app: Celery, signatures: tuple[Mapping[str, Any], ...]) -> None:
    """The messages that had waited for a step, whose own goes on also where the broker takes none of them."""
    with suppress(Unavailable):
        for waiting in signatures:
            process.send(app)(waiting)


@celeryd_after_setup.connect
def _open(sender: Any, instance: Any, **_: Any) -> None:  # noqa: ARG001
    if STEPS in instance.app.amqp.queues.consume_from:
        process.runtime(instance.app)


@worker_shutting_down.connect
def _drain(**_: Any) -> None:
    process.drain()


@worker_shutdown.connect
def _close(**_: Any) -> None:
    process.close()
