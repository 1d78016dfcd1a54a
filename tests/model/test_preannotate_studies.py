"""Which files of a folder are cases, which are skipped and why, and what the label list says."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from bird_vlm.errors import BadRequestError, BadVolumeError, BirdError
from bird_vlm.preannotation.cases import Case, slug
from bird_vlm.preannotation.studies import Studies
from bird_vlm.preannotation.wanted import Wanted, in_requests, read_wanted
from test_volumes import save_dicom, save_series


def save_scan(path: Path, seed: int = 0) -> Path:
    """A small grey volume in any format that SimpleITK writes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 99, (6, 8, 8), dtype=np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    return path


def save_picture(path: Path) -> Path:
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(path)
    return path


def studies(root: Path) -> Studies:
    return Studies(root, root / ".bird/preannotation")


def names(root: Path) -> list[str]:
    return [case.name for case in studies(root).cases]


def reasons(root: Path) -> dict[str, str]:
    return {one.name: one.told for one in studies(root).skipped}


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ", "a.nrrd", "a.mha", "b/c/a.mha"])
def test_scans_are_found_at_any_depth(name, tmp_path):
    save_scan(tmp_path / name.lower()).rename(tmp_path / name)
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG"])
def test_pictures_are_cases(name, tmp_path):
    save_picture(tmp_path / name)
    assert names(tmp_path) == [name]
    assert studies(tmp_path).cases[0].read().is_picture


class TestSkipped:
    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            pytest.param("ct_labels.nii.gz", "labels of a scan beside it (ct)", id="labels"),
            pytest.param("ct-seg.nrrd", "labels of a scan beside it (ct)", id="another format"),
            pytest.param("mr.seg.nrrd", "a segmentation", id="Slicer's segmentation"),
            pytest.param(".ct.nii.gz", "a hidden file", id="hidden"),
            pytest.param(".git/ct.nii.gz", "a hidden folder", id="hidden folder"),
        ],
    )
    def test_what_is_no_scan_by_its_name(self, name, reason, tmp_path):
        save_scan(tmp_path / "ct.nii.gz")
        save_scan(tmp_path / name)
        assert names(tmp_path) == ["ct.nii.gz"]
        [(place, told)] = reasons(tmp_path).items()
        assert place == name.split("/")[0]
        assert reason in told

    def test_a_name_like_labels_without_its_scan_is_a_scan(self, tmp_path):
        save_scan(tmp_path / "skull_mask.nii.gz")
        assert names(tmp_path) == ["skull_mask.nii.gz"]

    def test_a_picture_beside_its_scan_is_not_asked_about(self, tmp_path):
        save_scan(tmp_path / "ct.nii.gz")
        save_picture(tmp_path / "ct.png")
        save_picture(tmp_path / "skin.png")
        assert names(tmp_path) == ["ct.nii.gz", "skin.png"]
        assert "a picture of a scan beside it (ct.nii.gz)" in reasons(tmp_path)["ct.png"]

    def test_other_files_are_told(self, tmp_path):
        save_scan(tmp_path / "ct.nii.gz")
        (tmp_path / "notes.txt").write_text("fasting")
        (tmp_path / "empty").touch()
        assert reasons(tmp_path) == dict.fromkeys(("empty", "notes.txt"), "not a scan or a picture")

    def test_labels_of_monai_label_and_results_of_ours(self, tmp_path):
        save_scan(tmp_path / "ct.nii.gz")
        (tmp_path / "datastore_v2.json").write_text("{}")
        save_scan(tmp_path / "labels/final/ct.nii.gz")
        (tmp_path / "out").mkdir()
        (tmp_path / "out/preannotation.json").write_text("{}")
        save_picture(tmp_path / "out/thumbnail.png")
        (tmp_path / ".bird/cases").mkdir(parents=True)
        assert names(tmp_path) == ["ct.nii.gz"]
        told = reasons(tmp_path)
        assert set(told) == {"labels", "out", "datastore_v2.json"}  # .bird is not worth a word
        assert "MONAI Label" in told["labels"]
        assert told["out"] == "results of an earlier run"

    def test_a_pipe_is_not_opened(self, tmp_path):
        save_scan(tmp_path / "ct.nii.gz")
        os.mkfifo(tmp_path / "pipe.nii.gz")
        assert names(tmp_path) == ["ct.nii.gz"]
        assert "pipe" in reasons(tmp_path)["pipe.nii.gz"]


