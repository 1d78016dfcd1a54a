"""The review routes on a running server: cases, decisions, conflicts, drawings, exports."""

from __future__ import annotations

import uuid
from pathlib import Path

import nibabel
import numpy as np
import pytest

from bird_server import service
from bird_vlm.volumes import read_volume
from scripted import ABSENT, PRESENT, assert_refused, nifti

BOX = {"slice": 2, "box_pixel": [2.0, 2.0, 6.0, 5.0]}


@pytest.fixture
def a_volume_file(tmp_path) -> Path:
    """A volume that only these tests ask about."""
    path = tmp_path / "scan.nii.gz"
    values = np.random.default_rng(70).normal(size=(12, 10, 8)).astype(np.float32)
    nibabel.save(nifti(values), path)
    return path


@pytest.fixture
def a_case(a_session, a_volume_id, a_volume_file) -> str:
    """The digest of the uploaded volume, with one finding and one absence."""
    body = {"volume_id": a_volume_id, "labels": [PRESENT, ABSENT]}
    answer = a_session.post("/bird/v1/ground", json=body)
    assert answer.ok, answer.text
    return read_volume(a_volume_file).digest


@pytest.fixture
def a_finding(a_session, a_case) -> dict:
    """That finding, open and as the store has it now."""
    (found,) = [f for f in case(a_session, a_case)["findings"] if f["model"]]
    if found["status"] != "proposed":
        found = change(a_session, found, "reopen").json()
    return found


