"""The versions of the model under /bird/v1: which there are, what they are worth, and rolling back.

Turns HTTP into calls of `model_versions`. Training, which makes versions, is in `routes.tasks`.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from bird_server.learning.model_versions import versions_of
from bird_server.routes.route_errors import failures
from bird_server.service import current

router = APIRouter(prefix="/bird/v1", tags=["BiRD versions"])
_JUDGED = {"score": 0.91, "recall": 0.84, "specificity": 0.98, "boxes": 120, "absences": 88}
VersionId = Annotated[
    str,
    Path(
        max_length=100,
        description="a fingerprint, a name, or `original`",
        examples=["bird-mini-r1"],
    ),
]


class VersionJson(BaseModel):
    """One version."""

    version: str = Field(examples=["0123456789abcdef"], description="fingerprint of its weights")
    name: str = Field(examples=["bird-mini-r1"])
    status: str = Field(examples=["kept"], description="original, kept or refused (was worse)")
    in_use: bool = Field(examples=[True])
    base: str | None = Field(
        None, examples=["fedcba9876543210"], description="the version that it was trained from"
    )
    made: str | None = Field(None, examples=["2026-01-02T03:04:05.678+00:00"])
    trained_on: dict[str, Any] = Field({}, examples=[{"cases": ["scan.nii.gz"], "seconds": 61.0}])
    before: dict[str, Any] = Field({}, examples=[_JUDGED])
    after: dict[str, Any] = Field({}, examples=[_JUDGED])


class VersionsJson(BaseModel):
    in_use: str = Field(examples=["0123456789abcdef"])
    versions: list[VersionJson]


@router.get("/versions", responses=failures(503))
def versions() -> VersionsJson:
    """All versions of the model, the one that the server was started with first."""
    return VersionsJson(**versions_of(current()).told())


@router.post("/versions/{version}/use", responses=failures(404, 422, 503))
def use_version(version: VersionId) -> VersionsJson:
    """Answers from this version from the next batch on; so a training is taken back."""
    kept = versions_of(current())
    kept.use(version)
    return VersionsJson(**kept.told())
