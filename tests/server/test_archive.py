"""A zipped DICOM series becomes a volume; an archive that does anything else is refused."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from bird_server.service import current
from bird_server.volumes.archive import unpack_series
from bird_server.volumes.store_errors import BadArchiveError
from bird_vlm.volumes import read_volume
from scripted import assert_refused

ROWS, COLUMNS, SLICES = 9, 11, 5


def a_slice(number: int, series_uid: str) -> bytes:
    """One CT image; its values are 100 times its number."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.is_little_endian, image.is_implicit_VR = True, False
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    image.SeriesInstanceUID = series_uid
    image.StudyInstanceUID = "1.2.3"
    image.Modality, image.InstanceNumber = "CT", number + 1
    image.ImagePositionPatient = [10.0, 20.0, 30.0 + 2.5 * number]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.PixelSpacing, image.SliceThickness = [0.5, 0.5], 2.5
    image.Rows, image.Columns = ROWS, COLUMNS
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 1
    image.PixelData = np.full((ROWS, COLUMNS), 100 * number, np.int16).tobytes()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, image, write_like_original=False)
    return buffer.getvalue()


def a_series(name: str = "IM{:03d}", uid: str | None = None) -> dict[str, bytes]:
    uid = uid or generate_uid()
    return {name.format(number): a_slice(number, uid) for number in range(SLICES)}


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def with_a_link() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("link.dcm")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    return buffer.getvalue()


def tree(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_a_zipped_series_is_one_volume(a_session, a_server):
    content = zipped(a_series("CT/some folder/IM{:03d}") | {"DICOMDIR": b"x", "readme.txt": b"hi"})

    answer = a_session.put("/bird/v1/volumes?name=study.zip", data=content)

    assert answer.status_code == 201, answer.text
    assert answer.json()["volume"]["shape_ijk"] == [COLUMNS, ROWS, SLICES]
    volume_id = answer.json()["volume_id"]
    np.testing.assert_allclose(
        answer.json()["volume"]["ijk_to_ras"],
        [[-0.5, 0, 0, -10], [0, -0.5, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]],
    )
    folder = current().store.path(volume_id)
    assert [path.name for path in tree(folder)] == [f"{n:05d}.dcm" for n in range(SLICES)]
    assert read_volume(folder).array[0, 0].tolist() == [0, 100, 200, 300, 400]
    assert not list((a_server.studies / ".bird" / "volumes" / "incoming").iterdir())
    assert a_session.put("/bird/v1/volumes?name=again.zip", data=content).status_code == 200


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(lambda: b"no zip at all" * 9, "no whole zip", id="no archive"),
        pytest.param(lambda: zipped(a_series())[:-200], "no whole zip", id="cut off"),
        pytest.param(lambda: zipped({"a.txt": b"text"}), "no DICOM series", id="no images"),
        pytest.param(lambda: zipped({}), "no DICOM series", id="empty"),
        pytest.param(
            lambda: zipped(a_series("a{}") | a_series("b{}")), "2 DICOM series", id="two series"
        ),
        pytest.param(lambda: zipped(a_series("../out{}")), "leads elsewhere", id="slip"),
        pytest.param(lambda: zipped(a_series("/tmp/out{}")), "leads elsewhere", id="absolute"),
        pytest.param(lambda: zipped(a_series("..\\out{}")), "leads elsewhere", id="backslashes"),
        pytest.param(with_a_link, "holds a link", id="link"),
    ],
)
def test_any_other_archive_is_refused_and_leaves_nothing(a_session, a_server, content, said):
    before = tree(a_server.studies.parent)

    answer = a_session.put("/bird/v1/volumes?name=x.zip", data=content())

    problem = assert_refused(answer, 422, "bad_archive")
    assert said in problem["detail"]
    assert str(a_server.studies) not in answer.text
    assert tree(a_server.studies.parent) == before


def test_an_archive_that_grows_beyond_belief_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("bomb.dcm", "w", force_zip64=True) as member:
            for _ in range(64):
                member.write(bytes(1 << 20))
        archive.infolist()[0].file_size = 5 << 30

    with pytest.raises(BadArchiveError, match="would become"):
        unpack_series(path, tmp_path / "out")

    assert not (tmp_path / "out").exists()
