"""What a job can be asked: the JSON of a question, checked.

The same JSON is what a client sends and what the journal keeps. Knows nothing about routes,
workers or models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from bird_vlm.contract import (
    MAX_QUESTION_CHARACTERS,
    GroundingRequest,
    ReferringRequest,
    check_plane,
    check_window,
)

MAX_BATCH_QUESTIONS = 500
_VOLUME_ID = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
Window = tuple[float, float]
BoxRas = tuple[float, float, float, float, float, float]
Kind = Literal["ground", "refer", "caption", "ask", "batch"]


def _example(**fields: object) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [fields]})


class Question(BaseModel, ABC):
    """Unknown keys are typing mistakes, numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @abstractmethod
    def volume_ids(self) -> list[str]:
        """Of all stored volumes that it is about."""

    @abstractmethod
    def check(self) -> None:
        """Raises BadRequestError for what is wrong whatever the volume and the model."""


class VolumeQuestion(Question):
    """A question about one stored volume."""

    volume_id: str = Field(description="From PUT /bird/v1/volumes.")

    def volume_ids(self) -> list[str]:
        return [self.volume_id]


class GroundQuestion(VolumeQuestion):
    """Where are these things? Fields as in `bird_vlm.contract.GroundingRequest`."""

    model_config = _example(
        kind="ground", volume_id=_VOLUME_ID, labels=["liver", "spleen"], slices=[20, 60], near=40
    )
    kind: Literal["ground"] = "ground"
    labels: list[str]
    plane: str = "axial"
    slices: tuple[int, int] | None = None
    window: Window | None = None
    threshold: float = 0.5
    near: int | None = None
    search: str = "exhaustive"

    def request(self) -> GroundingRequest:
        fields = self.model_dump(exclude={"volume_id", "kind"})
        return GroundingRequest(**fields | {"labels": tuple(self.labels)})

    def check(self) -> None:
        self.request()


class _BoxQuestion(VolumeQuestion):
    """About a box: two opposite corners in RAS millimetres, in any order."""

    box_ras: BoxRas
    plane: str = "axial"
    window: Window | None = None

    @abstractmethod
    def request(self) -> ReferringRequest:
        """What the model is asked."""

    def check(self) -> None:
        self.request()


class ReferQuestion(_BoxQuestion):
    """What is in this box? Its name (`roc`) or a description (`rc`)."""

    model_config = _example(
        kind="refer", volume_id=_VOLUME_ID, box_ras=[-60, -40, 20, 10, 35, 80], task="roc"
    )
    kind: Literal["refer"] = "refer"
    task: str = "roc"

    def request(self) -> ReferringRequest:
        return ReferringRequest(self.box_ras, self.task, self.plane, self.window)


class CaptionQuestion(_BoxQuestion):
    """Describe what is in this box."""

    model_config = _example(
        kind="caption", volume_id=_VOLUME_ID, box_ras=[-60, -40, 20, 10, 35, 80]
    )
    kind: Literal["caption"] = "caption"

    def request(self) -> ReferringRequest:
        return ReferringRequest(self.box_ras, "rc", self.plane, self.window)


class AskQuestion(VolumeQuestion):
    """A question in words about one slice."""

    model_config = _example(
        kind="ask", volume_id=_VOLUME_ID, question="Which organs are shown?", slice=40
    )
    kind: Literal["ask"] = "ask"
    question: str = Field(min_length=1, max_length=MAX_QUESTION_CHARACTERS)
    plane: str = "axial"
    slice: int = Field(ge=0)
    window: Window | None = None

    def check(self) -> None:
        check_plane(self.plane)
        check_window(self.window)


SingleQuestion = Annotated[
    GroundQuestion | ReferQuestion | CaptionQuestion | AskQuestion, Field(discriminator="kind")
]


class BatchQuestion(Question):
    """Many questions as one job, one after the other; what fails is listed, the rest goes on."""

    model_config = _example(
        kind="batch",
        questions=[
            {"kind": "ground", "volume_id": _VOLUME_ID, "labels": ["liver"]},
            {"kind": "ask", "volume_id": _VOLUME_ID, "question": "What is shown?", "slice": 40},
        ],
    )
    kind: Literal["batch"]
    questions: list[SingleQuestion] = Field(min_length=1, max_length=MAX_BATCH_QUESTIONS)

    def volume_ids(self) -> list[str]:
        return list(dict.fromkeys(q.volume_id for q in self.questions))

    def check(self) -> None:
        for question in self.questions:
            question.check()


AnyQuestion = Annotated[
    GroundQuestion | ReferQuestion | CaptionQuestion | AskQuestion | BatchQuestion,
    Field(discriminator="kind"),
]
ANY_QUESTION: TypeAdapter[Question] = TypeAdapter(AnyQuestion)
