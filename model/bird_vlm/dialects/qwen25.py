"""Qwen2.5-VL: JSON boxes in pixels of the picture as its processor resized it.

    [{"bbox_2d": [135, 114, 1016, 672], "label": "liver"}]

The processor scales a picture to multiples of 28 pixels, width and height each a little
differently, within a range of areas (Qwen2.5-VL technical report, arXiv 2502.13923).
Knows nothing about weights or tokens.
"""

from __future__ import annotations

import re
from dataclasses import replace

from bird_vlm.dialects.grid import Grid
from bird_vlm.dialects.json_boxes import JsonBoxes
from bird_vlm.dialects.shown import ShownPicture
from bird_vlm.errors import BadRequestError

QWEN_MARKS = re.compile(r"<\|[a-z_]+\|>|</?think>|</?tool_(?:call|response)>")
SIDE_PIXELS = 28  # 14 per patch, 2 x 2 patches per token
AREA_PIXELS = (4 * 28 * 28, 16384 * 28 * 28)  # of the published models' preprocessor_config.json


def _pixels(shown: ShownPicture) -> Grid:
    return Grid(shown.input_width, shown.input_height)


def shown_to_qwen(
    width: int,
    height: int,
    area_pixels: tuple[int, int] = AREA_PIXELS,
    side_pixels: int = SIDE_PIXELS,
) -> ShownPicture:
    """A picture of `width` x `height` pixels as a Qwen2.5-VL processor will resize it.

    For models that run elsewhere; a processor that runs here has the size in its
    `image_grid_thw`. `area_pixels` is the least and the most of the model's own processor
    (`min_pixels` and `max_pixels` of its preprocessor_config.json). The rule is transformers'.
    Raises BadRequestError for pictures more than 200 times as long as wide.
    """
    given = ShownPicture.unresized(width, height)
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    least, most = area_pixels
    try:
        rows, columns = smart_resize(height, width, side_pixels, least, most)
    except ValueError as error:
        raise BadRequestError(
            f"picture: {width} x {height} pixels cannot be shown to Qwen2.5-VL ({error}); crop it"
        ) from error
    return replace(given, input_width=columns, input_height=rows)


QWEN25 = JsonBoxes(
    name="qwen2.5-vl",
    key="bbox_2d",
    meaning="[x0, y0, x1, y1]",
    marks=QWEN_MARKS,
    grid=_pixels,
    sent=shown_to_qwen,
)
