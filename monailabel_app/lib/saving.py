"""What a label saved through MONAI Label's route says about the findings of its image.

A label that cannot be told is kept as a file, and the answer says why; its saving never fails for
that. Labels with the tag of the models' own answers say nothing.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore

from bird_server.review.records import NewCase, Places
from bird_server.review.taking import take_drawings
from bird_server.service import current
from bird_server.volumes.reading import read_named
from bird_vlm.errors import BirdError
from lib.batch import LABEL_TAG
from lib.label_files import drawings_of, label_names
from lib.studies import study_of

NOBODY = "MONAI Label client"  # as reviewer, where the client does not say who it is


def take_label(datastore: Datastore, image_id: str, label_id: str) -> dict[str, Any]:
    """{"review": finding ids by what became of them, or {"kept": why it stays a file}}."""
    tag = _latest_tag(datastore, image_id)
    if tag is None or tag == LABEL_TAG:
        return {}
    info = datastore.get_label_info(label_id, tag)
    try:
        taken = _take(
            Path(datastore.get_image_uri(image_id)),
            Path(datastore.get_label_uri(label_id, tag)),
            info,
        )
    except BirdError as error:
        return {"review": {"kept": f"as a file only: {error}"}}
    return {"review": taken}


def _take(image: Path, label: Path, info: dict[str, Any]) -> dict[str, Any]:
    review = current().review
    if review is None:
        return {"kept": "as a file only: this server keeps no reviews"}
    volume = read_named(image, image.name)
    drawings = drawings_of(label, volume, label_names(info))
    taken = take_drawings(
        review.store,
        NewCase(volume.digest, image.name),
        volume.geometry(),
        Places(study=study_of(image, review.studies)),
        drawings,
        _reviewer(info),
    )
    return {"volume_digest": volume.digest, **asdict(taken)}


def _latest_tag(datastore: Datastore, image_id: str) -> str | None:
    """The tag under which a label was saved last; MONAI Label does not tell it."""
    tags = datastore.get_labels_by_image_id(image_id)
    times = {tag: datastore.get_label_info(label, tag).get("ts", 0) for tag, label in tags.items()}
    return max(times, key=lambda tag: (times[tag], tag != LABEL_TAG), default=None)


def _reviewer(info: dict[str, Any]) -> str:
    told = [info.get(name) for name in ("reviewer", "user", "client_id")]
    names = [name for name in told if isinstance(name, str) and name.strip() and name.isprintable()]
    return (names or [NOBODY])[0][:255]