class TestLinks:
    @pytest.fixture
    def root(self, tmp_path) -> Path:
        save_scan(tmp_path / "elsewhere/secret.nii.gz")
        save_scan(tmp_path / "root/ct.nii.gz")
        return tmp_path / "root"

    @pytest.mark.parametrize(
        ("target", "reason"),
        [
            pytest.param(
                "../elsewhere/secret.nii.gz", "leads out of the folder", id="file outside"
            ),
            pytest.param("../elsewhere", "links are not followed", id="folder outside"),
            pytest.param(".", "links are not followed", id="the folder itself"),
            pytest.param("ct.nii.gz", "another file here (ct.nii.gz)", id="a neighbour"),
            pytest.param("gone.nii.gz", "to nothing", id="nowhere"),
            pytest.param("link.nii.gz", "to nothing", id="in a circle"),
        ],
    )
    def test_links_are_not_taken(self, root, target, reason):
        (root / "link.nii.gz").symlink_to(target)
        assert names(root) == ["ct.nii.gz"]
        assert reason in reasons(root)["link.nii.gz"]

    def test_a_link_into_a_hidden_store_is_the_scan(self, root):
        """As git-annex and DataLad keep large files."""
        save_scan(root / ".git/annex/key.nii.gz", seed=3)
        (root / "mr.nii.gz").symlink_to(".git/annex/key.nii.gz")
        assert names(root) == ["ct.nii.gz", "mr.nii.gz"]

    def test_a_link_to_the_studies_is_fine(self, root, tmp_path):
        (tmp_path / "alias").symlink_to(root)
        assert names(tmp_path / "alias") == ["ct.nii.gz"]


class TestNames:
    def test_the_same_name_in_two_folders_has_two_results(self, tmp_path):
        for folder in ("a", "b"):
            save_scan(tmp_path / folder / "scan.nii.gz")
        first, second = studies(tmp_path).cases
        assert (first.name, second.name) == ("a/scan.nii.gz", "b/scan.nii.gz")
        assert first.folder != second.folder
        assert first.digest() == second.digest()

    def test_names_that_look_the_same_in_a_slug_differ_in_their_digest(self):
        cases = [Case(place, ()) for place in ("a b.nii", "a-b.nii", "a/b.nii")]
        assert len({case.folder for case in cases}) == 3

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param("Müller, Jörg 检查.nii.gz", id="unicode"),
            pytest.param("x" * 245 + ".nii.gz", id="as long as the file system allows"),
            pytest.param("検" * 80 + ".nii.gz", id="long in bytes"),
            pytest.param("<script>alert(1)</script>.nii.gz".replace("/", "_"), id="HTML"),
            pytest.param("-rf.nii.gz", id="like an option"),
        ],
    )
    def test_any_name_gets_a_folder_that_can_be_made(self, name, tmp_path):
        save_scan(tmp_path / "plain.nii.gz").rename(tmp_path / name)
        [case] = studies(tmp_path).cases
        assert case.name == name
        (tmp_path / case.folder).mkdir()
        assert len(case.folder.encode()) <= 100
        assert case.read().array.shape == (8, 8, 6)

    def test_a_name_of_bytes_that_are_no_text(self, tmp_path):
        path = save_scan(tmp_path / "plain.nii.gz")
        os.rename(path, os.fsencode(tmp_path) + b"/scan\xff.nii.gz")
        [case] = studies(tmp_path).cases
        assert case.name == "scan\ufffd.nii.gz"
        assert case.folder.encode()
        assert case.digest()

    def test_a_slug_is_never_empty_or_hidden(self):
        assert (slug("///"), slug("..."), slug(".x")) == ("case", "case", "x")


