"""Overlay: a result as one picture, a sheet of slices with the boxes drawn on them.

Each finding is shown on its middle slice, in true proportions, with every box of that slice. Knows
nothing about models or how a result came about.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bird_vlm.boxes import iou
from bird_vlm.contract import Finding, GroundingResult, SliceBox
from bird_vlm.slices import SliceStack, slice_stack
from bird_vlm.volumes import Volume
from bird_vlm.windows import Window, automatic_window, slice_picture

SHEET_WIDTH = 1400  # pixels
MAX_PANELS = 12
_MAX_COLUMNS = 3
_MAX_PANEL_HEIGHT = 700
_MARGIN, _STRIP, _CAPTION, _LINE = 12, 84, 34, 3
_CROWD = 3  # boxes on a slice, beyond which only the panel's own finding is tagged
_BACKGROUND, _INK = (24, 26, 30), (235, 235, 235)
_TITLE_FONT, _FONT = ImageFont.load_default(24), ImageFont.load_default(18)


Frame = tuple[int, int, int, int]  # left, top, right, bottom on a panel


@dataclass(frozen=True)
class Panel:
    """One slice of the sheet."""

    index: int
    caption: str
    labels: tuple[str, ...] = ()  # of the findings whose middle this slice is


def save_overlay(path: str | Path, volume: Volume, result: GroundingResult) -> None:
    """Write `result` as a PNG, 1400 pixels wide.

    Shows up to 12 slices: the middle one of each finding, best first, or the middle of the volume
    where nothing was found. `volume` is the one that `result` is about.
    """
    stack = slice_stack(volume.geometry(), result.plane)
    window = result.window or automatic_window(volume)
    colours = label_colours([finding.label for finding in result.findings])
    panels = _panels(result.findings, stack)
    columns = min(_MAX_COLUMNS, max(len(panels), 2))
    size = _panel_size(stack, (SHEET_WIDTH - _MARGIN) // columns - _MARGIN)
    drawn = [_draw_panel(p, volume, stack, window, result, colours, size) for p in panels]
    _sheet(drawn, columns, _title(result), colours).save(path, format="PNG")


def label_colours(labels: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """A bright RGB colour per label, as far apart in hue as the golden ratio puts them."""
    hues = {label: (0.12 + 0.618034 * i) % 1.0 for i, label in enumerate(dict.fromkeys(labels))}
    return {
        label: tuple(round(255 * v) for v in colorsys.hsv_to_rgb(hue, 0.6, 1.0))
        for label, hue in hues.items()
    }


def _panels(findings: Sequence[Finding], stack: SliceStack) -> list[Panel]:
    """Best first; one per slice, though several findings may share their middle slice."""
    if not findings:
        return [Panel(stack.count // 2, "nothing found")]
    by_slice: dict[int, list[Finding]] = {}
    for finding in sorted(findings, key=lambda finding: -finding.score):
        middle = finding.boxes[len(finding.boxes) // 2].slice
        by_slice.setdefault(middle, []).append(finding)
    panels = []
    for index, own in list(by_slice.items())[:MAX_PANELS]:
        names = ", ".join(f"{finding.label} {finding.score:.2f}" for finding in own)
        labels = tuple(finding.label for finding in own)
        panels.append(Panel(index, f"slice {index}: {names}", labels))
    return panels


def _panel_size(stack: SliceStack, width: int) -> tuple[int, int]:
    """(width, height) of a slice in true proportions, at most `width` wide."""
    matrix = stack.pixel_to_ras(0)
    wide = stack.width * np.linalg.norm(matrix[:3, 0])
    high = stack.height * np.linalg.norm(matrix[:3, 1])
    scale = min(width / wide, _MAX_PANEL_HEIGHT / high)
    return max(1, round(wide * scale)), max(1, round(high * scale))


def _draw_panel(
    panel: Panel,
    volume: Volume,
    stack: SliceStack,
    window: Window,
    result: GroundingResult,
    colours: dict[str, tuple[int, int, int]],
    size: tuple[int, int],
) -> Image.Image:
    picture = Image.fromarray(slice_picture(volume, stack, panel.index, window))
    canvas = Image.new("RGB", (size[0], size[1] + _CAPTION), _BACKGROUND)
    canvas.paste(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC))
    draw = ImageDraw.Draw(canvas)
    scale = (size[0] / stack.width, size[1] / stack.height) * 2
    boxes = [
        (label, box, np.round(np.multiply(box.box_pixel, scale)).astype(int).tolist())
        for label, box in _boxes_on(result.findings, panel.index)
    ]
    for label, _, (x0, y0, x1, y1) in boxes:
        corner = max(x0, x1 - 1), max(y0, y1 - 1)
        draw.rectangle((x0, y0, *corner), outline=colours[label], width=_LINE)
    frames, tags = [frame for _, _, frame in boxes], []
    for label, box, frame in boxes:
        if len(boxes) > _CROWD and label not in panel.labels:
            continue
        text = f"{label} {box.score:.2f}"
        tags.append(_tag_place(_tag_size(draw, text), frame, tags, frames, size))
        _draw_tag(draw, text, colours[label], tags[-1])
    draw.text((2, size[1] + 6), _fitting(draw, panel.caption, size[0]), _INK, _FONT)
    if not volume.is_picture:
        draw.text((6, size[1] // 2), stack.edge_marks[0], _INK, _FONT, anchor="lm")
    return canvas


def _boxes_on(findings: Sequence[Finding], index: int) -> list[tuple[str, SliceBox]]:
    return [(f.label, box) for f in findings for box in f.boxes if box.slice == index]


def _tag_size(draw: ImageDraw.ImageDraw, text: str) -> tuple[int, int]:
    left, top, right, bottom = draw.textbbox((0, 0), text, _FONT)
    return ceil(right - left) + 6, ceil(bottom - top) + 6


def _tag_place(
    tag_size: tuple[int, int],
    frame: Frame,
    tags: list[Frame],
    frames: list[Frame],
    size: tuple[int, int],
) -> Frame:
    """A place beside `frame` that covers no earlier tag, and as few frames as can be."""
    (wide, high), (x0, y0, x1, y1) = tag_size, frame
    corners = [(x, y) for y in (y0 - high, y1, y0 - 2 * high, y1 + high) for x in (x0, x1 - wide)]
    within = [(x, y) for x, y in corners if 0 <= x <= size[0] - wide and 0 <= y <= size[1] - high]
    inside = max(0, min(x0, size[0] - wide)), max(0, min(y0, size[1] - high))
    places = [(x, y, x + wide, y + high) for x, y in (*within, inside)]

    def covered(place: Frame) -> tuple[int, int]:
        return sum(iou(place, tag) > 0 for tag in tags), sum(iou(place, f) > 0 for f in frames)

    return min(places, key=covered)


def _draw_tag(
    draw: ImageDraw.ImageDraw, text: str, colour: tuple[int, int, int], place: Frame
) -> None:
    left, top, _, _ = draw.textbbox((0, 0), text, _FONT)
    draw.rectangle(place, fill=colour)
    draw.text((place[0] + 3 - left, place[1] + 3 - top), text, (0, 0, 0), _FONT)


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: int, font=_FONT) -> str:
    """`text`, its end cut where it is too long for the width."""
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "...", font) > width:
        text = text[:-1]
    return text + "..."


def _title(result: GroundingResult) -> str:
    found = f"{len(result.findings)} finding{'' if len(result.findings) == 1 else 's'}"
    absent = f"   |   not found: {', '.join(result.absent)}" if result.absent else ""
    return f"{result.model}   |   {result.plane} slices   |   {found}{absent}"


def _sheet(
    panels: list[Image.Image],
    columns: int,
    title: str,
    colours: dict[str, tuple[int, int, int]],
) -> Image.Image:
    rows = ceil(len(panels) / columns)
    cell = (SHEET_WIDTH - _MARGIN) // columns, panels[0].height + _MARGIN
    sheet = Image.new("RGB", (SHEET_WIDTH, _STRIP + rows * cell[1]), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    fitting = _fitting(draw, title, SHEET_WIDTH - 2 * _MARGIN, _TITLE_FONT)
    draw.text((_MARGIN, 12), fitting, _INK, _TITLE_FONT)
    x = float(_MARGIN)
    for label, colour in colours.items():
        draw.text((x, 50), label, colour, _FONT)
        x += draw.textlength(label, _FONT) + 2 * _MARGIN
    for i, panel in enumerate(panels):
        indent = (cell[0] - panel.width) // 2
        sheet.paste(panel, (i % columns * cell[0] + indent, _STRIP + i // columns * cell[1]))
    return sheet
