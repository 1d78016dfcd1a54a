"""One CT slice in words: what the tests of the writers are told."""

from __future__ import annotations

from pathlib import Path

from bird_training.facts import PictureFacts, PlacedObject

LIVER = PlacedObject("liver", (52, 180, 611, 790))
LEFT_KIDNEY = PlacedObject("left kidney", (700, 500, 800, 640))
AN_ABDOMEN = PictureFacts(
    "ct_1",
    Path("ct_1.png"),
    "ct",
    "BTCV",
    "case 1",
    "abdomen",
    "axial",
    (LIVER, LEFT_KIDNEY),
    ("spleen", "brain tumor"),
)
