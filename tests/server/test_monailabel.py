"""The MONAI Label side: its own client, and the calls that its stock Slicer plugin makes."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time

import pytest
from monailabel.client import MONAILabelClient

from scripted import ABSENT, PRESENT, assert_refused, wait_until

MODEL = "bird_grounding"


@pytest.fixture
def a_client(a_server, tmp_path) -> MONAILabelClient:
    return MONAILabelClient(a_server.url, tmpdir=str(tmp_path))


@pytest.fixture
def a_study(a_server, a_session, a_volume_file) -> str:
    """The id of an image that lies in the studies folder."""
    shutil.copy(a_volume_file, a_server.studies / "case_1.nii.gz")
    wait_until(lambda: "case_1" in str(a_session.get("/datastore/?output=all").json()), seconds=30)
    return "case_1"


def infer(session, query: str, **params):
    return session.post(f"/infer/{MODEL}?{query}", data={"params": json.dumps(params)})


def test_the_client_lists_the_model_as_the_stock_plugin_wants_it(a_client):
    info = a_client.info()

    model = info["models"][MODEL]
    assert model["type"] == "detection"
    assert model["labels"] == [PRESENT, ABSENT]
    assert model["config"]["plane"] == ["axial", "coronal", "sagittal"]
    assert isinstance(model["config"]["prompt"], str)
    assert "config" not in info


def test_the_client_uploads_asks_and_gets_markups(a_client, a_volume_file):
    session_id = a_client.create_session(str(a_volume_file))["session_id"]

    file, result = a_client.infer(MODEL, "", {"prompt": PRESENT}, session_id=session_id)

    with open(file) as stream:
        (roi,) = json.load(stream)["markups"]
    assert roi["controlPoints"][0]["label"] == PRESENT
    assert result["findings"][0]["label"] == PRESENT
    assert result["volume"]["shape_ijk"] == [12, 10, 8]
    a_client.remove_session(session_id)


def test_the_markups_load_in_slicer(a_client, a_volume_file):
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    file, result = a_client.infer(MODEL, "", {"prompt": PRESENT}, file=str(a_volume_file))

    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerMarkupsLogic()
    logic.SetMRMLScene(scene)

    assert logic.LoadMarkups(file, "")
    roi = scene.GetFirstNodeByClass("vtkMRMLMarkupsROINode")
    assert roi.GetCenter() == pytest.approx(result["findings"][0]["roi"]["center_ras"])


def test_an_image_of_the_studies_folder_is_answered(a_client, a_study, a_model):
    file, _ = a_client.infer(MODEL, a_study, {"prompt": f"{PRESENT}, {ABSENT}", "plane": "coronal"})

    assert file.endswith(".json")
    (asked,) = a_model.asked
    assert (asked.labels, asked.plane) == ((PRESENT, ABSENT), "coronal")


def test_untouched_options_mean_the_defaults(a_client, a_study, a_model):
    options = a_client.info()["models"][MODEL]["config"]

    a_client.infer(MODEL, a_study, options)
    a_client.infer(MODEL, a_study, {})

    assert [(asked.labels, asked.plane) for asked in a_model.asked] == [((PRESENT,), "axial")] * 2


def test_nothing_found_is_still_a_file_that_loads(a_session, a_study):
    answer = infer(a_session, f"image={a_study}", prompt=ABSENT)

    assert answer.headers["content-type"].startswith("multipart/form-data")
    assert '"controlPoints": []' in answer.text


def test_an_uploaded_image_can_be_asked_and_labelled(a_client, a_volume_file, a_session, tmp_path):
    assert a_client.upload_image(str(a_volume_file), "case_2") == {"image": "case_2"}
    file, _ = a_client.infer(MODEL, "case_2", {"prompt": PRESENT})

    saved = a_client.save_label("case_2", file, params={})

    assert saved["label"] == "case_2"
    assert a_client.next_sample("random", {})["id"]


@pytest.mark.parametrize(
    ("query", "params", "status", "code"),
    [
        pytest.param("image=case_1", {"prompt": "unicorn"}, 422, "unknown_label", id="label"),
        pytest.param("image=case_1", {"prompt": " ,"}, 422, "bad_request", id="no label"),
        pytest.param("image=case_1", {"prompt": ["liver"]}, 422, "bad_request", id="not text"),
        pytest.param("image=case_1", {"plane": "up"}, 422, "bad_request", id="plane"),
        pytest.param("image=case_1", {"plane": []}, 422, "bad_request", id="empty planes"),
        pytest.param("image=case_1", {"threshold": "high"}, 422, "bad_request", id="threshold"),
        pytest.param("image=case_1", {"image": "/etc/passwd"}, 422, "bad_request", id="override"),
        pytest.param("image=case_1", {"model": "x"}, 422, "bad_request", id="override model"),
        pytest.param("image=case_9", {}, 404, "unknown_image", id="image"),
        pytest.param("session_id=abc", {}, 404, "unknown_session", id="session"),
        pytest.param("", {}, 422, "bad_request", id="no image"),
        pytest.param("image=case_1&output=dicom_seg", {}, 422, "bad_request", id="output"),
    ],
)
def test_a_bad_request_is_clear_json(a_session, a_study, query, params, status, code):
    assert_refused(infer(a_session, query, **params), status, code)


@pytest.mark.parametrize("params", ["{broken", "[1, 2]", "3", '"text"', "[" * 100_000])
def test_malformed_params_are_refused(a_session, a_study, params):
    answer = a_session.post(f"/infer/{MODEL}?image={a_study}", data={"params": params})

    assert_refused(answer, 422, "bad_request")


def test_an_unknown_label_names_the_known_ones(a_session, a_study):
    problem = assert_refused(
        infer(a_session, f"image={a_study}", prompt="unicorn"), 422, "unknown_label"
    )

    assert PRESENT in problem["hint"]


def test_an_unknown_model_names_the_known_ones(a_session):
    problem = assert_refused(a_session.post("/infer/nothing?image=x"), 404, "unknown_model")

    assert MODEL in problem["hint"]


def test_a_broken_image_is_refused_without_places_on_the_server(a_session, a_server):
    files = {"file": ("broken.nii.gz", b"not a volume")}

    answer = a_session.post(f"/infer/{MODEL}", files=files)

    assert_refused(answer, 422, "bad_volume")
    assert "/tmp" not in answer.text


def test_info_answers_while_an_inference_runs(a_session, a_study, a_model):
    a_model.hold()
    running = threading.Thread(target=infer, args=(a_session, f"image={a_study}"))
    running.start()
    wait_until(lambda: a_model.asked, seconds=30)

    start = time.perf_counter()
    assert a_session.get("/info/").status_code == 200
    assert time.perf_counter() - start < 3.0
    for _ in range(100):
        a_model.gate.release()
    running.join(60)
    assert not running.is_alive()


def test_words_and_names_stay_out_of_the_log(a_session, a_study, caplog):
    with caplog.at_level(logging.INFO):
        infer(a_session, f"image={a_study}", prompt=PRESENT, note="Mr Smith")

    assert "Mr Smith" not in caplog.text
