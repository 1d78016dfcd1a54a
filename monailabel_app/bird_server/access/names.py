"""Which names of files and folders a request may hold. Knows nothing about HTTP or the disk."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bird_server.errors import ApiError

MAX_NAME_CHARACTERS = 200
_DRIVE = re.compile(r"[A-Za-z]:")
_SEPARATORS = re.compile(r"[/\\]")


def is_inside(path: str) -> bool:
    """Whether a relative path stays inside its folder, whatever the operating system.

    >>> is_inside("case 1/scan.nii.gz"), is_inside("a/../../b"), is_inside("C:/x"), is_inside("/a")
    (True, False, False, False)
    """
    parts = path.replace("\\", "/").split("/")
    if path and ("" in parts or _DRIVE.match(path)):
        return False
    return not {".", ".."} & set(parts) and all(c.isprintable() for c in path)


def is_plain(name: str) -> bool:
    """Whether a name can only be a visible file beside the others, not a path to elsewhere.

    >>> is_plain("scan 1.nii.gz"), is_plain("a/b"), is_plain(".lock"), is_plain("a\\0")
    (True, False, False, False)
    """
    usable = 0 < len(name.encode(errors="surrogatepass")) <= MAX_NAME_CHARACTERS
    return (
        usable
        and is_inside(name)
        and not _SEPARATORS.search(name)
        and ":" not in name
        and not name.startswith(".")
    )


def check_plain(where: str, name: str) -> str:
    """`name` itself. Raises ApiError 400, which calls the place `where`."""
    if not is_plain(name):
        raise path_refused(where)
    return name


def sent_name(filename: str | None) -> str:
    """The last part of a file name as a client sends it; some send the path it has there.

    Raises ApiError 400.

    >>> sent_name("/home/me/scan.nii.gz")
    'scan.nii.gz'
    """
    return check_plain("file name", _SEPARATORS.split(filename or "")[-1])


def split_suffix(name: str, suffixes: Sequence[str]) -> tuple[str, str]:
    """Stem and suffix, the longest one that fits. Raises ApiError 422 where none does.

    >>> split_suffix("Scan.NII.GZ", [".gz", ".nii.gz"])
    ('Scan', '.nii.gz')
    """
    fitting = [suffix for suffix in suffixes if name.lower().endswith(suffix)]
    if not fitting or len(name) == len(max(fitting, key=len)):
        raise ApiError(
            422,
            "bad_name",
            f"file name: must be NAME with one of {', '.join(suffixes)}, got {name[:80]!r}",
            "Save the file in one of these formats.",
        )
    suffix = max(fitting, key=len)
    return name[: -len(suffix)], suffix


def path_refused(where: str) -> ApiError:
    return ApiError(
        400,
        "bad_path",
        f"{where[:80]!r}: absolute paths, '.', '..', drives and control characters are refused",
        "Name a file of the studies folder, relative to it.",
    )
