"""BiRD in a browser: Slicer's own views of one scan, and the logic of the Slicer extension.

Needs the extra `view`. The extension's library comes as `bird_view.BiRDLib`: it lies beside this
file where the package was installed, and in `extension/BiRD` in a checkout. Knows nothing about the
model, and speaks to a server by HTTP only.
"""

from pathlib import Path

_EXTENSION = Path(__file__).resolve().parents[2] / "extension" / "BiRD"
if (_EXTENSION / "BiRDLib").is_dir():
    __path__.append(str(_EXTENSION))
