"""What a question about a whole volume costs: the plain way and ours, in one run.

    python benchmarks/volume_grounding.py scan.nii.gz --labels "liver,spleen" --json grounding.json
    python benchmarks/volume_grounding.py scan.nii.gz --labels "liver,spleen" --random-weights full

(a) the plain way, as the original evaluation does it: one slice at a time, encoded anew for each
question, the whole answer decoded by `generate`; (b) our first question; (c) a second one about the
same volume; (d) ten labels at once, of a volume that is new; (e) coarse to fine, new; (f) how long
the first box on the slice in view takes. Answers of (a) and (b) are compared, text by text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer
from random_model import random_engines
from rich.console import Console
from rich.table import Table

from bird_vlm.answers import PictureAnswer
from bird_vlm.backbones.bird import BirdEngine
from bird_vlm.catalogue.names import model_path
from bird_vlm.console import plain_errors, progress
from bird_vlm.contract import Finding, GroundingRequest, GroundingResult, Progress
from bird_vlm.engine import Engine, load_engine
from bird_vlm.errors import BirdError
from bird_vlm.outputs import write_json
from bird_vlm.plain import PlainEngine
from bird_vlm.running import Running
from bird_vlm.slice_features import SliceFeatures
from bird_vlm.slices import SliceStack, slice_stack
from bird_vlm.tensor_cache import TensorCache
from bird_vlm.volume import grounding_events
from bird_vlm.volumes import Volume, read_volume
from bird_vlm.windows import automatic_window, slice_picture

TEN = 10
WARM_UP_SLICES = 4


@dataclass(frozen=True)
class Row:
    """One way to ask."""

    name: str
    labels: int
    seconds: float
    pairs: int  # slices times labels that were asked
    factor: float = 1.0  # how many times faster per label than (a)


@dataclass
class Report:
    """What the benchmark says."""

    model: str
    device: str
    precision: str
    threads: int
    slices: int
    rows: list[Row] = field(default_factory=list)
    first_box_s: float | None = None  # warm, on the slice in view; None where it shows nothing
    answers: int = 0  # compared between (a) and (b)
    different: list[str] = field(default_factory=list)
    roi_iou: list[float] = field(default_factory=list)  # of findings, (e) against all slices


class Bench:
    """One engine, one volume."""

    def __init__(
        self, engine: Engine, plain: PlainEngine, volume: Volume, labels: Sequence[str]
    ) -> None:
        self.engine, self.plain = engine, plain
        self.volume, self.labels = volume, list(labels)
        self.stack: SliceStack = slice_stack(volume.geometry(), "axial")
        self.window = automatic_window(volume)

    def warm_up(self) -> None:
        for slices in (slice(0, WARM_UP_SLICES), slice(0, 1)):
            pictures = self.pictures(range(self.stack.count)[slices])
            self.engine.ground(self.engine.encode(pictures), self.labels[:1])
            self.plain.ground(self.plain.encode(pictures[:1]), self.labels[:1])

    def plainly(self, label: str, show: Callable[[int, int], None]) -> list[PictureAnswer]:
        answers = []
        for index in range(self.stack.count):
            features = self.plain.encode(self.pictures([index]))
            [[answer]] = self.plain.ground(features, [label])
            answers.append(answer)
            show(index + 1, self.stack.count)
        return answers

    def ours(self, request: GroundingRequest, fresh: bool) -> tuple[float, GroundingResult]:
        """Seconds and result; `fresh` forgets what was encoded before."""
        if fresh:
            self.forget()
        started = time.perf_counter()
        *_, result = grounding_events(self.engine, self.volume, request)
        return time.perf_counter() - started, result

    def first_box_s(self, label: str, index: int) -> float | None:
        """Until the first box on slice `index`, of a volume that is new; None without a box."""
        self.forget()
        request = GroundingRequest(labels=(label,), near=index)
        started = time.perf_counter()
        event = next(iter(grounding_events(self.engine, self.volume, request)))
        seconds = time.perf_counter() - started
        return seconds if isinstance(event, Progress) and event.boxes else None

    def answers(self, label: str) -> list[PictureAnswer]:
        """Of our way on every slice."""
        features = SliceFeatures(self.engine, self.volume, self.stack, self.window)
        shown = features.of(range(self.stack.count))
        return [row[0] for row in self.engine.ground(shown, [label])]

    def forget(self) -> None:
        self.engine.features = TensorCache()
        self.engine.grounder.memories = TensorCache()

    def pictures(self, indices: Sequence[int]) -> list[np.ndarray]:
        return [slice_picture(self.volume, self.stack, k, self.window) for k in indices]


def measure(bench: Bench, repeats: int) -> Report:
    """All ways, one after the other; of ours the median of `repeats`."""
    card, labels = bench.engine.card, bench.labels
    precision = str(bench.engine.model.dtype).removeprefix("torch.")
    report = Report(card.id, card.device, precision, torch.get_num_threads(), bench.stack.count)
    bench.warm_up()
    with progress("one slice at a time") as show:
        started = time.perf_counter()
        plain = bench.plainly(labels[0], show)
        alone_s = time.perf_counter() - started
    report.rows.append(Row("(a) one slice at a time", 1, alone_s, bench.stack.count))

    def add(name: str, asked: Sequence[str], fresh: bool, **options) -> GroundingResult:
        request = GroundingRequest(labels=tuple(asked), **options)
        runs = [bench.ours(request, fresh) for _ in range(repeats)]
        seconds = median(run[0] for run in runs)
        factor = alone_s / (seconds / len(asked))
        report.rows.append(Row(name, len(asked), seconds, runs[0][1].asked, factor))
        return runs[0][1]

    every = add("(b) first question", labels[:1], fresh=True)
    add("(c) second question", labels[1:2], fresh=False)
    add("(d) ten labels at once", labels[:TEN], fresh=True)
    coarse = add("(e) coarse to fine", labels[:1], fresh=True, search="coarse-to-fine")
    report.first_box_s = _first_box_s(bench, every, repeats)
    report.roi_iou = [round(overlap, 3) for overlap in overlaps(every, coarse)]
    ours = bench.answers(labels[0])
    report.answers = len(ours)
    report.different = list(map(str, differences(ours, plain)))
    return report


def _first_box_s(bench: Bench, found: GroundingResult, repeats: int) -> float | None:
    """On the middle slice of the best finding."""
    if not found.findings:
        return None
    best = found.findings[0]
    index = best.boxes[len(best.boxes) // 2].slice
    times = [bench.first_box_s(best.label, index) for _ in range(repeats)]
    return median(t for t in times if t is not None)


def overlaps(every: GroundingResult, coarse: GroundingResult) -> Iterator[float]:
    """3D IoU of each finding of all slices with the best of the coarse search."""
    for finding in every.findings:
        same = [other for other in coarse.findings if other.label == finding.label]
        yield max((roi_iou(finding, other) for other in same), default=0.0)


def roi_iou(first: Finding, second: Finding) -> float:
    """Of two ROIs of one volume, whose axes are the same."""
    axes = np.array(first.roi.axes_ras)
    sides = [np.array(finding.roi.size_mm) for finding in (first, second)]
    centres = [np.array(finding.roi.center_ras) @ axes for finding in (first, second)]
    low = np.maximum(*(centre - side / 2 for centre, side in zip(centres, sides, strict=True)))
    high = np.minimum(*(centre + side / 2 for centre, side in zip(centres, sides, strict=True)))
    shared = float(np.clip(high - low, 0, None).prod())
    return shared / (float(sides[0].prod()) + float(sides[1].prod()) - shared)


@dataclass(frozen=True)
class Difference:
    """Two texts for one question."""

    slice: int
    ours: str
    plainly: str

    def __str__(self) -> str:
        return f"slice {self.slice}: {self.ours!r}, plainly {self.plainly!r}"


def differences(
    ours: Sequence[PictureAnswer], plain: Sequence[PictureAnswer]
) -> Iterator[Difference]:
    """Where the two ways wrote different texts, and what."""
    for index, (own, other) in enumerate(zip(ours, plain, strict=True)):
        if own.text != other.text:
            yield Difference(index, own.text, other.text)


def print_report(report: Report) -> None:
    where = f"{report.device}, {report.precision}, {report.threads} threads"
    title = f"{report.model}, {report.slices} slices, {where}"
    table = Table("", "labels", "pairs", "seconds", "per label", "factor", title=title)
    for row in report.rows:
        seconds = (f"{row.seconds:.2f}", f"{row.seconds / row.labels:.3f}", f"{row.factor:.1f}x")
        table.add_row(row.name, str(row.labels), str(row.pairs), *seconds)
    terminal = Console()
    terminal.print(table)
    if report.first_box_s is not None:
        terminal.print(f"first box on the slice in view: {report.first_box_s:.3f} s")
    terminal.print(f"{len(report.different)} of {report.answers} texts differ between (a) and (b)")
    terminal.print(*report.different, sep="\n", markup=False)
    terminal.print(f"3D IoU of (e) with all slices, by finding: {report.roi_iou}")


@plain_errors
def main(
    volume: Annotated[Path, typer.Argument(help="A scan.")],
    labels: Annotated[str, typer.Option(help="At least two, with commas; all ten for (d).")],
    model: Annotated[str, typer.Option(help="A shipped model or a folder.")] = "bird-mini",
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None,
    precision: Annotated[str, typer.Option(help="Of our ways; (a) is in 'auto'.")] = "auto",
    random_weights: Annotated[
        str | None, typer.Option(help='A config.json, or "full" for 9.7 billion weights.')
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each of our ways.")] = 3,
    json: Annotated[Path | None, typer.Option(help="Write the numbers here.")] = None,
) -> None:
    """Seconds per question about a whole volume, the plain way and ours."""
    asked = [label.strip() for label in labels.split(",") if label.strip()]
    if len(asked) < 2:
        raise BirdError(f"labels: needs at least two, got {labels!r}")
    running, plainly = Running(device, precision), Running(device)
    if random_weights:
        engine, plain = random_engines(random_weights, running, (BirdEngine, PlainEngine))
    else:
        engine, plain = load_engine(model, running), PlainEngine.load(model_path(model), plainly)
    report = measure(Bench(engine, plain, read_volume(volume), asked), repeats)
    print_report(report)
    if json:
        write_json(json, asdict(report))


if __name__ == "__main__":
    typer.run(main)
