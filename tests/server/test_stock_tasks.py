"""MONAI Label's loop with its own client: strategies, saved labels, batches, scoring, training."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monailabel.client import MONAILabelClient

from bird_server import service
from bird_server.learning.strategies import STRATEGIES
from bird_server.learning.tasks import BOARD
from scripted import ABSENT, PRESENT, assert_refused, nifti, wait_until

MODEL = "bird_grounding"
PATIENCE_S = 120


@pytest.fixture
def a_client(a_server, tmp_path) -> MONAILabelClient:
    return MONAILabelClient(a_server.url, tmpdir=str(tmp_path))


@pytest.fixture
def a_study(a_client, tmp_path) -> str:
    """The id of a new image of the studies, as the plugin uploads it."""
    name = f"study_{uuid.uuid4().hex[:8]}"
    path = tmp_path / f"{name}.nii.gz"
    values = np.random.default_rng(uuid.uuid4().int % 2**32).normal(size=(12, 10, 8))
    nibabel.save(nifti(values.astype(np.float32)), path)
    assert a_client.upload_image(str(path), name) == {"image": name}
    return name


def report_of(study: str):
    store = service.current().review.store
    (found,) = [s for s in store.summaries() if s.places.study == f"{study}.nii.gz"]
    return store.report(found.case.volume_digest)


def finished(session, kind: str) -> dict:
    wait_until(lambda: "end_ts" in session.get(f"/{kind}/").json(), seconds=PATIENCE_S)
    return session.get(f"/{kind}/").json()


def test_the_info_tells_all_that_the_plugin_shows(a_client):
    info = a_client.info()

    assert set(info["strategies"]) == set(STRATEGIES)
    assert info["trainers"]["bird"]["config"]["max_minutes"] == 60.0
    assert "reviews" in info["scoring"]
    assert info["train_stats"] == {"bird": {}} or "best_metric" in info["train_stats"]["bird"]


def test_an_answer_about_a_study_waits_for_its_review(a_client, a_study):
    a_client.infer(MODEL, a_study, {"prompt": f"{PRESENT}, {ABSENT}"})

    report = report_of(a_study)

    assert [found.status for found in report.findings] == ["proposed"]
    assert [absence.prompt for absence in report.absences] == [ABSENT]


def test_an_answer_about_a_session_is_no_ones_to_review(a_client, a_volume_file, tmp_path):
    before = len(service.current().review.store.summaries())
    path = tmp_path / "passing.nii.gz"
    nibabel.save(nifti(np.random.default_rng(11).normal(size=(9, 9, 6)).astype(np.float32)), path)
    session_id = a_client.create_session(str(path))["session_id"]

    a_client.infer(MODEL, "", {"prompt": PRESENT}, session_id=session_id)

    assert len(service.current().review.store.summaries()) == before


def test_a_saved_answer_becomes_an_accepted_finding(a_client, a_study):
    file, _ = a_client.infer(MODEL, a_study, {"prompt": PRESENT})

    saved = a_client.save_label(a_study, file, params={"user": "ann"})

    (found,) = report_of(a_study).findings
    assert saved["review"]["accepted"] == [found.finding_id]
    assert (found.status, found.reviewer) == ("accepted", "ann")


def test_a_saved_label_map_becomes_findings_drawn_by_hand(a_client, a_study, a_server, tmp_path):
    image = nibabel.load(a_server.studies / f"{a_study}.nii.gz")
    values = np.zeros(image.shape, np.uint8)
    values[3:8, 2:6, 1:5] = 2
    path = tmp_path / "label.nii.gz"
    nibabel.save(nibabel.Nifti1Image(values, image.affine), path)
    info = {"label_info": [{"name": "Spleen", "idx": 2}]}

    saved = a_client.save_label(a_study, str(path), params=info)

    (found,) = report_of(a_study).findings
    assert saved["review"]["added"] == [found.finding_id]
    assert (found.content.label, found.content.slices) == ("Spleen", (1, 4))


def test_a_label_that_cannot_be_told_is_kept_untouched(a_client, a_study, a_server, tmp_path):
    path = tmp_path / "label.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)), path)

    saved = a_client.save_label(a_study, str(path), params={})

    assert "names" in saved["review"]["kept"]
    kept = a_server.studies / "labels" / "final" / f"{a_study}.nii.gz"
    assert kept.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_the_next_sample_is_an_image_of_the_studies(a_client, a_study, strategy):
    a_client.infer(MODEL, a_study, {"prompt": PRESENT})

    sample = a_client.next_sample(strategy, {})

    assert Path(sample["path"]).is_file()
    assert sample["id"] in sample["path"]
    assert sample["reasons"]


def test_an_image_that_nobody_asked_about_is_offered_at_last(a_client, a_study, a_session):
    for summary in service.current().review.store.summaries():
        for found in service.current().review.store.report(summary.case.volume_digest).findings:
            if found.status == "proposed":
                body = {"action": "accept", "revision": found.revision, "reviewer": "ann"}
                a_session.patch(f"/bird/v1/findings/{found.finding_id}", json=body)

    sample = a_client.next_sample("uncertainty", {})

    assert sample["reasons"] == ["never asked about"]


def test_a_batch_saves_answers_and_proposes_them(a_session, a_client, a_study, a_server):
    params = {"prompt": f"{PRESENT}, {ABSENT}", "device": "cuda", "max_workers": 1}
    started = a_session.post(f"/batch/infer/{MODEL}?images=unlabeled", json=params)
    assert started.status_code == 200, started.text
    assert {"id", "status", "request", "start_ts"} <= set(started.json())

    wait_until(lambda: "end_ts" in a_session.get("/batch/infer").json(), seconds=PATIENCE_S)
    done = a_session.get("/batch/infer").json()

    assert done["status"] == "DONE", done
    assert done["result"][a_study]["found"] == "1 findings, 1 labels absent"
    assert done["result"][a_study]["tag"] == "original"
    assert (a_server.studies / "labels" / "original" / f"{a_study}.mrk.json").is_file()
    assert [found.status for found in report_of(a_study).findings] == ["proposed"]


@pytest.fixture
def a_broken_study(a_session, a_server) -> Iterator[str]:
    """The id of an image that came by itself and holds no volume."""
    name = f"broken_{uuid.uuid4().hex[:8]}"
    path = a_server.studies / f"{name}.nii.gz"
    path.write_bytes(b"no volume")
    wait_until(lambda: name in a_session.get("/datastore/?output=all").text, seconds=PATIENCE_S)
    yield name
    path.unlink()


def test_a_batch_goes_on_where_an_image_cannot_be_read(
    a_session, a_client, a_study, a_broken_study
):
    body = {"images": [a_broken_study, a_study], "prompt": PRESENT}

    answer = a_session.post(f"/batch/infer/{MODEL}?run_sync=true", json=body)

    assert answer.status_code == 200, answer.text
    assert set(answer.json()[a_broken_study]) == {"error"}
    assert "found" in answer.json()[a_study]


def test_a_batch_is_stopped_between_images(a_session, a_client, a_study, a_model):
    a_model.hold()
    a_session.post(f"/batch/infer/{MODEL}", json={"prompt": PRESENT})
    wait_until(lambda: a_model.asked, seconds=PATIENCE_S)
    again = a_session.post(f"/batch/infer/{MODEL}", json={"prompt": PRESENT})
    assert_refused(again, 429, "busy")

    a_session.delete("/batch/infer")
    for _ in range(100):
        a_model.gate.release()

    wait_until(lambda: BOARD.running("batch_infer") is None, seconds=PATIENCE_S)
    assert a_session.get("/batch/infer").json()["status"] == "STOPPED"
    assert a_session.get("/batch/infer?check_if_running=true").status_code == 404


def test_scoring_tells_what_reviewers_made_of_a_version(a_session, a_client, a_study):
    file, _ = a_client.infer(MODEL, a_study, {"prompt": PRESENT})
    a_client.save_label(a_study, file, params={})

    scores = a_session.post("/scoring/reviews?run_sync=true").json()

    version = scores["scripted 0123456789abcdef"]
    assert version["accepted"] >= 1
    assert 0 < version["precision"] <= 1
    assert a_session.post("/scoring/").json()["reviews"]["result"]["status"]
    assert finished(a_session, "scoring")["result"] == scores


def test_a_training_without_enough_cases_says_so(a_client, a_session):
    store = service.current().review.store
    for summary in store.summaries():
        for found in store.report(summary.case.volume_digest).findings:
            if found.status != "rejected":
                body = {"action": "reject", "revision": found.revision, "reviewer": "ann"}
                a_session.patch(f"/bird/v1/findings/{found.finding_id}", json=body)

    started = a_client.train_start("bird", {"steps": 1})
    assert started["status"] in ("SUBMITTED", "RUNNING", "ERROR")

    done = finished(a_session, "train")
    assert done["status"] == "ERROR"
    assert "at least 2 cases" in done["details"][-1]
    assert not a_client.train_status(check_if_running=True)
    assert a_client.train_status()["id"] == started["id"]
    assert a_client.train_stop() is None


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        pytest.param("/train/unicorn", {}, 404, "unknown_task", id="trainer"),
        pytest.param("/batch/infer/unicorn", {}, 404, "unknown_task", id="model"),
        pytest.param("/scoring/unicorn", {}, 404, "unknown_task", id="method"),
        pytest.param("/train/bird", {"gpus": "0"}, 422, "bad_request", id="gpus"),
        pytest.param("/train/bird?run_sync=true", {"steps": "x"}, 422, "bad_request", id="steps"),
        pytest.param("/train/bird", [1], 422, "bad_request", id="no object"),
        pytest.param(f"/batch/infer/{MODEL}?images=some", {}, 422, "bad_request", id="images"),
        pytest.param(
            f"/batch/infer/{MODEL}?run_sync=true",
            {"max_batch_size": -1},
            422,
            "bad_request",
            id="batch size",
        ),
    ],
)
def test_what_cannot_be_started_is_refused(a_session, path, body, status, code):
    assert_refused(a_session.post(path, json=body), status, code)


def test_versions_are_listed_and_an_unknown_one_is_refused(a_session):
    told = a_session.get("/bird/v1/versions").json()

    assert told["in_use"] == "0123456789abcdef"
    assert told["versions"][0]["status"] == "original"
    assert a_session.post("/bird/v1/versions/original/use").json() == told
    assert_refused(a_session.post("/bird/v1/versions/r9/use"), 404, "unknown_version")
