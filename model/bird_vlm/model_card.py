"""What a model says of itself once it is loaded. Knows nothing about networks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bird_vlm.catalogue.installed import read_json

LABELS_FILE = "labels.json"


@dataclass(frozen=True)
class ModelCard:
    """Its name, what it can be asked for, and where it runs."""

    id: str
    labels: dict[str, list[str]] = field(default_factory=dict)  # by modality; {} = any words
    device: str = "cpu"
    note: str = ""  # what whoever uses it should know of its boxes

    @property
    def known_labels(self) -> set[str]:
        return {label for labels in self.labels.values() for label in labels}


def read_labels(folder: Path) -> dict[str, list[str]]:
    """What the model in a folder was trained on, by modality; {} where it does not say."""
    path = folder / LABELS_FILE
    return read_json(path) if path.is_file() else {}
