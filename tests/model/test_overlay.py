"""Overlay: outlines lie on the structures, in true proportions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from bird_vlm.boxes import mask_to_box_pixel
from bird_vlm.contract import GroundingResult, SliceBox
from bird_vlm.linking import link_findings
from bird_vlm.overlay import SHEET_WIDTH, label_colours, save_overlay
from bird_vlm.slices import slice_stack
from bird_vlm.volumes import Volume

ONLY_THE_BLOCK = (100.0, 100.0)  # the window in which all else is black


def grounded(phantom, plane: str, labels=("block",)) -> GroundingResult:
    """The phantom's block, found under each of the labels on all its slices."""
    geometry = phantom.volume.geometry()
    stack = slice_stack(geometry, plane)
    found = {k: mask_to_box_pixel(stack.cut(phantom.mask, k)) for k in range(stack.count)}
    boxes = [SliceBox(k, 0.9, box, stack.corners_ras(k, box)) for k, box in found.items() if box]
    findings = tuple(f for label in labels for f in link_findings(label, boxes, stack))
    return GroundingResult(geometry, "bird-mini", plane, ONLY_THE_BLOCK, findings, ("liver",))


def sheet_of(path: Path, volume: Volume, result: GroundingResult) -> np.ndarray:
    save_overlay(path, volume, result)
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image).astype(int)


def brightest_area(sheet: np.ndarray) -> tuple[int, int, int, int]:
    """The box of the largest bright grey area: the block, less what its outline hides."""
    bright = (sheet.min(-1) > 140) & (np.ptp(sheet, axis=-1) == 0)
    areas, count = ndimage.label(bright)
    largest = 1 + np.argmax(ndimage.sum_labels(bright, areas, range(1, count + 1)))
    return tuple(map(int, mask_to_box_pixel(areas == largest)))


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize(
    "phantom", ["a_phantom_volume", "an_oblique_volume", "a_left_handed_volume"]
)
def test_the_outline_hugs_the_block(phantom, plane, tmp_path, request):
    phantom = request.getfixturevalue(phantom)
    result = grounded(phantom, plane)
    sheet = sheet_of(tmp_path / "sheet.png", phantom.volume, result)
    colour = label_colours(["block"])["block"]

    x0, y0, x1, y1 = brightest_area(sheet)
    row, column = (y0 + y1) // 2, (x0 + x1) // 2

    beside = [(row, x0 - 2), (row, x1 + 1), (y0 - 2, column), (y1 + 1, column)]
    further = [(row, x0 - 6), (row, x1 + 5), (y1 + 5, column)]
    assert all(tuple(sheet[place]) == colour for place in beside)
    assert all(tuple(sheet[place]) != colour for place in further)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_proportions_are_those_of_the_patient(plane, a_phantom_volume, tmp_path):
    sheet = sheet_of(
        tmp_path / "sheet.png", a_phantom_volume.volume, grounded(a_phantom_volume, plane)
    )
    size_mm = {"axial": (10, 14), "coronal": (10, 20), "sagittal": (14, 20)}[plane]
    x0, y0, x1, y1 = brightest_area(sheet)
    shown = (x1 - x0 + 6) / (y1 - y0 + 6)  # with the outline of 3 pixels
    assert shown == pytest.approx(size_mm[0] / size_mm[1], rel=0.04)


def test_each_label_has_its_colour(a_phantom_volume, tmp_path):
    labels = ["liver", "spleen", "left kidney"]
    result = grounded(a_phantom_volume, "axial", labels)
    sheet = sheet_of(tmp_path / "sheet.png", a_phantom_volume.volume, result)
    colours = label_colours(labels)
    assert len(set(colours.values())) == 3
    for colour in colours.values():
        assert (sheet == colour).all(-1).sum() > 100


def test_many_findings_on_many_slices_give_at_most_twelve_panels(a_phantom_volume, tmp_path):
    stack = slice_stack(a_phantom_volume.volume.geometry(), "coronal")
    findings = []
    for k in range(stack.count):
        box = SliceBox(k, 0.5, (2, 2, 9, 9), stack.corners_ras(k, (2, 2, 9, 9)))
        findings += link_findings("thing", [box], stack)
    result = GroundingResult(
        a_phantom_volume.volume.geometry(), "bird-mini", "coronal", None, tuple(findings), ()
    )
    few = GroundingResult(result.volume, "bird-mini", "coronal", None, tuple(findings[:12]), ())
    sheets = [
        sheet_of(tmp_path / f"{len(r.findings)}.png", a_phantom_volume.volume, r)
        for r in (result, few)
    ]
    assert len(findings) == 18
    assert sheets[0].shape == sheets[1].shape
    assert sheets[0].shape[1] == SHEET_WIDTH


def test_nothing_found_still_gives_a_picture(a_phantom_volume, tmp_path):
    result = grounded(a_phantom_volume, "axial", labels=())
    sheet = sheet_of(tmp_path / "sheet.png", a_phantom_volume.volume, result)
    assert sheet.shape[1] == SHEET_WIDTH
    assert brightest_area(sheet)


def test_a_colour_picture_is_shown_in_colour(tmp_path):
    array = np.full((60, 40, 1, 3), (180, 90, 40), dtype=np.uint8)
    volume = Volume(array, np.diag([-1.0, -1.0, 1.0, 1.0]))
    stack = slice_stack(volume.geometry(), "axial")
    box = SliceBox(0, 0.8, (10, 10, 30, 30), stack.corners_ras(0, (10, 10, 30, 30)))
    findings = link_findings("polyp", [box], stack)
    result = GroundingResult(volume.geometry(), "bird-mini", "axial", None, findings, ())
    sheet = sheet_of(tmp_path / "sheet.png", volume, result)
    assert (sheet == (180, 90, 40)).all(-1).mean() > 0.1
