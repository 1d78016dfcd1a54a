"""A small picture of a case: its best slice with the boxes on it.

Knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bird_vlm.contract import Finding, GroundingResult, SliceBox
from bird_vlm.overlay import label_colours
from bird_vlm.slices import SliceStack, slice_stack
from bird_vlm.volumes import Volume
from bird_vlm.windows import automatic_window, slice_picture

EDGE = 360  # pixels, the longer one
_INK, _LINE = (235, 235, 235), 2
_FONT = ImageFont.load_default(13)


def best_slice(findings: Sequence[Finding], stack: SliceStack) -> int:
    """The slice with the most labels, each counted with its score; the middle one without boxes.

    Of equal ones it is that nearest to the middle.
    """
    scores: dict[int, dict[str, float]] = {}
    for finding in findings:
        for box in finding.boxes:
            on_slice = scores.setdefault(box.slice, {})
            on_slice[finding.label] = max(on_slice.get(finding.label, 0.0), box.score)
    middle = stack.count // 2

    def worth(index: int) -> tuple[float, int]:
        return round(sum(scores[index].values()), 4), -abs(index - middle)

    return max(sorted(scores), key=worth, default=middle)


def save_thumbnail(
    path: Path, volume: Volume, result: GroundingResult, index: int, labels: Sequence[str]
) -> None:
    """Write slice `index` as a PNG in true proportions, 360 pixels at its longer edge.

    `labels` are all that were asked for, so that each has the same colour in every case.
    """
    stack = slice_stack(volume.geometry(), result.plane)
    picture = slice_picture(volume, stack, index, result.window or automatic_window(volume))
    size = _size(stack)
    canvas = Image.fromarray(picture).convert("RGB").resize(size, Image.Resampling.BICUBIC)
    _draw_boxes(canvas, stack, _boxes_on(result.findings, index), label_colours(labels))
    if not volume.is_picture:
        draw = ImageDraw.Draw(canvas)
        draw.text((4, size[1] // 2), stack.edge_marks[0], _INK, _FONT, anchor="lm")
    unfinished = path.with_name(f".{path.name}.unfinished")
    canvas.save(unfinished, format="PNG")
    unfinished.replace(path)


def _size(stack: SliceStack) -> tuple[int, int]:
    edges_mm = np.linalg.norm(stack.pixel_to_ras(0)[:3, :2], axis=0)
    edges_mm = edges_mm * (stack.width, stack.height)
    width, height = np.maximum(1, np.rint(edges_mm * (EDGE / edges_mm.max()))).astype(int)
    return int(width), int(height)


def _draw_boxes(
    canvas: Image.Image,
    stack: SliceStack,
    boxes: Sequence[tuple[str, SliceBox]],
    colours: dict[str, tuple[int, int, int]],
) -> None:
    draw = ImageDraw.Draw(canvas)
    scale = (canvas.width / stack.width, canvas.height / stack.height) * 2
    for label, box in boxes:
        x0, y0, x1, y1 = np.rint(np.multiply(box.box_pixel, scale)).astype(int).tolist()
        corner = max(x0, x1 - 1), max(y0, y1 - 1)
        draw.rectangle((x0, y0, *corner), outline=colours[label], width=_LINE)
        top = y0 - 16 if y0 >= 16 else y0 + 2
        draw.text((x0 + 2, top), label, colours[label], _FONT, stroke_width=1, stroke_fill="black")


def _boxes_on(findings: Sequence[Finding], index: int) -> list[tuple[str, SliceBox]]:
    return [(f.label, box) for f in findings for box in f.boxes if box.slice == index]
