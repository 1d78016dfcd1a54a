"""Asking a model on a server as users do: by `bird`, and through an engine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from typer.testing import CliRunner, Result

from bird_vlm.answers import PictureAnswer
from bird_vlm.backbones.endpoint import EndpointEngine
from bird_vlm.backend import Backend
from bird_vlm.cli import app
from bird_vlm.engine import load_engine
from bird_vlm.running import Running
from seeing_server import MODEL, ModelServer

KEY = "very-secret-4712"
WINDOW = "150,20"  # shows the block white and all else black
SLICES = "2:8"  # of which 3 to 6 show it


def bird(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def ground(server: ModelServer, scan: Path, *more: object) -> Result:
    options = ["--text", "the block", "--slices", SLICES, "--window", WINDOW]
    options += ["--backend", server.url, "--json", scan.parent / "out.json"]
    model = [] if "--model" in more else ["--model", MODEL]
    return bird("ground", scan, *options, *model, *more)


def found(scan: Path) -> dict[int, tuple[float, ...]]:
    """Boxes in pixels, by slice, of the one finding."""
    (finding,) = json.loads((scan.parent / "out.json").read_text())["findings"]
    return {box["slice"]: tuple(box["box_pixel"]) for box in finding["boxes"]}


def true_box(phantom) -> tuple[float, ...]:
    """On the axial slices; the phantom's axes are those of the picture."""
    (x0, y0, _), (x1, y1, _) = phantom.first_ijk, phantom.last_ijk
    return x0, y0, x1 + 1, y1 + 1


def error_line(result: Result) -> str:
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return line


def engine_on(server: ModelServer, dialect: str | None = None, **fields) -> EndpointEngine:
    engine = load_engine(MODEL, Running(backend=Backend(server.url, dialect, **fields)))
    assert isinstance(engine, EndpointEngine)
    return engine


def asked_once(engine: EndpointEngine, picture: np.ndarray, **more) -> PictureAnswer:
    return engine.ground(engine.encode([picture]), ["the block"], **more)[0][0]