def case(session, key: str, **query) -> dict:
    answer = session.get(f"/bird/v1/cases/{key}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def change(session, found: dict, action: str, **more):
    body = {"action": action, "revision": found["revision"], "reviewer": "ann"} | more
    return session.patch(f"/bird/v1/findings/{found['finding_id']}", json=body)


def step(session, found: dict, which: str):
    body = {"revision": found["revision"], "reviewer": "ann"}
    return session.post(f"/bird/v1/findings/{found['finding_id']}/{which}", json=body)


def draw(session, key: str, **more):
    body = {"label": "spleen", "reviewer": "ann", "boxes": [BOX]} | more
    return session.post(f"/bird/v1/cases/{key}/findings", json=body)


def test_what_a_model_answered_is_a_case_under_both_of_its_ids(a_session, a_case, a_volume_id):
    by_upload = case(a_session, a_volume_id)

    assert by_upload == case(a_session, a_case)
    assert (by_upload["volume_digest"], by_upload["volume_id"]) == (a_case, a_volume_id)
    assert by_upload["name"] == "scan.nii.gz"
    assert by_upload["geometry"]["shape_ijk"] == [12, 10, 8]
    assert [absence["prompt"] for absence in by_upload["absences"]] in ([ABSENT], [])
    (found,) = [f for f in by_upload["findings"] if f["model"]]
    assert found["model"] == {"id": "scripted", "version": "0123456789abcdef"}
    assert len(found["boxes"]) == 8
    assert by_upload["histories"] is None


def test_the_list_of_cases_filters(a_session, a_case, a_finding):
    def listed(**query):
        answer = a_session.get("/bird/v1/cases", params=query)
        assert answer.status_code == 200, answer.text
        return [found["volume_digest"] for found in answer.json()["cases"]]

    assert a_case in listed(unreviewed=True)
    assert a_case in listed(name="SCAN")
    assert listed(name="nobody has this name") == []
    assert listed(missing="unicorn") == []
    assert listed(offset=10**6) == []
    change(a_session, a_finding, "accept")
    assert a_case not in listed(unreviewed=True)


def test_a_finding_is_accepted_edited_and_taken_back(a_session, a_finding):
    accepted = change(a_session, a_finding, "accept", comment="clear").json()
    edited = change(a_session, accepted, "edit", boxes=[BOX], label="left liver").json()
    undone = step(a_session, edited, "undo").json()
    redone = step(a_session, undone, "redo").json()

    assert (accepted["status"], accepted["reviewer"]) == ("accepted", "ann")
    assert (edited["status"], edited["label"], edited["slices"]) == ("edited", "left liver", [2, 2])
    assert edited["boxes"][0]["box_pixel"] == BOX["box_pixel"]
    assert (undone["status"], undone["label"], undone["can_redo"]) == ("accepted", PRESENT, True)
    assert (redone["status"], redone["label"], redone["can_redo"]) == (
        "edited",
        "left liver",
        False,
    )
    told = a_session.get(f"/bird/v1/findings/{a_finding['finding_id']}?history=true").json()
    kinds = [event["kind"] for event in told["history"]]
    assert kinds[-4:] == ["accepted", "edited", "undone", "redone"]
    step(a_session, step(a_session, redone, "undo").json(), "undo")


def test_an_edit_by_roi_cuts_its_boxes(a_session, a_finding):
    roi = a_finding["roi"] | {"size_mm": [4.0, 4.0, 7.0]}

    edited = change(a_session, a_finding, "edit", roi=roi).json()

    assert edited["roi"]["size_mm"] == [4.0, 4.0, 7.0]
    assert len(edited["boxes"]) < len(a_finding["boxes"])
    assert step(a_session, edited, "undo").json()["boxes"] == a_finding["boxes"]


def test_a_stale_change_is_refused_with_what_stands_now(a_session, a_finding):
    change(a_session, a_finding, "reject", reviewer="bob", comment="artefact")

    refused = change(a_session, a_finding, "accept")

    assert refused.status_code == 409
    problem = refused.json()
    assert problem["error"] == "stale_revision"
    assert "bob" in problem["detail"]
    assert problem["present"]["status"] == "rejected"
    assert problem["present"]["comment"] == "artefact"
    assert change(a_session, problem["present"], "accept").status_code == 200


def test_nothing_to_redo_is_refused_with_what_stands_now(a_session, a_finding):
    refused = step(a_session, change(a_session, a_finding, "accept").json(), "redo")

    assert (refused.status_code, refused.json()["error"]) == (409, "nothing_to_step")
    assert refused.json()["present"]["status"] == "accepted"


@pytest.mark.parametrize(
    ("action", "more"),
    [
        pytest.param("edit", {}, id="edit without a change"),
        pytest.param("edit", {"boxes": []}, id="no boxes"),
        pytest.param("edit", {"boxes": [BOX, BOX]}, id="two on a slice"),
        pytest.param("edit", {"boxes": [BOX | {"slice": 99}]}, id="slice outside"),
        pytest.param("edit", {"boxes": [BOX | {"box_pixel": [0, 0, 99, 5]}]}, id="box outside"),
        pytest.param("edit", {"boxes": [BOX | {"box_pixel": [1, 2, 3]}]}, id="three numbers"),
        pytest.param("edit", {"label": "<box>"}, id="control token"),
        pytest.param("edit", {"roi": {"center_ras": [0, 0, 0], "size_mm": [1, 1, 0]}}, id="flat"),
        pytest.param("accept", {"label": "liver"}, id="accept with an edit"),
        pytest.param("approve", {}, id="unknown action"),
        pytest.param("accept", {"revision": 0}, id="revision 0"),
        pytest.param("accept", {"revision": 99}, id="revision to come"),
        pytest.param("accept", {"reviewer": ""}, id="no reviewer"),
        pytest.param("accept", {"reviewer": "a\u0000b"}, id="control character"),
        pytest.param("accept", {"comment": "x" * 4001}, id="long comment"),
        pytest.param("accept", {"by": "ann"}, id="unknown key"),
    ],
)
def test_a_change_that_cannot_be_is_refused(a_session, a_finding, action, more):
    answer = change(a_session, a_finding, action, **more)

    assert_refused(answer, 422, answer.json()["error"])
    now = a_session.get(f"/bird/v1/findings/{a_finding['finding_id']}").json()
    assert now == a_finding


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        pytest.param("GET", f"cases/{'0' * 32}", 404, "unknown_case", id="case"),
        pytest.param("GET", f"cases/{'0' * 64}", 404, "unknown_volume", id="upload"),
        pytest.param("GET", "cases/..%2f..%2fetc", 400, "bad_path", id="path"),
        pytest.param("GET", "cases/short", 422, "bad_request", id="no id"),
        pytest.param("GET", f"findings/{'0' * 32}", 404, "unknown_finding", id="finding"),
        pytest.param("GET", f"cases/{'0' * 32}/export/csv", 404, "unknown_case", id="export"),
        pytest.param("GET", "cases?order=best", 422, "bad_request", id="order"),
        pytest.param("GET", "cases?limit=501", 422, "bad_request", id="limit"),
        pytest.param("GET", "findings?status=done", 422, "bad_request", id="status"),
        pytest.param("GET", "cases/next?strategy=best", 422, "bad_request", id="strategy"),
    ],
)
def test_what_is_not_there_is_told(a_session, method, path, status, code):
    assert_refused(a_session.request(method, f"/bird/v1/{path}"), status, code)


def test_a_finding_drawn_by_hand_joins_the_case(a_session, a_case):
    answer = draw(a_session, a_case, comment="missed")

    found = answer.json()
    assert answer.status_code == 201
    assert (found["status"], found["model"], found["score"]) == ("accepted", None, 1.0)
    assert found["finding_id"] in [f["finding_id"] for f in case(a_session, a_case)["findings"]]


