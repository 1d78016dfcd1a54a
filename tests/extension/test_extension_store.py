"""Reviews between the scene and the server's store: the real routes and the real store."""

from pathlib import Path

import numpy as np
import pytest
import slicer

pytest.importorskip("fastapi", reason="needs the server's packages (see README, server)")

from BiRDLib import scene as geometry
from BiRDLib.adopting import CASE
from BiRDLib.background import Background
from BiRDLib.caseroom import CaseRoom
from BiRDLib.errors import Conflict, NotFound, UnusableInput
from BiRDLib.logic import Logic
from BiRDLib.notes import notes
from BiRDLib.question import WHOLE, Question
from BiRDLib.review import Review
from BiRDLib.reviewclient import EXPORTS, ReviewClient
from BiRDLib.worklist import CaseFilter, case_cells, choice_words
from outcomes import AtOnce
from review_server import ReviewServer
from slice_view import SlicerCore
from voxel_grids import GEOMETRIES

LABELS = ("liver", "spleen", "gallbladder")


@pytest.fixture
def a_store(tmp_path):
    server = ReviewServer(tmp_path / "studies")
    yield server
    server.close()


class Desk:
    """A reviewer with a Slicer of their own."""

    def __init__(self, reviewer, address=None, kind="oblique"):
        self.core = SlicerCore()
        self.news = []
        self.logic = Logic(self.core.scene, AtOnce())
        display = self.logic.display
        self.review = Review(self.core.scene, self.logic, display, self.news.append, lambda: None)
        self.review.decisions.reviewer = reviewer
        self.room = CaseRoom(self.core.scene, self.logic, display, self._load)
        array = np.arange(60 * 50 * 40, dtype=np.int32).reshape(40, 50, 60)
        self.volume = self.core.volume(array, GEOMETRIES[kind], "CT", window=(1, 2))
        self.loaded = []
        if address is not None:
            self.connect(address)

    def connect(self, address):
        self.logic.connect(address, "", lambda health: None, pytest.fail)
        self.review.outbox.send_all()

    def ask(self):
        question = Question(self.volume, LABELS, extent=WHOLE)
        self.logic.ground(question, lambda *answer: None, pytest.fail)

    @property
    def client(self):
        return ReviewClient(self.logic.client)

    def lines(self):
        return {line.label: line for line in self.review.lines(self.volume)}

    def table(self):
        return self.logic.findings.table(self.volume)

    def move(self, key, by_mm):
        place = self.logic.findings.place(self.table(), key)
        moved = place._replace(center_ras=place.center_ras + by_mm)
        self.review.edit(self.volume, key)
        self.logic.findings.setPlace(self.table(), key, moved)
        self.review.finish()

    def _load(self, path):
        self.loaded.append(Path(path).name)
        slicer.mrmlScene = self.core.scene
        storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
        storage.SetFileName(path)
        node = self.core.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        return node if storage.ReadData(node) else None

    def close(self):
        self.logic.close()
        self.core.scene.Clear(1)


@pytest.fixture
def make_desk():
    desks = []

    def make(*arguments, **options):
        desks.append(Desk(*arguments, **options))
        return desks[-1]

    yield make
    for desk in desks:
        desk.close()


@pytest.fixture
def a_desk(make_desk, a_store):
    desk = make_desk("Dr A", a_store.address)
    desk.ask()
    return desk


def _case(desk):
    return desk.client.case(desk.table().GetAttribute(CASE))


def _stored(desk):
    return {found.finding.label: found for found in _case(desk).findings}


def test_decisions_reach_the_store_and_undo_does_too(a_desk):
    a_desk.review.accept(a_desk.volume, ["1/1"])
    a_desk.review.reject(a_desk.volume, ["1/2"])
    a_desk.review.comment(a_desk.volume, ["1/2"], "bowel")
    stored = _stored(a_desk)
    assert (stored["liver"].status, stored["liver"].reviewer) == ("accepted", "Dr A")
    assert (stored["spleen"].status, stored["spleen"].comment) == ("rejected", "bowel")
    assert a_desk.review.outbox.waiting() == 0
    for _ in range(3):
        a_desk.review.undo()
    assert [found.status for found in _case(a_desk).findings] == ["proposed", "proposed"]
    assert a_desk.news == []


def test_a_moved_box_and_a_new_name_reach_the_store_and_undo_brings_the_models_boxes_back(a_desk):
    a_desk.review.accept(a_desk.volume, ["1/1"])
    before = _stored(a_desk)["liver"]
    a_desk.move("1/1", (4.0, 0.0, 0.0))
    a_desk.review.rename(a_desk.volume, ["1/1"], "liver lobe")
    moved = _stored(a_desk)["liver lobe"]
    place = a_desk.logic.findings.place(a_desk.table(), "1/1")
    np.testing.assert_allclose(moved.place.center_ras, place.center_ras, atol=1e-3)
    assert (moved.status, moved.prompt) == ("edited", "liver")
    a_desk.review.undo()
    a_desk.review.undo()
    after = _stored(a_desk)["liver"]
    assert after.status == "accepted"
    assert after.finding.boxes == before.finding.boxes


