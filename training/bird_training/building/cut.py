"""The first step of a build from volumes: each volume -> slices and instance maps, in parallel.

A volume's part is a file of JSON lines, whole or absent: the objects that were looked for, then a
record per slice; or why it was skipped. Knows nothing about plans or questions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bird_training.building.plan import Found, record_from_json, record_to_json
from bird_training.building.stopping import check_stop
from bird_training.released import JsonListFile
from bird_training.sources.reading import Skipped
from bird_training.sources.volumes import VolumeEntry
from bird_vlm.contract import Plane
from bird_vlm.errors import BirdError

_ENTRIES = "volumes.jsonl"
CUTS = "cuts"
_MAPS = "maps"


@dataclass(frozen=True)
class CutTask:
    """Everything a worker must know; it can be sent to another process or machine."""

    work: Path
    images: Path
    planes: tuple[Plane, ...]
    step: int | None
    window: str | None = None

    def __call__(self, number: int) -> None:
        """Cuts volume `number` unless that is done."""
        from bird_training.sources.cutting import cut_volume

        part = _part(self.work, number)
        if part.exists():
            return
        check_stop()
        entry = _read_entry(self.work, number)
        with JsonListFile(part, lines=True) as lines:
            if isinstance(entry, Skipped):
                lines.add({"skipped": [entry.name, entry.reason]})
                return
            maps = self.work / _MAPS
            try:
                how = {"planes": self.planes, "step": self.step, "window": self.window}
                records, names = cut_volume(entry, self.images, maps, **how)
            except BirdError as error:
                lines.add({"skipped": [entry.stem, " ".join(str(error).split())]})
                return
            lines.add({"annotated": names})
            for record in records:
                lines.add({"record": record_to_json(record)})


def write_entries(work: Path, entries: Iterable[VolumeEntry | Skipped]) -> int:
    """What is to be cut, for the workers; returns how many volumes there are."""
    for name in (CUTS, _MAPS):
        (work / name).mkdir(exist_ok=True)
    with JsonListFile(work / _ENTRIES, lines=True) as lines:
        for entry in entries:
            told = asdict(entry)
            paths = {key: str(told[key]) for key in ("image", "labels") if key in told}
            lines.add(told | paths)
    return lines.count


def cut_records(work: Path, volumes: Iterable[int]) -> Iterator[Found]:
    """The slices of these volumes, one by one."""
    for number in volumes:
        annotated: tuple[str, ...] = ()
        with _part(work, number).open(encoding="utf-8") as lines:
            for line in lines:
                told = json.loads(line)
                if "skipped" in told:
                    yield Skipped(*told["skipped"])
                elif "annotated" in told:
                    annotated = tuple(told["annotated"])
                else:
                    yield record_from_json(told["record"]), annotated


def _part(work: Path, number: int) -> Path:
    return work / CUTS / f"{number:06d}.jsonl"


def _read_entry(work: Path, number: int) -> VolumeEntry | Skipped:
    with (work / _ENTRIES).open(encoding="utf-8") as lines:
        told = json.loads(next(line for row, line in enumerate(lines) if row == number))
    if "reason" in told:
        return Skipped(**told)
    paths = {key: Path(told[key]) for key in ("image", "labels")}
    classes = tuple((value, name) for value, name in told["classes"])
    return VolumeEntry(**told | paths | {"classes": classes})
