"""Cases as COCO detection JSON: an image per slice with boxes, an annotation per box.

Format: https://cocodataset.org/#format-data; boxes are x, y, width, height in pixels from the outer
corner of the top-left pixel, as ours. `coco_pictures` makes the pictures that the entries name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from bird_server.review.exports.export_file import ExportFile, export_name
from bird_server.review.records import Case, CaseReport, ReviewedFinding
from bird_vlm.contract import SliceBox
from bird_vlm.labels import natural_name
from bird_vlm.slices import slice_stack
from bird_vlm.volumes import Volume
from bird_vlm.windows import slice_picture

Entry = dict[str, Any]


def coco_file(reports: Sequence[CaseReport]) -> ExportFile:
    """One JSON file. Categories are natural names, so two spellings of a label are one."""
    content = json.dumps(coco(reports), indent=1, allow_nan=False).encode()
    name = export_name(reports[0], ".coco.json") if len(reports) == 1 else "findings.coco.json"
    return ExportFile(name, "application/json", content)


def coco(reports: Sequence[CaseReport]) -> dict[str, Any]:
    """Cases as COCO entries; ids count from 1, and extra keys tell where a box comes from."""
    findings = [(report, finding) for report in reports for finding in report.findings]
    names = sorted({natural_name(finding.content.label) for _, finding in findings})
    categories = {name: number for number, name in enumerate(names, start=1)}
    images: dict[tuple[str, str, int], Entry] = {}
    annotations: list[Entry] = []
    for report, finding in findings:
        for box in finding.content.boxes:
            key = finding.case.volume_digest, finding.plane, box.slice
            image = images.setdefault(key, _image(len(images) + 1, report, finding, box.slice))
            category = categories[natural_name(finding.content.label)]
            annotations.append(_annotation(len(annotations) + 1, image, category, finding, box))
    return {
        "info": {
            "description": "BiRD review",
            "date_created": max((r.time for r in reports), default=""),
        },
        "images": list(images.values()),
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
        "annotations": annotations,
    }


def coco_pictures(
    case: Case, volume: Volume, entries: dict[str, Any]
) -> Iterator[tuple[str, Image.Image]]:
    """File name and picture of every image entry of one case, in the window the model saw."""
    for entry in entries["images"]:
        if entry["volume_digest"] == case.volume_digest:
            stack = slice_stack(case.geometry, entry["plane"])
            window = tuple(entry["window"]) if entry["window"] else None
            picture = slice_picture(volume, stack, entry["slice"], window)
            yield entry["file_name"], Image.fromarray(picture)


def _image(number: int, report: CaseReport, finding: ReviewedFinding, index: int) -> Entry:
    stack = slice_stack(finding.case.geometry, finding.plane)
    return {
        "id": number,
        "file_name": export_name(report, f"_{finding.plane}_{index:04d}.png"),
        "width": stack.width,
        "height": stack.height,
        "volume_digest": finding.case.volume_digest,
        "plane": finding.plane,
        "slice": index,
        "window": finding.window,
    }


def _annotation(
    number: int, image: Entry, category: int, finding: ReviewedFinding, box: SliceBox
) -> Entry:
    x0, y0, x1, y1 = box.box_pixel
    return {
        "id": number,
        "image_id": image["id"],
        "category_id": category,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": (x1 - x0) * (y1 - y0),
        "iscrowd": 0,
        "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
        "score": box.score,
        "finding_id": finding.finding_id,
        "status": finding.status,
    }
