"""Sources beside SA-Med2D-20M: the demo's layout, volumes, DICOM segmentations; and bad ones."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from bird_training.building.preview import preview_build
from bird_training.building.settings import BuildSettings
from bird_training.masks import read_mask
from bird_training.records import PictureRecord
from bird_training.sources.cutting import cut_volume, instance_map
from bird_training.sources.detect import detect
from bird_training.sources.reading import Skipped, inside, stream_list, stream_object
from bird_training.sources.sa_med2d import read_sa_med2d
from bird_training.sources.sam_med2d_demo import TEST_FILE, TRAIN_FILE, stream_sam_med2d_demo
from bird_training.sources.volumes import VolumeEntry, find_volumes, read_classes
from bird_vlm.boxes import mask_to_box_pixel
from bird_vlm.errors import BirdError
from bird_vlm.slices import slice_stack
from bird_vlm.volumes import read_volume
from build_world import build_here, no_progress, read_entries, read_facts, skipped
from pet_world import FACTOR, write_series
from small_world import Drawn, write_sa_med2d


def a_demo_folder(folder: Path) -> Path:
    """Two cases in SAM-Med2D's layout; names begin with the folder they once lay in."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    train: dict[str, list[str]] = {}
    test: dict[str, str] = {}
    for stem, objects in {
        "amos_0006_90": ("liver_000", "hip_left_000", "hip_left_001"),
        "amos_0507_31": ("liver_000",),
        "mine_1_5": ("liver_000",),
    }.items():
        Image.new("L", (40, 30), 99).save(folder / "images" / f"{stem}.png")
        image = f"data_demo/images/{stem}.png"
        for k, name in enumerate(objects):
            mask = np.zeros((30, 40), np.uint8)
            mask[5:20, 3 + 12 * k : 12 + 12 * k] = 255
            Image.fromarray(mask).save(folder / "masks" / f"{stem}_{name}.png")
            if stem == "amos_0507_31":
                test[f"data_demo/masks/{stem}_{name}.png"] = image
            else:
                train.setdefault(image, []).append(f"data_demo/masks/{stem}_{name}.png")
    (folder / TRAIN_FILE).write_text(json.dumps(train))
    (folder / TEST_FILE).write_text(json.dumps(test))
    return folder


class TestDemoLayout:
    def test_cases_modalities_and_objects_are_told_by_names(self, tmp_path):
        ct, mine, mr = stream_sam_med2d_demo(a_demo_folder(tmp_path))
        assert (ct.modality, ct.case, ct.dataset) == ("ct", "amos_0006", "AMOS")
        assert [o.label for o in ct.objects] == ["left hip", "left hip", "liver"]
        assert (mr.modality, mr.case) == ("mr", "amos_0507")
        assert all(p.is_file() for p in (ct.image, *(o.mask for o in ct.objects), mr.image))
        assert isinstance(mine, Skipped)
        assert "--modality" in mine.reason

    def test_a_modality_is_taken_where_the_name_tells_none(self, tmp_path):
        records = list(stream_sam_med2d_demo(a_demo_folder(tmp_path), "pet"))
        assert [r.modality for r in records] == ["ct", "pet", "mr"]

    @pytest.mark.parametrize(
        ("image", "masks"),
        [
            pytest.param("images/nothing.png", [], id="no-index"),
            pytest.param("images/amos_0006_90.png", ["masks/other_1_liver_000.png"], id="mask"),
            pytest.param("../amos_0006_90.png", [], id="above"),
            pytest.param("images/amos_0006_90.png", 7, id="no-list"),
        ],
    )
    def test_what_is_not_of_the_layout_is_skipped(self, tmp_path, image, masks):
        folder = a_demo_folder(tmp_path)
        (folder / TRAIN_FILE).write_text(json.dumps({image: masks}))
        first = next(stream_sam_med2d_demo(folder))
        assert isinstance(first, Skipped)
        assert first.name == image

    @pytest.mark.shared
    def test_the_real_demo_is_built(self, shared, tmp_path):
        report = build_here(shared / "data" / "sam_med2d_demo", tmp_path / "out")
        assert report["settings"]["layout"] == "SAM-Med2D demo"
        assert report["taken"] == 4
        assert not report["skipped"]
        assert read_entries(tmp_path / "out", "VG")


