"""/bird/v1 over real HTTP: volumes in, boxes and words out, and every refusal as JSON."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import threading
import time

import nibabel
import numpy as np
import pytest
from PIL import Image

from bird_vlm.contract import MAX_LABELS, PLANES
from scripted import (
    ABSENT,
    PRESENT,
    UPLOAD_LIMIT_BYTES,
    assert_refused,
    nifti,
    wait_until,
)


def ground(session, a_volume_id, **fields):
    body = {"volume_id": a_volume_id, "labels": [PRESENT]} | fields
    return session.post("/bird/v1/ground", json=body)


def lines(answer) -> list[dict]:
    return [json.loads(line) for line in answer.text.splitlines()]


def png_bytes(mode: str) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (20, 16)).save(buffer, "PNG")
    return buffer.getvalue()


# --- health and volumes


def test_health_says_what_the_server_can_do(a_session):
    health = a_session.get("/bird/v1/health").json()

    assert health["status"] == "ok"
    assert health["api"] == 1
    assert health["model"] == {
        "id": "scripted",
        "labels": {"ct": [PRESENT, ABSENT]},
        "device": "cpu",
        "version": "0123456789abcdef",
        "note": "",
    }
    assert health["planes"] == list(PLANES)
    assert health["tasks"] == ["ground", "refer", "caption", "ask", "batch"]
    assert ".zip" in health["formats"]
    assert health["limits"]["upload_bytes"] == UPLOAD_LIMIT_BYTES
    assert health["limits"]["labels"] == MAX_LABELS
    assert health["jobs"] == {"queued": 0, "running": 0}


def test_the_same_bytes_are_stored_once(a_session, a_server, tmp_path):
    image = nifti(np.random.default_rng(11).normal(size=(9, 7, 5)))
    nibabel.save(image, tmp_path / "a.nii.gz")
    content = (tmp_path / "a.nii.gz").read_bytes()

    first = a_session.put("/bird/v1/volumes?name=a.nii.gz", data=content)
    second = a_session.put("/bird/v1/volumes?name=another%20name.NII.GZ", data=content)

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert first.json()["volume_id"] == hashlib.sha256(content).hexdigest()
    assert first.json()["volume"]["shape_ijk"] == [9, 7, 5]
    np.testing.assert_allclose(first.json()["volume"]["ijk_to_ras"], image.affine)
    folder = a_server.studies / ".bird" / "volumes"
    assert [path.name for path in folder.glob(f"{first.json()['volume_id']}*")] == [
        f"{first.json()['volume_id']}.nii.gz"
    ]
    assert not list((folder / "incoming").iterdir())


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_picture_is_a_volume_of_one_slice(a_session, mode):
    answer = a_session.put("/bird/v1/volumes?name=x.png", data=png_bytes(mode))

    assert answer.json()["volume"]["shape_ijk"] == [20, 16, 1]


def nifti_bytes(array: np.ndarray) -> bytes:
    return gzip.compress(nifti(array).to_bytes())


def rgb_volume() -> np.ndarray:
    return np.zeros((6, 6, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])


def detached_nrrd(padding: int = 0) -> bytes:
    comments = "# padding of the header\n" * padding
    return (
        f"NRRD0004\n{comments}type: uchar\ndimension: 3\nsizes: 8 8 8\nencoding: raw\n"
        "data file: /etc/services\n\n"
    ).encode()


BAD_VOLUMES = [
    pytest.param("x.nii.gz", lambda: nifti_bytes(np.zeros((6, 6, 6, 3))), id="4D"),
    pytest.param("x.nii.gz", lambda: nifti_bytes(np.full((6, 6, 6), np.nan)), id="NaN"),
    pytest.param(
        "x.nii.gz", lambda: nifti_bytes(np.random.normal(size=(20, 20, 20)))[:-2000], id="truncated"
    ),
    pytest.param("x.nii", lambda: b"", id="empty"),
    pytest.param("x.nii", lambda: b"not a volume at all" * 50, id="garbage"),
    pytest.param("x.nii.gz", lambda: nifti_bytes(rgb_volume()), id="RGB volume"),
    pytest.param("x.nrrd", detached_nrrd, id="NRRD that points at another file"),
    pytest.param(
        "x.nrrd",
        lambda: detached_nrrd(padding=4000),
        id="NRRD that points at another file after a long header",
    ),
    pytest.param(
        "x.mha",
        lambda: (
            b"ObjectType = Image\nNDims = 2\nDimSize = 8 8\nElementType = MET_UCHAR\n"
            b"ElementDataFile = /etc/services\n"
        ),
        id="MHA that points at another file",
    ),
    pytest.param("x.png", lambda: png_bytes("RGB")[:40], id="truncated PNG"),
    pytest.param("x.dcm", lambda: b"DICM" * 100, id="not DICOM"),
]


@pytest.mark.parametrize(("name", "content"), BAD_VOLUMES)
def test_an_unreadable_volume_is_refused_and_not_stored(a_session, a_server, name, content):
    folder = a_server.studies / ".bird" / "volumes"
    before = sorted(folder.rglob("*"))

    answer = a_session.put(f"/bird/v1/volumes?name={name}", data=content())

    problem = assert_refused(answer, 422, "bad_volume")
    assert problem["detail"].startswith(f"{name}: ")
    assert str(a_server.studies) not in answer.text
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("scan.exe", id="unknown suffix"),
        pytest.param("scan", id="no suffix"),
        pytest.param("detached.mhd", id="header without data"),
        pytest.param("a/b.nii", id="folder"),
        pytest.param("x" * 300 + ".nii", id="too long"),
        pytest.param("", id="empty"),
    ],
)
def test_a_bad_name_is_refused(a_session, name):
    answer = a_session.put("/bird/v1/volumes", params={"name": name}, data=b"x")

    assert_refused(answer, 400, "bad_name")


def test_an_upload_without_a_name_is_refused(a_session):
    assert_refused(a_session.put("/bird/v1/volumes", data=b"x"), 422, "bad_request")


def test_too_large_an_upload_is_refused_by_its_announced_length(a_session):
    content = bytes(UPLOAD_LIMIT_BYTES + 1)

    answer = a_session.put("/bird/v1/volumes?name=x.nii", data=content)

    assert_refused(answer, 413, "too_large")


def test_too_large_an_upload_is_refused_while_it_arrives_in_chunks(a_session, a_server):
    chunks = (bytes(1 << 16) for _ in range(UPLOAD_LIMIT_BYTES // (1 << 16) + 2))

    answer = a_session.put("/bird/v1/volumes?name=x.nii", data=chunks)

    assert_refused(answer, 413, "too_large")
    assert not list((a_server.studies / ".bird" / "volumes" / "incoming").iterdir())


# --- ground


def test_grounding_streams_progress_per_batch_and_ends_with_the_result(a_session, a_volume_id):
    answer = ground(a_session, a_volume_id, labels=[PRESENT, ABSENT], slices=[2, 6])

    assert answer.headers["content-type"] == "application/x-ndjson"
    *progress, last = lines(answer)
    assert [(event["event"], event["done"], event["total"]) for event in progress] == [
        ("progress", done, 4) for done in (1, 2, 3, 4)
    ]
    box = progress[0]["boxes"][0]
    assert set(box) == {"label", "slice", "score", "box_pixel", "corners_ras", "asked"}
    assert (box["label"], box["slice"], len(box["corners_ras"])) == (PRESENT, 2, 4)
    assert last["event"] == "result"
    assert last["result"]["absent"] == [ABSENT]
    assert last["result"]["findings"][0]["slices"] == [2, 5]
    assert last["result"]["volume"]["shape_ijk"] == [12, 10, 8]


def test_every_field_of_the_question_reaches_the_model(a_session, a_volume_id, a_model):
    ground(
        a_session,
        a_volume_id,
        labels=["  liver "],
        plane="coronal",
        slices=[1, 3],
        window=[40, 400],
        threshold=0.25,
        near=2,
    )

    (asked,) = a_model.asked
    assert (asked.labels, asked.plane, asked.slices) == (("liver",), "coronal", (1, 3))
    assert (asked.window, asked.threshold, asked.near) == ((40.0, 400.0), 0.25, 2)


def test_lines_arrive_while_the_model_is_still_at_work(a_session, a_volume_id, a_model):
    a_model.hold()
    a_model.gate.release()
    with a_session.post(
        "/bird/v1/ground", json={"volume_id": a_volume_id, "labels": [PRESENT]}, stream=True
    ) as answer:
        first = next(answer.iter_lines())

    assert json.loads(first)["done"] == 1
    assert not a_model.gate.acquire(blocking=False)


def test_closing_the_connection_cancels_before_the_next_batch(a_session, a_volume_id, a_model):
    a_model.hold()
    a_model.gate.release()
    answer = a_session.post(
        "/bird/v1/ground", json={"volume_id": a_volume_id, "labels": [PRESENT]}, stream=True
    )
    next(answer.iter_lines())
    answer.close()
    time.sleep(1.0)  # the server notices

    a_model.gate.release()  # the batch at work ends

    assert a_model.closed.wait(30)
    a_model.gate.release()
    assert a_model.gate.acquire(blocking=False), "the model went on to a third batch"


def test_a_failure_after_the_first_batch_is_the_last_line(a_session, a_volume_id, a_model, caplog):
    a_model.fails_at = 3

    *progress, last = lines(ground(a_session, a_volume_id))

    assert len(progress) == 3
    assert last["event"] == "error"
    assert set(last) == {"event", "error", "detail", "hint"}
    assert "secret" not in json.dumps(last)
    assert "secret" in caplog.text
    caplog.clear()


def test_a_failure_before_the_first_batch_is_json(a_session, a_volume_id, a_model, caplog):
    a_model.fails_at = 0

    answer = ground(a_session, a_volume_id)

    assert_refused(answer, 500, "server_error")
    assert "secret" not in answer.text
    assert "secret" in caplog.text
    caplog.clear()


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        pytest.param({"labels": ["unicorn"]}, 422, "unknown_label", id="unknown label"),
        pytest.param({"volume_id": "0" * 64}, 404, "unknown_volume", id="unknown volume"),
        pytest.param({"volume_id": "../../etc"}, 404, "unknown_volume", id="path as volume id"),
        pytest.param({"labels": []}, 422, "bad_request", id="no label"),
        pytest.param({"labels": [f"l{i}" for i in range(65)]}, 422, "bad_request", id="65 labels"),
        pytest.param({"labels": ["x" * 101]}, 422, "bad_request", id="long label"),
        pytest.param({"labels": ["<box>(1,1)"]}, 422, "bad_text", id="control tokens"),
        pytest.param({"labels": "liver"}, 422, "bad_request", id="labels not a list"),
        pytest.param({"labels": [1]}, 422, "bad_request", id="label not text"),
        pytest.param({"plane": "oblique"}, 422, "bad_request", id="unknown plane"),
        pytest.param({"slices": [5, 5]}, 422, "bad_request", id="empty range"),
        pytest.param({"slices": [0, 99]}, 422, "bad_request", id="range past the volume"),
        pytest.param({"slices": [1]}, 422, "bad_request", id="half a range"),
        pytest.param({"window": [40, 0]}, 422, "bad_request", id="no width"),
        pytest.param({"threshold": 1.5}, 422, "bad_request", id="threshold above 1"),
        pytest.param({"near": "middle"}, 422, "bad_request", id="near not a number"),
        pytest.param({"lables": ["liver"]}, 422, "bad_request", id="misspelt key"),
    ],
)
def test_a_bad_question_is_a_plain_http_error(a_session, a_volume_id, fields, status, code):
    assert_refused(ground(a_session, a_volume_id, **fields), status, code)


def test_an_unknown_label_is_answered_with_the_known_ones(a_session, a_volume_id):
    problem = assert_refused(
        ground(a_session, a_volume_id, labels=["unicorn"]), 422, "unknown_label"
    )

    assert PRESENT in problem["hint"]
    assert ABSENT in problem["hint"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"{not json", id="malformed"),
        pytest.param(b"\xff\xfe\x00", id="not UTF-8"),
        pytest.param(b"[" * 100_000, id="nested without end"),
        pytest.param(b"", id="empty"),
        pytest.param(b'"text"', id="not an object"),
        pytest.param(b'{"volume_id": "a", "labels": ["x"], "threshold": NaN}', id="NaN"),
    ],
)
@pytest.mark.parametrize("route", ["ground", "refer", "ask"])
def test_malformed_json_is_refused(a_session, route, body):
    answer = a_session.post(
        f"/bird/v1/{route}", data=body, headers={"content-type": "application/json"}
    )

    assert answer.status_code in (400, 422), answer.text
    code = "bad_text" if b"NaN" in body else "bad_request"
    assert_refused(answer, answer.status_code, code)


def test_a_json_body_may_not_be_huge(a_session):
    answer = a_session.post("/bird/v1/ground", json={"volume_id": "x" * (2 << 20), "labels": []})

    assert_refused(answer, 413, "too_large")


# --- refer and ask


def test_referring_names_what_is_in_the_box(a_session, a_volume_id):
    answer = a_session.post(
        "/bird/v1/refer", json={"volume_id": a_volume_id, "box_ras": [2, 2, 3, 8, 8, 9]}
    )

    assert answer.status_code == 200
    assert (answer.json()["text"], answer.json()["task"]) == (PRESENT, "roc")
    assert answer.json()["slice"] == 2


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"box_ras": [0, 0, 0, 1]}, id="four numbers"),
        pytest.param({"box_ras": [0, 0, 0, 1, 1, 1e30]}, id="out of this world"),
        pytest.param({"box_ras": [500, 500, 500, 501, 501, 501]}, id="outside the volume"),
        pytest.param({"task": "poem"}, id="unknown task"),
        pytest.param({"plane": "up"}, id="unknown plane"),
    ],
)
def test_a_bad_box_is_refused(a_session, a_volume_id, fields):
    body = {"volume_id": a_volume_id, "box_ras": [2, 2, 3, 8, 8, 9]} | fields

    assert_refused(a_session.post("/bird/v1/refer", json=body), 422, "bad_request")


def test_a_question_about_a_slice_is_answered(a_session, a_volume_id, a_model):
    body = {"volume_id": a_volume_id, "question": "Is it large?", "plane": "sagittal", "slice": 3}

    answer = a_session.post("/bird/v1/ask", json=body | {"window": [40, 400]})

    assert answer.json() == {
        "model": "scripted",
        "text": "an answer about slice 3",
        "score": 0.7,
        "slice": 3,
        "plane": "sagittal",
    }
    assert a_model.asked == [("Is it large?", (40.0, 400.0))]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"slice": 99}, id="no such slice"),
        pytest.param({"slice": -1}, id="negative slice"),
        pytest.param({"question": ""}, id="empty question"),
        pytest.param({"question": "x" * 5001}, id="endless question"),
        pytest.param({"plane": "up"}, id="unknown plane"),
    ],
)
def test_a_bad_question_in_words_is_refused(a_session, a_volume_id, fields):
    body = {"volume_id": a_volume_id, "question": "What?", "slice": 1} | fields

    assert_refused(a_session.post("/bird/v1/ask", json=body), 422, "bad_request")


# --- staying responsive


def test_health_and_info_answer_fast_while_many_inferences_wait(a_session, a_volume_id, a_model):
    a_model.hold()
    body = {"volume_id": a_volume_id, "labels": [PRESENT]}
    waiting = [
        threading.Thread(target=a_session.post, args=("/bird/v1/ground",), kwargs={"json": body})
        for _ in range(60)  # more than the server has worker threads
    ]
    for thread in waiting:
        thread.start()
    wait_until(lambda: a_model.asked, seconds=30)

    for route in ("/bird/v1/health", "/info/"):
        a_session.get(route)
        start = time.perf_counter()
        assert a_session.get(route).status_code == 200
        assert time.perf_counter() - start < 3.0, route
    for _ in range(60 * 9):
        a_model.gate.release()
    for thread in waiting:
        thread.join(60)
        assert not thread.is_alive()


def test_two_clients_get_their_batches_in_turn(a_session, a_volume_id, a_model):
    a_model.hold()
    answers = {}

    def ask(plane):
        answers[plane] = lines(ground(a_session, a_volume_id, plane=plane))

    threads = [threading.Thread(target=ask, args=(plane,)) for plane in ("axial", "coronal")]
    for thread in threads:
        thread.start()
    for _ in range(8 + 10):
        a_model.gate.release()
    for thread in threads:
        thread.join(60)

    assert {plane: answer[-1]["event"] for plane, answer in answers.items()} == {
        "axial": "result",
        "coronal": "result",
    }


def test_an_unknown_route_is_json(a_session):
    assert_refused(a_session.get("/bird/v1/nothing"), 404, "not_found")
    assert_refused(a_session.get("/bird/v1/ground"), 405, "method_not_allowed")
