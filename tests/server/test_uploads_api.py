"""Volumes over real HTTP: stored once, or refused as JSON and not stored at all."""

from __future__ import annotations

import gzip
import hashlib
import io

import nibabel
import numpy as np
import pytest
from PIL import Image

from scripted import UPLOAD_LIMIT_BYTES, assert_refused, nifti


def test_the_same_bytes_are_stored_once(a_session, a_server, tmp_path):
    image = nifti(np.random.default_rng(11).normal(size=(9, 7, 5)))
    nibabel.save(image, tmp_path / "a.nii.gz")
    content = (tmp_path / "a.nii.gz").read_bytes()

    first = a_session.put("/bird/v1/volumes?name=a.nii.gz", data=content)
    second = a_session.put("/bird/v1/volumes?name=another%20name.NII.GZ", data=content)

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()
    assert first.json()["volume_id"] == hashlib.sha256(content).hexdigest()
    assert first.json()["volume"]["shape_ijk"] == [9, 7, 5]
    np.testing.assert_allclose(first.json()["volume"]["ijk_to_ras"], image.affine)
    folder = a_server.studies / ".bird" / "volumes"
    assert [path.name for path in folder.glob(f"{first.json()['volume_id']}*")] == [
        f"{first.json()['volume_id']}.nii.gz"
    ]
    assert not list((folder / "incoming").iterdir())


def png_bytes(mode: str) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (20, 16)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_picture_is_a_volume_of_one_slice(a_session, mode):
    answer = a_session.put("/bird/v1/volumes?name=x.png", data=png_bytes(mode))

    assert answer.json()["volume"]["shape_ijk"] == [20, 16, 1]


def nifti_bytes(array: np.ndarray) -> bytes:
    return gzip.compress(nifti(array).to_bytes())


def rgb_volume() -> np.ndarray:
    return np.zeros((6, 6, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])


def detached_nrrd(padding: int = 0) -> bytes:
    comments = "# padding of the header\n" * padding
    return (
        f"NRRD0004\n{comments}type: uchar\ndimension: 3\nsizes: 8 8 8\nencoding: raw\n"
        "data file: /etc/services\n\n"
    ).encode()


BAD_VOLUMES = [
    pytest.param("x.nii.gz", lambda: nifti_bytes(np.zeros((6, 6, 6, 3))), id="4D"),
    pytest.param("x.nii.gz", lambda: nifti_bytes(np.full((6, 6, 6), np.nan)), id="NaN"),
    pytest.param(
        "x.nii.gz", lambda: nifti_bytes(np.random.normal(size=(20, 20, 20)))[:-2000], id="truncated"
    ),
    pytest.param("x.nii", lambda: b"", id="empty"),
    pytest.param("x.nii", lambda: b"not a volume at all" * 50, id="garbage"),
    pytest.param("x.nii.gz", lambda: nifti_bytes(rgb_volume()), id="RGB volume"),
    pytest.param("x.nrrd", detached_nrrd, id="NRRD that points at another file"),
    pytest.param(
        "x.nrrd",
        lambda: detached_nrrd(padding=4000),
        id="NRRD that points at another file after a long header",
    ),
    pytest.param(
        "x.mha",
        lambda: (
            b"ObjectType = Image\nNDims = 2\nDimSize = 8 8\nElementType = MET_UCHAR\n"
            b"ElementDataFile = /etc/services\n"
        ),
        id="MHA that points at another file",
    ),
    pytest.param("x.png", lambda: png_bytes("RGB")[:40], id="truncated PNG"),
    pytest.param("x.dcm", lambda: b"DICM" * 100, id="not DICOM"),
]


@pytest.mark.parametrize(("name", "content"), BAD_VOLUMES)
def test_an_unreadable_volume_is_refused_and_not_stored(a_session, a_server, name, content):
    folder = a_server.studies / ".bird" / "volumes"
    before = sorted(folder.rglob("*"))

    answer = a_session.put(f"/bird/v1/volumes?name={name}", data=content())

    problem = assert_refused(answer, 422, "bad_volume")
    assert problem["detail"].startswith(f"{name}: ")
    assert str(a_server.studies) not in answer.text
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("scan.exe", id="unknown suffix"),
        pytest.param("scan", id="no suffix"),
        pytest.param("detached.mhd", id="header without data"),
        pytest.param("a/b.nii", id="folder"),
        pytest.param("x" * 300 + ".nii", id="too long"),
        pytest.param("", id="empty"),
    ],
)
def test_a_bad_name_is_refused(a_session, name):
    answer = a_session.put("/bird/v1/volumes", params={"name": name}, data=b"x")

    assert_refused(answer, 400, "bad_name")


def test_an_upload_without_a_name_is_refused(a_session):
    assert_refused(a_session.put("/bird/v1/volumes", data=b"x"), 422, "bad_request")


def test_too_large_an_upload_is_refused_by_its_announced_length(a_session):
    content = bytes(UPLOAD_LIMIT_BYTES + 1)

    answer = a_session.put("/bird/v1/volumes?name=x.nii", data=content)

    assert_refused(answer, 413, "too_large")


def test_too_large_an_upload_is_refused_while_it_arrives_in_chunks(a_session, a_server):
    chunks = (bytes(1 << 16) for _ in range(UPLOAD_LIMIT_BYTES // (1 << 16) + 2))

    answer = a_session.put("/bird/v1/volumes?name=x.nii", data=chunks)

    assert_refused(answer, 413, "too_large")
    assert not list((a_server.studies / ".bird" / "volumes" / "incoming").iterdir())
