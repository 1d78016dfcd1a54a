"""What is asked and what is answered: the types that cross every boundary, and their JSON.

Knows nothing about tensors, HTTP or files. Positions are RAS millimetres, except `box_pixel`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from bird_vlm.errors import BadRequestError

Plane = Literal["axial", "coronal", "sagittal"]
ReferringTask = Literal["roc", "rc"]
SearchMode = Literal["exhaustive", "coarse-to-fine"]
SEARCH_MODES: tuple[SearchMode, ...] = get_args(SearchMode)
PLANES: tuple[Plane, ...] = get_args(Plane)
REFERRING_TASKS: tuple[ReferringTask, ...] = get_args(ReferringTask)
MAX_LABEL_CHARACTERS = 100
MAX_LABELS = 64
MAX_QUESTION_CHARACTERS = 1000

Point = tuple[float, float, float]
BoxPixel = tuple[float, float, float, float]
Corners = tuple[Point, Point, Point, Point]


@dataclass(frozen=True)
class GroundingRequest:
    """Where are these things? One question per label and slice."""

    labels: tuple[str, ...]  # as the user typed them, at most MAX_LABELS
    plane: Plane = "axial"  # of the volume's own axes
    slices: tuple[int, int] | None = None  # half-open range of slice indices; None = all
    window: tuple[float, float] | None = None  # (level, width), volume's units; None = automatic
    threshold: float = 0.5  # presence probability, 0..1, below which a label is absent from a slice
    near: int | None = None  # slice to ask first; its neighbours follow
    search: SearchMode = "exhaustive"  # or a few slices, and then where their answers differ

    def __post_init__(self) -> None:
        if isinstance(self.labels, str):
            raise BadRequestError(f"labels: needs a list of labels, got the text {self.labels!r}")
        labels = tuple(" ".join(str(label).split()) for label in self.labels)
        object.__setattr__(self, "labels", tuple(dict.fromkeys(labels)))
        if not self.labels or len(self.labels) > MAX_LABELS:
            raise BadRequestError(f"labels: give 1 to {MAX_LABELS} of them, got {len(self.labels)}")
        for label in self.labels:
            _check_label(label)
        check_plane(self.plane)
        _check_slices(self.slices)
        check_window(self.window)
        if not 0.0 <= self.threshold <= 1.0:
            raise BadRequestError(f"threshold: must lie in 0..1, got {self.threshold}")
        if self.near is not None and self.near < 0:
            raise BadRequestError(f"near: must be a slice index from 0 up, got {self.near}")
        if self.search not in SEARCH_MODES:
            raise BadRequestError(
                f"search: must be one of {', '.join(SEARCH_MODES)}, got {self.search!r}"
            )


@dataclass(frozen=True)
class ReferringRequest:
    """What is in this box?"""

    box_ras: tuple[float, float, float, float, float, float]  # two opposite corners, any order, mm
    task: ReferringTask = "roc"  # roc: its name; rc: a description
    plane: Plane = "axial"
    window: tuple[float, float] | None = None  # as in GroundingRequest

    def __post_init__(self) -> None:
        if len(self.box_ras) != 6 or not all(abs(v) < 1e6 for v in self.box_ras):
            raise BadRequestError(
                f"box_ras: needs 6 finite numbers in mm, got {list(self.box_ras)}"
            )
        if self.task not in REFERRING_TASKS:
            raise BadRequestError(
                f"task: must be one of {', '.join(REFERRING_TASKS)}, got {self.task!r}"
            )
        check_plane(self.plane)
        check_window(self.window)


@dataclass(frozen=True)
class SliceBox:
    """One box on one slice."""

    slice: int  # index along the plane's own IJK axis
    score: float  # 0..1: presence probability times confidence in the box's numbers
    box_pixel: BoxPixel  # x0, y0, x1, y1; (0, 0) = outer corner of the top-left pixel
    corners_ras: Corners  # mm: top-left, top-right, bottom-right, bottom-left
    asked: bool = True  # False: between two slices that were asked, and drawn between their boxes


@dataclass(frozen=True)
class Roi:
    """An oriented box around a finding, aligned with the volume's axes."""

    center_ras: Point  # mm
    size_mm: Point  # full edge lengths along the columns of axes_ras
    axes_ras: tuple[Point, Point, Point]  # 3x3 row by row; columns = unit box axes, right-handed


@dataclass(frozen=True)
class Finding:
    """Boxes of neighbouring slices that belong to one object."""

    label: str  # as the user typed it
    score: float  # 0..1
    slices: tuple[int, int]  # first and last, both included
    roi: Roi
    boxes: tuple[SliceBox, ...]  # in slice order


@dataclass(frozen=True)
class VolumeGeometry:
    """Where the voxels lie."""

    shape_ijk: tuple[int, int, int]
    ijk_to_ras: tuple[tuple[float, ...], ...]  # 4x4 row by row; integer IJK = voxel centre


@dataclass(frozen=True)
class GroundingResult:
    """The answer to a GroundingRequest."""

    volume: VolumeGeometry
    model: str
    plane: Plane
    window: tuple[float, float] | None  # (level, width) that was shown to the model
    findings: tuple[Finding, ...]
    absent: tuple[str, ...]  # labels without a finding
    unreadable: int = 0  # slice answers that were not in the language of boxes and are left out
    asked: int = 0  # slice-label pairs
    timing_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Some slices are answered; sent once per batch."""

    done: int  # slice-label pairs answered
    total: int
    boxes: tuple[tuple[str, SliceBox], ...] = ()  # (label, box) found in this batch


@dataclass(frozen=True)
class ReferringResult:
    """The answer to a ReferringRequest."""

    model: str
    task: ReferringTask
    text: str  # the model's words
    score: float  # 0..1: geometric mean of the answer's token probabilities
    slice: int  # the slice that was shown, the box's middle one
    plane: Plane
    box_pixel: BoxPixel  # the box as shown on that slice


@dataclass(frozen=True)
class AskingResult:
    """The answer to a free question about one slice."""

    model: str
    text: str  # the model's words
    score: float  # 0..1: geometric mean of the answer's token probabilities
    slice: int
    plane: Plane


def to_json(value: Any) -> dict[str, Any]:
    """A contract object as plain JSON types (tuples become lists on dumping)."""
    return asdict(value)


def _check_label(label: str) -> None:
    if not label or len(label) > MAX_LABEL_CHARACTERS:
        raise BadRequestError(
            f"labels: each needs 1 to {MAX_LABEL_CHARACTERS} characters, got {label[:40]!r}"
        )
    if not label.isprintable() or any(mark in label for mark in "<>|\\"):
        raise BadRequestError(f"labels: control characters and < > | \\ are refused, got {label!r}")


def check_plane(plane: str) -> None:
    if plane not in PLANES:
        raise BadRequestError(f"plane: must be one of {', '.join(PLANES)}, got {plane!r}")


def _check_slices(slices: tuple[int, int] | None) -> None:
    if slices is None:
        return
    if len(slices) != 2 or not 0 <= slices[0] < slices[1]:
        raise BadRequestError(
            f"slices: needs two indices 0 <= A < B, got {':'.join(map(str, slices))}"
        )


def check_window(window: tuple[float, float] | None) -> None:
    if window is None:
        return
    if len(window) != 2 or not all(abs(v) < 1e9 for v in window) or not window[1] > 0:
        raise BadRequestError(f"window: needs level and a positive width, got {list(window)}")
