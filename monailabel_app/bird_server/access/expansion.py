"""How large a file becomes when it is read, told from its header before anything is unpacked.

A few kilobytes of gzip can stand for tens of gigabytes. Deflate packs at most 1032 to 1, so a
header that promises more than that cannot be true; real scans pack 2 to 20, masks a few hundred.
Looks at headers only; knows nothing about HTTP or storage.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import pydicom
from PIL import Image
from pydicom.errors import InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian

from bird_vlm.errors import BadVolumeError, BirdError

VOXELS_VARIABLE = "BIRD_VOLUME_VOXELS"
DEFAULT_MAX_VOXELS = 2**29  # 2 GiB as float32
MAX_RATIO = 1040  # deflate's limit is 1032
SUSPICIOUS_RATIO = 300  # above it and ...
SUSPICIOUS_BYTES = 256 << 20  # ... above this size, a file is taken for a bomb
MAX_SKIPPED_BYTES = 1 << 20  # what may lie between a header and its voxels
MAX_MEMBERS = 20_000
MAX_NAME_BYTES = 300
_HEAD_BYTES = 65_536
_NIFTI = {348: (40, "h", 70, 108, "f"), 540: (16, "q", 12, 168, "q")}  # offsets and types
_SYMLINK = 0o120000
_NRRD_FIELD = re.compile(rb"^([a-z ]+?)\s*:\s*(.*?)\s*$", re.IGNORECASE | re.MULTILINE)
_META_FIELD = re.compile(rb"^\s*(\w+)\s*[=:]\s*(.*?)\s*$", re.MULTILINE)
_BYTES = {
    **dict.fromkeys(("char", "uchar", "int8", "uint8", "int8_t", "uint8_t"), 1),
    **dict.fromkeys(("short", "ushort", "int16", "uint16", "int16_t", "uint16_t"), 2),
    **dict.fromkeys(("int", "uint", "int32", "uint32", "int32_t", "uint32_t", "float"), 4),
    **dict.fromkeys(("long", "ulong"), 4),
}
_WIDEST = 8  # bytes of a voxel, where the type is not listed


class ExpandsTooFarError(BadVolumeError):
    """A file that would become larger than this server reads."""


def max_voxels_from_environment() -> int:
    """The most voxels of one volume. Raises BirdError where BIRD_VOLUME_VOXELS is no number."""
    given = os.environ.get(VOXELS_VARIABLE) or str(DEFAULT_MAX_VOXELS)
    if not given.isdecimal():
        raise BirdError(f"{VOXELS_VARIABLE}: needs a number of voxels, got {given!r}")
    return int(given)


def check_expansion(path: Path, max_voxels: int | None = None) -> None:
    """Refuses a volume file that promises too many voxels, or more than its bytes can hold.

    Folders and formats without a size in their first bytes pass: their readers judge them. Raises
    ExpandsTooFarError, or BadVolumeError for a header that leads astray; the text holds no path.
    """
    most = max_voxels_from_environment() if max_voxels is None else max_voxels
    name = path.name.lower()
    if path.is_dir() or path.stat().st_size == 0:
        return
    if name.endswith((".nii", ".nii.gz")):
        _check_nifti(path, most)
    elif name.endswith(".nrrd"):
        _check_nrrd(path, most)
    elif name.endswith(".mha"):
        _check_meta(path, most)
    elif name.endswith((".png", ".jpg", ".jpeg")):
        _check_picture(path, most)
    else:
        _check_dicom(path, most)


def _check_size(path: Path, shape: list[int], voxel_bytes: float, packed: bool, most: int) -> None:
    """Against the limit, against what the file's bytes can hold, and for a bomb's ratio."""
    voxels = math.prod(shape)
    if min(shape, default=0) < 0 or voxels > most:
        raise ExpandsTooFarError(
            f"promises {' x '.join(map(str, shape))} voxels, more than {most}; crop or resample it"
        )
    size, held = voxels * voxel_bytes, path.stat().st_size
    if not packed and size > held:
        raise BadVolumeError("holds fewer bytes than its header promises; copy it again")
    if size > held * MAX_RATIO:
        raise BadVolumeError("holds fewer packed bytes than its header can mean; copy it again")
    if size > max(held * SUSPICIOUS_RATIO, SUSPICIOUS_BYTES):
        raise ExpandsTooFarError(
            f"would become {int(size)} bytes, over {SUSPICIOUS_RATIO} times its size; "
            "crop it to what is not empty"
        )


def _check_skipped(count: float) -> None:
    if not 0 <= count <= MAX_SKIPPED_BYTES:  # NaN is refused too
        raise BadVolumeError(f"keeps its voxels {count:g} bytes behind its header; save it again")


def _head(path: Path, packed: bool, count: int) -> bytes:
    """The first bytes of a file, unpacked where it is gzip. Raises BadVolumeError."""
    try:
        with gzip.open(path) if packed else path.open("rb") as stream:
            return stream.read(count)
    except (OSError, EOFError, zlib.error) as error:
        raise BadVolumeError("is no whole gzip file; export or copy it again") from error


def _check_nifti(path: Path, most: int) -> None:
    """NIfTI-1 and -2, by their specifications; in both byte orders."""
    packed = path.name.lower().endswith(".gz")
    head = _head(path, packed, 540)
    for order in "<>":
        size = struct.unpack_from(f"{order}i", head)[0] if len(head) >= 4 else 0
        if size in _NIFTI and len(head) >= size:
            break
    else:
        raise BadVolumeError("has no NIfTI header; export or copy it again")
    dims_at, dims_type, type_at, offset_at, offset_type = _NIFTI[size]
    count, *dims = struct.unpack_from(f"{order}8{dims_type}", head, dims_at)
    (bits,) = struct.unpack_from(f"{order}h", head, type_at + 2)
    (offset,) = struct.unpack_from(f"{order}{offset_type}", head, offset_at)
    _check_skipped(offset)
    _check_size(path, dims[: max(0, min(count, 7))], max(bits, 0) / 8, packed, most)


def _check_nrrd(path: Path, most: int) -> None:
    """NRRD's text header: sizes, type, encoding and what is skipped before the voxels."""
    header = _head(path, False, _HEAD_BYTES).replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    fields = {key.lower(): value for key, value in _NRRD_FIELD.findall(header)}
    for key in (b"byte skip", b"byteskip", b"line skip", b"lineskip"):
        _check_skipped(max(0, _whole(fields.get(key, b"0"))))
    kind = fields.get(b"type", b"").decode("latin-1").lower().replace("unsigned ", "u")
    bytes_each = _BYTES.get(kind.removeprefix("signed ").split(" ")[0], _WIDEST)
    encoding = fields.get(b"encoding", b"raw").lower()
    if encoding not in (b"raw", b"gzip", b"gz"):
        bytes_each = 0  # text and bzip2: only the number of voxels is judged
    sizes = [_whole(word) for word in fields.get(b"sizes", b"").split()]
    _check_size(path, sizes, bytes_each, encoding != b"raw", most)


