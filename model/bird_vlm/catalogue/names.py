"""What `--model TEXT` means: a shipped name, a folder, a short name of the table, or a hub id.

In that order, so that a folder of that name always wins over the network.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bird_vlm.catalogue.cards import Card
from bird_vlm.catalogue.installed import cached_folder, read_json, shipped_folder
from bird_vlm.catalogue.known import KNOWN, known_model
from bird_vlm.errors import CheckpointError

ADAPTER = "adapter_config.json"  # peft's, beside weights that are added to another model's
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_HUB_ID = re.compile(f"{_PART}/{_PART}")


@dataclass(frozen=True)
class Source:
    """Where a model comes from: a folder of this machine, or the hub."""

    folder: Path | None
    id: str | None  # owner/name on the hub; None where `folder` is given
    card: Card | None  # None where the table does not have it
    subfolder: str = ""


def find_source(text: str | Path) -> Source:
    """What `text` names; nothing is read from the network.

    Raises CheckpointError where it is no name, folder or hub id, or a folder without a model.
    """
    text = str(text)
    _refuse_control_characters(text)
    shipped = shipped_folder(text)
    if shipped:
        return Source(shipped, None, known_model(text))
    path = Path(text).expanduser()
    if text and path.exists():
        return Source(_model_folder(path), None, None)
    card = known_model(text)
    if card and card.id:
        return Source(None, card.id, card, card.subfolder)
    return Source(None, check_hub_id(text), None)


def model_path(text: str | Path, tell: Callable[[str], None] = lambda line: None) -> Path:
    """The folder of the model that `text` names, fetched from the hub where it is not here.

    `tell` gets a line about what is being done. Raises CheckpointError as `find_source` and
    `fetch_model` do.
    """
    source = find_source(text)
    if source.folder:
        return source.folder
    here = cached_folder(source.id, source.subfolder)
    if here:
        return here
    from bird_vlm.catalogue.fetching import fetch_model

    return fetch_model(source.id, source.subfolder, tell=tell)


def model_config(folder: Path) -> dict:
    """The config.json of a model folder, or that of the model which an adapter adapts.

    Raises CheckpointError where the adapter's model is not on this machine and cannot be fetched.
    """
    if (folder / "config.json").is_file() or not (folder / ADAPTER).is_file():
        return read_json(folder / "config.json")
    base = read_json(folder / ADAPTER).get("base_model_name_or_path")
    try:
        return model_config(model_path(str(base)))
    except CheckpointError as error:
        raise CheckpointError(
            f"model: {folder} adapts {base!r}, which is not here ({error})"
        ) from error


def check_hub_id(text: str) -> str:
    """`text` where it can be a hub id, owner/name. Raises CheckpointError for anything else.

    >>> check_hub_id("Qwen/Qwen-VL-Chat")
    'Qwen/Qwen-VL-Chat'
    """
    _refuse_control_characters(text)
    fits = _HUB_ID.fullmatch(text) and len(text) <= 96
    if not fits or ".." in text or "--" in text or text.endswith(".git"):
        close = difflib.get_close_matches(text.casefold(), [card.name for card in KNOWN], n=2)
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        raise CheckpointError(
            f"model: {text!r} is no folder here, no known name and no hub id (owner/name); "
            f"{meant}`bird models` lists the names"
        )
    return text


def _model_folder(path: Path) -> Path:
    if not path.is_dir():
        raise CheckpointError(f"model: {path} is a file; name the folder that it lies in")
    if not any((path / name).is_file() for name in ("config.json", ADAPTER)):
        raise CheckpointError(
            f"model: {path} is a folder without a config.json; name the model's own folder"
        )
    return path


def _refuse_control_characters(text: str) -> None:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise CheckpointError(f"model: control characters are refused, got {text!r}")
