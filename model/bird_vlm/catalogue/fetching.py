"""Fetches a model from the hub: the files that are needed, whole, and the right ones.

huggingface_hub transfers; this file chooses what, looks whether there is room, and checks what
came. Knows nothing about the table of models.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache

from bird_vlm.catalogue.hub_errors import elsewhere, explained, more_room
from bird_vlm.catalogue.names import check_hub_id
from bird_vlm.errors import CheckpointError

GIB = 2**30
_BESIDE_WEIGHTS = (  # settings, tokenizers, templates, and what a licence wants kept with it
    *("*.json", "merges.txt", "vocab.txt", "*.model", "*.tiktoken", "*.jinja"),
    *("LICENSE*", "NOTICE*"),
)
_SAFE_WEIGHTS = ("model*.safetensors", "adapter_model*.safetensors")
_OLD_WEIGHTS = ("pytorch_model*.bin",)
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


@dataclass(frozen=True)
class HubFile:
    """One file of a hub repository."""

    name: str  # path within the repository, with /
    size: int  # bytes


def fetch_model(
    model_id: str,
    subfolder: str = "",
    *,
    cache: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Fetch what is needed of a hub model, or what a cut transfer left out; its folder.

    Files go to the hub's cache (HF_HOME), or to `cache`; a progress bar is shown on a terminal.
    Weights are taken as safetensors where there are any; programs never. Every file's checksum is
    compared with the hub's. A folder that exists is given back as it is.

    Raises CheckpointError where `model_id` is no owner/name, where the environment forbids the
    network (HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE), and where the model is unknown, gated, without
    weights, too large for the disk, or arrives damaged.
    """
    if model_id and Path(model_id).is_dir():
        return Path(model_id)
    check_hub_id(model_id)
    _check_online(model_id, subfolder)
    with explained(model_id, subfolder):
        files = _listing(model_id)
        chosen = needed_files(files, subfolder)
        if not chosen.weights:
            place = f"{model_id}/{subfolder}" if subfolder else model_id
            raise CheckpointError(f"model: {place} on the hub holds no weights that can be loaded")
        _check_disk(model_id, chosen.all, cache, tell)
        for part in (chosen.beside, chosen.weights):  # weights last: with them it is whole
            commit = Path(_download(model_id, part, cache)).name
        tell(f"checking {model_id} ...")
        _check_sums(model_id, chosen.all, commit, cache)
    return Path(_cached(model_id, f"{subfolder}/config.json".lstrip("/"), cache)).parent


@dataclass(frozen=True)
class Chosen:
    """The files to fetch."""

    beside: tuple[HubFile, ...]
    weights: tuple[HubFile, ...]

    @property
    def all(self) -> tuple[HubFile, ...]:
        return (*self.beside, *self.weights)


def needed_files(files: Iterable[HubFile], subfolder: str = "") -> Chosen:
    """Of a repository's files those of one folder that a model is loaded from.

    Pickled weights only where there are no safetensors.
    """
    here = [file for file in files if _parent(file.name) == subfolder]
    weights = _matching(here, _SAFE_WEIGHTS) or _matching(here, _OLD_WEIGHTS)
    pickled_index = "pytorch_model.bin.index.json"
    beside = _matching(here, _BESIDE_WEIGHTS)
    if any(file.name.endswith(".safetensors") for file in weights):
        beside = [file for file in beside if PurePosixPath(file.name).name != pickled_index]
    if not any(PurePosixPath(file.name).name == "config.json" for file in beside):
        return Chosen((), ())
    return Chosen(tuple(beside), tuple(weights))


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _matching(files: Iterable[HubFile], patterns: tuple[str, ...]) -> list[HubFile]:
    def wanted(file: HubFile) -> bool:
        return any(fnmatchcase(PurePosixPath(file.name).name, pattern) for pattern in patterns)

    return [file for file in files if wanted(file)]


def _check_online(model_id: str, subfolder: str) -> None:
    forbidden = [name for name in _OFFLINE if _is_set(os.environ.get(name))]
    if not forbidden and constants.HF_HUB_OFFLINE:
        forbidden = ["HF_HUB_OFFLINE"]
    if forbidden:
        raise CheckpointError(
            f"model: {model_id} is not on this machine and {forbidden[0]} forbids the network; "
            f"unset it, or {elsewhere(model_id, subfolder)}"
        )


def _is_set(value: str | None) -> bool:
    return (value or "").upper() in constants.ENV_VARS_TRUE_VALUES


def _listing(model_id: str) -> list[HubFile]:
    info = HfApi().model_info(model_id, files_metadata=True)
    return [HubFile(file.rfilename, file.size or 0) for file in info.siblings or []]


def _download(model_id: str, files: Iterable[HubFile], cache: Path | None) -> str:
    names = [glob.escape(file.name) for file in files]
    return snapshot_download(model_id, allow_patterns=names, cache_dir=cache)


def _check_disk(
    model_id: str, files: Iterable[HubFile], cache: Path | None, tell: Callable[[str], None]
) -> None:
    missing = sum(file.size for file in files if not _cached(model_id, file.name, cache))
    folder = Path(cache or constants.HF_HUB_CACHE).expanduser().resolve()
    disk = next(place for place in (folder, *folder.parents) if place.is_dir())
    free = shutil.disk_usage(disk).free
    if missing > free:
        raise CheckpointError(
            f"model: {model_id} needs {missing / GIB:.1f} GiB and {free / GIB:.1f} GiB are free at "
            f"{disk}; {more_room()}"
        )
    tell(f"fetching {model_id}: {missing / GIB:.1f} GiB into {folder}")


def _check_sums(model_id: str, files: Iterable[HubFile], commit: str, cache: Path | None) -> None:
    """Compare what came with the hub's checksums; what differs is thrown away."""
    report = HfApi().verify_repo_checksums(model_id, revision=commit, cache_dir=cache)
    wanted = {file.name for file in files}
    missing = sorted(wanted & set(report.missing_paths))
    damaged = sorted(wanted & {mismatch["path"] for mismatch in report.mismatches})
    for name in damaged:
        pointer = Path(report.verified_path) / name
        pointer.resolve().unlink()
        pointer.unlink(missing_ok=True)  # where the file is a link to the one just removed
    if missing or damaged:
        raise CheckpointError(
            f"model: {model_id}: {', '.join(missing + damaged)} did not arrive as the hub has it; "
            "it was thrown away, run the command again; if that does not help, a proxy may be "
            "changing downloads"
        )


def _cached(model_id: str, name: str, cache: Path | None) -> str | None:
    found = try_to_load_from_cache(model_id, name, cache_dir=cache)
    return found if isinstance(found, str) else None
