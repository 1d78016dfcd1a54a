"""A training's folder: what is in it, and what may be done there.

Knows nothing about models or data.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from bird_training.tuning.checkpoints import last_whole
from bird_vlm.errors import BirdError


class Run:
    """The folder `out` of a training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.recipe = folder / "recipe.yaml"
        self.facts = folder / "training.json"
        self.model = folder / "model"
        self.adapter = folder / "adapter"
        self.finished = folder / "finished.json"

    def check(self, resume: bool) -> Path | None:
        """The checkpoint to go on from, None for a new start.

        Raises BirdError where the folder holds a finished run, an unfinished one and no `resume`
        was asked for, something else, or nothing to resume.
        """
        if self.finished.exists():
            raise BirdError(f"out: {self.folder} holds a finished run; name another folder")
        checkpoint = last_whole(self.checkpoints)
        if resume:
            if checkpoint is None:
                raise BirdError(
                    f"resume: {self.folder} holds no whole checkpoint; start without --resume"
                )
            return checkpoint
        if checkpoint is not None:
            raise BirdError(
                f"out: {self.folder} holds an unfinished run; go on with --resume, "
                "or name another folder"
            )
        if self.folder.is_dir() and any(self.folder.iterdir()) and not self.facts.is_file():
            raise BirdError(f"out: {self.folder} is not empty; name a new folder")
        if self.folder.exists() and not self.folder.is_dir():
            raise BirdError(f"out: {self.folder} is a file; name a new folder")
        return None

    def check_facts(self, facts: dict[str, str]) -> None:
        """Raises BirdError where data or model are not those of the run that goes on."""
        recorded = json.loads(self.facts.read_text(encoding="utf-8"))
        for name in ("model", "digest"):
            if recorded.get(name) != facts[name]:
                what = "the model" if name == "model" else f"what is under {facts['data']}"
                raise BirdError(
                    f"resume: {what} is not that of the run in {self.folder}; give the same again"
                )

    def clear(self) -> None:
        """Remove what a run without a whole checkpoint left behind."""
        for path in (self.checkpoints, self.folder / "tensorboard"):
            shutil.rmtree(path, ignore_errors=True)
