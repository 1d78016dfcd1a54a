"""Volume grounding as a MONAI Label infer task: words in, a file of ROI markups out.

Made for the stock MONAI Label plugin of Slicer, whose Options table shows `config()`. Knows nothing
about sessions or uploads: it gets a path.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from bird_server.errors import ApiError
from bird_server.jobs.steps import Source
from bird_server.service import current, known_labels
from bird_server.volumes.reading import read_named
from bird_vlm.contract import PLANES, GroundingRequest, GroundingResult, to_json
from bird_vlm.errors import BadRequestError
from bird_vlm.markups import markups_json
from lib.studies import study_of

PREFERRED_PROMPTS = ("liver", "brain")
_SEPARATORS = re.compile(r"[,;\n]")


class GroundingTask(InferTask):
    """Where are these things, on every slice of one plane?"""

    def __init__(self) -> None:
        labels = known_labels()
        super().__init__(
            type=InferType.DETECTION,
            labels=labels,
            dimension=3,
            description=f"Boxes around what you name, comma-separated ({current().card.id})",
            config={
                "prompt": _default_prompt(labels),
                "plane": list(PLANES),
                "threshold": "0.5",
            },
        )

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """A `.mrk.json` file and the grounding result, for `request["image"]`, a path.

        Options: `prompt` (labels separated by commas), `plane`, `threshold` (0..1). Raises
        BirdError and ApiError, which the server answers as JSON.
        """
        path = _image_path(request.get("image"))
        question = self._question(request)
        volume = read_named(path, path.name)
        *_, result = current().ground(volume, question, self._source(path))
        return write_markups(result), json.loads(json.dumps(to_json(result), allow_nan=False))

    def _source(self, path: Path) -> Source | None:
        """For the reviewers; an image of a session is no one's to review."""
        review = current().review
        study = None if review is None else study_of(path, review.studies)
        return None if study is None else Source(path.name, study=study)

    def _question(self, request: dict[str, Any]) -> GroundingRequest:
        options = self.config() | {key: request[key] for key in self.config() if key in request}
        plane = options["plane"]
        return GroundingRequest(
            labels=_labels(options["prompt"]),
            plane=plane[0] if isinstance(plane, list) and plane else plane,
            threshold=_number("threshold", options["threshold"]),
        )


def write_markups(result: GroundingResult) -> str:
    """Writes `result` to a new temporary file, which MONAI Label deletes after sending it."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", prefix="bird_", suffix=".mrk.json", delete=False
    ) as file:
        json.dump(markups_json(result), file, allow_nan=False)
    return file.name


def _default_prompt(labels: list[str]) -> str:
    preferred = [prompt for prompt in PREFERRED_PROMPTS if prompt in labels or not labels]
    return (preferred or labels)[0]


def _image_path(image: Any) -> Path:
    if not image or not Path(image).exists():
        raise ApiError(
            404,
            "unknown_image",
            "image: there is no such image among the studies",
            "GET /datastore/?output=all lists the images; upload one with PUT /session/.",
        )
    return Path(image)


def _labels(prompt: Any) -> tuple[str, ...]:
    if not isinstance(prompt, str):
        raise BadRequestError(f"prompt: must be text, got {prompt!r}")
    return tuple(label.strip() for label in _SEPARATORS.split(prompt) if label.strip())


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise BadRequestError(f"{name}: must be a number, got {value!r}") from error
    if not math.isfinite(number):
        raise BadRequestError(f"{name}: must be finite, got {value!r}")
    return number
