"""What the BiRD paper (MICCAI 2024) reports in its tables 1 and 3, in percent.

Only numbers. Nothing here was measured by this package.
"""

from __future__ import annotations

from dataclasses import dataclass

MED_GRIT_TEST = "Med-GRIT-Test30k"
QA_TEST = "LLaVA-Med-qa0.2k"


@dataclass(frozen=True)
class PublishedRow:
    """One row of table 1; None for "-"."""

    name: str
    test_set: str
    vg: float | None
    roc: float | None
    rc: float | None  # SPICE
    mia: float | None
    average: float | None


TABLE_1 = (
    PublishedRow("LLaVA-Med", MED_GRIT_TEST, 0.0, 2.75, 8.18, 11.20, 5.53),
    PublishedRow("BiRD-Med-GRIT-20k", MED_GRIT_TEST, 38.59, 47.94, 29.02, 27.22, 35.69),
    PublishedRow("BiRD-Med-GRIT-40k", MED_GRIT_TEST, 46.30, 51.84, 50.32, 30.14, 44.65),
    PublishedRow("BiRD-Med-GRIT-80k", MED_GRIT_TEST, 52.87, 52.02, 52.84, 44.83, 50.64),
    PublishedRow("BiRD-Med-GRIT-270k", MED_GRIT_TEST, 53.92, 65.33, 55.23, 52.17, 56.66),
    PublishedRow("LLaVA-Med", QA_TEST, None, None, None, 20.04, None),
    PublishedRow("BiRD-Med-GRIT-270k", QA_TEST, None, None, None, 10.55, None),
)

# By task: ct, mr, x, pet, endoscopy, dermoscopy, fundus, ultrasound, average.
TABLE_3: dict[str, tuple[float | None, ...]] = {
    "VG": (44.47, 29.26, 41.73, 56.46, 53.60, 75.63, 84.15, 46.04, 53.92),
    "ROC": (34.76, 61.79, 53.74, None, 60.40, 96.61, None, 84.65, 65.33),
    "RC": (41.88, 51.69, 37.39, 47.95, 54.07, 77.44, 48.73, 82.65, 55.23),
    "MIA": (47.01, 49.35, 37.17, 57.15, 39.91, 72.13, 48.87, 65.78, 52.17),
}
