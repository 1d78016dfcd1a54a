"""The whole loop on real scans and a real server: ask, review, train, and the new version answers.

BIRD_LOOP_CASES, BIRD_LOOP_SLICES and BIRD_LOOP_EPOCHS make it longer: with 4, 40 and 4 it is a
training that is worth something.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from monailabel.client import MONAILabelClient

from bird_vlm.boxes import mask_to_box_pixel
from bird_vlm.slices import slice_stack
from bird_vlm.volumes import read_volume
from processes import Process, bird_serve, upload

CASES = int(os.environ.get("BIRD_LOOP_CASES", "2"))
SLICES = int(os.environ.get("BIRD_LOOP_SLICES", "4"))
EPOCHS = float(os.environ.get("BIRD_LOOP_EPOCHS", "0"))  # 0: two steps
LABEL = "left atrium"
PATIENCE_S = 1800
pytestmark = [pytest.mark.slow, pytest.mark.shared]


@pytest.fixture(scope="module")
def the_studies(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hearts")


@pytest.fixture(scope="module")
def a_server(the_studies) -> Iterator[Process]:
    with bird_serve(the_studies) as server:
        yield server
    assert "Traceback" not in server.output


@pytest.fixture(scope="module")
def atria(shared) -> list[tuple[Path, dict[int, list[float]]]]:
    """Scans of hearts, and the box around the left atrium on each slice, by what is annotated."""
    rows = json.loads((shared / "data/volumes/volumes.json").read_text())
    chosen = [row for row in rows if row["image"].startswith("mr_atrium")][:CASES]
    folder = shared / "data" / "volumes"
    return [(folder / row["image"], boxes_around(folder / row["labels"])) for row in chosen]


def boxes_around(labels: Path) -> dict[int, list[float]]:
    volume = read_volume(labels)
    stack = slice_stack(volume.geometry(), "axial")
    boxes = {k: mask_to_box_pixel(stack.cut(volume.array, k) > 0) for k in range(stack.count)}
    return {k: list(box) for k, box in boxes.items() if box is not None}


def sent(server: Process, method: str, path: str, **body) -> dict:
    address = f"{server.url}{path}"
    answer = requests.request(method, address, json=body or None, timeout=120)
    assert answer.ok, answer.text
    return answer.json()


def asked(server: Process, volume_id: str, slices: list[int]) -> dict:
    """The result of a grounding."""
    body = {"volume_id": volume_id, "labels": [LABEL], "slices": slices}
    answer = requests.post(f"{server.url}/bird/v1/ground", json=body, timeout=600)
    last = json.loads(answer.text.splitlines()[-1])
    assert last["event"] == "result", last
    return last["result"]


def reviewed(server: Process, volume_id: str, boxes: dict[int, list[float]]) -> None:
    """What the model found is edited to what is annotated; where it found nothing, drawn."""
    drawn = [{"slice": k, "box_pixel": box} for k, box in boxes.items()]
    case = requests.get(f"{server.url}/bird/v1/cases/{volume_id}", timeout=60).json()
    proposed = [f for f in case.get("findings", ()) if f["status"] == "proposed"]
    for number, found in enumerate(proposed):
        action = {"action": "reject"} if number else {"action": "edit", "boxes": drawn}
        body = {"revision": found["revision"], "reviewer": "ann", **action}
        sent(server, "PATCH", f"/bird/v1/findings/{found['finding_id']}", **body)
    if not proposed:
        body = {"label": LABEL, "boxes": drawn, "reviewer": "ann"}
        sent(server, "POST", f"/bird/v1/cases/{volume_id}/findings", **body)


def trained(server: Process, **options) -> dict:
    """The task of a training, when it is over; health answers all the while."""
    sent(server, "POST", "/train/bird", **options)
    slowest = 0.0
    end = time.monotonic() + PATIENCE_S
    while "end_ts" not in (task := sent(server, "GET", "/train/")):
        assert time.monotonic() < end, task
        began = time.monotonic()
        assert requests.get(f"{server.url}/bird/v1/health", timeout=30).ok
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.5)
    print(f"slowest health answer during the training: {1000 * slowest:.0f} ms")
    return task


def test_what_reviewers_accept_trains_a_version_that_answers(a_server, atria):
    ids = [upload(a_server, path) for path, _ in atria]
    middle = atria[0][1]
    about = [min(middle), min(middle) + 2]
    for volume_id, (_, boxes) in zip(ids, atria, strict=True):
        asked(a_server, volume_id, about)
        reviewed(a_server, volume_id, boxes)
    before = sent(a_server, "GET", "/bird/v1/versions")
    effort = {"epochs": EPOCHS} if EPOCHS else {"steps": 2}

    began = time.monotonic()
    task = trained(a_server, slices=SLICES, held_out=1 / len(ids), **effort)

    wall = time.monotonic() - began
    assert task["status"] == "DONE", task
    made = task["result"]
    print(f"{wall:.0f} s; {made['message']}")
    print(json.dumps({name: made[name] for name in ("before", "after", "trained_on")}, indent=1))
    assert not set(made["trained_on"]["cases"]) & set(made["trained_on"]["judged_by"])
    after = sent(a_server, "GET", "/bird/v1/versions")
    assert [row["name"] for row in after["versions"]] == ["bird-mini", "bird-mini-r1"]
    better = made["swapped_in"]
    assert better or made["status"] == "refused"
    assert not better or made["after"]["score"] >= made["before"]["score"]
    assert after["in_use"] == (made["version"] if better else before["in_use"])
    answering = sent(a_server, "GET", "/bird/v1/health")["model"]
    assert answering["version"] == after["in_use"]
    result = asked(a_server, ids[0], about)
    assert result["model"] == ("bird-mini-r1" if better else "bird-mini")
    back = sent(a_server, "POST", "/bird/v1/versions/original/use")
    assert back["in_use"] == before["in_use"]
    assert asked(a_server, ids[0], about)["model"] == "bird-mini"


def test_a_training_is_stopped_from_outside(a_server, the_studies, atria):
    client = MONAILabelClient(a_server.url)
    before = sent(a_server, "GET", "/bird/v1/versions")
    client.train_start("bird", {"epochs": 100, "slices": SLICES})
    for _ in range(PATIENCE_S):
        progress = client.train_status()["progress"]
        if progress and progress["phase"] in ("before", "training"):
            break
        time.sleep(0.5)

    began = time.monotonic()
    client.train_stop()
    while client.train_status(check_if_running=True):
        time.sleep(0.2)

    assert time.monotonic() - began < 30
    assert client.train_status()["status"] == "STOPPED"
    assert sent(a_server, "GET", "/bird/v1/versions") == before
    left = [path.name for path in (the_studies / ".bird" / "models").iterdir()]
    assert set(left) <= {"versions.json", "bird-mini-r1"}


def test_the_plugins_sequence_of_calls(a_server, atria, tmp_path):
    """Info, session, inference, upload, save label, next sample, train status; the real model."""
    (path, _), *_ = atria
    client = MONAILabelClient(a_server.url, tmpdir=str(tmp_path))
    info = client.info()
    assert info["models"]["bird_grounding"]["type"] == "detection"
    assert LABEL in info["labels"]
    assert info["trainers"]["bird"]["config"]["epochs"]

    session_id = client.create_session(str(path))["session_id"]
    assert client.get_session(session_id)
    file, result = client.infer("bird_grounding", "", {"prompt": LABEL}, session_id=session_id)
    rois = [m for m in json.loads(Path(file).read_text())["markups"] if m["controlPoints"]]
    assert len(rois) == len(result["findings"])
    client.remove_session(session_id)

    assert client.upload_image(str(path), "heart") == {"image": "heart"}
    file, result = client.infer("bird_grounding", "heart", {"prompt": LABEL})
    assert client.next_sample("uncertainty", {})["id"] == "heart"
    saved = client.save_label("heart", file, params={"label_info": []})["review"]
    decided = [uid for become in ("accepted", "edited", "known", "added") for uid in saved[become]]
    assert len(decided) == len(result["findings"])
    assert client.datastore()["objects"]["heart"]["labels"]["final"]
    assert client.train_status()["status"] in ("DONE", "STOPPED")
