"""Which box dialect a model folder is asked in.

Knows cards and config.json; knows nothing about weights.
"""

from __future__ import annotations

from pathlib import Path

from bird_vlm.catalogue.cards import DIALECTS, FAMILY_DIALECTS, MODEL_TYPES, Family
from bird_vlm.catalogue.known import known_model
from bird_vlm.catalogue.names import model_config
from bird_vlm.dialects import BoxDialect, dialect_of
from bird_vlm.errors import CheckpointError

SETTING = "box_dialect"  # of a config.json


def family_of(folder: Path) -> Family:
    """Raises CheckpointError for a model of another family."""
    kind = str(model_config(folder).get("model_type"))
    if kind not in MODEL_TYPES:
        raise CheckpointError(f"model: {folder} holds a {kind!r} model; see `bird models`")
    return MODEL_TYPES[kind]


def find_dialect(folder: Path, name: str) -> tuple[BoxDialect, str]:
    """The dialect of a model, and a note for its users where its publishers name none, else "".

    The folder's own setting, then that of the card called `name` of the same family, then the
    family's. Raises CheckpointError where the setting names no dialect.
    """
    family, card = family_of(folder), known_model(name)
    setting = model_config(folder).get(SETTING)
    if setting is not None:
        return _set_dialect(folder, setting), ""
    if card is not None and card.family == family:
        if card.dialect is not None:
            return dialect_of(card.dialect), ""
        note = f"how {name} writes boxes is not published; it is asked as {family} models are"
        return dialect_of(FAMILY_DIALECTS[family]), note
    return dialect_of(FAMILY_DIALECTS[family]), ""


def _set_dialect(folder: Path, setting: object) -> BoxDialect:
    if str(setting) not in DIALECTS:
        raise CheckpointError(
            f"model: {folder / 'config.json'} has {SETTING} {setting!r}; known are "
            f"{', '.join(DIALECTS)}"
        )
    return dialect_of(str(setting))