def a_labelled_scan(
    folder: Path, name: str, axes: str = "LPS", flipped_labels: bool = False
) -> tuple[Path, np.ndarray]:
    """40 x 36 x 30 voxels of 2 mm: a body, the liver on the right, two balls of kidney."""
    affine = nibabel.orientations.inv_ornt_aff(
        nibabel.orientations.axcodes2ornt(axes), (40, 36, 30)
    ) @ np.diag([2.0, 2, 2, 1])
    ijk = np.stack(np.meshgrid(*map(np.arange, (40, 36, 30)), indexing="ij"), -1)
    ras = ijk @ affine[:3, :3].T + affine[:3, 3]
    middle = (ras.reshape(-1, 3).max(0) + ras.reshape(-1, 3).min(0)) / 2
    ras = ras - middle
    scan = np.where((np.abs(ras) < (34, 30, 28)).all(-1), 40, -1000).astype(np.float32)
    labels = np.zeros(scan.shape, np.uint8)
    labels[(np.abs(ras - (18, 5, 10)) < (10, 12, 9)).all(-1)] = 1
    for y in (-15, 15):  # two areas of one class on an axial slice
        labels[((ras - (-18, y, -5)) ** 2).sum(-1) < 64] = 2
    scan[labels > 0] = 120
    folder.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(scan, affine), folder / f"{name}.nii.gz")
    label_image = nibabel.Nifti1Image(labels, affine)
    if flipped_labels:
        turn = nibabel.orientations.ornt_transform(
            nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt("RAS")
        )
        label_image = label_image.as_reoriented(turn)
    nibabel.save(label_image, folder / f"{name}_labels.nii.gz")
    return folder, labels


CLASSES = {"1": "liver", "2": "kidney_left", "3": "spleen", "0": "background"}


def describe(folder: Path, *rows: dict) -> Path:
    (folder / "volumes.json").write_text(json.dumps(rows))
    return folder


def a_row(name: str, **changes) -> dict:
    row = {"image": f"{name}.nii.gz", "labels": f"{name}_labels.nii.gz", "modality": "CT"}
    return row | {"classes": CLASSES, "dataset": "Ours 1", "case": name} | changes


def cut(entry: VolumeEntry, out: Path, **options) -> list[PictureRecord]:
    for name in ("images", "maps"):
        (out / name).mkdir(parents=True, exist_ok=True)
    return cut_volume(entry, out / "images", out / "maps", **options)[0]