def test_drawing_again_under_the_same_id_adds_nothing(a_session, a_case):
    finding_id = uuid.uuid4().hex

    first = draw(a_session, a_case, finding_id=finding_id)
    second = draw(a_session, a_case, finding_id=finding_id)

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()


def test_drawing_makes_the_case_of_an_upload_that_nobody_asked_about(a_session, tmp_path):
    import nibabel
    import numpy as np

    from scripted import nifti

    path = tmp_path / "fresh.nii.gz"
    values = np.random.default_rng(uuid.uuid4().int % 2**32).normal(size=(9, 9, 5))
    nibabel.save(nifti(values.astype(np.float32)), path)
    answer = a_session.put("/bird/v1/volumes?name=fresh.nii.gz", data=path.read_bytes())
    volume_id = answer.json()["volume_id"]
    assert_refused(a_session.get(f"/bird/v1/cases/{volume_id}"), 404, "unknown_case")

    drawn = draw(a_session, volume_id)

    assert drawn.status_code == 201, drawn.text
    made = case(a_session, volume_id)
    assert (made["name"], made["volume_id"]) == ("fresh.nii.gz", volume_id)
    assert made["counts"]["accepted"] == 1


def test_remarks_are_kept_once_each(a_session, a_case):
    text = f"motion {uuid.uuid4().hex}"
    body = {"reviewer": "ann", "text": text}

    for _ in range(2):
        answer = a_session.put(f"/bird/v1/cases/{a_case}/notes", json=body)

    assert answer.status_code == 200, answer.text
    assert [note["text"] for note in answer.json()["notes"]].count(text) == 1
    assert case(a_session, a_case)["note_list"][-1]["text"] == text


def test_the_next_case_comes_with_its_reasons(a_session, a_case, a_finding):
    strategies = a_session.get("/bird/v1/strategies").json()["strategies"]
    assert set(strategies) == {"uncertainty", "disagreement", "missing-organ", "random"}

    told = a_session.get("/bird/v1/cases/next", params={"strategy": "uncertainty"}).json()

    assert told["strategy"] == "uncertainty"
    assert told["left"] >= 1
    assert told["case"]["counts"]["proposed"] >= 1
    after = a_session.get(f"/bird/v1/cases/{told['case']['volume_digest']}/next").json()
    assert after["left"] == told["left"] - 1


def test_the_work_list_holds_the_findings_of_a_case(a_session, a_finding, a_volume_id):
    query = {"case": a_volume_id, "status": ["proposed", "edited"], "label": PRESENT.upper()}

    page = a_session.get("/bird/v1/findings", params=query).json()

    assert a_finding in page["findings"]
    assert page["total"] == len(page["findings"])


@pytest.mark.parametrize(
    ("kind", "beginning"),
    [
        pytest.param("markups", b"{", id="markups"),
        pytest.param("csv", b"volume_digest,case", id="csv"),
        pytest.param("coco", b"{", id="coco"),
        pytest.param("html", b"<!DOCTYPE html>", id="html"),
    ],
)
def test_a_case_is_exported(a_session, a_finding, a_volume_id, kind, beginning):
    change(a_session, a_finding, "accept")

    answer = a_session.get(f"/bird/v1/cases/{a_volume_id}/export/{kind}")

    assert answer.status_code == 200, answer.text
    assert answer.content.lstrip(b"\xef\xbb\xbf").lower().startswith(beginning.lower())
    assert answer.headers["content-disposition"].startswith('attachment; filename="scan_')
    assert "sandbox" in answer.headers["content-security-policy"]
    if kind == "html":
        assert b"data:image/" in answer.content


def test_dicom_sr_of_a_volume_that_is_no_dicom_says_so_or_is_a_dicom_file(
    a_session, a_finding, a_case
):
    change(a_session, a_finding, "accept")

    answer = a_session.get(f"/bird/v1/cases/{a_case}/export/dicom-sr")

    if answer.status_code == 200:
        assert answer.content[128:132] == b"DICM"
    else:
        assert_refused(answer, 422, "export_failed")


def test_a_volume_that_expired_leaves_its_review(a_session, a_case, a_volume_id, a_server):
    path = service.current().store.path(a_volume_id)
    hidden = path.with_name("hidden")
    path.rename(hidden)
    try:
        assert case(a_session, a_volume_id)["volume_id"] is None
        report = a_session.get(f"/bird/v1/cases/{a_volume_id}/export/html")
        assert report.status_code == 200
        assert b"data:image/" not in report.content
    finally:
        hidden.rename(path)
