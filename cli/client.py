"""The API over HTTP, as commands ask it; its refusals as our errors. A run's events are in `cli.events`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from goblin.errors import ConfigError, GoblinError, Unavailable, UsageError
from goblin.settings import environment

LOCAL = ("127.0.0.1", "localhost", "::1")
PROBE_S = 2.0
_STANDARD = ("type", "title", "status", "detail")


class Answered(GoblinError):
    """The API said no. `details` holds its `status`, its `problem` and whatever else it told."""


class Api:
    """One API. Raises Answered for its refusals, Unavailable when it cannot be reached."""

    def __init__(self, url: str, *, key: str | None = None) -> None:
        self.url = url.rstrip("/")
        headers = {"authorization": f"Bearer {key}"} if key else {}
        is_local = urlsplit(self.url).hostname in LOCAL
        self._client = httpx.Client(
            base_url=self.url, headers=headers, timeout=httpx.Timeout(30, connect=5), trust_env=not is_local
        )

    @property
    def client(self) -> httpx.Client:
        return self._client

    def health(self) -> Mapping[str, Any] | None:
        """What the API says of itself; None when nothing like it answers."""
        try:
            said = self._client.get("/api/health", timeout=PROBE_S).json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            return None
        return said if isinstance(said, dict) and {"status", "version", "uptime"} <= said.keys() else None

    def submit(self, request: Mapping[str, Any]) -> str:
        """The id of the new run."""
        return str(self._ask("POST", "/v1/runs", json=request)["id"])

    def run(self, run: str) -> dict[str, Any]:
        return self._ask("GET", f"/v1/runs/{part(run)}")

    def runs(self, *, limit: int, status: str | None) -> list[dict[str, Any]]:
        """Newest first."""
        found: list[dict[str, Any]] = []
        cursor = None
        while len(found) < limit:
            wanted = {"limit": min(100, limit - len(found)), "status": status, "cursor": cursor}
            page = self._ask("GET", "/v1/runs", params={key: value for key, value in wanted.items() if value})
            found += page["data"]
            cursor = page.get("next_cursor")
            if not cursor:
                break
        return found

    def cancel(self, run: str, step: str | None = None) -> dict[str, Any]:
        """The run, or the step if one is named."""
        what = f"{part(run)}/steps/{part(step)}" if step else part(run)
        return self._ask("POST", f"/v1/runs/{what}/cancel")

    def decisions(self, run: str) -> dict[str, Any]:
        return self._ask("GET", f"/v1/runs/{part(run)}/decisions")

    def upload(self, file: Path) -> str:
        """The id of a file of lines, which is read as it is sent."""
        with file.open("rb") as content:
            form = {"data": {"purpose": "batch"}, "files": {"file": (file.name, content)}}
            return str(self._ask("POST", "/v1/files", **form)["id"])

    def begin_batch(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._ask("POST", "/v1/batches", json=request)

    def batch(self, batch: str) -> dict[str, Any]:
        return self._ask("GET", f"/v1/batches/{part(batch)}")

    def cancel_batch(self, batch: str) -> dict[str, Any]:
        return self._ask("POST", f"/v1/batches/{part(batch)}/cancel")

    def content(self, file: str) -> Iterator[bytes]:
        """The bytes of a file, as they arrive."""
        try:
            with self._client.stream("GET", f"/v1/files/{part(file)}/content") as answer:
                if not answer.is_success:
                    answer.read()
                    raise refused(answer)
                yield from answer.iter_bytes()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self.unreachable() from error

    def budgets(self) -> dict[str, Any]:
        return self._ask("GET", "/v1/budgets")

    def usage(self, **wanted: str) -> dict[str, Any]:
        return self._ask("GET", "/v1/usage", params=wanted)

    def providers(self) -> dict[str, Any]:
        return self._ask("GET", "/providers")

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            answer = self._client.request(method, path, **request)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self.unreachable() from error
        except UnicodeEncodeError as error:
            raise UsageError("what was given is not text in UTF-8: is it binary?") from error
        if not answer.is_success:
            raise refused(answer)
        try:
            said = answer.json()
        except ValueError as error:
            raise Unavailable(f"what answers at {self.url} is not this API") from error
        return dict(said)

    def unreachable(self) -> Unavailable:
        return Unavailable(f"no API answers at {self.url}: start one with `goblin up`, or set GOBLIN_URL to another")


def refused(answer: httpx.Response) -> Answered:
    """The error in an answer whose body has been read."""
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    message = str(problem.get("detail") or f"the API answered {answer.status_code}")
    if answer.status_code == 401:
        message += " (goblin sends the key in GOBLIN_API_KEY)"
    more = {key: value for key, value in problem.items() if key not in _STANDARD}
    slug = str(problem.get("type", "")).rpartition("/")[2]
    return Answered(message, **{**more, "status": answer.status_code, "problem": slug})


def part(given: str) -> str:
    """What a user gave for an id, as one part of a path whatever is in it. Raises UsageError when it is empty."""
    if not given:
        raise UsageError("the id is empty: give that of a run (`goblin runs` lists them) or of a batch")
    return quote(given, safe="", errors="replace")


def key_of_environment() -> str | None:
    """Raises ConfigError for what no header can carry."""
    key = environment().get("GOBLIN_API_KEY") or None
    if key and not (key.isascii() and key.isprintable()):
        raise ConfigError("GOBLIN_API_KEY holds what no key has, such as the end of a line: copy it anew")
    return key
