"""Model families are named where they are known: in their own files, the table and the catalogue.

What asks a model (the engine's seam, volumes, commands, server, extension) works with any, and so
names none.
"""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
VLM = REPOSITORY / "model/bird_vlm"
FAMILIES = re.compile(r"qwen|gemma|radgrounder|gemini", re.IGNORECASE)
KNOWN_IN = (  # where families are the subject
    "backbones",  # how each is run, and the table of them
    "catalogue",  # what is known of each
    "dialects",  # how each writes boxes
    *("checkpoints.py", "layouts.py"),  # BiRD's originals, and their names
    *("commands/convert.py", "commands/models.py"),
    *("configuration_bird.py", "modeling_bird.py", "vision_bird.py"),
    *("processing_bird.py", "tokenization_bird.py"),
)
_FOLDERS = (VLM, REPOSITORY / "monailabel_app", REPOSITORY / "extension")


def asks_any_model(path: Path) -> bool:
    inside = path.relative_to(VLM).as_posix() if path.is_relative_to(VLM) else ""
    return not any(inside == known or inside.startswith(f"{known}/") for known in KNOWN_IN)


SOURCES = sorted(
    path
    for folder in _FOLDERS
    for path in folder.rglob("*.py")
    if "__pycache__" not in path.parts and asks_any_model(path)
)


def names_of_families(text: str) -> list[str]:
    """Names, strings and comments that tell a family, with their lines."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [f"{t.start[0]}: {t.string}" for t in tokens if FAMILIES.search(t.string)]


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.relative_to(REPOSITORY).as_posix()) for path in SOURCES]
)
def test_what_works_with_any_model_names_no_family(path: Path):
    assert names_of_families(path.read_text(encoding="utf-8")) == []


def test_the_seam_is_among_them():
    names = {path.relative_to(REPOSITORY).as_posix() for path in SOURCES}
    assert {
        "model/bird_vlm/engine.py",
        "model/bird_vlm/volume_grounding.py",
        "monailabel_app/bird_server/model.py",
        "extension/BiRD/BiRD.py",
    } <= names


def test_every_exception_is_needed():
    """A file or folder that names no family any more is taken off the list."""
    for known in KNOWN_IN:
        place = VLM / known
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        assert any(names_of_families(path.read_text(encoding="utf-8")) for path in files), known


@pytest.mark.parametrize(
    "code",
    ['kind = "qwen3-vl"', "class PaliGemmaEngine: ...", "# as RadGrounder does", '"""Gemma 3."""'],
)
def test_a_name_is_seen_wherever_it_stands(code: str):
    assert len(names_of_families(code)) == 1
