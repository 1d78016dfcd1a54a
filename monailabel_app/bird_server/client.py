"""A small client of /bird/v1 for scripts: upload, submit, follow, fetch, cancel.

    client = Client("http://127.0.0.1:8000")
    volume = client.upload("scan.nii.gz")
    job = client.submit({"kind": "ground", "volume_id": volume.volume_id, "labels": ["liver"]})
    for event in client.events(job.job_id):
        print(event.name, event.data.get("done"), "of", event.data.get("total"))
    findings = client.result(job.job_id)["result"]["findings"]

A stream that breaks off is taken up where it was, also over a restart of the server. Knows nothing
about models; results are the JSON of `bird_vlm.contract`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import requests

API = 1
LAST = ("result", "error", "cancelled")
_PAUSE_S = 0.5  # between two attempts to reach a server that restarts


class ClientError(RuntimeError):
    """What went wrong, for whoever runs the script."""


class UnreachableError(ClientError):
    """Nobody answers at the address, or not for long."""


class RefusedError(ClientError):
    """The server's own words: `status`, `code`, the message, and `hint`."""

    def __init__(self, status: int, code: str, detail: str, hint: str) -> None:
        super().__init__(f"{detail} ({status} {code}). {hint}")
        self.status, self.code, self.detail, self.hint = status, code, detail, hint


class BusyError(RefusedError):
    """The queue is full; `retry_after_s` is when to try again."""

    def __init__(self, status: int, code: str, detail: str, hint: str, seconds: float) -> None:
        super().__init__(status, code, detail, hint)
        self.retry_after_s = seconds


@dataclass(frozen=True)
class Uploaded:
    """A stored volume."""

    volume_id: str  # SHA-256 of the bytes
    volume_digest: str  # by which reviews know it
    shape_ijk: tuple[int, int, int]
    ijk_to_ras: tuple[tuple[float, ...], ...]  # 4x4


@dataclass(frozen=True)
class JobStatus:
    """How far a job is."""

    job_id: str
    kind: str
    state: str  # queued, running, done, failed, cancelled
    done: int
    total: int | None
    attempt: int
    ahead: int  # jobs that wait before it
    error: dict[str, str] | None

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


@dataclass(frozen=True)
class JobEvent:
    """One event of a job."""

    event_id: str  # to go on from
    name: str  # progress, item, result, error, cancelled, stopped
    data: dict[str, Any] = field(default_factory=dict)


