"""Whether the fast ways give the answers of the slow ones, on whole volumes.

    python benchmarks/same_answers.py VOLUMES/ --only mr_brain_pat0001_flair,ct_pulmonary
    python benchmarks/same_answers.py scan.nii.gz --labels "liver,spleen"

For every slice and label: the text of the plain way, each answer decoded whole by `generate`,
against that of the product. Where they differ the margin is told: by how much the plain way likes
its own token better than ours at the first place that differs, in logits. A margin near nothing is
a tie, which the rounding of batches decides; a large one stands where ours keeps to the language of
boxes and the plain way does not. For every label: the findings of the coarse search against those
of all slices. Objects are those of the folder's `volumes.json` that the model knows, or `--labels`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from volume_folder import INDEX, read_index
from volume_grounding import Bench, Difference, differences, overlaps

from bird_vlm.catalogue.names import model_path
from bird_vlm.console import plain_errors, progress
from bird_vlm.contract import GroundingRequest
from bird_vlm.engine import load_engine
from bird_vlm.errors import BirdError
from bird_vlm.outputs import write_json
from bird_vlm.plain import PlainEngine
from bird_vlm.prompts import grounding_prompt
from bird_vlm.running import Running
from bird_vlm.volumes import read_volume

THICK_MM = 12.0  # findings at least this thick are those that a coarse search promises


@dataclass
class Comparison:
    """What came out for one volume."""

    volume: str
    slices: int
    labels: int
    different: list[str] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)  # share of the slices, by label
    roi_iou: list[float] = field(default_factory=list)  # of findings at least 12 mm thick
    thin_iou: list[float] = field(default_factory=list)  # of the others

    @property
    def pairs(self) -> int:
        return self.slices * self.labels


def compare(bench: Bench, name: str) -> Comparison:
    found = Comparison(name, bench.stack.count, len(bench.labels))
    for label in bench.labels:
        with progress(f"{name}: {label}") as show:
            plain = bench.plainly(label, show)
        for difference in differences(bench.answers(label), plain):
            margin = margin_of(bench, label, difference)
            found.different.append(f"{name}, {label}, {difference}, margin {margin:.4f}")
        _, every = bench.ours(GroundingRequest((label,)), fresh=False)
        _, coarse = bench.ours(GroundingRequest((label,), search="coarse-to-fine"), fresh=False)
        found.asked.append(round(coarse.asked / bench.stack.count, 3))
        for finding, overlap in zip(every.findings, overlaps(every, coarse), strict=True):
            slices = finding.slices[1] - finding.slices[0] + 1
            thick = slices * bench.stack.spacing_mm >= THICK_MM
            (found.roi_iou if thick else found.thin_iou).append(round(overlap, 3))
    return found


@torch.inference_mode()
def margin_of(bench: Bench, label: str, difference: Difference) -> float:
    """Logits between the two tokens at the first place where two answers differ."""
    plain, words = bench.plain, bench.plain.grounder.words
    ours, theirs = ([*words.ids(text), words.end] for text in (difference.ours, difference.plainly))
    pairs = zip(ours, theirs, strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    prefix, after = plain.processor.around_question()
    ids = [*prefix, *words.ids(grounding_prompt(label) + after), *ours[:same]]
    logits = plain.model(
        input_ids=torch.tensor([ids], device=plain.device),
        image_embeds=plain.encode(bench.pictures([difference.slice])),
        logits_to_keep=1,
    ).logits[0, -1]
    return float(logits[theirs[same]] - logits[ours[same]])


def volumes(
    path: Path, only: Sequence[str], labels: Sequence[str], known: set[str]
) -> Iterator[tuple[Path, list[str]]]:
    """Files, and what to ask about each."""
    if not (path / INDEX).is_file():
        yield path, list(labels)
        return
    for volume in read_index(path, only):
        yield volume.image, sorted(set(labels) or volume.objects & known)


def print_table(comparisons: Sequence[Comparison]) -> None:
    table = Table("volume", "slices", "labels", "texts", "differ", "coarse asks")
    for heading in ("findings", "3D IoU", ">= 0.95"):
        table.add_column(heading)
    for found in comparisons:
        table.add_row(
            *(found.volume, str(found.slices), str(found.labels), str(found.pairs)),
            *(str(len(found.different)), f"{max(found.asked, default=0):.0%}"),
            *_of_findings(found.roi_iou),
        )
    every = [overlap for found in comparisons for overlap in found.roi_iou]
    table.add_section()
    texts = (sum(found.pairs for found in comparisons), sum(len(f.different) for f in comparisons))
    table.add_row("all", "", "", *map(str, texts), "", *_of_findings(every))
    terminal = Console()
    terminal.print(table)
    for found in comparisons:
        terminal.print(*found.different, sep="\n", markup=False)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _of_findings(overlaps_3d: Sequence[float]) -> tuple[str, str, str]:
    if not overlaps_3d:
        return "0", "-", "-"
    alike = sum(overlap >= 0.95 for overlap in overlaps_3d)
    return str(len(overlaps_3d)), f"{sum(overlaps_3d) / len(overlaps_3d):.3f}", str(alike)


@plain_errors
def main(
    volume: Annotated[Path, typer.Argument(help=f"A scan, or a folder with a {INDEX}.")],
    labels: Annotated[str, typer.Option(help="With commas; else the folder's own.")] = "",
    only: Annotated[str, typer.Option(help="Volumes of the folder, with commas.")] = "",
    model: Annotated[str, typer.Option(help="A shipped model or a folder.")] = "bird-mini",
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None,
    precision: Annotated[str, typer.Option(help="Of both ways.")] = "auto",
    json: Annotated[Path | None, typer.Option(help="Write the numbers here.")] = None,
) -> None:
    """Compare answers of the plain way, of the product, and of its coarse search."""
    running = Running(device, precision)
    engine = load_engine(model, running)
    plain = PlainEngine.load(model_path(model), running)
    named, picked = _words(labels), _words(only)
    comparisons = [
        compare(Bench(engine, plain, read_volume(path), asked), path.name.split(".")[0])
        for path, asked in volumes(volume, picked, named, engine.card.known_labels)
        if asked
    ]
    if not comparisons:
        raise BirdError("labels: nothing to ask for; give --labels")
    print_table(comparisons)
    if json:
        write_json(json, {"volumes": [asdict(found) for found in comparisons]})


if __name__ == "__main__":
    typer.run(main)
