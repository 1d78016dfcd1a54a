"""The predictions that the paper's authors' own scripts have scored."""

from __future__ import annotations

import json
from pathlib import Path

GOLDEN = "golden/bird_eval"
QA50 = "golden/llava_med_qa50/llava_med_eval_qa50_qa.jsonl"


def expected(shared: Path) -> dict:
    return json.loads((shared / GOLDEN / "expected.json").read_text())


def differences(expected: dict, found: dict, tolerance: float, path: str = "") -> list[str]:
    """Where `found` lacks what `expected` has or is off by more than the tolerance."""
    wrong = []
    for key, value in expected.items():
        place = f"{path}/{key}"
        if isinstance(value, dict):
            wrong += differences(value, found.get(key, {}), tolerance, place)
        elif isinstance(value, float):
            if key not in found or abs(found[key] - value) > tolerance:
                wrong.append(f"{place}: {found.get(key)} instead of {value}")
        elif found.get(key) != value:
            wrong.append(f"{place}: {found.get(key)} instead of {value}")
    return wrong
