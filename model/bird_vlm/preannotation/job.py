"""What is asked of every case, by which model; and whether results that lie there answer the same.

Knows nothing about single cases.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bird_vlm.contract import GroundingRequest, SearchMode
from bird_vlm.errors import BirdError, CheckpointError
from bird_vlm.outputs import write_json
from bird_vlm.preannotation.layout import CASES, INDEX, LOCK, PAGE, SETTINGS
from bird_vlm.preannotation.model_stamp import model_stamp
from bird_vlm.preannotation.wanted import Wanted, in_requests
from bird_vlm.running import USUAL, Running

_SHOWN = 60  # characters of a setting in a message


@dataclass(frozen=True)
class Job:
    """Labels, options and model of a run; goes to every worker.

    Raises BadRequestError for options that there cannot be.
    """

    out: Path  # absolute
    wanted: tuple[Wanted, ...]
    model: str = "bird-mini"
    running: Running = USUAL
    plane: str = "axial"
    window: tuple[float, float] | None = None
    threshold: float = 0.5
    search: SearchMode = "exhaustive"
    asked_for: str = ""  # fingerprint of all that answers hang on; see `described`

    def __post_init__(self) -> None:
        self.requests()

    @property
    def labels(self) -> list[str]:
        return [one.label for one in self.wanted]

    def requests(self) -> list[GroundingRequest]:
        return [
            GroundingRequest(
                labels,
                plane=self.plane,
                window=self.window,
                threshold=self.threshold,
                search=self.search,
            )
            for labels in in_requests(self.labels)
        ]


def described(job: Job, device: str) -> dict[str, Any]:
    """All that answers hang on, for the settings file; `device` is the one that is meant.

    Which labels are expected where is left out, since it changes no answer. Raises CheckpointError
    where the model cannot be read.
    """
    elsewhere = job.running.backend
    return {
        "labels": job.labels,
        "plane": job.plane,
        "window": list(job.window) if job.window else None,
        "threshold": job.threshold,
        "search": job.search,
        "model": job.model,
        "weights": None if elsewhere else _stamp(job.model),
        "device": elsewhere.url if elsewhere else device,
        "dialect": elsewhere.dialect if elsewhere else None,
        "precision": job.running.precision,
        "quantize": job.running.quantize,
    }


def fingerprint(told: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()


def begin(out: Path, told: dict[str, Any], *, again: bool) -> None:
    """The output folder, new or of the same questions; with `again` without its old results.

    Raises BirdError where it holds answers to other questions or things from elsewhere, or cannot
    be made or written to.
    """
    try:
        before = _settings(out)
        if before is not None and again:
            _drop_results(out)
        elif before is not None:
            _refuse_other(out, before, told)
            return
        elif out.is_dir() and any(path.name != LOCK for path in out.iterdir()):
            raise BirdError(f"out: {out} holds files from elsewhere; choose a new folder")
        write_json(out / SETTINGS, told)
    except OSError as error:
        raise BirdError(f"out: {out} cannot be made or written to ({error}); give --out") from error


def _settings(out: Path) -> dict[str, Any] | None:
    path = out / SETTINGS
    if not path.is_file():
        return None
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BirdError(f"{path}: is damaged ({error}); use --again or another --out") from error
    return told if isinstance(told, dict) else {}


def _refuse_other(out: Path, before: dict[str, Any], told: dict[str, Any]) -> None:
    changed = [name for name in told if before.get(name, ...) != told[name]]
    if not changed:
        return
    name = changed[0]
    what = "labels" if name == "labels" else f"model ({name})" if name == "weights" else f"{name}"
    raise BirdError(
        f"{out}: holds answers to other {what}: {_difference(before.get(name), told[name])}; give "
        "the same ones, another --out, or --again to drop these answers and ask all cases again"
    )


def _difference(before: Any, now: Any) -> str:
    """What is to be said of a setting that changed."""
    if isinstance(before, list) and isinstance(now, list):
        gone = [f"without {one!r}" for one in before if one not in now]
        new = [f"with {one!r}" for one in now if one not in before]
        return "now " + (", ".join([*new, *gone])[:_SHOWN] or "in another order")
    return f"{str(before)[:_SHOWN]}, now {str(now)[:_SHOWN]}"


def _drop_results(out: Path) -> None:
    for name in (INDEX, PAGE):
        (out / name).unlink(missing_ok=True)
    if (out / CASES).exists():
        shutil.rmtree(out / CASES)


def _stamp(model: str) -> str:
    from bird_vlm.catalogue.names import model_path

    folder = model_path(model)
    try:
        return model_stamp(folder)
    except OSError as error:
        raise CheckpointError(f"model: {folder} cannot be read ({error})") from error
