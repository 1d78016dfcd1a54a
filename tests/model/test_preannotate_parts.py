"""The parts of a pre-annotation: thumbnails, stamps, long lists, and what a person is shown."""

from __future__ import annotations

import doctest
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bird_vlm.boxes import mask_to_box_pixel
from bird_vlm.contract import GroundingResult, SliceBox
from bird_vlm.errors import BirdError
from bird_vlm.linking import link_findings
from bird_vlm.overlay import label_colours
from bird_vlm.preannotation import cases, dicom_folders, ray_workers, showing, studies, wanted
from bird_vlm.preannotation.annotating import Annotator, grounded
from bird_vlm.preannotation.cases import Case
from bird_vlm.preannotation.index import index_json
from bird_vlm.preannotation.job import Job
from bird_vlm.preannotation.model_stamp import model_stamp
from bird_vlm.preannotation.records import Record
from bird_vlm.preannotation.run import MANY_DEATHS, run
from bird_vlm.preannotation.showing import Showing
from bird_vlm.preannotation.showing import showing as shown_on
from bird_vlm.preannotation.thumbnail import EDGE, best_slice, save_thumbnail
from bird_vlm.preannotation.wanted import Wanted
from bird_vlm.preannotation.workers import WorkerDied
from bird_vlm.slices import SliceStack, slice_stack


@pytest.mark.parametrize("module", [cases, dicom_folders, showing, studies, wanted])
def test_examples_in_the_docstrings_hold(module):
    tried = doctest.testmod(module)
    assert tried.attempted
    assert tried.failed == 0


class TestThumbnail:
    def found(self, stack: SliceStack, scores: dict[str, dict[int, float]]) -> list:
        """Findings with a box on each slice of the given scores."""
        box = (2.0, 2.0, 8.0, 8.0)
        return [
            finding
            for label, on in scores.items()
            for finding in link_findings(
                label,
                [SliceBox(k, score, box, stack.corners_ras(k, box)) for k, score in on.items()],
                stack,
            )
        ]

    @pytest.mark.parametrize(
        ("scores", "best"),
        [
            pytest.param({}, 6, id="nothing found: the middle"),
            pytest.param({"a": {2: 0.5, 3: 0.9, 4: 0.5}}, 3, id="the best score"),
            pytest.param({"a": {2: 0.7, 3: 0.9}, "b": {2: 0.7, 3: 0.1}}, 2, id="most labels"),
            pytest.param({"a": {2: 0.9, 3: 0.9, 4: 0.9}}, 4, id="of equal ones towards the middle"),
        ],
    )
    def test_the_best_slice(self, scores, best, a_phantom_volume):
        stack = slice_stack(a_phantom_volume.volume.geometry(), "axial")
        assert best_slice(self.found(stack, scores), stack) == best

    @pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
    @pytest.mark.parametrize("phantom", ["a_phantom_volume", "an_oblique_volume"])
    def test_the_box_lies_around_the_block(self, phantom, plane, tmp_path, request):
        phantom = request.getfixturevalue(phantom)
        stack = slice_stack(phantom.volume.geometry(), plane)
        boxes = [
            SliceBox(k, 0.9, box, stack.corners_ras(k, box))
            for k in range(stack.count)
            if (box := mask_to_box_pixel(stack.cut(phantom.mask, k)))
        ]
        findings = tuple(link_findings("block", boxes, stack))
        geometry = phantom.volume.geometry()
        result = GroundingResult(geometry, "m", plane, (100.0, 100.0), findings, ())
        index = best_slice(findings, stack)
        save_thumbnail(tmp_path / "t.png", phantom.volume, result, index, ["other", "block"])
        with Image.open(tmp_path / "t.png") as picture:
            seen = np.asarray(picture).astype(int)
        assert max(seen.shape[:2]) == EDGE
        outline = (seen == label_colours(["other", "block"])["block"]).all(-1)
        x0, y0, x1, y1 = mask_to_box_pixel(outline & ~_text(outline))
        block = seen[int(y0) : int(y1), int(x0) : int(x1)]
        assert block.shape[0] > 20
        assert (block.min(-1) > 200).mean() > 0.7  # white within
        outside = seen.copy()
        outside[int(y0) - 18 : int(y1) + 4, int(x0) - 4 : int(x1) + 60] = 0
        white = (outside.min(-1) > 200) & (np.ptp(outside, axis=-1) == 0)
        assert white.mean() < 0.002  # and nowhere else but for the edge mark


def _text(outline: np.ndarray) -> np.ndarray:
    """Rows and columns with a few coloured pixels only: the label above the box."""
    rows = outline.sum(1) < 0.02 * EDGE
    return np.broadcast_to(rows[:, None], outline.shape)


