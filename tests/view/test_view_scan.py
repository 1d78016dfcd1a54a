"""Which files become a scan on the page, and what is said about the others."""

import nibabel
import numpy as np
import pydicom
import pytest
from bird_view.BiRDLib.errors import UnusableInput
from bird_view.BiRDLib.scene import ijkToRas, shapeIjk
from PIL import Image
from pydicom.data import get_testdata_file
from trame_slicer.core import SlicerApp

from bird_view.scan import load_scan


@pytest.fixture
def an_app():
    app = SlicerApp()
    yield app
    app.scene.Clear(1)


def dicom_series(folder, slices, number):
    """`slices` axial slices of one series, 3 mm apart, as scanners write them."""
    folder.mkdir(exist_ok=True)
    template = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    series = pydicom.uid.generate_uid()
    for k in range(slices):
        template.SeriesInstanceUID, template.SeriesNumber = series, number
        template.SOPInstanceUID = pydicom.uid.generate_uid()
        template.file_meta.MediaStorageSOPInstanceUID = template.SOPInstanceUID
        template.InstanceNumber, template.ImagePositionPatient = k + 1, [-100.0, -90.0, 3.0 * k]
        template.save_as(folder / f"{number}-{k}.dcm")
    return folder


def test_a_file_keeps_its_voxels_and_its_place(an_app, a_scan):
    volume = load_scan(an_app, a_scan)
    image = nibabel.load(a_scan)
    assert volume.GetName() == "abdomen"
    assert shapeIjk(volume) == image.shape
    np.testing.assert_allclose(ijkToRas(volume), image.affine)


def test_of_a_dicom_folder_the_largest_series_is_shown(an_app, tmp_path):
    folder = dicom_series(tmp_path / "study", 3, number=1)
    dicom_series(folder, 5, number=2)
    (folder / "README.txt").write_text("a CD often has one")
    volume = load_scan(an_app, folder)
    assert shapeIjk(volume) == (128, 128, 5)
    assert np.linalg.norm(ijkToRas(volume)[:3, 2]) == pytest.approx(3.0)
    assert an_app.scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 1


def a_text(folder):
    (folder / "notes.nii.gz").write_text("no image")
    return folder / "notes.nii.gz"


def a_photograph(folder):
    Image.new("RGB", (8, 8), "red").save(folder / "photo.png")
    return folder / "photo.png"


def an_empty_folder(folder):
    (folder / "empty").mkdir()
    return folder / "empty"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda folder: folder / "gone.nii", "does not exist", id="no such file"),
        pytest.param(a_text, "no volume that Slicer can read", id="no image"),
        pytest.param(an_empty_folder, "no volume that Slicer can read", id="empty folder"),
        pytest.param(a_photograph, "no volume that Slicer can read", id="colours"),
    ],
)
def test_what_is_no_scan_is_refused_in_one_sentence(an_app, tmp_path, make, said):
    with pytest.raises(UnusableInput, match=said) as refusal:
        load_scan(an_app, make(tmp_path))
    assert refusal.value.hint
