"""Asking about many images of the studies, one after the other, in this process.

Answers go through the server's queue, as everybody's, are saved as label files of the datastore,
and are proposed for review. Knows nothing about HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from monailabel.interfaces.datastore import Datastore

from bird_server.errors import ApiError, problem_of
from bird_server.learning.tasks import current_task
from bird_vlm.errors import BirdError

LABEL_TAG = "original"  # MONAI Label's word for answers of a model

Infer = Callable[[dict[str, Any], Datastore], dict[str, Any]]


class BatchGrounding:
    """MONAI Label's batch inference."""

    def __call__(
        self, request: dict[str, Any], datastore: Datastore, infer: Infer
    ) -> dict[str, Any]:
        """By image id: the saved label's id and how much was found, or why there is none.

        `images` (all, labeled, unlabeled, or a list of ids), `max_batch_size` (0 = all),
        `label_tag`; anything else is an option of the model. Raises TaskStoppedError.
        """
        task = current_task("batch_infer")
        options = {k: v for k, v in request.items() if k not in ("images", "max_batch_size")}
        images = chosen_images(request, datastore)
        made: dict[str, Any] = {}
        for number, image in enumerate(images):
            task.check_stop()
            task.at("asking", number, len(images))
            made[image] = _answer(infer, options | _saved(image, request), datastore)
            failed = made[image].get("error")
            task.note(f"{image}: {failed or made[image]['found']}")
        task.at("asking", len(images), len(images))
        return made


def chosen_images(request: dict[str, Any], datastore: Datastore) -> list[str]:
    """The ids that a request means, sorted. Raises ApiError for what is no choice."""
    wanted = request.get("images", "all")
    if isinstance(wanted, str):
        lists = {
            "all": datastore.list_images,
            "labeled": datastore.get_labeled_images,
            "unlabeled": datastore.get_unlabeled_images,
        }
        if wanted not in lists:
            raise _bad(f"images: must be all, labeled, unlabeled or a list, got {wanted[:40]!r}")
        ids: Sequence[str] = lists[wanted]()
    elif isinstance(wanted, list) and all(isinstance(image, str) for image in wanted):
        ids = wanted
    else:
        raise _bad("images: must be all, labeled, unlabeled or a list of ids")
    most = request.get("max_batch_size") or 0
    if isinstance(most, bool) or not isinstance(most, int) or most < 0:
        raise _bad(f"max_batch_size: must be a whole number from 0 up, got {most!r}")
    return sorted(ids)[: most or None]


def _saved(image: str, request: dict[str, Any]) -> dict[str, Any]:
    tag = request.get("label_tag") or LABEL_TAG
    return {"image": image, "save_label": True, "label_tag": tag}


def _answer(infer: Infer, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
    """One image; what goes wrong with it does not keep the others waiting."""
    try:
        result = infer(request, datastore)
    except (ApiError, BirdError) as error:
        return {"error": problem_of(error).detail}
    found = result["params"]["findings"]
    return {
        "label": result["label"],
        "tag": request["label_tag"],
        "found": f"{len(found)} findings, {len(result['params']['absent'])} labels absent",
    }


def _bad(detail: str) -> ApiError:
    return ApiError(422, "bad_request", detail, "Correct the parameter and send it again.")