class TestDigest:
    def test_it_follows_the_bytes_and_not_the_name(self, tmp_path):
        before = Case("a", (save_scan(tmp_path / "a.nii.gz"),)).digest()
        assert Case("b", (save_scan(tmp_path / "b.nii.gz"),)).digest() == before
        assert Case("a", (save_scan(tmp_path / "a.nii.gz", seed=1),)).digest() != before

    @pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
    def test_voxels_in_another_file_belong_to_it(self, suffix, tmp_path):
        save_scan(tmp_path / f"scan{suffix}")
        [case] = studies(tmp_path).cases
        assert len(case.files) == 2
        assert reasons(tmp_path) == {}
        before = case.digest()
        save_scan(tmp_path / f"scan{suffix}", seed=1)
        assert case.digest() != before

    def test_a_case_that_vanished_is_an_error_for_its_reader(self, tmp_path):
        case = Case("a", (tmp_path / "a.nii.gz",))
        with pytest.raises(FileNotFoundError):
            case.digest()
        with pytest.raises(BadVolumeError, match=r"^does not exist"):
            case.read()


class TestDicom:
    def test_a_folder_with_one_series_is_one_case(self, tmp_path):
        save_series(tmp_path / "ct", [0, 3, 6])
        [case] = studies(tmp_path).cases
        assert (case.name, case.note) == ("ct", "CT")
        assert case.read().array.shape == (8, 6, 3)
        assert reasons(tmp_path) == {}

    def test_the_studies_folder_itself_may_be_a_series(self, tmp_path):
        assert names(save_series(tmp_path / "ct", [0, 3])) == ["ct"]

    def test_every_series_of_a_folder_is_a_case(self, tmp_path):
        folder = save_series(tmp_path / "study", [0, 3, 6], "1.2.3")
        for number, z in enumerate((0, 4)):
            save_dicom(folder / f"second{number}", z, "1.2.4")
        save_dicom(folder / "scout.dcm", 0, "1.2.5")
        cases = studies(tmp_path).cases
        assert sorted(case.read().array.shape[2] for case in cases) == [1, 2, 3]
        assert "study/scout.dcm" in {case.name for case in cases}
        assert len({case.folder for case in cases}) == 3

    def test_series_in_folders_below_are_their_own(self, tmp_path):
        save_series(tmp_path / "study", [0, 3], "1.2.3")
        save_series(tmp_path / "study/deep", [0, 3, 6, 9], "1.2.4")
        shapes = {case.name: case.read().array.shape[2] for case in studies(tmp_path).cases}
        assert shapes == {"study": 2, "study/deep": 4}

    def test_a_case_changes_with_any_of_its_slices(self, tmp_path):
        save_series(tmp_path / "ct", [0, 3, 6])
        [case] = studies(tmp_path).cases
        before = case.digest()
        save_dicom(tmp_path / "ct/1.dcm", 3)  # another instance number
        assert case.digest() != before

    def test_a_gap_is_told_without_the_place_where_it_was_read(self, tmp_path):
        save_series(tmp_path / "ct", [0, 3, 6, 15, 18])
        [case] = studies(tmp_path).cases
        with pytest.raises(BadVolumeError, match=r"^has slices 3 to 9 mm apart"):
            case.read()

    def test_segmentations_and_reports_are_skipped(self, tmp_path):
        save_series(tmp_path / "ct", [0, 3])
        for name, modality in (("seg.dcm", "SEG"), ("dose.dcm", "RTDOSE")):
            dataset = pydicom.dcmread(save_dicom(tmp_path / "ct" / name, 0, f"9.{len(modality)}"))
            dataset.Modality = modality
            dataset.save_as(tmp_path / "ct" / name)
        report = pydicom.dcmread(save_dicom(tmp_path / "ct/report", 0, "9.9"))
        del report.PixelData, report.Rows, report.Columns
        report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID = (
            "1.2.840.10008.5.1.4.1.1.88.33"
        )
        report.save_as(tmp_path / "ct/report")
        (tmp_path / "ct/DICOMDIR").write_bytes(b"x")
        assert names(tmp_path) == ["ct"]
        assert reasons(tmp_path) == {
            "ct/seg.dcm": "a DICOM segmentation",
            "ct/dose.dcm": "a DICOM dose map",
            "ct/report": "DICOM without a picture that can be read",
            "ct/DICOMDIR": "the index of a DICOM medium",
        }

    def test_a_damaged_file_is_not_lost_without_a_word(self, tmp_path):
        path = save_dicom(tmp_path / "a.dcm")
        path.write_bytes(path.read_bytes()[:200])
        assert names(tmp_path) == []
        assert "a.dcm" in reasons(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(lambda values: values[..., None].repeat(3, 3), "is 4D", id="4D"),
        pytest.param(lambda values: values * np.nan, "NaN", id="not finite"),
    ],
)
def test_what_cannot_be_shown_is_a_case_with_a_reason(spoil, message, tmp_path):
    values = spoil(np.ones((8, 8, 6), np.float32))
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    [case] = studies(tmp_path).cases
    with pytest.raises(BadVolumeError, match=message):
        case.read()


