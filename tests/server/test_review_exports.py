"""Exports of a reviewed case, each read back by the program that it is for."""

from __future__ import annotations

import base64
import csv
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from bird_server.review.errors import ExportError, UnknownCaseError
from bird_server.review.exports.coco import coco, coco_pictures
from bird_server.review.exports.csv_table import csv_file
from bird_server.review.exports.export_file import ExportFile
from bird_server.review.records import Edit
from bird_server.review.review import EXPORT_KINDS, Review, Scan
from bird_vlm.contract import GroundingResult
from bird_vlm.errors import BadRequestError
from bird_vlm.labels import natural_name
from bird_vlm.volumes import Volume
from review_cases import a_finding, a_store_in, by

VERSION = "0123456789abcdef"
NASTY = "<script>alert('x')</script> & \"so\" on"


@pytest.fixture
def a_volume(an_oblique_volume) -> Volume:
    return an_oblique_volume.volume


@pytest.fixture
def a_review(tmp_path, a_volume) -> Review:
    """A case with an accepted block, an edited organ, a rejected rib, an open sagittal finding."""
    review = Review(a_store_in(tmp_path), tmp_path)
    geometry = a_volume.geometry()

    def finding(label, box_pixel, first=3, last=6, plane="axial"):
        return a_finding(label, first, last, box_pixel, geometry, plane)

    axial = (
        finding("the block", (4.25, 7.0, 9.0, 14.5)),
        finding("kidney_left", (1.0, 1.0, 6.0, 6.0), first=7, last=7),
        finding("rib", (12.0, 2.0, 18.0, 9.0)),
    )
    sagittal = (finding("spine", (2.0, 1.0, 8.0, 9.0), plane="sagittal"),)
    block, kidney, rib = review.propose(
        a_volume,
        "=scan, 1.nii.gz",
        GroundingResult(geometry, "bird-mini", "axial", (40.0, 400.0), axial, ("spleen", "Spleen")),
        VERSION,
    ).added
    review.propose(
        a_volume,
        "=scan, 1.nii.gz",
        GroundingResult(geometry, "bird-mini", "sagittal", None, sagittal, ()),
        VERSION,
    )
    review.store.accept(block, by("Jürgen", 1, NASTY))
    review.store.edit(
        kidney, by("ann", 1), Edit("kidney left", boxes=((7, (1.5, 1.0, 6.0, 6.25)),))
    )
    review.store.reject(rib, by("ann", 1, "=HYPERLINK(1)"))
    review.store.add_note(a_volume.digest, "ann", NASTY)
    return review


def findings_of(review, volume, *statuses):
    report = review.store.report(volume.digest)
    return [f for f in report.findings if not statuses or f.status in statuses]


# .mrk.json


def test_markups_load_in_slicer_as_the_same_boxes(a_review, a_volume, tmp_path):
    slicer = pytest.importorskip("slicer", reason="slicer-core is not installed")
    path = tmp_path / "case.mrk.json"
    path.write_bytes(a_review.export(a_volume.digest, "markups").content)
    scene, logic = slicer.vtkMRMLScene(), slicer.vtkSlicerMarkupsLogic()
    logic.SetMRMLScene(scene)

    assert logic.LoadMarkups(str(path), "")

    rois = [
        scene.GetNthNodeByClass(n, "vtkMRMLMarkupsROINode")
        for n in range(scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode"))
    ]
    findings = findings_of(a_review, a_volume, "proposed", "accepted", "edited")
    assert len(rois) == len(findings) == 3
    for roi, finding in zip(rois, findings, strict=True):
        np.testing.assert_allclose(roi.GetCenter(), finding.content.roi.center_ras, atol=1e-4)
        np.testing.assert_allclose(roi.GetSize(), finding.content.roi.size_mm, atol=1e-4)
        assert roi.GetName() == finding.content.label
    assert rois[0].GetNthControlPointDescription(0).endswith(f"{VERSION}, accepted by Jürgen")
    assert rois[2].GetNthControlPointDescription(0).endswith(f"{VERSION}, proposed")


def test_markups_without_findings_name_what_is_absent(a_review, a_volume):
    whole = json.loads(a_review.export(a_volume.digest, "markups", statuses=("rejected",)).content)
    assert [m["name"] for m in whole["markups"]] == ["rib"]

    a_review.store.reject(findings_of(a_review, a_volume, "proposed")[0].finding_id, by("ann", 1))
    none = json.loads(a_review.export(a_volume.digest, "markups", statuses=("proposed",)).content)
    assert [m["name"] for m in none["markups"]] == ["not found: spleen"]


# CSV


def rows_of(exported: ExportFile) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(exported.content.decode("utf-8-sig"), newline="")))


