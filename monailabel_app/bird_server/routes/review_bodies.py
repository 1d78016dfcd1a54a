"""What the review routes are asked: JSON bodies, and the records that they become.

Knows nothing about routes or databases.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bird_server.review.records import By, Drawing, Edit
from bird_vlm.contract import MAX_LABEL_CHARACTERS, Roi
from bird_vlm.errors import BadRequestError

MAX_BOXES = 5000
Point = tuple[float, float, float]
Revision = Annotated[int, Field(ge=1, lt=2**63, examples=[1], description="the one that you saw")]
Reviewer = Annotated[str, Field(max_length=255, examples=["ann"], description="who you are")]
Comment = Annotated[str, Field(max_length=4000, examples=["The lower pole was missing."])]
Label = Annotated[str, Field(max_length=MAX_LABEL_CHARACTERS, examples=["liver"])]


class Body(BaseModel):
    """A JSON body: unknown keys are typing mistakes, numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class BoxBody(Body):
    """A box on one slice."""

    slice: int = Field(ge=0, lt=2**31, examples=[41])
    box_pixel: tuple[float, float, float, float] = Field(
        examples=[[31.5, 40.0, 95.0, 110.5]], description="x0, y0, x1, y1 on the slice"
    )


class RoiBody(Body):
    """A box in space."""

    center_ras: Point = Field(examples=[[42.0, 8.5, -20.0]])
    size_mm: Point = Field(examples=[[120.0, 90.0, 60.0]])
    axes_ras: tuple[Point, Point, Point] = Field(
        default=((1, 0, 0), (0, 1, 0), (0, 0, 1)), description="columns are the box axes"
    )

    def roi(self) -> Roi:
        return Roi(self.center_ras, self.size_mm, self.axes_ras)


class StepBody(Body):
    """One change by one reviewer."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"revision": 2, "reviewer": "ann"}]})
    revision: Revision
    reviewer: Reviewer
    comment: Comment = ""

    def by(self) -> By:
        return By(self.reviewer, self.revision, self.comment)


class ChangeBody(StepBody):
    """A decision about a finding. Label, boxes and ROI belong to edits."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"action": "accept", "revision": 1, "reviewer": "ann"},
                {
                    "action": "edit",
                    "revision": 2,
                    "reviewer": "ann",
                    "comment": "The lower pole was missing.",
                    "boxes": [{"slice": 41, "box_pixel": [31.5, 40.0, 95.0, 110.5]}],
                },
            ]
        }
    )
    action: Literal["accept", "reject", "edit", "reopen"] = Field(examples=["accept"])
    label: Label | None = None
    boxes: Annotated[list[BoxBody], Field(max_length=MAX_BOXES)] | None = None
    roi: RoiBody | None = None

    def edit(self) -> Edit:
        """Raises BadRequestError where another action brings parts of an edit."""
        edit = Edit(self.label, placed(self.boxes), self.roi and self.roi.roi())
        if self.action != "edit" and edit != Edit():
            raise BadRequestError(f"action: {self.action} takes no label, boxes or roi; use edit")
        return edit


class DrawingBody(Body):
    """A finding that no model made: boxes, an ROI, or both."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "label": "liver",
                    "reviewer": "ann",
                    "boxes": [{"slice": 41, "box_pixel": [31.5, 40.0, 95.0, 110.5]}],
                }
            ]
        }
    )
    label: Label
    plane: Literal["axial", "coronal", "sagittal"] = "axial"
    boxes: Annotated[list[BoxBody], Field(max_length=MAX_BOXES)] | None = None
    roi: RoiBody | None = None
    reviewer: Reviewer
    comment: Comment = ""
    finding_id: str | None = Field(
        None,
        pattern="^[0-9a-f]{32}$",
        description="of your choice, so that a repeated request adds nothing twice",
    )

    def drawing(self) -> Drawing:
        roi = self.roi and self.roi.roi()
        return Drawing(self.label, self.plane, placed(self.boxes), roi, self.finding_id)


class NoteBody(Body):
    """A remark about a whole volume."""

    reviewer: Reviewer
    text: str = Field(min_length=1, max_length=4000, examples=["Motion in the lower third."])


def placed(boxes: list[BoxBody] | None) -> tuple[tuple[int, tuple], ...] | None:
    return None if boxes is None else tuple((box.slice, box.box_pixel) for box in boxes)
