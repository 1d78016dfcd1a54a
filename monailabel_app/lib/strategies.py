"""Active learning strategies of MONAI Label: which image of the studies to label next.

How telling a case is, `bird_server.learning` decides; images that the model was never asked about
come after those that wait for a review. Knows nothing about HTTP.
"""

from __future__ import annotations

import random
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from bird_server.learning.strategies import STRATEGIES, ranked
from bird_server.service import current
from lib.studies import images_by_case


class ReviewNext(Strategy):
    """One of the strategies of the review store."""

    def __init__(self, name: str) -> None:
        super().__init__(STRATEGIES[name].description)
        self.name = name

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """`id` of the image, `score` 0..1 and `reasons`; None where nothing is left to label."""
        review = current().review
        if review is None:
            return _unasked(datastore, set())
        images = images_by_case(datastore, review)
        for case in ranked(review.store, self.name):
            image = images.get(case.summary.case.volume_digest)
            if image is not None:
                return {
                    "id": image,
                    "score": case.score.score,
                    "reasons": list(case.score.reasons),
                }
        return _unasked(datastore, set(images.values()))


def strategies() -> dict[str, Strategy]:
    return {name: ReviewNext(name) for name in STRATEGIES}


def _unasked(datastore: Datastore, known: set[str]) -> dict[str, Any] | None:
    """An image that no model was asked about and nobody has labelled."""
    images = sorted(set(datastore.get_unlabeled_images()) - known)
    if not images:
        return None
    return {"id": random.choice(images), "score": 0.0, "reasons": ["never asked about"]}
