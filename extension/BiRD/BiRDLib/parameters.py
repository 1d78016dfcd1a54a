"""What the panel remembers in the scene, a field per widget with a SlicerParameterName.

The server's address and token are not here: they belong to the user, not to the scene, and a scene
file must never carry a token.
"""

from typing import Annotated

from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from .question import Question, parse_labels
from .scene import PLANES


@parameterNodeWrapper
class BiRDParameterNode:
    volume: vtkMRMLScalarVolumeNode
    labels: str = ""  # one per line
    plane: Annotated[str, Choice(list(PLANES))] = "axial"
    wholeVolume: bool = False  # else the slice in view
    threshold: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    sendWindow: bool = True  # ask with the brightness that the user sees
    roi: vtkMRMLMarkupsROINode


def questionOf(parameters):
    """The Question that the panel holds now."""
    return Question(
        volume=parameters.volume,
        labels=parse_labels(parameters.labels),
        plane=parameters.plane,
        whole_volume=parameters.wholeVolume,
        threshold=parameters.threshold,
        send_window=parameters.sendWindow,
    )
