"""The volume benchmark's arithmetic, on findings and volumes whose boxes are known."""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import nibabel
import numpy as np
import pytest
import torch

from bird_vlm.answers import PictureAnswer
from bird_vlm.boxes import mask_to_box_pixel, pixel_to_norm
from bird_vlm.contract import SliceBox
from bird_vlm.errors import BadRequestError, BadVolumeError
from bird_vlm.linking import link_findings
from bird_vlm.model_card import ModelCard
from bird_vlm.slices import slice_stack
from bird_vlm.tensor_cache import TensorCache

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
VOLUMES = ["a_phantom_volume", "an_oblique_volume", "a_left_handed_volume"]


@pytest.fixture
def volume_iou(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return import_module("volume_iou")


@pytest.fixture
def volume_folder(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return import_module("volume_folder")


class BlockFinder:
    """A model that boxes what is bright, whatever it is asked for, and knows two objects."""

    card = ModelCard("block-finder", {"ct": ["liver"], "mr": ["spleen"]})

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.features = TensorCache()
        self.pictures: list[np.ndarray] = []

    def encode(self, pictures) -> torch.Tensor:
        first = len(self.pictures)
        self.pictures += pictures
        return torch.arange(first, len(self.pictures))

    def ground(self, features, labels, threshold, names) -> list[list[PictureAnswer]]:
        return [[self._answer(self.pictures[i])] * len(labels) for i in features.tolist()]

    def _answer(self, picture: np.ndarray) -> PictureAnswer:
        box_pixel = mask_to_box_pixel(picture > 220)
        if box_pixel is None:
            return PictureAnswer(0.1, "")
        box = pixel_to_norm(box_pixel, picture.shape[1], picture.shape[0])
        return PictureAnswer(0.9, "<ref>...", (box,), (0.9,))


@pytest.mark.parametrize("kind", VOLUMES)
def test_a_finding_around_the_block_has_an_iou_of_one(volume_iou, request, kind):
    phantom = request.getfixturevalue(kind)
    stack = slice_stack(phantom.volume.geometry(), "axial")
    boxes = []
    for index in range(stack.count):
        inside = np.argwhere(stack.cut(phantom.mask, index))
        if len(inside):
            (y0, x0), (y1, x1) = inside.min(0), inside.max(0) + 1
            box_pixel = tuple(map(float, (x0, y0, x1, y1)))
            boxes.append(SliceBox(index, 0.9, box_pixel, stack.corners_ras(index, box_pixel)))
    [finding] = link_findings("the block", boxes, stack)
    found = volume_iou.finding_box_ijk(finding, phantom.volume.ijk_to_ras)
    assert volume_iou.box_iou(found, volume_iou.label_box_ijk(phantom.mask)) == pytest.approx(1)


def test_half_overlapping_boxes(volume_iou):
    first = (np.zeros(3), np.array([2.0, 1.0, 1.0]))
    second = (np.array([1.0, 0.0, 0.0]), np.array([3.0, 1.0, 1.0]))
    assert volume_iou.box_iou(first, second) == pytest.approx(1 / 3)


@pytest.fixture
def a_folder_of_volumes(tmp_path, request):
    """A CT phantom with its block as "liver", a spleen that is not there and a bone nobody knows,
    and a volume that is left out."""

    def save(kind: str) -> Path:
        phantom = request.getfixturevalue(kind)
        phantom.save(tmp_path / "ct.nii.gz")
        labels = nibabel.Nifti1Image(phantom.mask.astype(np.uint8), phantom.volume.ijk_to_ras)
        nibabel.save(labels, tmp_path / "ct_labels.nii.gz")
        lines = [
            {
                "image": "ct.nii.gz",
                "labels": "ct_labels.nii.gz",
                "modality": "ct",
                "classes": {"1": "liver", "2": "spleen", "3": "femur_left"},
            },
            {"image": "mr_brain_oasis.nii.gz", "labels": "x", "modality": "mr", "classes": {}},
        ]
        (tmp_path / "volumes.json").write_text(json.dumps(lines))
        return tmp_path

    return save


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("kind", VOLUMES)
def test_a_perfect_model_finds_every_slice(
    volume_iou, volume_folder, a_folder_of_volumes, kind, plane
):
    item, _ = volume_folder.read_index(a_folder_of_volumes(kind))
    score = volume_iou.measure(BlockFinder(), item, plane)
    liver, spleen = score.scores
    assert (liver.label, liver.trained, liver.found, liver.elsewhere) == (
        "liver",
        True,
        liver.slices,
        0,
    )
    assert liver.slices >= 4
    assert liver.iou_3d == pytest.approx(1, abs=0.02)
    assert (spleen.trained, spleen.slices, spleen.iou_3d) == (False, 0, 0.0)
    assert spleen.elsewhere == liver.slices
    assert score.unknown == ("left femur",)


@pytest.mark.parametrize("kind", VOLUMES)
def test_thinned_slices_lie_where_they_lay(volume_iou, request, kind):
    volume = request.getfixturevalue(kind).volume
    whole = slice_stack(volume.geometry(), "axial")
    fewer, step = volume_iou.thinned(volume, "axial", 2.2 * whole.spacing_mm)
    assert step == 2
    stack = slice_stack(fewer.geometry(), "axial")
    for index in range(stack.count):
        where = 2 * index + 1
        assert (stack.cut(fewer.array, index) == whole.cut(volume.array, where)).all()
        box = (1.0, 2.0, 5.0, 6.0)
        assert np.allclose(stack.corners_ras(index, box), whole.corners_ras(where, box))


def test_thinned_out_slices_still_give_the_object_nearly_whole(
    volume_iou, volume_folder, a_folder_of_volumes
):
    item, _ = volume_folder.read_index(a_folder_of_volumes("a_phantom_volume"))
    score = volume_iou.measure(BlockFinder(), item, "axial", spacing_mm=10, text=["liver"])
    [liver] = score.scores
    assert (score.step, score.slices, liver.found, liver.slices) == (2, 6, 2, 2)
    assert liver.iou_3d == pytest.approx(3.5 / 4.5, abs=0.02)  # slices 3 to 6 taken as 2.0 to 6.0


def test_the_command_reports_the_whole_folder(
    volume_iou, a_folder_of_volumes, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(volume_iou, "load_engine", lambda model: BlockFinder())
    folder = a_folder_of_volumes("a_phantom_volume")
    monkeypatch.setattr(
        sys, "argv", ["volume_iou.py", str(folder), "--json", str(tmp_path / "out.json")]
    )
    volume_iou.main()
    report = json.loads((tmp_path / "out.json").read_text())
    assert [volume["volume"] for volume in report["volumes"]] == ["ct"]
    assert report["summary"]["trained"]["objects"] == 1
    assert report["summary"]["trained"]["slice_recall"] == 1
    assert report["summary"]["unseen"] == {"objects": 0, "iou_3d": None, "slice_recall": None}
    printed = capsys.readouterr()
    assert "4/4" in printed.out
    assert "unknown to the model: left femur" in " ".join(printed.err.split())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["--text", "pancreas"], "text: pancreas", id="unknown-text"),
        pytest.param(["--only", "pet"], "only: .*pet.* it has ct, mr_brain_oasis", id="no-volume"),
    ],
)
def test_what_is_not_there_is_refused(
    volume_iou, a_folder_of_volumes, monkeypatch, capsys, arguments, told
):
    folder = a_folder_of_volumes("a_phantom_volume")
    monkeypatch.setattr(sys, "argv", ["volume_iou.py", str(folder), *arguments])
    with pytest.raises(SystemExit) as left:
        volume_iou.main()
    assert left.value.code == 2
    assert re.search(told, " ".join(capsys.readouterr().err.split()))