class TestVolumes:
    @pytest.mark.parametrize("axes", ["LPS", "RAS", "SAR", "PIL"])
    @pytest.mark.parametrize("flipped", [False, True], ids=["same-axes", "labels-turned"])
    def test_boxes_lie_where_the_labels_are_whatever_the_axes(self, tmp_path, axes, flipped):
        folder, labels = a_labelled_scan(tmp_path, "scan", axes, flipped)
        [entry] = find_volumes(describe(folder, a_row("scan")))
        records = cut(entry, tmp_path / "out", planes=("axial", "coronal"), step=3)
        volume = read_volume(tmp_path / "scan.nii.gz")
        sides = set()
        for record in records:
            stack = slice_stack(volume.geometry(), record.plane)
            truth = stack.cut(labels, int(record.id.rsplit("_", 1)[1]))
            for item in record.objects:
                value = {"liver": 1, "left kidney": 2}[item.label]
                mask = read_mask(item)
                assert (truth[mask] == value).all()
                x0, _, x1, _ = mask_to_box_pixel(mask)
                sides.add((item.label, (x0 + x1) / 2 > mask.shape[1] / 2))
            covered = sum(read_mask(item).sum() for item in record.objects)
            assert covered >= (truth > 0).sum() - 3
        assert sides == {("liver", False), ("left kidney", True)}  # the right is on the left

    def test_every_connected_area_is_an_instance(self, tmp_path):
        folder, _ = a_labelled_scan(tmp_path, "scan")
        [entry] = find_volumes(describe(folder, a_row("scan")))
        records = cut(entry, tmp_path / "out", step=1)
        kidneys = [[o.label for o in r.objects].count("left kidney") for r in records]
        assert max(kidneys) == 2

    def test_sagittal_slices_name_no_sides_and_a_step_is_five_millimetres(self, tmp_path):
        folder, _ = a_labelled_scan(tmp_path, "scan", "RAS")
        [entry] = find_volumes(describe(folder, a_row("scan")))
        records = cut(entry, tmp_path / "out", planes=("sagittal",))
        assert {o.label for r in records for o in r.objects} == {"liver", "kidney"}
        positions = [int(r.id.rsplit("_", 1)[1]) for r in records]
        assert {b - a for a, b in pairwise(positions)} == {2}

    def test_a_build_of_volumes_keeps_its_pictures_and_drops_what_is_not_taken(self, tmp_path):
        rows = []
        for case in ("a", "b", "c", "d"):
            folder, _ = a_labelled_scan(tmp_path / "source", case)
            rows.append(a_row(case))
        describe(folder, *rows, a_row("missing"), {"image": "a.nii.gz"})
        out = tmp_path / "out"
        report = build_here(folder, out, limit=12, workers=2, planes=("axial", "coronal"))
        assert report["taken"] == 12
        assert len(list((out / "images").iterdir())) == 12
        told = [f for side in ("train", "test") for f in read_facts(out, side)]
        assert all((out / f["image"]).is_file() for f in told)
        assert {f["plane"] for f in told} == {"axial", "coronal"}
        assert {f["dataset"] for f in told} == {"Ours-1"}
        assert all("spleen" in f["absent"] for f in told)
        assert all(f["region"] in ("abdomen", "") for f in told)
        reasons = skipped(out)
        assert "does not exist" in reasons["missing"]
        assert "lacks 'modality'" in reasons["volumes.json, volume 6"]

    def test_an_object_nobody_looked_for_in_a_volume_is_not_called_absent(self, tmp_path):
        for case in ("a", "b"):
            folder, _ = a_labelled_scan(tmp_path / "source", case)
        only_liver = a_row("b", classes={"1": "liver"})
        build_here(describe(folder, a_row("a"), only_liver), tmp_path / "out")
        for side in ("train", "test"):
            for facts in read_facts(tmp_path / "out", side):
                if facts["case"] == "b":
                    assert not {"left kidney", "spleen"} & set(facts["absent"])

    def test_a_window_shows_what_it_is_for(self, tmp_path):
        folder, _ = a_labelled_scan(tmp_path, "scan")
        [entry] = find_volumes(describe(folder, a_row("scan")))
        greys = {}
        for window in (None, "soft tissue", "bone"):
            greys[window] = set()
            for record in cut(entry, tmp_path / str(window), window=window):
                with Image.open(record.image) as picture:
                    greys[window] |= {grey for _, grey in picture.getcolors()}
        assert greys[None] == greys["soft tissue"] == {0, 128, 178}  # air, body at 40, organs 120
        assert greys["bone"] == {0, 76, 88}

    def test_a_window_of_another_modality_leaves_a_volume_out_and_says_why(self, tmp_path):
        for case in ("a", "b"):
            folder, _ = a_labelled_scan(tmp_path / "source", case)
        describe(folder, a_row("a"), a_row("b", modality="mr"))
        report = build_here(folder, tmp_path / "out", window="lung")
        assert report["settings"]["window"] == "lung"
        assert {f["case"] for f in read_facts(tmp_path / "out", "train")} == {"a"}
        assert "'lung' is for ct and" in skipped(tmp_path / "out")["b"]
        with pytest.raises(BirdError, match=r"another window \('lung', now None\)"):
            build_here(folder, tmp_path / "out")

    def test_a_pet_series_is_cut_in_suv(self, tmp_path):
        def hot(header: pydicom.Dataset) -> None:
            header.Rows = header.Columns = 40
            values = np.full((40, 40), 500, np.uint16)
            values[10:20, 5:25] = 4000
            header.PixelData = values.tobytes()

        slopes = (1.0, 2.0, 4.0)  # each slice is scaled on its own
        series = write_series(tmp_path / "pet", hot, slopes)
        volume = read_volume(series)
        labels = (volume.array == volume.array.max((0, 1))).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(labels, volume.ijk_to_ras), tmp_path / "lesion.nii.gz")
        row = {"image": "pet", "labels": "lesion.nii.gz", "modality": "pet"}
        [entry] = find_volumes(describe(tmp_path, row | {"classes": {"1": "tumor"}}))
        records = cut(entry, tmp_path / "out", step=1, window="suv")
        assert len(records) == 3
        for record, slope in zip(records, slopes, strict=True):
            with Image.open(record.image) as picture:
                values = np.asarray(picture)
            [lesion] = record.objects
            suv = np.clip(4000 * slope * FACTOR, 0, 10)
            assert values[read_mask(lesion)] == pytest.approx(suv * 25.5, abs=0.51)
            assert values[0, 0] == pytest.approx(500 * slope * FACTOR * 25.5, abs=0.51)

    def test_pictures_have_no_window_to_choose(self, tmp_path):
        folder = write_sa_med2d(tmp_path / "source", [Drawn("ct_00--BTCV--p01--z_0001")])
        with pytest.raises(BirdError, match=r"window: .* holds pictures \(SA-Med2D-20M\)"):
            build_here(folder, tmp_path / "out", window="lung")
        assert not (tmp_path / "out").exists()

    def test_a_preview_cuts_a_few_volumes_and_estimates_the_rest(self, tmp_path, monkeypatch):
        rows = []
        for case in map(str, range(8)):
            folder, _ = a_labelled_scan(tmp_path / "source", case)
            rows.append(a_row(case))
        broken = a_row("missing")
        describe(folder, *rows[:4], broken, *rows[4:])
        cuts = []
        monkeypatch.setattr(
            "bird_training.sources.cutting.cut_volume",
            lambda entry, *rest, **how: cuts.append(entry.case) or cut_volume(entry, *rest, **how),
        )
        for limit in (None, 7):
            cuts.clear()
            settings = BuildSettings(folder, limit=limit, slice_step=2)
            told = preview_build(settings, no_progress)
            assert "<box>" in told
            found = re.search(r"about ([\d,]+) of ([\d,]+) pictures", told)
            assert int(found[2]) == pytest.approx(8 * 14, rel=0.2)
            assert int(found[1]) == (limit or int(found[2]))
            assert len(cuts) == 4  # three that can be read, and the missing one in the middle
            assert "missing" in cuts

    @pytest.mark.parametrize("content", ["[1]", "{", '{"liver": 5}', '{"5": "liver"'])
    def test_broken_classes_are_named(self, tmp_path, content):
        path = tmp_path / "classes.json"
        path.write_text(content)
        with pytest.raises(BirdError, match=str(path)):
            read_classes(path)

    def test_classes_may_be_in_a_file(self, tmp_path):
        (tmp_path / "classes.json").write_text('{"17": "left_hippocampus", "0": "background"}')
        assert read_classes(tmp_path / "classes.json") == {17: "left_hippocampus", 0: "background"}
        [entry] = find_volumes(describe(tmp_path, a_row("x", classes="classes.json")))
        assert entry.classes == ((17, "left hippocampus"),)

    def test_a_label_map_of_another_grid_is_refused(self, tmp_path):
        folder, _ = a_labelled_scan(tmp_path, "scan")
        labels = nibabel.load(folder / "scan_labels.nii.gz")
        smaller = nibabel.Nifti1Image(np.asarray(labels.dataobj)[:-2], labels.affine)
        nibabel.save(smaller, folder / "scan_labels.nii.gz")
        [entry] = find_volumes(describe(folder, a_row("scan")))
        with pytest.raises(BirdError, match="another grid"):
            cut(entry, tmp_path / "out")

    def test_names_that_lead_out_of_the_folder_are_skipped(self, tmp_path):
        [found] = find_volumes(describe(tmp_path, a_row("x", image="../../etc/passwd")))
        assert isinstance(found, Skipped)
        assert "no path inside" in found.reason

    @pytest.mark.parametrize("modality", ["../../x", "/x", "optical", "", None])
    def test_unknown_modalities_are_skipped(self, tmp_path, modality):
        [found] = find_volumes(describe(tmp_path, a_row("x", modality=modality)))
        assert isinstance(found, Skipped)
        assert "is none of ct, mr" in found.reason

    def test_slices_are_written_to_their_folder_whatever_an_entry_says(self, tmp_path):
        folder, _ = a_labelled_scan(tmp_path / "source", "scan")
        [entry] = find_volumes(describe(folder, a_row("scan")))
        strange = replace(entry, modality="../../x", dataset="../y", stem="a/../../z")
        records = cut(strange, tmp_path / "out")
        assert records
        images = tmp_path / "out" / "images"
        assert {r.image for r in records} == set(images.iterdir())
        assert {p.name for p in tmp_path.iterdir()} == {"source", "out"}

    def test_of_volumes_with_one_name_the_first_is_taken(self, tmp_path):
        again = a_row("a b") | {"image": "a-b.nii.gz"}
        other = again | {"dataset": "Other"}
        first, second, third = find_volumes(describe(tmp_path, a_row("a b"), again, other))
        assert isinstance(first, VolumeEntry)
        assert isinstance(second, Skipped)
        assert second.name == "a-b"
        assert "another volume has this name" in second.reason
        assert (third.stem, third.dataset) == ("a-b", "Other")

    def test_instances_of_a_crowded_slice_stay_apart(self):
        values = np.zeros((120, 120), int)
        values[::6, ::6] = values[1::6, ::6] = values[::6, 1::6] = values[1::6, 1::6] = 5
        instances, names = instance_map(values, {5: "cell", 9: "other"})
        assert names == ["cell"] * 255
        assert np.bincount(instances.ravel())[1:].tolist() == [4] * 255


