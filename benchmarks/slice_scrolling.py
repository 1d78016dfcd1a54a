"""What a thousand findings cost: scrolling through slices, and memory.

    python benchmarks/slice_scrolling.py

Scrolls a rendered axial slice view of one volume with no boxes and with 1,000 slice boxes (as 100
findings through 10 slices each, and as 1,000 findings of one slice), in turns. Prints the median
processor time per slice (the same on a busy computer) and its ratio to no boxes, which is to stay
under 1.3. "None drawn" has the findings' 3D boxes in the scene and nothing of ours in the slice
view: Slicer's own cost of so many ROI nodes. Needs slicer-core.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import vtk

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "extension"), str(ROOT / "extension" / "BiRD")]
vtk.vtkObject.GlobalWarningDisplayOff()

from BiRDLib.background import Background  # noqa: E402
from BiRDLib.logic import Logic  # noqa: E402
from grounding import a_finding, a_grounding  # noqa: E402
from slice_view import SlicerCore, SliceView  # noqa: E402

SIDE, DEPTH = 200, 100  # voxels of 1 mm
EVERY = 3  # of the slices is scrolled to
LARGEST_RATIO = 1.3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is scrolled through")
    parser.add_argument("--size", type=int, default=400, help="edge of the view, pixels")
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers")
    return parser.parse_args()


class Scene:
    """A volume in a slice view, with findings or without."""

    def __init__(
        self, name: str, size: int, boxes_per_finding: int = 0, drawn: bool = True
    ) -> None:
        self.name, self.drawn = name, drawn
        self.core = SlicerCore()
        noise = np.random.default_rng(0).integers(0, 255, (DEPTH, SIDE, SIDE), dtype=np.int16)
        self.volume = self.core.volume(noise, np.eye(4), window=(128.0, 255.0))
        self.background = Background()
        self.logic = Logic(self.core.scene, self.background)
        self.view = SliceView(self.core, "Red", "axial", (size, size)).show(self.volume)
        before = resident_bytes()
        if boxes_per_finding:
            self.logic.findings.add(self.volume, findings(self.volume, boxes_per_finding), "all")
        self.memory_bytes = resident_bytes() - before
        if not drawn:
            self.logic.pool.close()

    def scroll(self) -> list[float]:
        """Seconds of processor time per slice, through the whole volume once."""
        seconds = []
        for z in range(0, DEPTH, EVERY):
            started = time.process_time()
            self.view.jump((SIDE / 2, SIDE / 2, z))
            self.view.picture()
            seconds.append(time.process_time() - started)
        while self.background.waiting:
            self.background.pump(0)
        return seconds


def findings(volume, boxes_each: int):
    """1,000 slice boxes, ten on each slice, side by side."""
    found = []
    for n in range(1000 // boxes_each):
        first = n // 10 * boxes_each
        low = (n % 10 * 20 + 2, 40 + n % 3 * 40)
        slices = range(first, first + boxes_each)
        found.append(a_finding(volume, f"organ {n % 7}", slices, low, (low[0] + 16, low[1] + 30)))
    return a_grounding(*found)


def resident_bytes() -> int:
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


def main() -> None:
    given = arguments()
    scenes = [
        Scene("none", given.size),
        Scene("1,000 boxes of 100 findings", given.size, 10),
        Scene("1,000 boxes of 1,000 findings", given.size, 1),
        Scene("100 findings, none drawn", given.size, 10, drawn=False),
        Scene("1,000 findings, none drawn", given.size, 1, drawn=False),
    ]
    times: dict[str, list[float]] = {scene.name: [] for scene in scenes}
    for n in range(given.rounds + 1):
        for scene in scenes:
            seconds = scene.scroll()
            times[scene.name] += seconds if n else []  # the first round warms up
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    report = {
        scene.name: {
            "ms_per_slice": round(1000 * median[scene.name], 2),
            "ratio": round(median[scene.name] / median["none"], 3),
            "memory_mib": round(scene.memory_bytes / 2**20, 1),
        }
        for scene in scenes
    }
    for name, numbers in report.items():
        print(f"{name:32} {numbers}")
    if given.out:
        given.out.write_text(json.dumps(report, indent=1))
    worst = max(report[scene.name]["ratio"] for scene in scenes if scene.drawn)
    print(f"largest ratio {worst} (to stay under {LARGEST_RATIO})")


if __name__ == "__main__":
    main()
