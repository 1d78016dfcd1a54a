"""Uploads that are too large, become too large, or are no forms at all."""

from __future__ import annotations

import gzip
import socket
import struct
import time
import zlib

import nibabel
import numpy as np
import psutil
import pytest

from attacked import (
    BOUNDARY,
    Attacked,
    ask,
    assert_refused,
    forgets,
    form,
    parsed,
    received,
    send_until_closed,
    settled,
    tree,
)
from scripted import wait_until

pytestmark = pytest.mark.slow
FORM = f"multipart/form-data; boundary={BOUNDARY}"
PART = f"--{BOUNDARY}\r\nContent-Disposition: form-data".encode()
END = f"--{BOUNDARY}--\r\n".encode()
LIMIT_BYTES = 4 << 20  # as the attacked server is started


@pytest.fixture
def a_server(an_attacked_server) -> Attacked:
    return an_attacked_server


def nifti_header(shape: tuple[int, ...], bits: int = 16, offset: float = 352) -> bytes:
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape[:3])
    header.set_data_dtype(np.int16)
    raw = bytearray(header.binaryblock)
    struct.pack_into("<8h", raw, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<h", raw, 72, bits)
    struct.pack_into("<f", raw, 108, offset)
    return bytes(raw) + bytes(4)


def nrrd(sizes: str, more: str = "", encoding: str = "gzip") -> bytes:
    lines = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {sizes}\nencoding: {encoding}\n{more}\n"
    return lines.encode() + gzip.compress(bytes(4096))


def mha(sizes: str, more: str = "CompressedData = True\n") -> bytes:
    head = f"ObjectType = Image\nNDims = 3\nDimSize = {sizes}\nElementType = MET_SHORT\n{more}"
    return head.encode() + b"ElementDataFile = LOCAL\n" + zlib.compress(bytes(4096))


def png(width: int, height: int) -> bytes:
    """A picture whose header promises a size and whose data is short."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        sum_of_it = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", sum_of_it)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


ZEROS = gzip.compress(bytes(1 << 24))  # again and again they are one gzip file too
BOMBS = [
    pytest.param("a.nii.gz", gzip.compress(nifti_header((4096, 4096, 1024))), id="voxels"),
    pytest.param("a.nii.gz", gzip.compress(nifti_header((32767,) * 7)), id="seven dimensions"),
    pytest.param("a.nii.gz", gzip.compress(nifti_header((700, 700, 700)) + bytes(99)), id="short"),
    pytest.param(
        "a.nii.gz",
        gzip.compress(nifti_header((600, 600, 600))) + 26 * ZEROS,
        id="all zeros, 430 MB",
    ),
    pytest.param("a.nii.gz", gzip.compress(nifti_header((9, 9, 9), offset=3e10)), id="far voxels"),
    pytest.param("a.nii.gz", gzip.compress(nifti_header((9, 9, 9), offset=-9)), id="voxels before"),
    pytest.param("a.nii.gz", gzip.compress(nifti_header((9, 9, 9), offset=np.nan)), id="NaN"),
    pytest.param("a.nii.gz", 4 * ZEROS, id="zeros only"),
    pytest.param("a.nii.gz", b"\x1f\x8b broken", id="broken gzip"),
    pytest.param("a.nii", nifti_header((500, 500, 500)), id="raw, not there"),
    pytest.param("a.nii", nifti_header((-5, 9, 9)), id="negative size"),
    pytest.param("a.nrrd", nrrd("4096 4096 4096"), id="NRRD voxels"),
    pytest.param("a.nrrd", nrrd("9 9 9", "byte skip: 99999999999\n"), id="NRRD skip"),
    pytest.param("a.nrrd", nrrd("9 9 " + "9" * 400), id="NRRD endless number"),
    pytest.param("a.nrrd", nrrd("9 9 9", "data file: /etc/passwd\n"), id="NRRD elsewhere"),
    pytest.param("a.mha", mha("4096 4096 4096"), id="MHA voxels"),
    pytest.param(
        "a.mha",
        mha("9 9 9", "CompressedData = True\nCompressedDataSize = 99999999999\n"),
        id="MHA packed size",
    ),
    pytest.param(
        "a.mha",
        mha("9 9 9").replace(b"LOCAL", b"/etc/passwd"),
        id="MHA elsewhere",
    ),
    pytest.param("a.png", png(60_000, 60_000), id="PNG"),
    pytest.param("a.dcm", b"not DICOM", id="no DICOM"),
]


@pytest.mark.parametrize(("name", "content"), BOMBS)
def test_bombs_are_refused_before_they_are_unpacked(a_server, name, content):
    assert len(content) < LIMIT_BYTES
    before, begin = settled(a_server), time.perf_counter()
    memory = resident_bytes(a_server)

    answer = ask(a_server, "PUT", f"/bird/v1/volumes?name={name}", content)

    assert_refused(answer, 413, 422)
    assert time.perf_counter() - begin < 15
    assert resident_bytes(a_server) - memory < 256 << 20
    assert tree(a_server.home) == before


@pytest.mark.parametrize(("name", "content"), BOMBS[:3])
def test_bombs_do_not_come_in_by_other_doors(a_server, name, content):
    before = settled(a_server)
    body, kind = form({"params": '{"prompt": "brain"}'}, file=(name, content))

    answer = ask(a_server, "POST", "/infer/bird_grounding", body, content_type=kind)

    assert_refused(answer, 413, 422)
    assert tree(a_server.home) == before


def resident_bytes(server: Attacked) -> int:
    return psutil.Process(server.process.pid).memory_info().rss


@pytest.mark.parametrize(
    ("method", "target", "content_type", "limit"),
    [
        pytest.param("PUT", "/bird/v1/volumes?name=a.nii", "x/y", LIMIT_BYTES, id="volume"),
        pytest.param(
            "PUT",
            "/datastore/image?image=a",
            FORM,
            LIMIT_BYTES,
            id="image",
        ),
        pytest.param("POST", "/bird/v1/ask", "application/json", 1 << 20, id="JSON"),
        pytest.param(
            "POST",
            "/bird/v1/ask",
            FORM,
            1 << 20,
            id="disguise",
        ),
        pytest.param("POST", "/activelearning/random", "application/json", 1 << 20, id="stock"),
        pytest.param(
            "POST",
            "/infer/bird_grounding?image=a",
            "application/x-www-form-urlencoded",
            1 << 20,
            id="form",
        ),
    ],
)
@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_no_body_is_larger_than_its_limit(a_server, method, target, content_type, limit, announced):
    before = settled(a_server)
    head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{a_server.port}\r\n"
    head += f"Authorization: Bearer write-s3cret\r\nContent-Type: {content_type}\r\n"
    with socket.create_connection(("127.0.0.1", a_server.port), timeout=60) as connection:
        if announced:
            connection.sendall(f"{head}Content-Length: {limit + 1}\r\n\r\n".encode())
        else:
            connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            start = PART + b'; name="file"; filename="a.nii"\r\n\r\n'
            connection.sendall(f"{len(start):x}\r\n".encode() + start + b"\r\n")
            piece = b"10000\r\n" + bytes(65536) + b"\r\n"
            send_until_closed(connection, piece, limit // 65536 + 1)
        answer = parsed(received(connection))

    assert_refused(answer, 413)
    assert tree(a_server.home) == before


def test_a_form_field_has_its_limit(a_server):
    before = settled(a_server)
    body, kind = form({"params": "x" * (2 << 20)}, file=("a.nii", b"voxels"))

    answer = ask(a_server, "POST", "/infer/bird_grounding", body, content_type=kind)

    assert_refused(answer, 400)
    assert tree(a_server.home) == before


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        pytest.param("multipart/form-data", b"x", id="no boundary"),
        pytest.param("multipart/form-data; boundary=", b"x", id="empty boundary"),
        pytest.param("multipart/form-data; boundary=" + "b" * 999, b"x", id="long boundary"),
        pytest.param(FORM, b"", id="nothing"),
        pytest.param(FORM, b"--nothing like it", id="prose"),
        pytest.param(
            FORM,
            PART + b'; name="file"; filename="a.nii"\r\n',
            id="cut off in its head",
        ),
        pytest.param(
            FORM,
            PART + b"\r\n\r\nx\r\n" + END,
            id="part without a name",
        ),
        pytest.param(
            FORM,
            b"".join(form({f"f{i}": "x"})[0].removesuffix(END) for i in range(1500)) + END,
            id="1500 fields",
        ),
    ],
)
@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("PUT", "/datastore/image?image=a"),
        ("PUT", "/datastore/label?image=a"),
        ("PUT", "/session/"),
        ("POST", "/infer/bird_grounding"),
    ],
)
def test_malformed_forms_are_refused(a_server, method, target, kind, body):
    before = settled(a_server)

    answer = ask(a_server, method, target, body, content_type=kind)

    assert_refused(answer, 400, 404, 422)
    assert tree(a_server.home) == before


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        pytest.param(
            f"{FORM}; charset=klingon",
            form({"params": "{}"}, file=("a.nii", b"x"))[0],
            id="unknown charset",
        ),
        pytest.param(FORM, form({}, file=("\udcff\udcfe.nii", b"x"))[0], id="no UTF-8"),
    ],
)
def test_odd_forms_are_taken_as_far_as_they_can_be_read(a_server, kind, body):
    outside = tree(a_server.outside)

    answer = ask(a_server, "PUT", "/datastore/image?image=odd", body, content_type=kind)

    assert (answer.status, answer.json()) == (200, {"image": "odd"})
    assert ask(a_server, "DELETE", "/datastore/image?id=odd").status == 200
    wait_until(lambda: forgets(a_server, "odd"), seconds=60)
    assert tree(a_server.outside) == outside