def test_what_was_missed_and_remarks_reach_the_store_once(a_desk):
    roi = a_desk.logic.findings.rois(a_desk.table())["1/1"]
    a_desk.review.addByHand(a_desk.volume, roi, "cyst", "axial")
    a_desk.review.note(a_desk.volume, "motion")
    cyst = _stored(a_desk)["cyst"]
    assert (cyst.model, cyst.status, cyst.reviewer) == ("", "accepted", "Dr A")
    own = a_desk.logic.findings.place(a_desk.table(), "2/1")
    np.testing.assert_allclose(cyst.place.size_mm, own.size_mm, atol=1e-3)
    a_desk.logic.findings.change(a_desk.table(), "2/1", told="untold", server_id="", revision=0)
    a_desk.review.outbox.send_all()
    assert [found.finding.label for found in _case(a_desk).findings].count("cyst") == 1
    assert [note.text for note in _case(a_desk).notes] == ["motion"]
    assert [note.told for note in notes(a_desk.table())] == [True]


def test_decisions_without_a_server_are_sent_on_connecting(make_desk, a_store, a_desk):
    a_desk.logic.disconnect()
    a_desk.review.accept(a_desk.volume, ["1/1"])
    a_desk.review.note(a_desk.volume, "late")
    assert a_desk.lines()["liver"].told == "untold"
    assert a_desk.review.outbox.waiting() == 2
    a_desk.connect(a_store.address)
    assert _stored(a_desk)["liver"].status == "accepted"
    assert a_desk.review.outbox.waiting() == 0


def test_an_answer_that_was_lost_is_no_dispute(a_desk):
    """The store has the decision, but this Slicer never heard so."""
    a_desk.review.accept(a_desk.volume, ["1/1"])
    a_desk.logic.findings.change(a_desk.table(), "1/1", told="untold", revision=1)
    a_desk.review.outbox.send_all()
    assert a_desk.lines()["liver"].told == "told"
    assert _stored(a_desk)["liver"].revision == 2


def test_another_reviewer_is_not_overruled_unseen(make_desk, a_store, a_desk):
    other = make_desk("Dr B", a_store.address)
    other.room.fetch(other.volume, lambda volume: None, pytest.fail)
    assert other.lines()["liver"].status == "proposed"
    a_desk.review.accept(a_desk.volume, ["1/1"])
    other.review.reject(other.volume, ["1/1"])
    assert other.lines()["liver"].told == "disputed"
    assert "Dr A says accepted" in other.news[0]
    assert _stored(a_desk)["liver"].status == "accepted"
    other.review.reopen(other.volume, ["1/1"])
    other.review.reject(other.volume, ["1/1"])
    assert _stored(a_desk)["liver"].reviewer == "Dr B"
    assert other.lines()["liver"].told == "told"


def test_a_case_comes_with_all_that_was_decided(make_desk, a_store, a_desk):
    a_desk.review.accept(a_desk.volume, ["1/1"])
    a_desk.move("1/2", (0.0, 3.0, 0.0))
    a_desk.review.note(a_desk.volume, "late phase")
    other = make_desk("Dr B", a_store.address)
    other.room.fetch(other.volume, lambda volume: None, pytest.fail)
    found = {label: (line.status, line.told) for label, line in other.lines().items()}
    assert found == {
        "liver": ("accepted", "told"),
        "spleen": ("edited", "told"),
        "gallbladder": ("absent", ""),
    }
    assert [note.text for note in notes(other.table())] == ["late phase"]
    assert other.review.outbox.waiting() == 0
    a_desk.review.reject(a_desk.volume, ["1/1"])
    other.room.fetch(other.volume, lambda volume: None, pytest.fail)
    assert other.lines()["liver"].status == "rejected"
    assert len(other.lines()) == 3


def test_the_work_list_is_filtered_and_the_next_case_has_reasons(make_desk, a_store, a_desk):
    other = make_desk("Dr B", a_store.address, kind="lps")
    other.ask()
    other.review.accept(other.volume, ["1/1", "1/2"])
    seen = []
    for kind in ("all", "unreviewed", "expected organ missing"):
        a_desk.room.refresh(CaseFilter(kind), lambda wl: seen.append(len(wl.cases)), pytest.fail)
    assert seen == [2, 1, 2]
    a_desk.room.refresh(CaseFilter(name="nobody"), lambda wl: seen.append(wl.total), pytest.fail)
    assert seen[-1] == 0
    a_desk.room.choose("uncertainty", seen.append, pytest.fail)
    assert "spleen" in choice_words(seen[-1])
    assert "1 to review" in choice_words(seen[-1])
    assert case_cells(seen[-1].case)[1:] == ("2", "0", "gallbladder")
    a_desk.review.reject(a_desk.volume, ["1/1", "1/2"])
    a_desk.room.choose("random", seen.append, pytest.fail)
    assert choice_words(seen[-1]) == "Every case is reviewed."


