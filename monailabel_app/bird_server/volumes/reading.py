"""Files as volumes: looked at before they are unpacked, and called by their names in errors.

Every file that this server reads comes through here.
"""

from __future__ import annotations

from pathlib import Path

from bird_server.access.expansion import check_expansion
from bird_vlm.errors import BadVolumeError
from bird_vlm.volumes import Volume, read_volume


def read_named(path: Path, name: str) -> Volume:
    """The volume at `path`; errors call it `name`, since places on the server are no one's concern.

    Raises BadVolumeError, also for what would become too large in memory.
    """
    try:
        check_expansion(path)
    except BadVolumeError as error:
        raise BadVolumeError(f"{name}: {error}") from error
    try:
        return read_volume(path)
    except BadVolumeError as error:
        raise BadVolumeError(str(error).replace(str(path), name)) from error
