"""How well objects are found in volumes: 3D IoU of findings, and recall of boxes slice by slice.

    python benchmarks/volume_iou.py VOLUMES/ --split SA-Med2D/ --json volumes.json
    python benchmarks/volume_iou.py scan.nii.gz labels.nii.gz --classes '{"5": "liver"}'

VOLUMES is a folder with an index, see `volume_folder.py`; `--classes` is a JSON object or a file
with one, label values to names. Labels that the model does not know are left out and listed. The
best finding of each label is compared in 3D; a label that is absent from the label map should have
none. On a slice an object counts as found if any box has an IoU above 0.5 with the box around all
of it. `--split` tells the volumes whose patients the training saw from those that are new to it.

With `--spacing` slices closer than that are thinned out before asking, the label map is not: faster
where slices are thin, at the price of up to half a step at either end of an object.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from volume_folder import INDEX, LabelledVolume, read_classes, read_index, training_cases

from bird_vlm.boxes import iou, mask_to_box_pixel
from bird_vlm.console import console, plain_errors, progress
from bird_vlm.contract import Finding, GroundingRequest, GroundingResult
from bird_vlm.engine import Engine, load_engine
from bird_vlm.errors import BadRequestError, BadVolumeError
from bird_vlm.labels import natural_name, without_side
from bird_vlm.slices import slice_stack
from bird_vlm.volume import grounding_events
from bird_vlm.volumes import Volume, read_volume

Box = tuple[np.ndarray, np.ndarray]  # low and high corner, continuous IJK
MIN_IOU = 0.5
LEFT_OUT = ("mr_brain_oasis",)  # bird-mini trains on it


@dataclass(frozen=True)
class LabelScore:
    """How one object of one volume was found."""

    label: str
    trained: bool  # the model knows the object from this modality
    iou_3d: float | None  # None where neither the label map nor the model has the object
    found: int  # slices with a box that fits
    slices: int  # slices asked that show the object
    elsewhere: int  # slices asked that do not show it and got a box


@dataclass(frozen=True)
class VolumeScore:
    """All of one volume."""

    volume: str
    modality: str
    seen: bool | None  # the training had this patient; None where nobody knows
    plane: str
    slices: int  # asked
    step: int  # of the volume's own slices
    seconds: float
    scores: tuple[LabelScore, ...]
    unknown: tuple[str, ...]  # labels that the model does not know


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


def thinned(volume: Volume, plane: str, spacing_mm: float) -> tuple[Volume, int]:
    """Every n-th slice of a volume, none closer than `spacing_mm` (as far as it goes), and n."""
    stack = slice_stack(volume.geometry(), plane)
    step = max(1, int(spacing_mm / stack.spacing_mm + 0.01))
    first = min(step // 2, stack.count - 1)
    kept = [slice(None)] * 3
    kept[stack.slice_axis] = slice(first, None, step)
    to_whole = np.eye(4)
    to_whole[stack.slice_axis, stack.slice_axis] = step
    to_whole[stack.slice_axis, 3] = first
    return Volume(volume.array[tuple(kept)], volume.ijk_to_ras @ to_whole), step


def grounded(engine: Engine, volume: Volume, request: GroundingRequest) -> GroundingResult:
    with progress("asking slices") as show:
        for event in grounding_events(engine, volume, request):
            if isinstance(event, GroundingResult):
                return event
            show(event.done, event.total)
    raise AssertionError("the last event of grounding is its result")


def iou_3d(findings: Sequence[Finding], mask: np.ndarray, ijk_to_ras: np.ndarray) -> float | None:
    """IoU of the best finding's box with the mask's; None where there is neither."""
    if not findings or not mask.any():
        return 0.0 if findings or mask.any() else None
    return box_iou(finding_box_ijk(findings[0], ijk_to_ras), label_box_ijk(mask))


def slice_counts(
    findings: Sequence[Finding], mask: np.ndarray, asked: Volume, plane: str
) -> tuple[int, int, int]:
    """(found, slices with the object, slices without it that got a box); mask on asked slices."""
    stack = slice_stack(asked.geometry(), plane)
    found = shown = elsewhere = 0
    for index in range(stack.count):
        boxes = [box.box_pixel for f in findings for box in f.boxes if box.slice == index]
        target = mask_to_box_pixel(stack.cut(mask, index))
        if target is None:
            elsewhere += bool(boxes)
            continue
        shown += 1
        found += any(iou(box, target) > MIN_IOU for box in boxes)
    return found, shown, elsewhere


def measure(
    engine: Engine,
    item: LabelledVolume,
    plane: str,
    spacing_mm: float = 0.0,
    text: Sequence[str] = (),
    seen: bool | None = None,
) -> VolumeScore:
    """Ask for all objects of a volume that the model knows, or for those in `text` alone."""
    started = time.perf_counter()
    volume, label_map = read_volume(item.image), read_volume(item.labels)
    if volume.array.shape != label_map.array.shape:
        raise BadVolumeError(f"{item.labels}: has another shape than {item.image}")
    masks = item.masks(label_map.array)
    only = {natural_name(name) for name in text}
    wanted = [label for label in masks if not only or label in only]
    known = _with_sideless(engine.card.known_labels)
    asked = [label for label in wanted if label in known]
    trained = _with_sideless(engine.card.labels.get(item.modality, ()))
    fewer, step = thinned(volume, plane, spacing_mm)
    scores = []
    if asked:
        result = grounded(engine, fewer, GroundingRequest(tuple(asked), plane=plane))
        for label in asked:
            findings = [f for f in result.findings if f.label == label]
            on_slices, _ = thinned(Volume(masks[label], volume.ijk_to_ras), plane, spacing_mm)
            found, shown, elsewhere = slice_counts(findings, on_slices.array, fewer, plane)
            whole = iou_3d(findings, masks[label], volume.ijk_to_ras)
            scores.append(LabelScore(label, label in trained, whole, found, shown, elsewhere))
    return VolumeScore(
        volume=item.name,
        modality=item.modality,
        seen=seen,
        plane=plane,
        slices=slice_stack(fewer.geometry(), plane).count if asked else 0,
        step=step,
        seconds=round(time.perf_counter() - started, 1),
        scores=tuple(scores),
        unknown=tuple(label for label in wanted if label not in known),
    )


def _with_sideless(labels: Iterable[str]) -> set[str]:
    return {*labels, *map(without_side, labels)}


def summary(scores: Sequence[VolumeScore]) -> dict[str, dict[str, float | int | None]]:
    """Means over the objects that the label maps show: all, and two parts of them.

    "trained": those that the model knows from this modality; "unseen": of these, those of patients
    that the training certainly did not have.
    """
    told = [(volume, s) for volume in scores for s in volume.scores if s.slices]
    trained = [(volume, s) for volume, s in told if s.trained]
    unseen = [s for volume, s in trained if volume.seen is False]
    return {
        "all": _means([s for _, s in told]),
        "trained": _means([s for _, s in trained]),
        "unseen": _means(unseen),
    }


def _means(scores: Sequence[LabelScore]) -> dict[str, float | int | None]:
    return {
        "objects": len(scores),
        "iou_3d": _mean([s.iou_3d for s in scores]),
        "slice_recall": _mean([s.found / s.slices for s in scores]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def print_table(score: VolumeScore) -> None:
    patient = {True: ", patient in the training", False: ", new patient", None: ""}[score.seen]
    title = f"{score.volume}{patient}, {score.slices} {score.plane} slices, {score.seconds:.0f} s"
    table = Table("label", "3D IoU", "slices found", "boxes elsewhere", title=title)
    for s in score.scores:
        name = s.label if s.trained else f"{s.label} *"
        whole = "-" if s.iou_3d is None else f"{s.iou_3d:.2f}"
        table.add_row(name, whole, f"{s.found}/{s.slices}", str(s.elsewhere))
    if score.scores:
        Console().print(table)
    if any(not s.trained for s in score.scores):
        console.print(f"* not in the training on {score.modality or 'this modality'}")
    if score.unknown:
        console.print(f"{score.volume}: unknown to the model: {', '.join(score.unknown)}")


def _items(given: argparse.Namespace) -> list[LabelledVolume]:
    if (given.volume / INDEX).is_file():
        return read_index(given.volume, given.only, given.leave_out or LEFT_OUT)
    if given.labels is None or given.classes is None:
        raise BadRequestError(f"labels: give a label map and --classes, or a folder with {INDEX}")
    classes = read_classes(given.classes)
    return [LabelledVolume(given.volume, given.labels, given.modality, classes)]


@plain_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("volume", type=Path, help=f"a volume, or a folder with {INDEX}")
    parser.add_argument("labels", type=Path, nargs="?", help="label map of one volume")
    parser.add_argument("--classes", help="of one volume; JSON, or a file: value -> name")
    parser.add_argument("--modality", default="", help="of one volume")
    parser.add_argument("--text", action="append", default=[], help="only these; repeat")
    parser.add_argument("--plane", default="axial")
    parser.add_argument("--spacing", type=float, default=0.0, help="mm; 0 asks every slice")
    parser.add_argument("--leave-out", action="append", help=f"volumes ({', '.join(LEFT_OUT)})")
    parser.add_argument("--only", action="append", default=[], help="volumes of the folder")
    parser.add_argument("--split", type=Path, help="SA-Med2D folder that the model was trained on")
    parser.add_argument("--test-fraction", type=float, default=0.15, help="that was held out of it")
    parser.add_argument("--model", default="bird-mini")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    given = parser.parse_args()
    items = _items(given)
    objects = set().union(*(item.objects for item in items))
    if absent := [text for text in given.text if natural_name(text) not in objects]:
        raise BadRequestError(f"text: {', '.join(absent)} not among the classes")
    cases = training_cases(given.split, given.test_fraction) if given.split else None
    engine = load_engine(given.model)
    scores = []
    for item in items:
        seen = None if cases is None else item.is_among(cases)
        scores.append(measure(engine, item, given.plane, given.spacing, given.text, seen))
        print_table(scores[-1])
    total = summary(scores)
    Console().print_json(json.dumps(total))
    if given.json:
        report = {"model": engine.card.id, "summary": total, "volumes": list(map(asdict, scores))}
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