def test_a_colour_volume_is_a_case_with_a_reason(tmp_path):
    values = np.zeros((8, 8, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    [case] = studies(tmp_path).cases
    with pytest.raises(BadVolumeError, match=r"^is a colour volume"):
        case.read()


def test_studies_must_be_a_folder_of_scans(tmp_path):
    with pytest.raises(BirdError, match="is no folder"):
        studies(tmp_path / "nowhere")
    (tmp_path / "preannotation.json").write_text("{}")
    with pytest.raises(BirdError, match="holds results of a run"):
        studies(tmp_path)


class TestLabelList:
    def read(self, tmp_path: Path, text: str, *labels: str) -> tuple[Wanted, ...]:
        path = tmp_path / "labels.txt"
        path.write_text(text, encoding="utf-8")
        return read_wanted([path], labels)

    def test_comments_expectations_and_single_labels(self, tmp_path):
        text = "\ufeff# trunk\nliver  expected\n\nleft   kidney # paired\nspleen\texpected abd/*\n"
        assert self.read(tmp_path, text, "aorta", "heart EXPECTED") == (
            Wanted("liver", "*"),
            Wanted("left kidney"),
            Wanted("spleen", "abd/*"),
            Wanted("aorta"),
            Wanted("heart", "*"),
        )

    def test_a_label_counts_once(self, tmp_path):
        assert self.read(tmp_path, "liver\nliver\n", "liver") == (Wanted("liver"),)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param("# nothing\n", "got 0", id="empty"),
            pytest.param("liver\nliver expected\n", "line 2: 'liver' is listed twice", id="twice"),
            pytest.param("ok\n<img>\n", "line 2: .*refused", id="control mark"),
            pytest.param("x" * 101, "line 1: .*1 to 100 characters", id="too long"),
        ],
    )
    def test_what_cannot_be_asked_is_told_with_its_line(self, text, message, tmp_path):
        with pytest.raises(BadRequestError, match=message):
            self.read(tmp_path, text)

    @pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"], ids=["missing", "not UTF-8"])
    def test_a_file_that_is_no_list(self, content, tmp_path):
        path = tmp_path / "labels.txt"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(BadRequestError, match=r"labels\.txt cannot be read"):
            read_wanted([path], [])

    def test_long_lists_become_several_requests(self):
        labels = [f"rib {number}" for number in range(130)]
        assert [len(request) for request in in_requests(labels)] == [64, 64, 2]