def _check_meta(path: Path, most: int) -> None:
    """MetaImage's text header: DimSize, ElementType, CompressedData."""
    header = _head(path, False, _HEAD_BYTES).partition(b"ElementDataFile")[0]
    fields = {key.lower(): value for key, value in _META_FIELD.findall(header)}
    if _whole(fields.get(b"compresseddatasize", b"0")) > path.stat().st_size:
        raise BadVolumeError("promises more packed bytes than it holds; copy it again")
    _check_skipped(max(0, _whole(fields.get(b"headersize", b"0"))))
    kind = fields.get(b"elementtype", b"").decode("latin-1").lower().removeprefix("met_")
    packed = fields.get(b"compresseddata", b"").lower() == b"true"
    channels = max(1, _whole(fields.get(b"elementnumberofchannels", b"1")))
    sizes = [_whole(word) for word in fields.get(b"dimsize", b"").split()]
    _check_size(path, [*sizes, channels], _BYTES.get(kind, 1), packed, most)


def _whole(text: bytes) -> int:
    """A whole number of a header. Raises BadVolumeError for what is none, or has no end."""
    try:
        return int(text) if len(text) < 20 else int(b"")
    except ValueError as error:
        shown = text[:20].decode("latin-1")
        raise BadVolumeError(f"has {shown!r} where its header needs a number") from error


def _check_picture(path: Path, most: int) -> None:
    """The pixels that PNG's or JPEG's first bytes promise."""
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            size = list(image.size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadVolumeError("is no readable picture; export or copy it again") from error
    if math.prod(size) > most:
        raise ExpandsTooFarError(f"promises {size[0]} x {size[1]} pixels, more than {most}")


def _check_dicom(path: Path, most: int) -> None:
    """Deflated DICOM is one stream without a size; the others say rows, columns and frames."""
    try:
        meta = pydicom.filereader.read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            raise BadVolumeError("is deflated DICOM; save it with another transfer syntax")
        tags = ["Rows", "Columns", "NumberOfFrames"]
        image = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
        shape = [int(image.get(tag) or 1) for tag in tags]
    except (InvalidDicomError, OSError, EOFError, ValueError, TypeError, struct.error):
        return  # no DICOM, or none that pydicom reads: the volume's reader says so
    if math.prod(shape) > most:
        raise ExpandsTooFarError(
            f"promises {' x '.join(map(str, shape))} voxels, more than {most}; crop or resample it"
        )


def check_archive(path: Path, limit_bytes: int) -> list[zipfile.ZipInfo]:
    """The files of a zip that may be unpacked, every one inside and the whole within `limit_bytes`.

    `zipfile` never writes more of a member than its declared size, so the declared sizes hold.
    Raises ExpandsTooFarError, or BadVolumeError for names that lead out, links, encryption and
    what is no zip.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BadVolumeError("is no whole zip file; pack it again") from error
    if len(members) > MAX_MEMBERS:
        raise ExpandsTooFarError(f"holds {len(members)} files, more than {MAX_MEMBERS}")
    for member in members:
        _check_member(member)
    total = sum(member.file_size for member in members)
    if total > limit_bytes or total > path.stat().st_size * MAX_RATIO:
        raise ExpandsTooFarError(f"would become {total} bytes, more than {limit_bytes}")
    return members


def _check_member(member: zipfile.ZipInfo) -> None:
    name = member.orig_filename
    parts = PurePosixPath(name.replace("\\", "/")).parts
    leads_out = not parts or parts[0].startswith("/") or ":" in name or ".." in parts
    if leads_out or not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES:
        raise BadVolumeError(f"holds a file whose name leads elsewhere, {name[:80]!r}")
    if member.flag_bits & 1:
        raise BadVolumeError("is encrypted; pack it without a password")
    if (member.external_attr >> 16) & 0o170000 == _SYMLINK:
        raise BadVolumeError(f"holds a link, {name[:80]!r}; pack the files themselves")
