"""Nothing scripted: `python -m bird_server` and `monailabel start_server` with bird-mini.

BIRD_TEST_MODEL=DIR asks another model.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel
import pytest
import requests
from monailabel.client import MONAILabelClient

import bird_vlm
from bird_server import serve
from processes import START_S, Process, free_port, started, wait_for

WEIGHTS = Path(bird_vlm.__file__).parent / "weights" / "bird-mini"
MODEL = os.environ.get("BIRD_TEST_MODEL", "bird-mini")
TOKEN = "s3cret"
OURS, STOCK = "python -m bird_server", "monailabel start_server"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        MODEL == "bird-mini" and not WEIGHTS.is_dir(),
        reason="bird-mini's weights are not in this checkout",
    ),
]


def ours(studies: Path) -> tuple[Process, dict[str, str]]:
    """`python -m bird_server`, and the token that it wants."""
    port = free_port()
    options = ["--studies", str(studies), "--port", str(port), "--model", MODEL]
    process = started(["-m", "bird_server", *options], f"http://127.0.0.1:{port}", BIRD_TOKEN=TOKEN)
    return process, {"Authorization": f"Bearer {TOKEN}"}


def stock(studies: Path, app: Path) -> tuple[Process, dict[str, str]]:
    """`monailabel start_server`, which wants no token; MONAI Label writes logs beside main.py."""
    port = free_port()
    shutil.copy(serve.app_folder() / "main.py", app)
    shutil.copytree(serve.app_folder() / "lib", app / "lib")
    options = ["--app", str(app), "--studies", str(studies), "--port", str(port)]
    command = ["-m", "monailabel.main", "start_server", *options, "--host", "127.0.0.1"]
    command += ["--conf", "model", MODEL]
    return started(command, f"http://127.0.0.1:{port}", BIRD_TOKEN=""), {}


@pytest.fixture(scope="module")
def both_servers(tmp_path_factory) -> Iterator[dict[str, tuple[Process, dict[str, str]]]]:
    """Process and headers, by how it was started: side by side, since a start takes seconds."""
    servers, folder = {}, tmp_path_factory.mktemp
    try:
        servers[OURS] = ours(folder("studies"))
        servers[STOCK] = stock(folder("studies"), folder("app"))
        for process, headers in servers.values():
            wait_for(process, f"{process.url}/info/", headers)
        yield servers
    finally:
        for process, _ in servers.values():
            process.end()
    for process, _ in servers.values():
        assert "Traceback" not in process.output


@pytest.fixture(params=[OURS, STOCK])
def a_real_server(request, both_servers) -> tuple[str, dict[str, str]]:
    """URL and headers of a server process."""
    process, headers = both_servers[request.param]
    return process.url, headers


@pytest.fixture(scope="module")
def a_brain(tmp_path_factory) -> Path:
    """Every third voxel of the MNI152 T1 brain that the nilearn package carries."""
    nilearn = pytest.importorskip("nilearn", reason="nilearn carries the brain that is asked about")
    (path,) = Path(nilearn.__file__).parent.glob("datasets/data/mni*_t1_*.nii.gz")
    small = tmp_path_factory.mktemp("brain") / "brain.nii.gz"
    nibabel.save(nibabel.load(path).slicer[::3, ::3, ::3], small)
    return small


def upload(url, headers, path) -> str:
    answer = requests.put(
        f"{url}/bird/v1/volumes",
        params={"name": path.name},
        data=path.read_bytes(),
        headers=headers,
        timeout=60,
    )
    assert answer.status_code in (200, 201), answer.text
    return answer.json()["volume_id"]


def any_label(url, headers) -> str:
    model = requests.get(f"{url}/bird/v1/health", headers=headers, timeout=10).json()["model"]
    labels = sorted({label for known in model["labels"].values() for label in known})
    return next((label for label in labels if re.search("brain|hippocampus", label)), labels[0])


def test_a_volume_is_grounded_slice_by_slice(a_real_server, a_brain):
    url, headers = a_real_server
    volume_id = upload(url, headers, a_brain)
    body = {"volume_id": volume_id, "labels": [any_label(url, headers)], "slices": [20, 40]}

    answer = requests.post(f"{url}/bird/v1/ground", json=body, headers=headers, timeout=300)

    *progress, last = [json.loads(line) for line in answer.text.splitlines()]
    assert progress
    assert all(event["event"] == "progress" for event in progress)
    assert progress[-1]["done"] == progress[-1]["total"] == 20
    assert last["event"] == "result"
    assert last["result"]["model"] == Path(MODEL).name
    assert last["result"]["findings"] or last["result"]["absent"]


def test_health_answers_fast_while_the_model_works(a_real_server, a_brain):
    url, headers = a_real_server
    volume_id = upload(url, headers, a_brain)
    body = {"volume_id": volume_id, "labels": [any_label(url, headers)], "plane": "coronal"}
    arguments = {"url": f"{url}/bird/v1/ground", "json": body, "headers": headers, "stream": True}
    with requests.post(timeout=300, **arguments) as answer:
        next(answer.iter_lines())

        for route in ("/bird/v1/health", "/info/"):
            begin = time.perf_counter()
            assert requests.get(url + route, headers=headers, timeout=30).ok
            assert time.perf_counter() - begin < 2.0, route


def test_an_unknown_label_is_refused_with_the_known_ones(a_real_server, a_brain):
    url, headers = a_real_server
    body = {"volume_id": upload(url, headers, a_brain), "labels": ["flux capacitor"]}

    answer = requests.post(f"{url}/bird/v1/ground", json=body, headers=headers, timeout=60)

    assert (answer.status_code, answer.json()["error"]) == (422, "unknown_label")
    assert any_label(url, headers) in answer.json()["hint"]


def test_the_box_and_the_question_are_answered(a_real_server, a_brain):
    url, headers = a_real_server
    volume_id = upload(url, headers, a_brain)
    box = {"volume_id": volume_id, "box_ras": [-30, -40, 0, 30, 20, 40]}
    question = {"volume_id": volume_id, "question": "What is shown?", "slice": 30}

    referred = requests.post(f"{url}/bird/v1/refer", json=box, headers=headers, timeout=120)
    answered = requests.post(f"{url}/bird/v1/ask", json=question, headers=headers, timeout=120)

    assert referred.status_code == 200, referred.text
    assert referred.json()["text"]
    assert answered.status_code == 200, answered.text
    assert answered.json()["slice"] == 30


def test_monai_labels_own_client_gets_markups_that_load(a_real_server, a_brain, tmp_path):
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    url, headers = a_real_server
    client = MONAILabelClient(url, tmpdir=str(tmp_path))
    if headers:
        client.update_auth({"token_type": "Bearer", "access_token": TOKEN})
    assert client.info()["models"]["bird_grounding"]["type"] == "detection"
    session_id = client.create_session(str(a_brain))["session_id"]
    prompt = {"prompt": any_label(url, headers), "plane": "axial"}

    file, result = client.infer("bird_grounding", "", prompt, session_id=session_id)

    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerMarkupsLogic()
    logic.SetMRMLScene(scene)
    assert logic.LoadMarkups(file, "")
    count = scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode")
    assert count == max(1, len(result["findings"]))
    client.remove_session(session_id)


def test_without_the_token_nothing_is_answered(a_real_server):
    url, headers = a_real_server
    if not headers:
        pytest.skip("this server runs without a token")

    assert requests.get(f"{url}/info/", timeout=10).status_code == 401
    assert requests.get(f"{url}/bird/v1/health", timeout=10).status_code == 401


def test_a_model_that_does_not_exist_ends_the_start_with_one_line(tmp_path):
    command = ["-m", "bird_server", "--studies", str(tmp_path), "--port", "0", "--model"]
    process = started([*command, str(tmp_path / "nowhere")])

    assert process.popen.wait(START_S) == 2
    assert "nowhere" in process.output
    assert "Traceback" not in process.output