class TestDicomSegmentation:
    @pytest.fixture
    def a_dicom_study(self, shared, tmp_path) -> Path:
        """The real CT series, with its segmentation written as DICOM by highdicom."""
        return write_study(shared / "data" / "dicom", tmp_path / "study", overlapping=False)

    @pytest.mark.shared
    def test_segments_lie_where_the_label_map_has_them(self, a_dicom_study, shared, tmp_path):
        source = detect(a_dicom_study)
        assert source.layout == "DICOM segmentations"
        [entry] = source.volumes()
        assert entry.modality == "ct"
        records = cut(entry, tmp_path / "out", step=4)
        volume = read_volume(entry.image)
        truth = turned_like(shared / "data" / "dicom" / "example_seg_dicom.nii.gz", volume)
        stack = slice_stack(volume.geometry(), "axial")
        seen = set()
        for record in records:
            on_slice = stack.cut(truth, int(record.id.rsplit("_", 1)[1]))
            for item in record.objects:
                value = SEGMENTS[item.label]
                assert (on_slice[read_mask(item)] == value).all()
                seen.add(item.label)
        assert seen == set(SEGMENTS)

    @pytest.mark.shared
    @pytest.mark.slow
    def test_overlapping_segments_are_kept_apart(self, shared, tmp_path):
        study = write_study(shared / "data" / "dicom", tmp_path / "study", overlapping=True)
        [entry] = detect(study).volumes()
        records = cut(entry, tmp_path / "out", step=4)
        on_both = 0
        for record in records:
            masks = {"trunk organs": np.zeros((512, 512), bool)}
            for item in record.objects:
                masks[item.label] = masks.get(item.label, False) | read_mask(item)
            liver = masks.get("liver", np.zeros((512, 512), bool))
            assert np.count_nonzero(liver & ~masks["trunk organs"]) == 0
            on_both += np.count_nonzero(liver)
        assert on_both > 10_000

    @pytest.mark.shared
    def test_a_segmentation_without_its_series_is_skipped(self, a_dicom_study):
        shutil.rmtree(a_dicom_study / "ct")
        [found] = detect(a_dicom_study).volumes()
        assert isinstance(found, Skipped)
        assert "series it refers to" in found.reason


CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
SEGMENTS = {"spleen": 1, "liver": 5, "left autochthon": 86}  # values in the real label map


def turned_like(path: Path, volume) -> np.ndarray:
    """A label map with its axes in the volume's directions."""
    image = nibabel.load(path)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(image.affine), nibabel.io_orientation(volume.ijk_to_ras)
    )
    return np.asarray(image.as_reoriented(turn).dataobj)


def write_study(data: Path, folder: Path, *, overlapping: bool) -> Path:
    """A folder with the CT series in one place and a segmentation of it in another."""
    highdicom = pytest.importorskip("highdicom", reason="writes the segmentation to read")
    import pydicom
    from pydicom.sr.codedict import codes

    series = shutil.copytree(data / "ct_series", folder / "ct")
    files = [pydicom.dcmread(path) for path in series.iterdir()]
    for file in files:  # the series was stripped of these
        file.SOPClassUID, file.SOPInstanceUID = CT_IMAGE_STORAGE, highdicom.UID()
    files.sort(key=lambda f: float(f.ImagePositionPatient[2]))
    volume = read_volume(series)
    truth = turned_like(data / "example_seg_dicom.nii.gz", volume)
    frames = truth.transpose(2, 1, 0)  # (slice, row, column), from the feet upwards
    names = list(SEGMENTS)
    masks = np.stack([frames == SEGMENTS[name] for name in names], axis=-1)
    if overlapping:
        names.append("trunk_organs")
        masks = np.concatenate([masks, (frames > 0)[..., None]], axis=-1)
    description = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(names, start=1)
    ]
    segmentation = highdicom.seg.Segmentation(
        source_images=files,
        pixel_array=masks.astype(np.uint8),
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=description,
        series_instance_uid=highdicom.UID(),
        series_number=2,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="Test",
        manufacturer_model_name="Test",
        software_versions="1",
        device_serial_number="1",
    )
    (folder / "seg").mkdir()
    segmentation.save_as(folder / "seg" / "seg.dcm")
    return folder


