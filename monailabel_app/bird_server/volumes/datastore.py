"""MONAI Label's folder of studies, from which no name and no link leads out.

The stock datastore would follow links to other places and overwrite or delete what is there, take
`datastore_v2.json` or `.bird/...` for an image, and answer unknown ids with a bare 500. It would
also change its list of images in several threads at once, and never look at the folder again after
the first change that it cannot take in. Knows nothing about HTTP, apart from its refusals.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from pathlib import Path
from typing import Any

from filelock import FileLock
from monailabel.config import settings
from monailabel.datastore.local import LocalDatastore

from bird_server.access.names import check_plain, path_refused, split_suffix
from bird_server.errors import ApiError
from bird_vlm.outputs import write_json

logger = logging.getLogger(__name__)
LABEL_SUFFIXES = (
    *(".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".mha", ".png", ".jpg", ".jpeg"),
    *(".json", ".mrk.json"),
)
_AT_THE_LIST = (  # methods that read or change it
    *("datalist", "list_images", "get_labeled_images", "get_unlabeled_images", "status", "json"),
    *("get_image_uri", "get_image_info", "get_label_uri", "get_label_info"),
    *("get_labels_by_image_id", "get_label_by_image_id", "refresh", "_on_modify_event"),
    *("add_image", "remove_image", "update_image_info"),
    *("save_label", "remove_label", "update_label_info"),
)


def inside_datastore(studies: str) -> InsideDatastore:
    """The datastore of a folder, with the settings that MONAI Label would give it."""
    return InsideDatastore(
        studies,
        extensions=settings.MONAI_LABEL_DATASTORE_FILE_EXT,
        auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
        read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
    )


def image_suffixes() -> list[str]:
    """Suffixes of images, from MONAI Label's patterns such as `*.nii.gz`."""
    return [pattern.removeprefix("*") for pattern in settings.MONAI_LABEL_DATASTORE_FILE_EXT]


@contextmanager
def _watching_on() -> Iterator[None]:
    """What fails in the thread that watches would end it; the next change is looked at again."""
    try:
        yield
    except OSError as error:
        logger.warning("a change of the studies is not taken in yet (%s)", error.strerror)


def _alone(method: Callable) -> Callable:
    @wraps(method)
    def waiting(self: InsideDatastore, *arguments: Any, **named: Any) -> Any:
        with self._turn:
            return method(self, *arguments, **named)

    return waiting


def _one_at_a_time(kind: type) -> type:
    """Requests and the thread that watches the folder take turns at the list of images."""
    for name in _AT_THE_LIST:
        setattr(kind, name, _alone(getattr(kind, name)))
    return kind


@_one_at_a_time
class InsideDatastore(LocalDatastore):
    """Ids are plain names; a link that leads out of the folder is not there at all."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._turn = threading.RLock()
        super().__init__(*arguments, **named)

    def get_image_uri(self, image_id: str) -> str:
        return self._only_inside(super().get_image_uri(image_id))

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        return self._only_inside(super().get_label_uri(label_id, label_tag))

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        pairs = super().datalist(full_path)
        inside = (all(self._only_inside(path) for path in pair.values()) for pair in pairs)
        return [pair for pair, is_inside in zip(pairs, inside, strict=True) if is_inside]

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        check_plain("image", image_id)
        _, suffix = split_suffix(os.path.basename(image_filename), image_suffixes())
        self._check_target("image", self._datastore.image_path(), image_id + suffix)
        return super().add_image(image_id, image_filename, image_info)

    def save_label(
        self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]
    ) -> str:
        self._check_known(image_id)
        check_plain("tag", label_tag)
        _, suffix = split_suffix(os.path.basename(label_filename), LABEL_SUFFIXES)
        folder = self._datastore.label_path(label_tag)
        self._check_target("label", folder, image_id + suffix)
        return super().save_label(image_id, label_filename, label_tag, label_info)

    def remove_image(self, image_id: str) -> None:
        self._check_known(image_id)
        super().remove_image(image_id)

    def remove_label(self, label_id: str, label_tag: str) -> None:
        self._check_known(label_id, label_tag)
        super().remove_label(label_id, label_tag)

    def update_image_info(self, image_id: str, info: dict[str, Any]) -> None:
        self._check_known(image_id)
        super().update_image_info(image_id, info)

    def update_label_info(self, label_id: str, label_tag: str, info: dict[str, Any]) -> None:
        self._check_known(label_id, label_tag)
        super().update_label_info(label_id, label_tag, info)

    def _update_datastore_file(self, lock: bool = True) -> None:
        """In one step: the stock one leaves an empty file behind where it is interrupted."""
        with FileLock(self._lock_file) if lock else nullcontext():
            told = self._datastore.model_dump(mode="json", exclude={"base_path"})
            write_json(Path(self._datastore_config_path), told)
            self._config_ts = os.stat(self._datastore_config_path).st_mtime

    def _on_any_event(self, event: Any) -> None:
        with _watching_on():
            super()._on_any_event(event)

    def _on_modify_event(self, event: Any) -> None:
        with _watching_on():
            super()._on_modify_event(event)

    def _list_files(self, path: str, patterns: list[str]) -> dict[str, str]:
        try:
            found = super()._list_files(path, patterns)
        except FileNotFoundError:  # a folder of labels that went meanwhile
            return {}
        return {
            name: file
            for name, file in found.items()
            if self._only_inside(os.path.join(path, file))
        }

    def _check_known(self, image_id: str, tag: str | None = None) -> None:
        """Raises ApiError 404 for what is not there, or leads elsewhere."""
        if not self.get_image_uri(image_id) or (tag and not self.get_label_uri(image_id, tag)):
            what = f"label {tag[:80]!r} of " if tag else ""
            raise ApiError(
                404,
                "unknown_image",
                f"there is no {what}image {image_id[:80]!r} among the studies",
                "GET /datastore/?output=all lists images and labels.",
            )

    def _check_target(self, what: str, folder: str, name: str) -> None:
        if not self._only_inside(os.path.join(folder, name)):
            raise path_refused(what)

    def _only_inside(self, path: str) -> str:
        """`path`, or "" where it is empty or its links lead out of the studies."""
        root = os.path.realpath(self._datastore_path)
        return path if path and os.path.realpath(path).startswith(root + os.sep) else ""
