"""What the review routes are asked in paths and queries, and the reviews that they ask about."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Query

from bird_server.errors import ApiError
from bird_server.review.lists import MAX_PAGE
from bird_server.review.records import Status
from bird_server.review.review import Review
from bird_server.routes.dependencies import ServiceInUse
from bird_server.volumes.reviewed_volumes import ReviewedVolumes

EXAMPLE_DIGEST = "9c1185a5c5e9fc54612808977ee8f548"
Offset = Annotated[int, Query(ge=0, lt=2**63)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Label = Annotated[str | None, Query(max_length=100, examples=["liver"])]
CaseName = Annotated[str | None, Query(max_length=255, examples=["scan"])]
ModelName = Annotated[str | None, Query(max_length=255, examples=["bird-mini"])]
Version = Annotated[str | None, Query(max_length=255, examples=["0123456789abcdef"])]
Reviewer = Annotated[str | None, Query(max_length=255, examples=["ann"])]
CaseChoice = Annotated[
    str | None,
    Query(pattern="^[0-9a-f]{32,64}$", examples=[EXAMPLE_DIGEST]),
]
Statuses = Annotated[list[Status], Query(examples=[["proposed"]])]
CaseKey = Annotated[
    str,
    Path(
        pattern="^([0-9a-f]{32}|[0-9a-f]{64})$",
        description="a volume_digest (32 hex digits) or a volume_id (64)",
        examples=[EXAMPLE_DIGEST],
    ),
]
FindingId = Annotated[
    str,
    Path(
        pattern="^[0-9a-f]{32}$",
        description="a finding's id",
        examples=["0d9f2c3b4a5e6f708192a3b4c5d6e7f8"],
    ),
]
StrategyName = Annotated[str, Query(examples=["uncertainty"], max_length=40)]


async def review_in_use(service: ServiceInUse) -> Review:
    """Raises ApiError 503 where the server keeps none."""
    if service.review is None:
        raise ApiError(
            503, "no_review", "this server keeps no reviews", "Look into the server's log."
        )
    return service.review


InReview = Annotated[Review, Depends(review_in_use)]


async def volumes_in_use(service: ServiceInUse, review: InReview) -> ReviewedVolumes:
    return ReviewedVolumes(service, review)


Volumes = Annotated[ReviewedVolumes, Depends(volumes_in_use)]