def test_csv_has_a_line_per_box_with_exact_numbers(a_review, a_volume):
    rows = rows_of(a_review.export(a_volume.digest, "csv"))

    findings = findings_of(a_review, a_volume)
    boxes = [(f, box) for f in findings for box in f.content.boxes]
    assert len(rows) == len(boxes) + 1
    for row, (finding, box) in zip(rows, boxes, strict=False):
        assert row["finding_id"] == finding.finding_id
        assert int(row["slice"]) == box.slice
        read = [float(row[f"{edge}_pixel"]) for edge in ("x0", "y0", "x1", "y1")]
        assert tuple(read) == box.box_pixel
        corner = tuple(float(row[f"corner3_{axis}_mm"]) for axis in "ras")
        assert corner == box.corners_ras[2]
    assert (rows[-1]["prompt"], rows[-1]["status"], rows[-1]["slice"]) == ("spleen", "absent", "")
    assert rows[0]["comment"] == NASTY


def test_csv_runs_no_formula_in_a_spreadsheet(a_review, a_volume):
    rows = rows_of(a_review.export(a_volume.digest, "csv"))

    assert {row["case"] for row in rows} == {"'=scan, 1.nii.gz"}
    assert "'=HYPERLINK(1)" in {row["comment"] for row in rows}


def test_csv_takes_many_cases(a_review, a_volume):
    report = a_review.store.report(a_volume.digest)

    assert len(rows_of(csv_file([report, report]))) == 2 * len(rows_of(csv_file([report])))


# COCO


def test_coco_loads_with_pycocotools(a_review, a_volume, tmp_path):
    loader = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    path = tmp_path / "case.json"
    path.write_bytes(a_review.export(a_volume.digest, "coco").content)

    read = loader.COCO(str(path))

    findings = findings_of(a_review, a_volume, "accepted", "edited")
    expected = {
        (f.plane, box.slice, natural_name(f.content.label)): box.box_pixel
        for f in findings
        for box in f.content.boxes
    }
    found = {}
    for annotation in read.loadAnns(read.getAnnIds()):
        (image,) = read.loadImgs(annotation["image_id"])
        (category,) = read.loadCats(annotation["category_id"])
        x, y, width, height = annotation["bbox"]
        found[image["plane"], image["slice"], category["name"]] = (x, y, x + width, y + height)
        assert annotation["area"] == pytest.approx(width * height)
        assert read.annToMask(annotation).sum() == pytest.approx(width * height, rel=0.3)
    assert found == expected
    assert len(read.getImgIds()) == 5


def test_coco_pictures_are_those_that_the_entries_name(a_review, a_volume):
    report = a_review.store.report(a_volume.digest)
    entries = coco([report])

    pictures = dict(coco_pictures(report.case, a_volume, entries))

    assert set(pictures) == {image["file_name"] for image in entries["images"]}
    for image in entries["images"]:
        assert pictures[image["file_name"]].size == (image["width"], image["height"])


# HTML


