"""How long a user waits for the first box: from the click to its outline in a slice view.

    python benchmarks/first_box.py

A server with bird-mini on this machine, which holds the MNI152 brain already and has answered
before; the whole volume is asked, the slice in view is answered first. Prints every try and their
median, seconds, which is to stay under 0.5.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
folders = ("tests/extension", "extension/BiRD", "scripts")
sys.path[:0] = [str(ROOT / folder) for folder in folders]

import nibabel  # noqa: E402
import numpy as np  # noqa: E402
import vtk  # noqa: E402
from demo import mni152_brain, running_server  # noqa: E402

from BiRDLib.background import Background  # noqa: E402
from BiRDLib.logic import Logic  # noqa: E402
from BiRDLib.question import WHOLE, Question  # noqa: E402
from slice_view import SlicerCore, SliceView  # noqa: E402

THALAMUS_RAS = (-11.0, -19.0, 8.0)
LABELS = ("left thalamus", "right thalamus")
LIMIT_S = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tries", type=int, default=5)
    tries = parser.parse_args().tries
    vtk.vtkObject.GlobalWarningDisplayOff()
    core, background = SlicerCore(), Background()
    with tempfile.TemporaryDirectory() as folder:
        image = nibabel.load(mni152_brain(Path(folder) / "mni152_t1.nii.gz"))
        kji = np.asarray(image.dataobj, dtype=np.float32).transpose(2, 1, 0)
        brain = core.volume(kji, image.affine, "MNI152 T1", window=(0.5, 1.0))
        view = SliceView(core).show(brain).jump(THALAMUS_RAS)
        logic = Logic(core.scene, background)
        with running_server(Path(folder)) as api:
            connected: list[object] = []
            logic.connect(api.removesuffix("/bird/v1"), "", connected.append, connected.append)
            pump(background, lambda: bool(connected))
            first_box(logic, background, brain, view)  # uploads, and warms the model up
            seconds = [first_box(logic, background, brain, view) for _ in range(tries)]
    print("tries:", *(f"{value:.3f}" for value in seconds))
    print(f"median {statistics.median(seconds):.3f} s")


def first_box(logic: Logic, background: Background, brain, view: SliceView) -> float:
    """Seconds from asking to the first outline; the rest of the answer is cancelled."""
    over: list[object] = []
    started = time.perf_counter()
    question = Question(brain, LABELS, extent=WHOLE)
    logic.ground(question, lambda *answer: over.append(answer), over.append)
    pump(background, lambda: bool(logic.pool.outlines(view.node)) or bool(over))
    waited = time.perf_counter() - started
    logic.cancel()
    pump(background, lambda: bool(over))
    return waited


def pump(background: Background, until) -> None:
    end = time.monotonic() + LIMIT_S
    while not until():
        if time.monotonic() > end:
            raise SystemExit("the server did not answer")
        background.pump()


if __name__ == "__main__":
    main()
