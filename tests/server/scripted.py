"""A scripted model at the server's one true seam, and helpers that several tests share."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import nibabel
import numpy as np
import requests

from bird_vlm.contract import (
    AskingResult,
    Finding,
    GroundingRequest,
    GroundingResult,
    Progress,
    ReferringResult,
    Roi,
    SliceBox,
)
from bird_vlm.errors import BadRequestError, UnknownLabelError
from bird_vlm.slices import slice_stack

UPLOAD_LIMIT_BYTES = 4 << 20
PRESENT, ABSENT = "liver", "spleen"


@dataclass(frozen=True)
class ScriptedCard:
    id: str = "scripted"
    labels: dict = field(default_factory=lambda: {"ct": [PRESENT, ABSENT]})
    device: str = "cpu"
    note: str = ""


class ScriptedModel:
    """Finds every `PRESENT` in the same place of every slice, and waits for `gate` per slice."""

    card = ScriptedCard()
    version = "0123456789abcdef"

    def __init__(self) -> None:
        self.gate = threading.Semaphore(10**6)
        self.asked: list = []
        self.closed = threading.Event()
        self.fails_at: int | None = None

    def hold(self) -> None:
        """From now on each batch waits for `gate.release()`."""
        self.gate = threading.Semaphore(0)

    def grounding_events(self, volume, request: GroundingRequest):
        unknown = set(request.labels) - {PRESENT, ABSENT}
        if unknown:
            raise UnknownLabelError(f"labels: {sorted(unknown)} not in this model's training")
        stack = slice_stack(volume.geometry(), request.plane)
        first, end = request.slices or (0, stack.count)
        if end > stack.count:
            raise BadRequestError(f"slices: the volume has {stack.count}, got {first}:{end}")
        self.asked.append(request)
        boxes = []
        try:
            for index in range(first, end):
                self.gate.acquire()
                if index == self.fails_at:
                    raise RuntimeError("scripted failure with a secret")
                box = (1.0, 1.0, 3.0, 3.0)
                boxes.append(SliceBox(index, 0.9, box, stack.corners_ras(index, box)))
                found = ((PRESENT, boxes[-1]),) if PRESENT in request.labels else ()
                yield Progress(index - first + 1, end - first, found)
            yield self._result(volume, request, boxes)
        finally:
            self.closed.set()

    def _result(self, volume, request, boxes) -> GroundingResult:
        corners = np.array([box.corners_ras for box in boxes]).reshape(-1, 3)
        roi = Roi(
            center_ras=tuple(corners.mean(0).tolist()),
            size_mm=tuple((np.ptp(corners, axis=0) + 1.0).tolist()),
            axes_ras=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
        )
        slices = (boxes[0].slice, boxes[-1].slice)
        finding = Finding(PRESENT, 0.9, slices, roi, tuple(boxes))
        return GroundingResult(
            volume=volume.geometry(),
            model=self.card.id,
            plane=request.plane,
            window=request.window,
            findings=(finding,) if PRESENT in request.labels else (),
            absent=tuple(label for label in request.labels if label != PRESENT),
        )

    def refer(self, volume, request) -> ReferringResult:
        self.asked.append(request)
        index, box = slice_stack(volume.geometry(), request.plane).box_from_ras(request.box_ras)
        return ReferringResult(
            self.card.id, request.task, PRESENT, 0.8, index, request.plane, box_pixel=box
        )

    def ask(self, volume, question, plane, index, window) -> AskingResult:
        slice_stack(volume.geometry(), plane).cut(volume.array, index)
        self.asked.append((question, window))
        return AskingResult(self.card.id, f"an answer about slice {index}", 0.7, index, plane)


def wait_until(condition, seconds: float) -> None:
    done = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        done.wait(0.02)
    raise TimeoutError(f"did not happen within {seconds} s")


def nifti(array: np.ndarray, affine: np.ndarray | None = None) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image(array, np.diag([2.0, 2.0, 3.0, 1.0]) if affine is None else affine)


def assert_refused(answer: requests.Response, status: int, code: str) -> dict[str, str]:
    """`answer` has this status and the JSON shape of every failure; returns the JSON."""
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert set(problem) == {"error", "detail", "hint"}
    assert problem["error"] == code
    assert problem["detail"]
    assert problem["hint"]
    return problem
