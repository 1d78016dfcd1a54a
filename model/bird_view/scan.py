"""A scan from disk into the scene, by Slicer's own readers. Knows nothing about views."""

from __future__ import annotations

from pathlib import Path

from slicer import vtkMRMLVolumeNode
from trame_slicer.core import SlicerApp

from bird_view.BiRDLib.errors import UnusableInput
from bird_view.BiRDLib.scene import requireUsableVolume, shapeIjk


def load_scan(app: SlicerApp, path: Path) -> vtkMRMLVolumeNode:
    """The volume of a file, or the largest one of a folder of DICOM files.

    Raises UnusableInput where there is none, or one that cannot be asked about.
    """
    if not path.exists():
        raise UnusableInput(f"{path} does not exist.", "Name a volume file or a DICOM folder.")
    inside = sorted(str(file) for file in path.rglob("*") if file.is_file())
    files = inside if path.is_dir() else [str(path)]
    try:
        volumes = app.io_manager.load_volumes(files)
    except (RuntimeError, OSError, ValueError) as error:
        raise UnusableInput(f"{path} cannot be read ({error}).", _READABLE) from error
    volumes = [volume for volume in volumes if volume.GetImageData() is not None]
    if not volumes:
        raise UnusableInput(f"{path} holds no volume that Slicer can read.", _READABLE)
    *others, largest = sorted(volumes, key=_voxels)
    for other in others:
        app.scene.RemoveNode(other)
    largest.SetName(path.name.partition(".")[0] or path.name)
    requireUsableVolume(largest)
    return largest


_READABLE = "Name a NIfTI, NRRD or MetaImage file, or a folder of DICOM files."


def _voxels(volume: vtkMRMLVolumeNode) -> int:
    i, j, k = shapeIjk(volume)
    return i * j * k
