"""Slices of a deformed labelled scan: the right words on the right side, in every copy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from bird_training.masks import read_mask
from bird_training.records import PictureRecord
from bird_training.sources.labelled_volume import write_labelled_slices
from bird_vlm.boxes import mask_to_box_pixel
from bird_vlm.errors import BirdError
from bird_vlm.labels import side_of

CLASSES = {17: "left_hippocampus", 53: "right_hippocampus", 16: "brain_stem"}
EDGE_MM, SPACING_MM = 108.0, 3.0
TISSUE, BALL = 100.0, 200.0
CENTRES_RAS = {17: (-27, 0, 0), 53: (27, 0, 0), 16: (0, -15, -24)}
RADIUS_MM = 11.0


@dataclass(frozen=True)
class CutHead:
    image: Path
    labels: Path
    out: Path
    records: list[PictureRecord]

    def of_plane(self, plane: str) -> list[PictureRecord]:
        return [record for record in self.records if record.plane == plane]


def a_phantom_head(folder: Path, signs: tuple[int, int, int]) -> tuple[Path, Path]:
    """An ellipsoid head with three labelled balls; `signs` are the directions of the voxel axes."""
    count = int(EDGE_MM / SPACING_MM)
    affine = np.diag([*(SPACING_MM * s for s in signs), 1.0])
    affine[:3, 3] = [-s * (EDGE_MM - SPACING_MM) / 2 for s in signs]
    ijk = np.stack(np.meshgrid(*[np.arange(count)] * 3, indexing="ij"), axis=-1)
    ras = ijk @ affine[:3, :3].T + affine[:3, 3]
    head = (((ras / (48, 50, 46)) ** 2).sum(-1) < 1) * TISSUE
    labels = np.zeros(head.shape, np.uint8)
    for value, centre in CENTRES_RAS.items():
        labels[((ras - centre) ** 2).sum(-1) < RADIUS_MM**2] = value
    head[labels > 0] = BALL
    paths = folder / "head.nii.gz", folder / "head_labels.nii.gz"
    for path, array in zip(paths, (head.astype(np.float32), labels), strict=True):
        nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return paths


def cut(image: Path, labels: Path, out: Path, **options) -> list[PictureRecord]:
    settings = {"dataset": "OASIS", "modality": "mr", "copies": 1, "step": 4}
    return write_labelled_slices(image, labels, CLASSES, out, **(settings | options))


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((1, 1, 1), id="RAS"),
        pytest.param((-1, -1, 1), id="LPS"),
        pytest.param((-1, 1, 1), id="LAS"),
    ],
)
def a_cut_head(request, tmp_path_factory) -> CutHead:
    """Two deformed copies of a head whose voxel axes run in some direction."""
    folder = tmp_path_factory.mktemp("head")
    image, labels = a_phantom_head(folder, request.param)
    out = folder / "slices"
    return CutHead(image, labels, out, cut(image, labels, out, copies=2))


def centre_of(item) -> tuple[float, float]:
    """Of an object on its picture, as shares of width and height."""
    mask = read_mask(item)
    x0, y0, x1, y1 = mask_to_box_pixel(mask)
    return (x0 + x1) / 2 / mask.shape[1], (y0 + y1) / 2 / mask.shape[0]


def test_pictures_and_label_maps_of_all_planes_are_written(a_cut_head):
    assert {r.plane for r in a_cut_head.records} == {"axial", "coronal", "sagittal"}
    assert len({r.id for r in a_cut_head.records}) == len(a_cut_head.records) > 40
    assert {(r.modality, r.dataset, r.case) for r in a_cut_head.records} == {
        ("mr", "OASIS", "head")
    }
    for record in a_cut_head.records:
        assert record.image.parent == a_cut_head.out
        with Image.open(record.image) as picture:
            assert picture.mode == "L"
            assert max(picture.getextrema()) > 0
            for item in record.objects:
                assert read_mask(item).shape == picture.size[::-1]


@pytest.mark.parametrize("plane", ["axial", "coronal"])
def test_the_patients_left_is_on_the_pictures_right_in_every_copy(a_cut_head, plane):
    seen = Counter()
    for record in a_cut_head.of_plane(plane):
        for item in record.objects:
            if side := side_of(item.label):
                x, _ = centre_of(item)
                assert (x > 0.5) == (side == "left"), record.id
                seen[record.id.split(f"{plane}_")[1][:2], side] += 1
    assert set(seen) == {(copy, side) for copy in ("00", "01") for side in ("left", "right")}


def test_sagittal_pictures_name_no_sides(a_cut_head):
    labels = Counter(o.label for r in a_cut_head.of_plane("sagittal") for o in r.objects)
    assert set(labels) == {"hippocampus", "brain stem"}
    assert labels["hippocampus"] >= 4  # of both sides


@pytest.mark.parametrize(
    ("plane", "below", "right"),
    [
        pytest.param("coronal", True, None, id="inferior-is-down"),
        pytest.param("axial", True, None, id="posterior-is-down"),
        pytest.param("sagittal", True, True, id="posterior-is-right"),
    ],
)
def test_the_brain_stem_lies_low_and_behind(a_cut_head, plane, below, right):
    stems = [o for r in a_cut_head.of_plane(plane) for o in r.objects if o.label == "brain stem"]
    x, y = np.mean([centre_of(item) for item in stems], axis=0)
    assert (y > 0.5) == below
    assert right is None or (x > 0.5) == right


@pytest.mark.parametrize("copy", ["00", "01"])
def test_image_and_labels_are_deformed_alike(a_cut_head, copy):
    """The balls are the only bright things, so masks and bright pixels must be the same."""
    both = either = 0
    for record in a_cut_head.records:
        if f"_{copy}_" not in record.id:
            continue
        with Image.open(record.image) as picture:
            bright = np.asarray(picture) > 190  # between tissue (128) and ball (255)
        named = np.zeros(bright.shape, bool)
        for item in record.objects:
            named |= read_mask(item)
        both, either = both + (bright & named).sum(), either + (bright | named).sum()
    assert both > 0.7 * either > 1000


def test_slivers_are_not_asked_for(a_cut_head):
    sizes = [int(read_mask(o).sum()) for r in a_cut_head.records for o in r.objects]
    assert min(sizes) >= 12


def test_copies_differ_and_a_seed_repeats_them(tmp_path):
    image, labels = a_phantom_head(tmp_path, (1, 1, 1))

    def pictures(name: str, seed: int) -> list[bytes]:
        records = cut(image, labels, tmp_path / name, step=16, seed=seed)
        return [record.image.read_bytes() for record in records]

    first = pictures("first", 1)
    assert first == pictures("again", 1)
    assert not set(first) & set(pictures("other", 2))


def test_a_label_map_of_another_grid_is_refused(tmp_path):
    image, labels = a_phantom_head(tmp_path, (1, 1, 1))
    shifted = nibabel.load(labels)
    moved = shifted.affine.copy()
    moved[0, 3] += 9
    other = tmp_path / "shifted.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.asarray(shifted.dataobj), moved), other)
    cropped = tmp_path / "cropped.nii.gz"
    nibabel.save(shifted.slicer[4:], cropped)
    for path in (other, cropped):
        with pytest.raises(BirdError, match=path.name):
            cut(image, path, tmp_path / "out")


@pytest.mark.parametrize("value", [0, -3, 256, 1017])
def test_label_values_that_a_picture_cannot_hold_are_refused(tmp_path, value):
    image, labels = a_phantom_head(tmp_path, (1, 1, 1))
    with pytest.raises(BirdError, match=str(value)):
        write_labelled_slices(
            *(image, labels, {value: "left_hippocampus"}, tmp_path / "out"),
            dataset="OASIS",
            modality="mr",
            copies=1,
        )
