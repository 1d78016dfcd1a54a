"""From reviews to lessons on disk, and from answers to a judgement."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from bird_server.learning.tasks import Task, TaskStoppedError
from bird_server.review.records import Drawing, Edit, NewCase
from bird_server.serve import app_folder
from bird_training.evaluation.questions import read_test_set
from bird_vlm.boxes import pixel_to_norm
from bird_vlm.errors import BadRequestError
from bird_vlm.slices import slice_stack
from bird_vlm.volumes import Volume
from review_cases import a_finding, a_proposal, by
from scripted import wait_until

sys.path.insert(0, str(app_folder()))  # as MONAI Label does while it loads the app

from lib.learning.commands import CommandFailedError, run
from lib.learning.judging import Judgement, by_label, judge
from lib.learning.lessons import Lesson, modality_of, write_lessons
from lib.learning.truths import truths
from lib.trainers import DEFAULTS, Options

sys.path.remove(str(app_folder()))

KNOWN = {"ct": ["liver", "left kidney"], "mr": ["liver", "putamen"]}
BOX = (2.0, 3.0, 12.0, 14.0)


@pytest.fixture
def a_volume() -> Volume:
    """A CT of 24 x 20 x 12 voxels: air around a body with noise."""
    array = np.full((24, 20, 12), -1000, np.float32)
    array[2:22, 2:18] = np.random.default_rng(3).normal(40, 60, (20, 16, 12))
    return Volume(array, np.diag([-2.0, -2.0, 4.0, 1.0]))


def reviewed(store, volume, *findings, absent=(), plane="axial", digest=None):
    """A case with these findings, proposed; the ids."""
    digest = digest or volume.digest
    made = a_proposal(
        *findings, digest=digest, absent=absent, plane=plane, geometry=volume.geometry()
    )
    return store.propose(made).added


def found(volume, label="liver", first=3, last=6, plane="axial", box=BOX):
    return a_finding(label, first, last, box, volume.geometry(), plane)


def lesson(store, volume, digest, name="scan.nii.gz"):
    return Lesson(digest, name, tuple(truths(store.report(digest))), lambda: volume)


def taught(store, volume, out, **settings):
    """Two accepted cases of the same volume, written to `out`."""
    for digest in ("d1", "d2"):
        (liver,) = reviewed(store, volume, found(volume), digest=digest)
        store.accept(liver, by("ann", 1))
    lessons = [lesson(store, volume, digest, f"{digest}.nii") for digest in ("d1", "d2")]
    settings = {"held_out": 0.5, "slices": 40} | settings
    return write_lessons(lessons, KNOWN, out, **settings)


# What reviews settle


def test_accepted_boxes_are_true_and_the_rest_of_the_slices_lacks_them(a_store, a_volume):
    (liver,) = reviewed(a_store, a_volume, found(a_volume))
    a_store.accept(liver, by("ann", 1))

    (truth,) = truths(a_store.report(a_volume.digest))

    assert (truth.label, truth.plane, list(truth.boxes)) == ("liver", "axial", [3, 4, 5, 6])
    assert truth.boxes[3] == (BOX,)
    assert truth.tells_absence
    assert truth.window == (40.0, 400.0)


def test_what_nobody_has_reviewed_is_not_true_and_leaves_absence_open(a_store, a_volume):
    right, _other = reviewed(
        a_store, a_volume, found(a_volume), found(a_volume, box=(14.0, 10.0, 20.0, 16.0))
    )
    a_store.accept(right, by("ann", 1))

    (truth,) = truths(a_store.report(a_volume.digest))

    assert truth.boxes[3] == (BOX,)
    assert not truth.tells_absence


def test_rejected_boxes_alone_tell_nothing(a_store, a_volume):
    (liver,) = reviewed(a_store, a_volume, found(a_volume))
    a_store.reject(liver, by("ann", 1))

    assert truths(a_store.report(a_volume.digest)) == []


def test_edited_boxes_are_true_as_edited(a_store, a_volume):
    (liver,) = reviewed(a_store, a_volume, found(a_volume))
    a_store.edit(liver, by("ann", 1), Edit(label="Kidney_Left", boxes=((5, (1.0, 1.0, 9.0, 9.0)),)))

    (truth,) = truths(a_store.report(a_volume.digest))

    assert (truth.label, truth.boxes) == ("left kidney", {5: ((1.0, 1.0, 9.0, 9.0),)})


def test_the_same_object_reviewed_twice_is_one_box_and_the_last_one_counts(a_store, a_volume):
    (liver,) = reviewed(a_store, a_volume, found(a_volume))
    a_store.accept(liver, by("ann", 1))
    later = (2.0, 3.0, 12.0, 15.0)
    case = NewCase(a_volume.digest, "scan.nii.gz")
    drawing = Drawing("liver", boxes=((3, later), (4, (14.0, 10.0, 20.0, 16.0))))
    a_store.add_finding(case, a_volume.geometry(), drawing, "bob")

    (truth,) = truths(a_store.report(a_volume.digest))

    assert truth.boxes[3] == (later,)
    assert truth.boxes[4] == (BOX, (14.0, 10.0, 20.0, 16.0))


def test_sagittal_slices_know_no_side(a_store, a_volume):
    (kidney,) = reviewed(
        a_store, a_volume, found(a_volume, "left kidney", plane="sagittal"), plane="sagittal"
    )
    a_store.accept(kidney, by("ann", 1))

    (truth,) = truths(a_store.report(a_volume.digest))

    assert (truth.label, truth.plane, truth.tells_absence) == ("kidney", "sagittal", False)


# Lessons on disk


def test_lessons_are_questions_with_the_reviewers_boxes(a_store, a_volume, tmp_path):
    written = taught(a_store, a_volume, tmp_path / "lessons")

    asked = read_test_set(tmp_path / "lessons" / "test")

    stack = slice_stack(a_volume.geometry(), "axial")
    x0, y0, x1, y1 = pixel_to_norm(BOX, stack.width, stack.height)
    with_box = [q for q in asked if f"<box>({x0},{y0}),({x1},{y1})</box>" in q.annotation]
    without = [q for q in asked if "not present" in q.annotation]
    assert (len(with_box), len(without)) == (4, 2)
    assert written.questions == {"train": 6 + 4, "test": 6}
    assert written.labels == ("liver",)
    assert {len(names) for names in written.cases.values()} == {1}
    assert all(question.modality == "ct" for question in asked)


def test_no_case_is_on_both_sides(a_store, a_volume, tmp_path):
    taught(a_store, a_volume, tmp_path / "lessons")

    def cases(side):
        text = (tmp_path / "lessons" / side / "VG.json").read_text()
        return {row["id"].split("_")[1] for row in json.loads(text)}

    assert cases("train") | cases("test") == {"d1", "d2"}
    assert not cases("train") & cases("test")


def test_lessons_keep_to_the_number_of_slices(a_store, a_volume, tmp_path):
    written = taught(a_store, a_volume, tmp_path / "lessons", slices=2)

    assert written.pictures == 2 * (2 + 1)


def test_one_case_is_too_few(a_store, a_volume, tmp_path):
    (liver,) = reviewed(a_store, a_volume, found(a_volume))
    a_store.accept(liver, by("ann", 1))
    lessons = [lesson(a_store, a_volume, a_volume.digest)]

    with pytest.raises(BadRequestError, match="at least 2 cases"):
        write_lessons(lessons, KNOWN, tmp_path / "lessons", held_out=0.5, slices=9)


@pytest.mark.parametrize(
    ("labels", "known", "modality"),
    [
        pytest.param(["putamen"], KNOWN, "mr", id="a label of one modality"),
        pytest.param(["liver"], KNOWN, "ct", id="of two: by grey values"),
        pytest.param(["unicorn"], KNOWN, "ct", id="of none: by grey values"),
        pytest.param(["liver"], {}, "ct", id="a model that tells nothing"),
        pytest.param(["polyp"], {"endoscopy": ["polyp"]}, "endoscopy", id="only there"),
    ],
)
def test_the_modality_of_a_case(a_volume, labels, known, modality):
    assert modality_of(a_volume, labels, known) == modality


# Judgement


def test_answers_are_judged_by_boxes_and_by_silence(tmp_path):
    liver = "<ref>liver</ref><box>(100,100),(300,300)</box>"
    rows = [
        (liver, liver),
        (liver, "<ref>liver</ref><box>(600,600),(900,900)</box>"),
        (liver, "The liver is not present in the image."),
        ("The liver is not present in the image.", "The liver is not present in the image."),
        ("The liver is not present in the image.", liver),
    ]
    lines = [
        {"id": "ct_1", "image": "a.png", "question": "?", "annotation": a, "response": r}
        for a, r in rows
    ]
    (tmp_path / "VG.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    judged = judge(tmp_path)

    assert (judged.boxes, judged.found, judged.lacking, judged.silent) == (3, 1, 2, 1)
    assert judged.json()["score"] == round((1 / 3 + 1 / 2) / 2, 4)
    assert judged.overlap == pytest.approx(1 / 3)
    assert by_label(tmp_path) == {"liver": round(1 / 3, 4)}


def test_where_nothing_lacks_the_label_silence_is_not_missed():
    assert Judgement(2, 1, 0.5, 0, 0).score == (0.5 + 1) / 2


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        pytest.param((50, 50), (50, 50), False, id="the same"),
        pytest.param((50, 50), (60, 50), False, id="finds more"),
        pytest.param((50, 50), (50, 40), True, id="makes up more"),
        pytest.param((50, 50), (46, 60), False, id="finds little less"),
        pytest.param((50, 0), (40, 100), True, id="finds much less"),
    ],
)
def test_what_counts_as_worse(before, after, worse):
    old, new = (Judgement(100, found, 0.5, 100, silent) for found, silent in (before, after))

    assert new.is_worse_than(old) is worse


# Commands and options


def test_a_command_tells_its_lines_and_ends():
    lines = []

    run([sys.executable, "-c", "print('one'); print('two')"], Task("train", {}),
        time.monotonic() + 60, lines.append)  # fmt: skip

    assert lines == ["one", "two"]


@pytest.mark.parametrize(
    ("program", "limit_s", "words"),
    [
        pytest.param("import sys; print('no room'); sys.exit(3)", 60, "no room", id="fails"),
        pytest.param("import time; time.sleep(60)", 0.2, "time limit", id="takes too long"),
    ],
)
def test_a_command_that_does_not_end_well_is_told(program, limit_s, words):
    began = time.monotonic()

    with pytest.raises(CommandFailedError, match=words):
        run([sys.executable, "-c", program], Task("train", {}), began + limit_s, print)

    assert time.monotonic() - began < 30


def test_a_stopped_task_ends_its_command_and_what_that_started():
    task = Task("train", {})
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True); time.sleep(60)"
    )
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        task.stopping.set()

    with pytest.raises(TaskStoppedError):
        run([sys.executable, "-c", program], task, time.monotonic() + 60, on_line)

    wait_until(lambda: not alive(int(lines[0])), seconds=20)


def test_a_leashed_command_ends_with_the_process_that_started_it(tmp_path):
    """A parent that is killed leaves nobody behind."""
    (tmp_path / "patient.py").write_text("import os, time; print(os.getpid(), flush=True); "
                                         "time.sleep(60)")  # fmt: skip
    parent = (
        "import os, subprocess, sys, time\n"
        "command = [sys.executable, '-m', 'bird_server.learning.leashed',"
        " str(os.getpid()), 'patient']\n"
        "subprocess.Popen(command, start_new_session=True)\n"
        "time.sleep(60)"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", parent],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    child = int(started.stdout.readline())
    started.kill()
    started.wait()

    wait_until(lambda: not alive(child), seconds=20)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"


def test_options_come_from_the_defaults():
    assert Options.of({"client_id": "x"}) == Options(**DEFAULTS)
    assert Options.of({"steps": "3", "epochs": 1}).steps == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 1.5),
        ("steps", -1),
        ("epochs", 0),
        ("epochs", "many"),
        ("held_out", 1),
        ("slices", 0),
        ("slices", True),
        ("learning_rate", float("nan")),
        ("max_minutes", None),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(name, value):
    with pytest.raises(BadRequestError, match=name):
        Options.of({name: value})
