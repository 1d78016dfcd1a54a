"""What the server answers, read from JSON into checked values.

Anything missing or of the wrong kind becomes a ServerFault that names the field, never a KeyError.
Positions are RAS millimetres of the volume file. Knows nothing about HTTP or MRML.
"""

import math
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from .errors import ServerFault

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
    model = _field(answer, "model", dict)
    return Health(
        version=_field(answer, "version", str),
        model=_field(model, "id", str),
        labels={key: _strings(names, key) for key, names in _field(model, "labels", dict).items()},
        device=_field(model, "device", str),
        max_labels=_field(_field(answer, "limits", dict), "labels", int),
    )


def read_stored_volume(answer):
    volume = _field(answer, "volume", dict)
    return StoredVolume(
        volume_id=_field(answer, "volume_id", str),
        shape_ijk=_numbers(volume, "shape_ijk", 3, int),
        ijk_to_ras=_rows(volume, "ijk_to_ras", 4, 4),
    )


def read_progress(event):
    return Progress(
        done=_field(event, "done", int),
        total=_field(event, "total", int),
        boxes=tuple(_box(box, _field(box, "label", str)) for box in _field(event, "boxes", list)),
    )


def read_grounding(answer):
    window = None
    if _value(answer, "window") is not None:
        window = _numbers(answer, "window", 2)
    return Grounding(
        model=_field(answer, "model", str),
        plane=_field(answer, "plane", str),
        window=window,
        findings=tuple(_finding(finding) for finding in _field(answer, "findings", list)),
        absent=tuple(_strings(_field(answer, "absent", list), "absent")),
    )


def read_referring(answer):
    return Referring(score=_number(answer, "score"), **_told(answer))


def read_reply(answer):
    return Reply(**_told(answer))


def _told(answer):
    fields = {name: _field(answer, name, str) for name in ("model", "text", "plane")}
    return dict(fields, slice=_field(answer, "slice", int))


def _finding(answer):
    label = _field(answer, "label", str)
    roi = _field(answer, "roi", dict)
    return Finding(
        label=label,
        score=_number(answer, "score"),
        slices=_numbers(answer, "slices", 2, int),
        center_ras=_numbers(roi, "center_ras", 3),
        size_mm=_numbers(roi, "size_mm", 3),
        axes_ras=_rows(roi, "axes_ras", 3, 3),
        boxes=tuple(_box(box, label) for box in _field(answer, "boxes", list)),
    )


def _box(answer, label):
    corners_ras = _rows(answer, "corners_ras", 4, 3)
    if corners_ras[0] in (corners_ras[1], corners_ras[3]):
        raise ServerFault("The server's answer has a box of {} without extent.".format(label))
    return Box(
        label=label,
        slice=_field(answer, "slice", int),
        score=_number(answer, "score"),
        corners_ras=corners_ras,
    )


def _value(answer, name):
    if not isinstance(answer, dict) or name not in answer:
        raise ServerFault("The server's answer lacks the field {!r}.".format(name))
    return answer[name]


def _field(answer, name, kind):
    value = _value(answer, name)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ServerFault(
            "The server's answer has {!r} = {:.60} where a {} belongs.".format(
                name, repr(value), kind.__name__
            )
        )
    return value


def _number(answer, name):
    return _numbers({name: [_value(answer, name)]}, name, 1)[0]


def _numbers(answer, name, count, kind=(int, float)):
    values = _field(answer, name, list)
    good = all(isinstance(v, kind) and not isinstance(v, bool) for v in values)
    if not good or len(values) != count or not all(math.isfinite(v) for v in values):
        raise ServerFault(
            "The server's answer has {!r} = {:.60} where {} numbers belong.".format(
                name, repr(values), count
            )
        )
    return tuple(values)


def _rows(answer, name, rows, columns):
    values = _field(answer, name, list)
    if len(values) != rows:
        raise ServerFault(
            "The server's answer has {} rows in {!r} where {} belong.".format(
                len(values), name, rows
            )
        )
    return tuple(_numbers({name: row}, name, columns) for row in values)


def _strings(values, name):
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise ServerFault("The server's answer has no list of words in {!r}.".format(name))
    return values
