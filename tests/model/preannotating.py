"""Wards of scans to be annotated, the command that does it, and what it leaves behind.

Runs of the command in this process share one loaded model.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from bird_vlm.commands import preannotate
from bird_vlm.engine import Engine
from bird_vlm.tensor_cache import TensorCache

LABELS = ("--label", "liver expected", "--label", "brain stem")

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(preannotate.preannotate)


def share(bird_mini: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process take the loaded model, with nothing remembered of earlier ones."""

    def load(model: str, running: object) -> Engine:
        monkeypatch.setattr(bird_mini, "features", TensorCache())
        return bird_mini

    monkeypatch.setattr("bird_vlm.engine.load_engine", load)


def ask(root: Path, *arguments: object) -> Result:
    return CliRunner().invoke(app, [str(part) for part in (root, *arguments)])


def out_of(root: Path) -> Path:
    return root / ".bird/preannotation"


def index_of(out: Path) -> dict:
    return json.loads((out / "index.json").read_text())


def rows_of(out: Path) -> dict[str, dict]:
    return {row["case"]: row for row in index_of(out)["cases"]}


def outputs(out: Path) -> dict[str, bytes | object]:
    """Every file of a run; of JSON and HTML all but the times."""
    found = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        data: bytes | object = path.read_bytes()
        if path.suffix == ".json":
            data = re.sub(rb'"timing_s": \{[^}]*\}', b"", data)
        elif path.suffix == ".html":
            data = re.sub(rb'(seconds"[^>]*>)[^<]*', rb"\1", data)
            data = re.sub(rb'(seconds" data-sort=")[^"]*', rb"\1", data)
        found[path.relative_to(out).as_posix()] = data
    return found


def save_noise(path: Path, seed: int, shape: tuple[int, int, int] = (16, 16, 4)) -> Path:
    """A scan in which nothing is to be found, of other voxels for every seed."""
    values = np.random.default_rng(seed).normal(0, 200, shape).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 3.0, 1.0])), path)
    return path


def save_ward(root: Path) -> Path:
    for seed, name in enumerate(("a/scan.nii.gz", "b/scan.nii.gz", "b/Jörg & <b>.nii.gz")):
        save_noise(root / name, seed)
    Image.fromarray(np.full((40, 50, 3), 160, np.uint8)).save(root / "skin.jpg")
    cut = save_noise(root / "cut.nii.gz", 9)
    cut.write_bytes(cut.read_bytes()[:1000])
    return root