def test_parts_make_up_a_whole(volume_folder):
    classes = {1: "necrosis", 2: "edema", 3: "non_enhancing_tumor", 4: "enhancing_tumor"}
    item = volume_folder.LabelledVolume(Path("a.nii"), Path("b.nii"), "mr", classes)
    masks = item.masks(np.arange(6).reshape(1, 2, 3))
    assert masks["brain tumor"].sum() == 4
    assert masks["edema"].sum() == 1
    fewer = volume_folder.LabelledVolume(Path("a.nii"), Path("b.nii"), "mr", {2: "edema"})
    assert fewer.masks(np.zeros((1, 1, 1))).keys() == {"edema"}


@pytest.mark.parametrize(
    ("name", "cases", "among"),
    [
        pytest.param("ct_sts_002", {("STS", "STS_002")}, True, id="full-name"),
        pytest.param("mr_atrium_06sr5r", {("LA2018", "06SR5RBREL16DQ6M8LWS")}, True, id="start"),
        pytest.param("ct_sts_001", {("STS", "STS_002"), ("LA2018", "STS_001")}, False, id="others"),
        pytest.param("ct_trunk_3mm", {("", ""), ("STS", "STS_002")}, False, id="other-source"),
    ],
)
def test_patients_of_the_training_are_known(volume_folder, name, cases, among):
    item = volume_folder.LabelledVolume(Path(f"{name}.nii.gz"), Path("b"), "ct", {})
    assert item.is_among(cases) is among


@pytest.mark.parametrize("text", ["", "{", '[{"image": 3}]', "3"], ids=repr)
def test_a_broken_index_is_refused_with_its_path(volume_folder, tmp_path, text):
    (tmp_path / "volumes.json").write_text(text)
    with pytest.raises(BadVolumeError, match=r"volumes\.json: is no list"):
        volume_folder.read_index(tmp_path)


def test_classes_that_are_no_table_are_refused(volume_folder):
    with pytest.raises(BadRequestError, match="classes: need a JSON object"):
        volume_folder.read_classes('{"liver": 5}')


@pytest.mark.shared
def test_the_shared_volumes_name_patients_that_exist(volume_folder, shared):
    items = volume_folder.read_index(shared / "data" / "volumes")
    assert {item.name for item in items} >= volume_folder.CASES.keys()
    folder = shared / "data" / "sa_med2d_mini"
    stems = json.loads((folder / "SAMed2D_v1.json").read_text())
    cases = {tuple(Path(stem).stem.split("--")[1:3]) for stem in stems}
    for item in items:
        assert item.is_among(cases) is (item.name in volume_folder.CASES)