def test_walking_through_the_cases_opens_those_that_are_here(make_desk, a_store, a_desk):
    a_desk.review.accept(a_desk.volume, ["1/1"])
    other = make_desk("Dr B", a_store.address, kind="lps")
    other.ask()
    room, opened, failed = a_desk.room, [], []
    room.refresh(CaseFilter(), lambda worklist: None, pytest.fail)
    assert room.list.neighbour(1).volume_digest == a_desk.table().GetAttribute(CASE)
    room.open(room.list.neighbour(1), opened.append, pytest.fail)
    assert opened == [a_desk.volume]
    room.open(room.list.neighbour(1), opened.append, failed.append)
    assert "Load the scan yourself" in failed[0].advice
    assert room.list.neighbour(-1) is None


@pytest.mark.parametrize("kind", [kind for kind in EXPORTS if kind != "dicom-sr"])
def test_reports_are_saved(a_desk, tmp_path, kind):
    path = tmp_path / "report"
    failed, written = [], []
    a_desk.room.export(a_desk.volume, kind, path, written.append, failed.append)
    assert isinstance(failed[0], UnusableInput)
    a_desk.review.accept(a_desk.volume, ["1/1"])
    a_desk.room.export(a_desk.volume, kind, path, written.append, pytest.fail)
    assert written == [path]
    assert b"liver" in path.read_bytes()


def test_a_study_of_the_server_is_fetched_and_opened(
    a_server, make_desk, tmp_path, a_store, a_desk
):
    """The scan comes through MONAI Label's route, which a scripted server stands for."""
    answer = a_desk.logic.client.call("GET", "/cases/" + a_desk.client.cases()[0][0].volume_digest)
    answer["study"] = "patients/ct 7.nrrd"
    a_server.says("GET", f"/cases/{answer['volume_digest']}", 200, answer)
    path = geometry.writeVolume(geometry.exportCopy(a_desk.volume), tmp_path)
    a_server.serves_file("/datastore/image", Path(path), "ct 7.nrrd")
    other = make_desk("Dr B", a_server.address)
    opened = []
    summary = a_desk.client.cases()[0][0]
    summary = type(summary)(**dict(vars(summary), study=answer["study"]))
    other.room.open(summary, opened.append, pytest.fail)
    assert other.loaded == ["ct 7.nrrd"]
    assert other.room.volumeOf(summary.volume_digest) is opened[0]
    assert [line.label for line in other.review.lines(opened[0])] == list(LABELS)


def test_a_server_without_reviews_leaves_them_in_the_scene(a_server, make_desk):
    a_server.says("GET", "/cases", 404, {"detail": "Not Found"})
    desk = make_desk("Dr A", a_server.address)
    roi = desk.core.scene.AddNewNodeByClass("vtkMRMLMarkupsROINode")
    geometry.placeRoi(roi, desk.volume, geometry.ijkToRas(desk.volume)[:3, 3], (9, 9, 9), np.eye(3))
    desk.review.addByHand(desk.volume, roi, "cyst", "axial")
    assert "kept in the scene" in desk.news[0]
    assert desk.review.outbox.waiting() == 1


def test_nothing_is_sent_to_another_computer_without_consent(a_store, make_desk):
    desk = make_desk("Dr A", a_store.address)
    desk.ask()
    desk.logic.client.address.host = "hospital.example"
    desk.review.accept(desk.volume, ["1/1"])
    assert "hospital.example is another computer" in desk.news[0]
    assert desk.review.outbox.waiting() == 1


def test_a_slow_store_does_not_hold_up_the_next_decision(a_store, make_desk):
    desk = make_desk("Dr A", a_store.address)
    desk.ask()
    background = Background()
    desk.logic.background = background
    desk.review.accept(desk.volume, ["1/1"])
    desk.review.reject(desk.volume, ["1/1"])
    while desk.review.outbox.busy:
        background.pump()
    assert _stored(desk)["liver"].status == "rejected"
    assert desk.lines()["liver"].told == "told"


def test_routes_say_what_is_wrong(a_desk):
    with pytest.raises(NotFound) as caught:
        a_desk.client.case("0" * 32)
    assert caught.value.code == "unknown_case"
    a_desk.review.accept(a_desk.volume, ["1/1"])
    liver = _stored(a_desk)["liver"]
    a_desk.client.change(liver, "reject", "Dr B")
    with pytest.raises(Conflict) as caught:
        a_desk.client.change(liver, "reopen", "Dr A")
    assert caught.value.code == "stale_revision"
    assert caught.value.told["present"]["reviewer"] == "Dr B"
