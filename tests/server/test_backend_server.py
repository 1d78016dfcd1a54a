"""Nothing scripted: `transformers serve` with bird-mini answers `bird`, `medgrit` and our server.

The three ask the same process; it is killed while all of them are at work.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import nibabel
import pytest
import requests
from PIL import Image

import bird_vlm
from bird_vlm.boxes import iou
from bird_vlm.prompts import grounding_prompt
from bird_vlm.slices import slice_stack
from bird_vlm.volumes import read_volume
from bird_vlm.windows import slice_picture
from processes import START_S, Process, bird_serve, free_port, job, started, upload, wait_for

pytest.importorskip("monailabel", reason="monailabel is not installed (see README, server)")
pytest.importorskip("openai", reason="openai is not installed (see README, endpoint)")

WEIGHTS = Path(bird_vlm.__file__).parent / "weights" / "bird-mini"
LABEL = "right thalamus"
# what `transformers serve` asks of a model class that transformers does not bring
SERVING = """
from transformers.cli.serving import model_manager
from transformers.cli.transformers import main
from transformers.models.auto import modeling_auto

from bird_vlm.image_processing_bird import BirdImageProcessor
from bird_vlm.modeling_bird import BirdForConditionalGeneration as Bird

model_manager.transformers.BirdForConditionalGeneration = Bird
modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES["bird"] = Bird.__name__
del BirdImageProcessor.fetch_images  # the inherited one reads data URLs
main()
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not WEIGHTS.is_dir(), reason="bird-mini is not in this checkout"),
]


@pytest.fixture(scope="module")
def a_model_server() -> Iterator[Process]:
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = ["-c", SERVING, "serve", str(WEIGHTS), "--host", "127.0.0.1", "--port", str(port)]
    process = started([*command, "--device", "cpu"], f"{url}/v1")
    try:
        wait_for(process, f"{url}/health")
        yield process
    finally:
        process.end()


def options_of(model_server: Process) -> list[str]:
    return ["--backend", model_server.url, "--model", str(WEIGHTS), "--dialect", "bird"]


@pytest.fixture(scope="module")
def our_server(a_model_server, tmp_path_factory) -> Iterator[Process]:
    options = (*options_of(a_model_server), "--concurrency", 4)
    with bird_serve(tmp_path_factory.mktemp("studies"), *options) as process:
        yield process


@pytest.fixture(scope="module")
def a_brain(tmp_path_factory, mni152_file) -> Path:
    """Every second voxel of it."""
    small = tmp_path_factory.mktemp("brain") / "brain.nii.gz"
    nibabel.save(nibabel.load(mni152_file).slicer[::2, ::2, ::2], small)
    return small


@pytest.fixture(scope="module")
def boxes_here(a_brain, bird_mini) -> dict[int, tuple[float, ...]]:
    """What the model says when it runs here."""
    from bird_vlm.contract import GroundingRequest
    from bird_vlm.volume import grounding_events

    request = GroundingRequest((LABEL,), slices=(36, 42))
    *_, result = grounding_events(bird_mini, read_volume(a_brain), request)
    (finding,) = result.findings
    return {box.slice: box.box_pixel for box in finding.boxes}


def assert_same_boxes(findings: list[dict], here: dict[int, tuple[float, ...]]) -> None:
    (finding,) = findings
    there = {box["slice"]: tuple(box["box_pixel"]) for box in finding["boxes"]}
    assert there.keys() == here.keys()
    assert min(iou(there[index], here[index]) for index in here) > 0.9


def a_test_set(brain: Path, out: Path, pictures: int) -> Path:
    """Where is the thalamus on this slice? On so many copies of it."""
    (out / "images").mkdir(parents=True)
    (out / "test").mkdir()
    volume = read_volume(brain)
    picture = slice_picture(volume, slice_stack(volume.geometry(), "axial"), 39)
    records = []
    for number in range(pictures):
        image = f"images/mr_00--MNI--one--z_{number:03d}.png"
        Image.fromarray(picture).save(out / image)
        asked = f"Picture 1: <img>{image}</img>\n{grounding_prompt(LABEL)}"
        records.append({"id": image, "image": image, "conversations": [[asked, "unknown"]]})
    (out / "test" / "VG.json").write_text(json.dumps(records))
    return out / "test"