class Client:
    """One server. Every call raises UnreachableError, RefusedError or BusyError."""

    def __init__(
        self, url: str, token: str | None = None, name: str | None = None, patience_s: float = 300.0
    ) -> None:
        """`name` is who asks, for a fair share; `patience_s` the longest silence or restart."""
        self._url = f"{url.rstrip('/')}/bird/v1"
        self._patience_s = patience_s
        self._session = requests.Session()
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"
        if name:
            self._session.headers["X-BiRD-Client"] = name

    def close(self) -> None:
        self._session.close()

    def health(self) -> dict[str, Any]:
        """Raises ClientError where the server speaks another protocol."""
        health = self._call("GET", "/health").json()
        if health["api"] != API:
            raise ClientError(f"the server speaks protocol {health['api']}, this client {API}")
        return health

    def upload(self, path: str | Path, name: str | None = None) -> Uploaded:
        """Sends a volume file, or a .zip of one DICOM series."""
        path = Path(path)
        with path.open("rb") as file:
            answer = self._call("PUT", "/volumes", params={"name": name or path.name}, data=file)
        told = answer.json()
        geometry = told["volume"]
        return Uploaded(
            told["volume_id"],
            told["volume_digest"],
            tuple(geometry["shape_ijk"]),
            tuple(map(tuple, geometry["ijk_to_ras"])),
        )

    def submit(self, question: dict[str, Any], wait_s: float = 0.0) -> JobStatus:
        """Submits a question, as the body of POST /jobs.

        Where the queue is full, tries again for `wait_s` in all, then raises BusyError.
        """
        end = time.monotonic() + wait_s
        while True:
            try:
                return status_of(self._call("POST", "/jobs", json=question).json())
            except BusyError as error:
                if time.monotonic() + error.retry_after_s > end:
                    raise
                time.sleep(error.retry_after_s)

    def jobs(self, state: str | None = None) -> list[JobStatus]:
        listed = self._call("GET", "/jobs", params={"state": state} if state else None).json()
        return [status_of(job) for job in listed["jobs"]]

    def job(self, job_id: str) -> JobStatus:
        return status_of(self._call("GET", f"/jobs/{job_id}").json())

    def events(self, job_id: str, after: str = "") -> Iterator[JobEvent]:
        """All events after the one with the id `after`, to the last.

        Goes on where the connection broke off; after a restart of the server the job begins anew,
        and so do its events.
        """
        last_try = time.monotonic() + self._patience_s
        while True:
            try:
                for event in self._stream(job_id, after):
                    if event.name == "stopped":
                        break
                    yield event
                    after, last_try = event.event_id, time.monotonic() + self._patience_s
                    if event.name in LAST:
                        return
            except UnreachableError:
                if time.monotonic() > last_try:
                    raise
            time.sleep(_PAUSE_S)

    def result(self, job_id: str) -> dict[str, Any]:
        """{"result", "review", "warnings"} of a job that is done."""
        return self._call("GET", f"/jobs/{job_id}/result").json()

    def answer(self, question: dict[str, Any], wait_s: float = 0.0) -> dict[str, Any]:
        """Submits, waits and fetches: the result itself. Raises RefusedError for a failed job."""
        job = self.submit(question, wait_s)
        for _ in self.events(job.job_id):
            pass
        return self.result(job.job_id)["result"]

    def cancel(self, job_id: str) -> JobStatus:
        """Before its next batch; a job that is over is forgotten."""
        return status_of(self._call("DELETE", f"/jobs/{job_id}").json())

    def _stream(self, job_id: str, after: str) -> Iterator[JobEvent]:
        headers = {"Last-Event-ID": after} if after else {}
        with closing(
            self._call("GET", f"/jobs/{job_id}/events", headers=headers, stream=True)
        ) as a:
            try:
                yield from events_of(a.iter_lines(decode_unicode=True))
            except requests.RequestException as error:
                raise UnreachableError(f"the stream of job {job_id} broke off: {error}") from error

    def _call(self, method: str, route: str, **arguments: Any) -> requests.Response:
        times = (10.0, self._patience_s)
        try:
            answer = self._session.request(method, self._url + route, timeout=times, **arguments)
        except requests.RequestException as error:
            raise UnreachableError(f"{self._url} cannot be reached: {error}") from error
        if not answer.ok:
            raise refusal_of(answer.status_code, answer.text, answer.headers.get("Retry-After"))
        return answer


def events_of(lines: Iterable[str]) -> Iterator[JobEvent]:
    """The events of a stream, from its lines; comments and what is cut off are left out."""
    told: dict[str, str] = {}
    for line in lines:
        if line:
            key, _, value = line.partition(": ")
            told[key] = value
        elif "data" in told:
            yield JobEvent(told.get("id", ""), told["event"], json.loads(told["data"]))
            told = {}


def status_of(told: dict[str, Any]) -> JobStatus:
    """A job's JSON, checked for what this client needs of it."""
    try:
        return JobStatus(**{one.name: told[one.name] for one in fields(JobStatus)})
    except (KeyError, TypeError) as error:
        raise ClientError(f"the server's answer is no job: it lacks {error}") from error


def refusal_of(status: int, body: str, retry_after: str | None = None) -> RefusedError:
    """The typed error for an answer that is not 2xx."""
    try:
        told = json.loads(body)
        words = (told["error"], told["detail"], told["hint"])
    except (ValueError, KeyError, TypeError):
        words = ("unknown", f"the server answered {body[:80]!r}", "Is it a BiRD server?")
    if status == 429 and retry_after is not None:
        return BusyError(status, *words, float(retry_after))
    return RefusedError(status, *words)
