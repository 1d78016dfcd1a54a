"""Throughput and peak memory of `medgrit build` on a source, and on ten times as much of it.

    python benchmarks/medgrit_build.py SA-Med2D/ --times 1,10

The larger source is the same pictures under other names, as links. Memory is that of all processes
of a build together (proportional set size, so that shared pages count once), at its peak. Needs
psutil.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from bird_training.sources.reading import stream_object
from bird_training.sources.sa_med2d import CLASSES_FILE, INDEX_FILE
from bird_vlm.console import plain_errors
from bird_vlm.errors import BirdError
from bird_vlm.outputs import write_json

_EVERY_S = 0.2
_BUILD = """
import sys
from pathlib import Path
from bird_training.building.build import build
from bird_training.building.settings import BuildSettings
from bird_vlm.console import plain_errors, progress
if __name__ == "__main__":
    source, out, workers, engine = sys.argv[1:]
    plain_errors(lambda: build(BuildSettings(Path(source)), Path(out), progress,
                               workers=int(workers), engine=engine))()
"""


@dataclass(frozen=True)
class Measured:
    """One build."""

    times: int  # as much as the source has
    pictures: int
    seconds: float
    peak_mb: float  # of all processes together
    peak_main_mb: float  # of the first one

    @property
    def rate(self) -> float:
        return self.pictures / self.seconds


def main(
    source: Annotated[Path, typer.Argument(help="A folder in the SA-Med2D-20M layout.")],
    times: Annotated[str, typer.Option(help="Sizes, as multiples of the source.")] = "1,10",
    workers: Annotated[int, typer.Option(min=1)] = os.cpu_count() or 1,
    engine: Annotated[str, typer.Option(help="local or ray.")] = "local",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the numbers here.")
    ] = None,
) -> None:
    """Build SOURCE once per size and print pictures per second and peak memory."""
    measured = []
    for count in map(int, times.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            copies = multiply(source.resolve(), Path(folder) / "source", count)
            measured.append(measure(copies, Path(folder) / "out", count, workers, engine))
    Console().print(table(measured, workers))
    if json_file:
        write_json(json_file, {"workers": workers, "builds": [vars(m) for m in measured]})


def multiply(source: Path, target: Path, count: int) -> Path:
    """A folder with each picture of `source` under `count` names, of as many patients."""
    for name in ("images", "masks"):
        (target / name).mkdir(parents=True)
    (target / CLASSES_FILE).symlink_to(source / CLASSES_FILE)
    with (target / INDEX_FILE).open("w", encoding="utf-8") as index:
        index.write("{\n")
        separator = ""
        for image, masks in stream_object(source / INDEX_FILE):
            for copy in range(count):
                names = {name: _renamed(name, copy) for name in (image, *masks)}
                for old, new in names.items():
                    (target / new).symlink_to(source / old)
                told = json.dumps([names[mask] for mask in masks])
                index.write(f"{separator}{json.dumps(names[image])}: {told}")
                separator = ",\n"
        index.write("\n}\n")
    return target


def _renamed(name: str, copy: int) -> str:
    """Of another patient: a copy number before the case."""
    parts = name.split("--")
    return "--".join([*parts[:2], f"copy{copy}-{parts[2]}", *parts[3:]])


def measure(source: Path, out: Path, times: int, workers: int, engine: str) -> Measured:
    """Builds in a process of its own and watches it."""
    script = source.parent / "build_once.py"
    script.write_text(_BUILD, encoding="utf-8")
    command = [sys.executable, str(script), str(source), str(out), str(workers), engine]
    start = time.monotonic()
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    peak = peak_main = 0.0
    while running.poll() is None:
        main_mb, all_mb = _memory_mb(running.pid)
        peak, peak_main = max(peak, all_mb), max(peak_main, main_mb)
        time.sleep(_EVERY_S)
    seconds = time.monotonic() - start
    if running.returncode:
        raise BirdError(f"the build ended with {running.returncode}; run it by hand: {command}")
    report = json.loads((out / "build.json").read_text(encoding="utf-8"))
    return Measured(times, report["taken"], seconds, peak, peak_main)


def _memory_mb(pid: int) -> tuple[float, float]:
    """(the process itself, it and all below it)."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0, 0.0
    sizes = [_size_mb(process) for process in family]
    return sizes[0], sum(sizes)


def _size_mb(process: psutil.Process) -> float:
    try:
        memory = process.memory_full_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0
    return getattr(memory, "pss", memory.rss) / 1e6


def table(measured: list[Measured], workers: int) -> Table:
    shown = Table(title=f"medgrit build, {workers} workers")
    for column in (
        "input",
        "pictures",
        "pictures/s",
        "peak memory",
        "of the main process",
        "ratio",
    ):
        shown.add_column(column, justify="right")
    for build in measured:
        shown.add_row(
            f"{build.times}x",
            f"{build.pictures:,}",
            f"{build.rate:.0f}",
            f"{build.peak_mb:.0f} MB",
            f"{build.peak_main_mb:.0f} MB",
            f"{build.peak_mb / measured[0].peak_mb:.2f}",
        )
    return shown


if __name__ == "__main__":
    typer.run(plain_errors(main))
