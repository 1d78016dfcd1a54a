"""What can go wrong with uploads and stored volumes; each message says what to do next."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from bird_vlm.errors import BirdError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class BadNameError(BirdError):
    """A file name that is a path, has odd characters or an unknown suffix."""


class TooLargeError(BirdError):
    """More bytes than the store takes."""


class BadArchiveError(BirdError):
    """A .zip that is not one DICOM series, or that does more than hold files."""


class UnknownVolumeError(BirdError):
    """A volume that is not in the store."""


class VolumeInUseError(BirdError):
    """A volume that cannot be removed, since a job needs it."""


class StoreFullError(BirdError):
    """No room for another volume, even without those that nobody needs."""


@contextmanager
def full_disk_told() -> Iterator[None]:
    """A full disk as a StoreFullError; other troubles pass as they are."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise StoreFullError(
            f"the server's disk is full ({error.strerror}); nothing of this upload is stored"
        ) from error
