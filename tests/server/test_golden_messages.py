"""The wire as files in tests/golden_messages: the server sends them, and both clients read them.

BIRD_WRITE_GOLDEN=1 writes the files anew from what the server sends now.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bird_server import client
from bird_server.jobs.queue import QueueLimits
from bird_server.review.review import Review
from bird_server.service import current
from scripted import ABSENT, PRESENT, nifti, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "extension" / "BiRD"))

from BiRDLib import answers  # noqa: E402
from BiRDLib.address import Address  # noqa: E402
from BiRDLib.refusals import refusal  # noqa: E402

FOLDER = REPOSITORY / "tests" / "golden_messages"
NAMES = (
    "health",
    "volume",
    "job",
    "ground_events",
    "ground_result",
    "ground_lines",
    "refer",
    "ask",
    "batch_result",
    "error",
    "busy",
)
# What differs from run to run, and is compared by its form alone.
_CHANGING = [
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{12}\+00:00"), "<time>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<id>"),
    (re.compile(r"(?<=\"version\": )\"[0-9][^\"]*\""), '"<version>"'),
]


def golden(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def masked(message: dict[str, Any]) -> str:
    text = json.dumps(message, indent=1)
    for changing, mark in _CHANGING:
        text = changing.sub(mark, text)
    return text


def message(answer, text: bool = False) -> dict[str, Any]:
    told = {"status": answer.status_code, "body": answer.text if text else answer.json()}
    wait = answer.headers.get("Retry-After")
    return told | ({"retry_after": wait} if wait else {})


class Conversation:
    """What is asked, for each of the files."""

    def __init__(self, session, model) -> None:
        self._session, self._model = session, model
        values = np.arange(12 * 10 * 8, dtype=np.int16).reshape(12, 10, 8)
        name = {"name": "scan.nii"}
        self._put = session.put("/bird/v1/volumes", params=name, data=nifti(values).to_bytes())
        self._volume_id = self._put.json()["volume_id"]
        self._where = {
            "kind": "ground",
            "volume_id": self._volume_id,
            "labels": [PRESENT, ABSENT],
            "slices": [2, 4],
        }

    def hear(self, name: str) -> dict[str, Any]:
        return getattr(self, name)()

    def _post(self, route: str, body: dict):
        return self._session.post(f"/bird/v1/{route}", json=body)

    def _ended_job(self, question: dict) -> str:
        job_id = self._post("jobs", question).json()["job_id"]
        wait_until(lambda: current().jobs.get(job_id).is_over, seconds=30)
        return f"/bird/v1/jobs/{job_id}"

    def health(self):
        return message(self._session.get("/bird/v1/health"))

    def volume(self):
        return message(self._put) | {"status": 201}

    def job(self):
        return message(self._session.get(self._ended_job(self._where)))

    def ground_events(self):
        return message(self._session.get(f"{self._ended_job(self._where)}/events"), text=True)

    def ground_result(self):
        return message(self._session.get(f"{self._ended_job(self._where)}/result"))

    def ground_lines(self):
        return message(self._post("ground", self._where), text=True)

    def refer(self):
        box = {"volume_id": self._volume_id, "box_ras": [2, 2, 3, 8, 8, 9]}
        return message(self._post("refer", box))

    def ask(self):
        question = {"volume_id": self._volume_id, "question": "What is shown?", "slice": 3}
        return message(self._post("ask", question))

    def batch_result(self):
        unknown = self._where | {"labels": ["unicorn"]}
        batch = {"kind": "batch", "questions": [self._where, unknown]}
        return message(self._session.get(f"{self._ended_job(batch)}/result"))

    def error(self):
        return message(self._post("ground", self._where | {"labels": ["unicorn"]}))

    def busy(self):
        current().jobs.queue.limits = QueueLimits(jobs=1)
        self._model.hold()
        self._post("jobs", self._where)
        return message(self._post("jobs", self._where))


@pytest.fixture
def no_reviews_yet(a_model, tmp_path) -> Iterator[None]:
    """What other tests asked is not known."""
    service = current()
    before, service.review = service.review, Review.open(tmp_path)
    yield
    service.review.store.close()
    service.review = before


@pytest.mark.parametrize("name", NAMES)
def test_the_server_says_what_the_file_says(a_session, a_model, no_reviews_yet, name):
    said = Conversation(a_session, a_model).hear(name)
    if os.environ.get("BIRD_WRITE_GOLDEN"):
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{name}.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")

    assert masked(said) == masked(golden(name))


def test_every_file_is_said_by_the_server():
    assert {path.stem for path in FOLDER.glob("*.json")} == set(NAMES)


# --- the Python client


def events() -> list[client.JobEvent]:
    return list(client.events_of(golden("ground_events")["body"].splitlines()))


def test_our_client_reads_a_job():
    status = client.status_of(golden("job")["body"])

    assert (status.kind, status.state, status.done, status.total) == ("ground", "done", 2, 2)
    assert status.is_over


def test_our_client_reads_the_events():
    assert [event.name for event in events()] == ["progress", "progress", "result"]
    assert [event.event_id for event in events()] == ["1-1", "1-2", "1-3"]
    assert events()[-1].data["result"] == golden("ground_result")["body"]["result"]


def test_our_client_reads_a_refusal():
    refusal = client.refusal_of(422, json.dumps(golden("error")["body"]))

    assert (refusal.status, refusal.code) == (422, "unknown_label")
    assert PRESENT in refusal.hint


def test_our_client_reads_when_to_come_again():
    told = golden("busy")

    refusal = client.refusal_of(told["status"], json.dumps(told["body"]), told["retry_after"])

    assert isinstance(refusal, client.BusyError)
    assert refusal.retry_after_s >= 1


# --- the extension's client


def test_the_extension_reads_the_health():
    health = answers.read_health(golden("health")["body"])

    assert health.model == "scripted"
    assert health.labels == {"ct": [PRESENT, ABSENT]}


def test_the_extension_reads_a_stored_volume():
    assert answers.read_stored_volume(golden("volume")["body"]).shape_ijk == (12, 10, 8)


@pytest.mark.parametrize("source", ["ground_lines", "ground_events"])
def test_the_extension_reads_progress_and_result(source):
    body = golden(source)["body"]
    lines = (
        body.splitlines() if source == "ground_lines" else [json.dumps(e.data) for e in events()]
    )
    *progress, last = map(json.loads, lines)

    assert [answers.read_progress(event).done for event in progress] == [1, 2]
    assert answers.read_progress(progress[0]).boxes[0].label == PRESENT
    grounding = answers.read_grounding(last["result"])
    assert grounding.findings[0].slices == (2, 3)
    assert grounding.absent == (ABSENT,)


def test_the_extension_reads_answers_in_words():
    assert answers.read_referring(golden("refer")["body"]).text == PRESENT
    assert answers.read_reply(golden("ask")["body"]).slice == 3


class Sent:
    """A message as http.client hands it out."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.status, self._body = told["status"], json.dumps(told["body"]).encode()

    def read(self, _limit: int) -> bytes:
        return self._body


@pytest.mark.parametrize("name", ["error", "busy"])
def test_the_extension_finds_code_words_and_hint_of_a_refusal(name):
    told = golden(name)

    error = refusal(Address("127.0.0.1:8000"), Sent(told))

    assert error.code == told["body"]["error"]
    assert (str(error), error.hint) == (told["body"]["detail"], told["body"]["hint"])
