"""What the server answers, read from JSON into checked values.

Anything missing or of the wrong kind becomes a ServerFault that names the field, never a KeyError.
Positions are RAS millimetres of the volume file. Knows nothing about HTTP or MRML.
"""

from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from .errors import ServerFault
from .fields import field, number, numbers, rows, strings, value_of
from .i18n import tr as _

Point = Tuple[float, float, float]


@dataclass(frozen=True)
class Health:
    version: str  # of the server's software
    model: str
    labels: Dict[str, List[str]]  # modality -> objects the model knows; empty = any words
    device: str
    max_labels: int  # per question


@dataclass(frozen=True)
class StoredVolume:
    volume_id: str
    shape_ijk: Tuple[int, ...]
    ijk_to_ras: Tuple[Tuple[float, ...], ...]  # 4x4


@dataclass(frozen=True)
class Box:
    """A box on one slice."""

    label: str
    slice: int  # index along the plane's own IJK axis
    score: float  # 0..1
    corners_ras: Tuple[Point, Point, Point, Point]  # around the box, in the slice's middle


@dataclass(frozen=True)
class Finding:
    """Boxes of neighbouring slices that belong to one object."""

    label: str
    score: float
    slices: Tuple[int, int]  # first and last, both included
    center_ras: Point
    size_mm: Point  # full edge lengths along the columns of axes_ras
    axes_ras: Tuple[Point, Point, Point]  # 3x3 row by row, columns = unit axes, right-handed
    boxes: Tuple[Box, ...]


@dataclass(frozen=True)
class Grounding:
    model: str
    plane: str
    window: Optional[Tuple[float, float]]  # (level, width) that the model saw
    findings: Tuple[Finding, ...]
    absent: Tuple[str, ...]  # labels without a finding


@dataclass(frozen=True)
class Progress:
    done: int
    total: int
    boxes: Tuple[Box, ...]  # found since the last progress


@dataclass(frozen=True)
class Referring:
    model: str
    text: str
    score: float
    slice: int
    plane: str


@dataclass(frozen=True)
class Reply:
    model: str
    text: str
    slice: int
    plane: str


def read_health(answer):
    model = field(answer, "model", dict)
    return Health(
        version=field(answer, "version", str),
        model=field(model, "id", str),
        labels={key: strings(names, key) for key, names in field(model, "labels", dict).items()},
        device=field(model, "device", str),
        max_labels=field(field(answer, "limits", dict), "labels", int),
    )


def read_stored_volume(answer):
    volume = field(answer, "volume", dict)
    return StoredVolume(
        volume_id=field(answer, "volume_id", str),
        shape_ijk=numbers(volume, "shape_ijk", 3, int),
        ijk_to_ras=rows(volume, "ijk_to_ras", 4, 4),
    )


def read_progress(event):
    return Progress(
        done=field(event, "done", int),
        total=field(event, "total", int),
        boxes=tuple(_box(box, field(box, "label", str)) for box in field(event, "boxes", list)),
    )


def read_grounding(answer):
    window = None
    if value_of(answer, "window") is not None:
        window = numbers(answer, "window", 2)
    return Grounding(
        model=field(answer, "model", str),
        plane=field(answer, "plane", str),
        window=window,
        findings=tuple(read_finding(finding) for finding in field(answer, "findings", list)),
        absent=tuple(strings(field(answer, "absent", list), "absent")),
    )


def read_referring(answer):
    return Referring(score=number(answer, "score"), **_told(answer))


def read_reply(answer):
    return Reply(**_told(answer))


def _told(answer):
    fields = {name: field(answer, name, str) for name in ("model", "text", "plane")}
    return dict(fields, slice=field(answer, "slice", int))


def read_finding(answer):
    label = field(answer, "label", str)
    roi = field(answer, "roi", dict)
    return Finding(
        label=label,
        score=number(answer, "score"),
        slices=numbers(answer, "slices", 2, int),
        center_ras=numbers(roi, "center_ras", 3),
        size_mm=numbers(roi, "size_mm", 3),
        axes_ras=rows(roi, "axes_ras", 3, 3),
        boxes=tuple(_box(box, label) for box in field(answer, "boxes", list)),
    )


def _box(answer, label):
    corners_ras = rows(answer, "corners_ras", 4, 3)
    if corners_ras[0] in (corners_ras[1], corners_ras[3]):
        raise ServerFault(_("The server's answer has a box of {} without extent.").format(label))
    return Box(
        label=label,
        slice=field(answer, "slice", int),
        score=number(answer, "score"),
        corners_ras=corners_ras,
    )
