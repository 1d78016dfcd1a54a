"""Gemma 3, MedGemma and Gemini: JSON boxes in thousandths, y before x.

    [{"box_2d": [160, 150, 830, 900], "label": "right lung"}]

The convention of Google's models (Gemini API, image understanding); MedGemma 1.5 writes it too, of
the picture as given: its own resizing to a square changes no thousandth, as long as the processor
does not cut it up (`do_pan_and_scan`). Knows nothing about weights or tokens.
"""

from __future__ import annotations

import re

from bird_vlm.boxes import NORM_MAX
from bird_vlm.dialects.grid import Grid
from bird_vlm.dialects.json_boxes import JsonBoxes

GEMMA3 = JsonBoxes(
    name="gemma3",
    key="box_2d",
    meaning="[y0, x0, y1, x1]",
    marks=re.compile(
        r"<(?:start|end)_of_(?:turn|image)>|<image_soft_token>|<(?:bos|eos|pad|unk|mask)>"
        r"|<unused[0-9]+>|\[multimodal\]"
    ),
    grid=lambda shown: Grid(NORM_MAX, NORM_MAX, y_first=True),
)
