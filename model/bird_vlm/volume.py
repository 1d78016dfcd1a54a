"""Questions about a volume: which slices to show, and what their answers mean in 3D.

Puts slices, engine and linking together; knows nothing about tokens, files or HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bird_vlm.boxes import pixel_to_norm
from bird_vlm.contract import (
    MAX_QUESTION_CHARACTERS,
    AskingResult,
    GroundingRequest,
    GroundingResult,
    Plane,
    Progress,
    ReferringRequest,
    ReferringResult,
    check_plane,
    check_window,
)
from bird_vlm.engine import Engine
from bird_vlm.errors import BadRequestError, UnknownLabelError
from bird_vlm.labels import natural_name, without_side
from bird_vlm.model_card import ModelCard
from bird_vlm.slice_features import SliceFeatures
from bird_vlm.slices import SliceStack, slice_stack
from bird_vlm.volume_grounding import VolumeGrounding
from bird_vlm.volumes import Volume
from bird_vlm.windows import Window, automatic_window

_SLICES_AT_ONCE = 32


def check_labels(card: ModelCard, labels: Sequence[str]) -> None:
    """Raises UnknownLabelError for labels that the model was not trained on.

    A model that does not say what it knows is asked anything.
    """
    known = card.known_labels | {without_side(label) for label in card.known_labels}
    unknown = [label for label in labels if natural_name(label) not in known]
    if card.labels and unknown:
        raise UnknownLabelError(
            f"labels: {', '.join(map(repr, unknown))} not in this model's training; "
            f"{card.id} knows {', '.join(sorted(card.known_labels))}"
        )


def grounding_events(
    engine: Engine, volume: Volume, request: GroundingRequest
) -> Iterator[Progress | GroundingResult]:
    """Answer a request: a Progress per batch of slices, then the GroundingResult.

    The request is checked before this returns. Whoever stops iterating cancels the rest. Raises
    UnknownLabelError, and BadRequestError where the slices lie outside the volume.
    """
    check_labels(engine.card, request.labels)
    stack = _stack(volume, request.plane)
    indices = _order(_range(stack, request.slices), request.near)
    window = _shown_window(volume, request.window)
    return VolumeGrounding(engine, volume, stack, window, request).events(indices)


def refer(engine: Engine, volume: Volume, request: ReferringRequest) -> ReferringResult:
    """Name or describe what a box holds, on its middle slice.

    Raises BadRequestError where the box lies outside the volume.
    """
    stack = _stack(volume, request.plane)
    index, box_pixel = stack.box_from_ras(request.box_ras)
    box_norm = pixel_to_norm(box_pixel, stack.width, stack.height)
    window = _shown_window(volume, request.window)
    features = SliceFeatures(engine, volume, stack, window).of([index])
    answer = engine.refer(features, box_norm, request.task)
    return ReferringResult(
        model=engine.card.id,
        task=request.task,
        text=answer.text,
        score=answer.score,
        slice=index,
        plane=stack.plane,
        box_pixel=box_pixel,
    )


def ask(
    engine: Engine,
    volume: Volume,
    question: str,
    plane: Plane = "axial",
    index: int | None = None,
    window: Window | None = None,
) -> AskingResult:
    """Answer a free question about slice `index` (the middle one by default)."""
    question = " ".join(question.split())
    if not 0 < len(question) <= MAX_QUESTION_CHARACTERS:
        raise BadRequestError(
            f"question: needs 1 to {MAX_QUESTION_CHARACTERS} characters, got {len(question)}"
        )
    check_plane(plane)
    check_window(window)
    stack = _stack(volume, plane)
    index = stack.count // 2 if index is None else index
    shown = SliceFeatures(engine, volume, stack, _shown_window(volume, window)).of([index])
    answer = engine.ask(shown, question)
    return AskingResult(engine.card.id, answer.text, answer.score, index, stack.plane)


def _stack(volume: Volume, plane: Plane) -> SliceStack:
    """The stack of a plane; a single picture has one plane only, whatever was asked."""
    geometry = volume.geometry()
    if not volume.is_picture:
        return slice_stack(geometry, plane)
    stacks = [slice_stack(geometry, name) for name in ("axial", "coronal", "sagittal")]
    return next(stack for stack in stacks if stack.count == 1)


def _shown_window(volume: Volume, window: Window | None) -> Window | None:
    """The window that was asked for, or the automatic one; None for colours, which have none."""
    return None if volume.is_colour else window or automatic_window(volume)


def _range(stack: SliceStack, slices: tuple[int, int] | None) -> range:
    if slices is None:
        return range(stack.count)
    if slices[1] > stack.count:
        raise BadRequestError(
            f"slices: {slices[0]}:{slices[1]} exceeds the {stack.count} {stack.plane} slices"
        )
    return range(*slices)


def _order(indices: range, near: int | None) -> list[int]:
    return list(indices) if near is None else sorted(indices, key=lambda k: (abs(k - near), k))