class Page(HTMLParser):
    """Tags, attributes and texts of a page; void elements may stay open."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.images, self.texts, self._open = [], [], [], []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_the_report_tells_all_and_is_one_file(a_review, a_volume):
    text = a_review.export(a_volume.digest, "html", Scan(a_volume)).content.decode()

    page = Page(text)
    told = " ".join(page.texts)
    for words in (
        "Not a diagnosis",
        *("=scan, 1.nii.gz", VERSION, "the block", "kidney left", "rib", "spine"),
        *("accepted", "edited", "rejected", "proposed", "Jürgen", "spleen", "=HYPERLINK(1)"),
        "Asked as “kidney_left”",
    ):
        assert words in told
    size = a_review.store.report(a_volume.digest).findings[0].content.roi.size_mm
    assert " × ".join(f"{edge:.1f}" for edge in size) in told
    assert "http" not in text.replace("http-equiv", "")
    assert set(page.tags) & {"link", "script", "iframe", "object"} == set()


def test_the_reports_pictures_are_drawings_of_the_volume(a_review, a_volume):
    page = Page(a_review.export(a_volume.digest, "html", Scan(a_volume)).content.decode())

    assert len(page.images) == 2  # axial, sagittal
    for image in page.images:
        kind, _, content = image["src"].partition("base64,")
        assert kind == "data:image/png;"
        picture = Image.open(io.BytesIO(base64.b64decode(content)))
        assert 300 < picture.width <= 1400
        assert len(picture.getcolors(maxcolors=1 << 24)) > 50
    assert "rib" not in " ".join(image["alt"] for image in page.images)


def test_a_sheet_has_no_empty_half(a_review, a_volume):
    page = Page(a_review.export(a_volume.digest, "html", Scan(a_volume)).content.decode())

    for image in page.images:
        content = image["src"].partition("base64,")[2]
        with Image.open(io.BytesIO(base64.b64decode(content))) as picture:
            right_edge = np.asarray(picture)[:, -40:-12]
        assert (right_edge != right_edge[0, 0]).any()


def test_what_people_wrote_is_text_in_the_report(a_review, a_volume):
    text = a_review.export(a_volume.digest, "html").content.decode()

    assert "<script" not in text
    assert NASTY in Page(text).texts


def test_a_report_without_the_volume_says_so(a_review, a_volume):
    page = Page(a_review.export(a_volume.digest, "html").content.decode())

    assert page.images == []
    assert "no longer stored" in " ".join(page.texts)


def test_a_report_with_another_volume_is_refused(a_review, a_volume, a_phantom_volume):
    with pytest.raises(ExportError, match="not the one that was reviewed"):
        a_review.export(a_volume.digest, "html", Scan(a_phantom_volume.volume))


# All


@pytest.mark.parametrize("kind", ["markups", "csv", "coco", "html"])
def test_a_case_without_findings_can_be_exported(a_volume, tmp_path, kind):
    review = Review(a_store_in(tmp_path), tmp_path)
    nothing = GroundingResult(a_volume.geometry(), "bird-mini", "axial", None, (), ("liver",))
    review.propose(a_volume, "../../etc/ünï.nii", nothing, VERSION)

    exported = review.export(a_volume.digest, kind, Scan(a_volume))

    assert exported.content
    assert exported.name.startswith(f"etc_n_{a_volume.digest[:8]}")


def test_an_unknown_kind_or_case_is_named(a_review, a_volume):
    with pytest.raises(BadRequestError, match="kind: must be one of markups"):
        a_review.export(a_volume.digest, "pdf")
    for kind in EXPORT_KINDS:
        with pytest.raises(UnknownCaseError):
            a_review.export("nowhere", kind)


def test_an_answer_about_another_volume_is_refused(a_review, a_volume, a_phantom_volume):
    other = GroundingResult(a_phantom_volume.volume.geometry(), "m", "axial", None, (), ())

    with pytest.raises(BadRequestError, match="another volume"):
        a_review.propose(a_volume, "scan.nii", other, VERSION)
