"""What the panel remembers in the scene, a field per widget with a SlicerParameterName.

The server's address and token are not here: they belong to the user, not to the scene, and a scene
file must never carry a token. Loads only where Slicer's modules are loaded: their node classes and
the wrapper exist no earlier.
"""

from typing import Annotated

from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from .question import EXTENTS
from .scene import PLANES
from .segments import FILLS


@parameterNodeWrapper
class BiRDParameterNode:
    volume: vtkMRMLScalarVolumeNode
    labels: str = ""  # one per line
    plane: Annotated[str, Choice(list(PLANES))] = "axial"
    extent: Annotated[str, Choice(list(EXTENTS))] = "current slice"
    threshold: Annotated[float, WithinRange(0.0, 1.0)] = 0.5  # of the question
    showFrom: Annotated[float, WithinRange(0.0, 1.0)] = 0.0  # of the display
    fill: Annotated[str, Choice(list(FILLS))] = "box"
    segmentation: vtkMRMLSegmentationNode  # that gets new segments; None: one of their own
    sendWindow: bool = True  # ask with the brightness that the user sees
    roi: vtkMRMLMarkupsROINode
