"""The writer that needs no language model: sentences filled with what is known.

Knows nothing about files.
"""

from __future__ import annotations

import random

from bird_training.facts import PictureFacts, WrittenPicture
from bird_training.writers.captions import write_caption
from bird_training.writers.plan import plan_picture


class OfflineWriter:
    """Writes the same for the same facts and the same `rng`."""

    def __init__(self, absent_questions: int = 1) -> None:
        self.absent_questions = absent_questions

    def write(self, facts: PictureFacts, rng: random.Random) -> WrittenPicture:
        """Caption, single questions and a dialogue. Raises BirdError where a name is none."""
        plan = plan_picture(facts, rng, self.absent_questions)
        caption = write_caption(
            facts.modality, facts.region, facts.objects, plane=facts.plane, rng=rng
        )
        return WrittenPicture(
            caption,
            tuple(ask.turn for ask in plan.asks),
            tuple(ask.turn for ask in plan.dialogue),
        )
