"""A source folder for builds: patients who look different, with objects that are known."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from bird_training.building.build import build
from bird_training.building.settings import BuildSettings
from bird_training.sources.sa_med2d import INDEX_FILE
from bird_training.writers.options import WriterOptions
from bird_vlm.boxes import pixel_to_norm
from scripted_llm import ScriptedLlm
from small_world import CLASSES, SIZE, Drawn, write_sa_med2d

TASK_FILES = ("VG", "ROC", "RC", "MIA")
REAL_BUILD = """
import sys
from pathlib import Path
from bird_training.building.build import build
from bird_training.building.settings import BuildSettings
from bird_vlm.console import plain_errors, progress
if __name__ == "__main__":
    source, out, engine = sys.argv[1:]
    run = plain_errors(lambda: build(BuildSettings(Path(source)), Path(out), progress,
                                     engine=engine, workers=2))
    run()
"""


def patients(count: int, slices: int = 2) -> list[Drawn]:
    """CT with a liver and one kidney, MR with two edemas, skin; each patient another place."""
    pictures = []
    for case in range(count):
        dx, dy = case % 5, case % 3
        kidney = 1 + case % 2  # left or right
        for z in range(slices):
            boxes = (
                (0, _moved((4, 10, 24, 30), dx, dy)),
                (kidney, _moved((40, 20, 52, 32), dx, z)),
            )
            pictures.append(Drawn(f"ct_00--BTCV--p{case:02d}--z_{z:04d}", boxes))
        edemas = ((1, _moved((6, 6, 16, 16), dx, dy)), (1, _moved((30, 24, 44, 40), dx, dy)))
        pictures.append(Drawn(f"mr_t1--BraTS2013--q{case:02d}--z_0007", edemas))
        lesion = ((0, _moved((20, 12, 44, 36), dx, dy)),)
        pictures.append(Drawn(f"dermoscopy_00--ISIC2018--r{case:02d}--2d_0000", lesion))
    return pictures


def write_source(folder: Path, pictures: list[Drawn]) -> Path:
    """In the SA-Med2D-20M layout; every patient has a background of its own."""
    write_sa_med2d(folder, pictures, CLASSES)
    for picture in pictures:
        path = folder / picture.image
        with Image.open(path) as drawn:
            values = np.asarray(drawn).astype(float)
        Image.fromarray((0.4 * values + _scene(picture.stem)).astype(np.uint8)).save(path)
    return folder


def change_index(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Writes the index again after `change`."""
    path = folder / INDEX_FILE
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def known_boxes(pictures: list[Drawn]) -> dict[str, set[tuple[str, tuple[int, int, int, int]]]]:
    """By id: what every build must say, as (class name, norm box)."""
    names = {d: {i: name for name, i in classes.items()} for d, classes in CLASSES.items()}
    return {
        p.stem: {
            (names[p.stem.split("--")[1]][c], pixel_to_norm(box, *SIZE)) for c, box in p.objects
        }
        for p in pictures
    }


@contextmanager
def no_progress(title: str):
    yield lambda done, total: None


def interrupted_at(wanted: str, after: int):
    """A progress that is interrupted, as by Ctrl-C, when a step has done so much."""

    @contextmanager
    def progress(title: str):
        def show(done, total):
            if title == wanted and done >= after:
                raise KeyboardInterrupt

        yield show

    return progress


def build_here(source: Path, out: Path, **changes) -> dict[str, Any]:
    running = {
        key: changes.pop(key) for key in ("engine", "workers", "overwrite") if key in changes
    }
    return build(BuildSettings(source, **changes), out, no_progress, **running)


def llm_options(server: ScriptedLlm, cache: Path, **changes) -> WriterOptions:
    """The scripted server as the writer."""
    return WriterOptions(
        "llm", endpoint=server.url, model="scripted", cache=cache, attempts=1, **changes
    )


def built_bytes(out: Path) -> dict[str, str]:
    """Digest of each file that a build wrote, but for what tells paths and times."""
    files = sorted(p for p in out.rglob("*") if p.is_file() and p.name != "build.json")
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def read_entries(out: Path, name: str, sides: tuple[str, ...] = ("train", "test")) -> list[dict]:
    return [e for side in sides for e in json.loads((out / side / f"{name}.json").read_text())]


def read_facts(out: Path, side: str) -> list[dict]:
    lines = (out / side / "facts.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def skipped(out: Path) -> dict[str, str]:
    lines = (out / "skipped.jsonl").read_text(encoding="utf-8").splitlines()
    return {told["name"]: told["reason"] for told in map(json.loads, lines)}


def start_build(source: Path, out: Path, engine: str = "local") -> subprocess.Popen:
    """A real process, as a person would start it."""
    script = out.parent / "run_build.py"
    script.write_text(REAL_BUILD)
    return subprocess.Popen(
        [sys.executable, str(script), str(source), str(out), engine],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _moved(box: tuple[int, int, int, int], dx: int, dy: int) -> tuple[int, int, int, int]:
    return box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy


def _scene(stem: str) -> np.ndarray:
    """Smooth blobs, (height, width), 0..120, other ones for every patient."""
    patient = stem.rsplit("--", 1)[0]
    seed = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:4], "big")
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=SIZE[::-1]), 4)
    return 120 * (noise - noise.min()) / np.ptp(noise)


PICTURES = patients(10)