def predict(model_server: Process, data: Path, out: Path) -> list[str]:
    command = ["-m", "bird_training.cli", "predict", "--data", str(data), "--out", str(out)]
    command += ["--endpoint", model_server.url, "--model", str(WEIGHTS)]
    return [*command, "--concurrency", "1"]


def rows(path: Path) -> list[dict]:
    whole = path.read_text().splitlines() if path.is_file() else []
    return [json.loads(line) for line in whole]


def answers_in(cache: Path) -> int:
    """Answers that `bird ground --cache` has got so far."""
    database = cache / "cache.db"
    if not database.is_file():
        return 0
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        try:
            return connection.execute("SELECT count(*) FROM Cache").fetchone()[0]
        except sqlite3.OperationalError:  # it is being made
            return 0


def test_bird_ground_finds_what_the_model_finds_here(a_model_server, a_brain, boxes_here, tmp_path):
    out = tmp_path / "found.json"
    command = ["-m", "bird_vlm.cli", "ground", str(a_brain), "--text", LABEL, "--slices", "36:42"]
    asking = started([*command, *options_of(a_model_server), "--json", str(out)])
    assert asking.popen.wait(START_S) == 0, asking.output
    assert_same_boxes(json.loads(out.read_text())["findings"], boxes_here)
    assert "6 answers" in asking.output


def test_a_job_of_our_server_finds_the_same(our_server, a_brain, boxes_here):
    with job(our_server, upload(our_server, a_brain), [LABEL], slices=[36, 42]) as answer:
        *progress, last = [json.loads(line) for line in answer.iter_lines()]
    assert progress[-1]["done"] == progress[-1]["total"] == 6
    assert_same_boxes(last["result"]["findings"], boxes_here)
    assert LABEL not in our_server.output


def test_medgrit_predict_gets_an_answer_to_every_question(a_model_server, a_brain, tmp_path):
    data = a_test_set(a_brain, tmp_path / "OUT", pictures=3)
    asking = started(predict(a_model_server, data, tmp_path / "p"))
    assert asking.popen.wait(START_S) == 0, asking.output
    responses = [row["response"] for row in rows(tmp_path / "p" / "VG.jsonl")]
    assert len(responses) == 3
    assert all(f"<ref>{LABEL}</ref><box>" in response for response in responses)


def test_killed_in_the_middle_it_is_told_and_what_was_done_is_kept(
    a_model_server, our_server, a_brain, tmp_path
):
    data = a_test_set(a_brain, tmp_path / "OUT", pictures=500)
    asking = started(predict(a_model_server, data, tmp_path / "p"))
    found = tmp_path / "found.json"
    command = ["-m", "bird_vlm.cli", "ground", str(a_brain), "--text", LABEL, "--json", str(found)]
    cache = tmp_path / "answers"
    command += ["--cache", str(cache), "--concurrency", "1"]
    grounding = started([*command, *options_of(a_model_server)])
    with job(our_server, upload(our_server, a_brain), [LABEL], near=39) as answer:
        lines = answer.iter_lines()
        early = [json.loads(next(lines)) for _ in range(2)]
        while not (rows(tmp_path / "p" / "VG.jsonl") and answers_in(cache) > 1):
            assert asking.popen.poll() is None, asking.output
            assert grounding.popen.poll() is None, grounding.output
            time.sleep(0.1)
        a_model_server.popen.kill()
        *more, last = [json.loads(line) for line in lines]

    assert all(event["event"] == "progress" for event in [*early, *more])
    assert [box["slice"] for box in early[0]["boxes"]] == [39]
    assert (last["event"], last["error"]) == ("error", "model_unavailable")
    assert a_model_server.url in last["detail"]
    assert "is the server running" in last["detail"]
    assert LABEL not in our_server.output

    assert asking.popen.wait(START_S) == 2, asking.output
    assert "is the server running" in asking.output
    assert 0 < len(rows(tmp_path / "p" / "VG.jsonl")) < 500

    assert grounding.popen.wait(START_S) == 2, grounding.output
    assert "is the server running" in grounding.output
    assert not found.exists()
    kept = json.loads((tmp_path / "found.unfinished.json").read_text())
    assert 0 < kept["done"] < kept["total"]

    with job(our_server, upload(our_server, a_brain), [LABEL], slices=[0, 1]) as answer:
        assert (answer.status_code, answer.json()["error"]) == (503, "model_unavailable")
    assert requests.get(f"{our_server.url}/bird/v1/health", timeout=10).ok
