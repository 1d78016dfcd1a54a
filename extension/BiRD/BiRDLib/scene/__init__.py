"""MRML geometry: the only package that reads or writes it.

World is what Slicer's views show; a volume's RAS is what its file says, before its parent
transform. Everything that goes to the server or comes from it is in the volume's RAS. Knows nothing
about HTTP, findings or colours; takes nodes and the scene as arguments and changes only the nodes
it is given.
"""

from .grids import ijkToRas, layOnGrid, positionsIjk, shapeIjk, toWorld, viewMatrices
from .planes import (
    PLANES,
    cornersOfNormBox,
    nearestRasAxes,
    slabsOfSliceBoxes,
    sliceAxis,
    sliceNormalWorld,
    sliceUnder,
)
from .rois import (
    boundsOfRoi,
    boxesOnSlices,
    boxOfNode,
    boxOfRoi,
    cornersWorld,
    moveAlike,
    moveTogether,
    placeRoi,
    sizeOfNode,
)
from .volumes import exportCopy, requireUsableVolume, shownWindow, volumeStamp, writeVolume

__all__ = [
    "PLANES",
    "boundsOfRoi",
    "boxOfNode",
    "boxOfRoi",
    "boxesOnSlices",
    "cornersOfNormBox",
    "cornersWorld",
    "exportCopy",
    "ijkToRas",
    "layOnGrid",
    "moveAlike",
    "moveTogether",
    "nearestRasAxes",
    "placeRoi",
    "positionsIjk",
    "requireUsableVolume",
    "shapeIjk",
    "shownWindow",
    "sizeOfNode",
    "slabsOfSliceBoxes",
    "sliceAxis",
    "sliceNormalWorld",
    "sliceUnder",
    "toWorld",
    "viewMatrices",
    "volumeStamp",
    "writeVolume",
]