class TestStamp:
    @pytest.fixture
    def model(self, tmp_path) -> Path:
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / "model.safetensors").write_bytes(np.zeros(2**25 // 8).tobytes())
        return tmp_path

    def test_a_copy_has_the_same_and_a_readme_does_not_matter(self, model):
        before = model_stamp(model)
        (model / "model.safetensors").touch()
        (model / "README.md").write_text("new")
        assert model_stamp(model) == before

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(lambda m: (m / "config.json").write_text("{ }"), id="settings"),
            pytest.param(lambda m: (m / "labels.json").write_text("{}"), id="a new file"),
            pytest.param(
                lambda m: (m / "model.safetensors").write_bytes(bytes(2**25 - 1) + b"x"), id="end"
            ),
            pytest.param(
                lambda m: (m / "model.safetensors").write_bytes(
                    np.full(2**25 // 8, 1e-9).tobytes()
                ),
                id="a little everywhere",
            ),
            pytest.param(
                lambda m: (m / "model.safetensors").write_bytes(bytes(2**25 + 1)), id="+1"
            ),
        ],
    )
    def test_any_training_changes_it(self, model, change):
        before = model_stamp(model)
        change(model)
        assert model_stamp(model) != before


def test_a_list_longer_than_a_request_is_answered_as_one(bird_mini, a_phantom_volume):
    known = sorted(bird_mini.card.known_labels)
    labels = [f"{article}{label}" for article in ("", "the ") for label in known][:70]
    job = Job(Path("unused"), tuple(map(Wanted, labels)))
    assert len(job.requests()) == 2
    seen: list[tuple[int, int]] = []
    result = grounded(bird_mini, a_phantom_volume.volume, job, lambda *at: seen.append(at))
    assert result.asked == 70 * 12
    assert {finding.label for finding in result.findings} | set(result.absent) == set(labels)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (70 * 12, 70 * 12)


def test_only_what_is_expected_here_is_missing():
    wanted = tuple(
        Wanted(label, expected)
        for label, expected in (("liver", "abd/*"), ("spleen", "*"), ("aorta", None))
    )
    here = [Case("abd/1.nii", ()), Case("head.nii", ()), Case("new.nii", ())]
    absent = ["liver", "spleen", "aorta"]
    records = {case: Record(case.name, "", "", "done", absent=absent) for case in here[:2]}
    index = index_json(Job(Path("out"), wanted), {}, here, records, [])
    assert [row["missing"] for row in index["cases"]] == [["liver", "spleen"], ["spleen"], []]
    assert [row["status"] for row in index["cases"]] == ["done", "done", "pending"]
    assert index["counts"]["missing"] == 2


def test_a_full_disk_stops_the_run_instead_of_failing_every_case(
    bird_mini, a_phantom_volume, tmp_path, monkeypatch
):
    monkeypatch.setattr("bird_vlm.engine.load_engine", lambda *_: bird_mini)
    path = a_phantom_volume.save(tmp_path / "a.nii.gz")
    (tmp_path / "out").write_text("a file where the folder was")
    annotator = Annotator(Job(tmp_path / "out", (Wanted("liver"),)))
    with pytest.raises(BirdError, match=r"cannot be written to .* the same command goes on"):
        annotator.annotate(Case("a", (path,)))


class DyingWorker:
    """A worker that dies over each of its cases."""

    def ask(self, case):
        future = Future()
        future.set_result(None)
        return future

    def result(self, future):
        raise WorkerDied

    def restart(self): ...

    def stop(self): ...

    def close(self): ...


def test_workers_that_die_one_after_the_other_stop_the_run(tmp_path):
    class Nobody:
        def started(self, case): ...

        def finished(self, case, record):
            told.append(record.status)

    told: list[str] = []
    many = [Case(f"{number}", ()) for number in range(100)]
    with pytest.raises(BirdError, match="died one after the other"):
        run(Job(tmp_path, (Wanted("liver"),)), many, [DyingWorker()], Nobody())
    assert told == ["failed"] * MANY_DEATHS


def test_ray_is_not_asked_for_more_than_it_has():
    with pytest.raises(BirdError, match="4 need 4 GPUs, and Ray has 1"):
        ray_workers.check_room({"CPU": 8.0, "GPU": 1.0}, workers=4, gpus=1)


def test_progress_names_the_case_and_says_how_long_still(capsys, monkeypatch):
    clock = iter(np.arange(0.0, 1000.0, 10.0))
    monkeypatch.setattr("bird_vlm.preannotation.showing.time.monotonic", lambda: next(clock))
    first, second = Case("a.nii", ()), Case("b[red].nii", ())
    with shown_on(2, lambda case, record: None) as watcher:
        assert isinstance(watcher, Showing)
        watcher.started(first)
        watcher.slices(5, 10)
        assert watcher.under_way == {first: 0.5}
        watcher.finished(first, Record("a.nii", "", "", "done", timing_s={"total": 12.3}))
        watcher.started(second)
        watcher.finished(second, Record("b", "", "", "failed", error="is 4D"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("[1/2] a.nii: 0 findings, 12.3 s, ")
    assert lines[0].endswith(" left")
    assert lines[1] == "[2/2] b[red].nii: failed: is 4D"