class TestReading:
    @pytest.mark.parametrize(
        "name",
        ["/etc/passwd", "../x", "a/../../x", "C:\\x", "\\\\host\\x", "a\\..\\..\\x", "", "a\0"],
    )
    def test_names_that_leave_the_folder_are_refused(self, name):
        with pytest.raises(BirdError, match="no path inside"):
            inside(Path("data"), name)

    @pytest.mark.parametrize("name", ["a.png", "images/a b.png", "images/..a.png", "a/./b"])
    def test_names_inside_are_taken(self, name):
        assert inside(Path("data"), name) == Path("data") / name

    @pytest.mark.parametrize("content", ["[1, 2]", "", "{", '{"a": 1', "nonsense", '{"a": nan}'])
    def test_broken_objects_are_refused_with_the_path(self, tmp_path, content):
        path = tmp_path / "a.json"
        path.write_text(content)
        with pytest.raises(BirdError, match=str(path)):
            list(stream_object(path))

    def test_lists_and_objects_are_told_apart(self, tmp_path):
        path = tmp_path / "a.json"
        path.write_text(' [1, {"b": 2}]')
        assert list(stream_list(path)) == [1, {"b": 2}]
        with pytest.raises(BirdError, match="not a JSON object"):
            list(stream_object(path))

    def test_nodules_and_scans_of_one_patient_are_one_case(self, tmp_path):
        stems = [
            "ct_00--LIDC-IDRI--LIDC-IDRI-0003-nodule-1--z_0001",
            "ct_00--LIDC-IDRI--LIDC-IDRI-0003-nodule-2--z_0001",
            "mr_t1--BraTS2013--brats_2013_pat0001_1--z_0001",
        ]
        records = read_sa_med2d(write_sa_med2d(tmp_path, [Drawn(stem) for stem in stems]))
        assert [r.case for r in records] == [
            *("LIDC-IDRI-0003", "LIDC-IDRI-0003", "brats_2013_pat0001")
        ]
