"""Qwen3-VL: JSON boxes in thousandths of the picture's width and height.

    [{"bbox_2d": [52, 180, 611, 790], "label": "liver"}]

The keys are Qwen2.5-VL's, the numbers are not (Qwen3-VL's own grounding examples: 0 to 1000).
Knows nothing about weights or tokens.
"""

from __future__ import annotations

from bird_vlm.boxes import NORM_MAX
from bird_vlm.dialects.grid import Grid
from bird_vlm.dialects.json_boxes import JsonBoxes
from bird_vlm.dialects.qwen25 import QWEN_MARKS

QWEN3 = JsonBoxes(
    name="qwen3-vl",
    key="bbox_2d",
    meaning="[x0, y0, x1, y1]",
    marks=QWEN_MARKS,
    grid=lambda shown: Grid(NORM_MAX, NORM_MAX),
)
