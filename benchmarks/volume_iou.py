"""3D IoU of findings with the boxes of a label map, label by label.

    python benchmarks/volume_iou.py scan.nii.gz labels.nii.gz --classes '{"5": "liver"}'

`--classes` is a JSON object or a file with one, label values to names. The best finding of each
label is compared; a label that is absent from the label map should have none.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bird_vlm.console import console, plain_errors, progress
from bird_vlm.contract import Finding, GroundingRequest, GroundingResult
from bird_vlm.engine import Engine
from bird_vlm.errors import BadRequestError, BadVolumeError
from bird_vlm.labels import natural_name, without_side
from bird_vlm.volume import grounding_events
from bird_vlm.volumes import Volume, read_volume

Box = tuple[np.ndarray, np.ndarray]  # low and high corner, continuous IJK


def label_box_ijk(mask: np.ndarray) -> Box:
    """The outer faces of the voxels of a mask that is not empty."""
    inside = np.argwhere(mask)
    return inside.min(0) - 0.5, inside.max(0) + 0.5


def finding_box_ijk(finding: Finding, ijk_to_ras: np.ndarray) -> Box:
    """A finding's ROI, which lies along the volume's axes, in voxels."""
    axes, half = np.array(finding.roi.axes_ras), np.array(finding.roi.size_mm) / 2
    signs = np.array([[(i >> n & 1) * 2 - 1 for n in range(3)] for i in range(8)])
    corners_ras = np.array(finding.roi.center_ras) + (signs * half) @ axes.T
    corners_ijk = np.c_[corners_ras, np.ones(8)] @ np.linalg.inv(ijk_to_ras).T
    return corners_ijk[:, :3].min(0), corners_ijk[:, :3].max(0)


def box_iou(first: Box, second: Box) -> float:
    overlap = np.clip(np.minimum(first[1], second[1]) - np.maximum(first[0], second[0]), 0, None)
    volumes = [np.prod(high - low) for low, high in (first, second)]
    return float(overlap.prod() / (sum(volumes) - overlap.prod()))


def grounded(engine: Engine, volume: Volume, request: GroundingRequest) -> GroundingResult:
    with progress("asking slices") as show:
        for event in grounding_events(engine, volume, request):
            if isinstance(event, GroundingResult):
                return event
            show(event.done, event.total)
    raise AssertionError("the last event of grounding is its result")


def measure(
    volume: Volume, labels: np.ndarray, classes: dict[int, str], result: GroundingResult
) -> dict[str, float | None]:
    """IoU by label as the result has it; None where neither shows the object."""
    names = {natural_name(name): value for value, name in classes.items()}
    ious: dict[str, float | None] = {}
    for label in (*dict.fromkeys(f.label for f in result.findings), *result.absent):
        best = next((f for f in result.findings if f.label == label), None)
        mask = labels == names[natural_name(label)]
        if best is None or not mask.any():
            ious[label] = 0.0 if best or mask.any() else None
            continue
        ious[label] = box_iou(finding_box_ijk(best, volume.ijk_to_ras), label_box_ijk(mask))
    return ious


@plain_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("volume", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--classes", required=True, help="JSON, or a file: value -> name")
    parser.add_argument("--text", action="append", help="only these; repeat (all known ones)")
    parser.add_argument("--plane", default="axial")
    parser.add_argument("--model", default="bird-mini")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    given = parser.parse_args()
    inline = given.classes.lstrip().startswith("{")
    classes = json.loads(given.classes if inline else Path(given.classes).read_text())
    classes = {int(value): name for value, name in classes.items()}
    engine = Engine.load(given.model)
    known = engine.card.known_labels | {without_side(name) for name in engine.card.known_labels}
    text = given.text or [name for name in classes.values() if natural_name(name) in known]
    unknown = [x for x in text if natural_name(x) not in map(natural_name, classes.values())]
    if unknown:
        raise BadRequestError(f"text: {', '.join(unknown)} not among the classes")
    volume, labels = read_volume(given.volume), read_volume(given.labels)
    if volume.array.shape != labels.array.shape:
        raise BadVolumeError(f"{given.labels}: has another shape than {given.volume}")
    result = grounded(engine, volume, GroundingRequest(tuple(text), plane=given.plane))
    ious = measure(volume, labels.array, classes, result)
    table = Table("label", "3D IoU", title=f"{given.volume.name}, {given.plane}")
    for label, value in ious.items():
        table.add_row(label, "-" if value is None else f"{value:.2f}")
    Console().print(table)
    console.print(f"encode and answer: {sum(result.timing_s.values()):.1f} s")
    if given.json:
        given.json.write_text(json.dumps(ious, indent=1) + "\n")


if __name__ == "__main__":
    main()
