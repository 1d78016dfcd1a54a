"""Which volumes a server already holds; sends those it does not. Knows nothing about questions.

`parcel` runs on the GUI thread and reads the scene; `deliver` runs on a worker and does not.
"""

import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import scene as geometry
from .errors import NotFound, ServerFault
from .i18n import tr as _

_MATRIX_TOLERANCE_MM = 1e-3


@dataclass(frozen=True)
class Parcel:
    """A volume, ready to be sent without touching the scene."""

    node_id: str
    stamp: Any  # changes with the voxels and the matrix
    copy: Any  # a volume node outside any scene
    shape_ijk: Any
    ijk_to_ras: Any  # (4, 4)


class Uploads:
    """Remembers per server and volume node what was sent, until the voxels or the matrix change."""

    def __init__(self):
        self._sent = {}  # (server URL, volume node ID) -> (stamp, volume_id)

    def parcel(self, volume):
        """Parcel of a volume node; raises UnusableInput."""
        return Parcel(
            node_id=volume.GetID(),
            copy=geometry.exportCopy(volume),
            stamp=geometry.volumeStamp(volume),
            shape_ijk=geometry.shapeIjk(volume),
            ijk_to_ras=geometry.ijkToRas(volume),
        )

    def deliver(self, client, parcel, ask, on_progress, cancelled):
        """`ask(volume_id)`, after an upload where the server needs one, again where it forgot."""
        known = self._sent.get((client.address.url, parcel.node_id))
        if known is not None and known[0] == parcel.stamp:
            try:
                return ask(known[1])
            except NotFound as error:
                if error.code != "unknown_volume":
                    raise
        return ask(self._upload(client, parcel, on_progress, cancelled))

    def _upload(self, client, parcel, on_progress, cancelled):
        with tempfile.TemporaryDirectory(prefix="BiRD-") as folder:
            remote = not client.address.is_loopback
            path = geometry.writeVolume(parcel.copy, folder, compress=remote)
            stored = client.upload(path, on_progress, cancelled)
        _check_same_geometry(parcel, stored)
        self._sent[client.address.url, parcel.node_id] = parcel.stamp, stored.volume_id
        return stored.volume_id


def _check_same_geometry(parcel, stored):
    """A box is only right where both sides agree on where the voxels lie."""
    same = tuple(stored.shape_ijk) == tuple(parcel.shape_ijk) and np.allclose(
        stored.ijk_to_ras, parcel.ijk_to_ras, atol=_MATRIX_TOLERANCE_MM
    )
    if not same:
        raise ServerFault(
            _("The server reads this volume with another geometry: {} voxels, {}.").format(
                "x".join(map(str, stored.shape_ijk)), np.round(stored.ijk_to_ras, 3).tolist()
            ),
            _("Boxes would be misplaced, so nothing was asked."),
        )
