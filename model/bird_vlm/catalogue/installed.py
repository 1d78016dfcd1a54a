"""Which models are here: those that ship, those in the hub's cache, and any folder.

Reads files and never the network. Knows nothing about fetching.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from bird_vlm.catalogue.cards import FAMILY_DIALECTS, MODEL_TYPES, Card
from bird_vlm.errors import CheckpointError

WEIGHTS = Path(__file__).parents[1] / "weights"
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in WEIGHTS.glob("*/config.json"))


def shipped_folder(name: str) -> Path | None:
    return WEIGHTS / name if name in shipped_models() else None


def cached_folder(model_id: str, subfolder: str = "", cache: Path | None = None) -> Path | None:
    """Where the hub's cache (or `cache`) holds the whole of a model; None where it does not."""
    from huggingface_hub import try_to_load_from_cache

    config = "/".join(filter(None, (subfolder, "config.json")))
    found = try_to_load_from_cache(model_id, config, cache_dir=cache)
    folder = Path(found).parent if isinstance(found, str) else None
    return folder if folder and holds_weights(folder) else None


def cached_models(cache: Path | None = None) -> dict[str, Path]:
    """Models of known families in the hub's cache, by hub id: one folder each, the newest whole."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir(cache or constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return {}
    found = {}
    for repository in sorted(repositories, key=lambda r: r.repo_id):
        if repository.repo_type != "model":
            continue
        revisions = sorted(repository.revisions, key=lambda r: r.last_modified)
        folders = [r.snapshot_path for r in revisions if _is_whole(r.snapshot_path)]
        if folders:
            found[repository.repo_id] = folders[-1]
    return found


def model_here(card: Card, cache: Path | None = None) -> Path | None:
    """The folder of a known model on this machine; None where it has to be fetched."""
    if card.id is None:
        return shipped_folder(card.name)
    return cached_folder(card.id, card.subfolder, cache)


def holds_weights(folder: Path) -> bool:
    """Whether no file of weights is missing: all that the index names, or one that needs no index.

    A fetch that was cut leaves files out, never half of one.
    """
    for index in (folder / name for name in _INDEXES):
        if index.is_file():
            names = set(read_json(index).get("weight_map", {}).values())
            return bool(names) and all((folder / name).is_file() for name in names)
    return any("-of-" not in path.name for pattern in _WEIGHTS for path in folder.glob(pattern))


def folder_card(folder: Path) -> Card:
    """What a folder tells of its model. Raises CheckpointError where it holds no model."""
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"model: {folder} holds no config.json; name a model's own folder")
    family = MODEL_TYPES.get(str(read_json(folder / "config.json").get("model_type")))
    return Card(
        name=folder.resolve().name,
        id=None,
        family=family,
        dialect=FAMILY_DIALECTS[family] if family else None,
        parameters=count_parameters(folder),
        licence=None,
        research_only=None,
        gated=False,
        made_for=(),
        image_size=None,
    )


def count_parameters(folder: Path) -> int | None:
    """Parameters in a folder's safetensors files, from their headers; None without such files."""
    from safetensors import SafetensorError, safe_open

    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np") as tensors:
                shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"model: {path} cannot be read: {error}") from error
        total += sum(math.prod(shape) for shape in shapes)
    return total or None


def read_json(path: Path) -> dict:
    """A JSON object. Raises CheckpointError for anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path}: is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: must hold a JSON object, got a {type(value).__name__}")
    return value


def _is_whole(folder: Path) -> bool:
    """Whether this is the whole of a model of a known family."""
    config = folder / "config.json"
    try:
        known = config.is_file() and read_json(config).get("model_type") in MODEL_TYPES
        return known and holds_weights(folder)
    except CheckpointError:
        return False  # another program's model, and not ours to complain of
