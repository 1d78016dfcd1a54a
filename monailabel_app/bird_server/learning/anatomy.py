"""Which organs lie together, so that one that was asked for and not found is suspicious.

Plain anatomy, not a data set's statistics: whoever has a liver and two kidneys on a scan has a
spleen there too, unless it was taken out. Knows nothing about cases or models.
"""

from __future__ import annotations

from collections.abc import Collection

from bird_vlm.labels import mirrored_name

TOGETHER: dict[str, frozenset[str]] = {
    "upper abdomen": frozenset(
        {
            *("liver", "spleen", "stomach", "pancreas", "gallbladder", "duodenum", "colon"),
            *("left kidney", "right kidney", "kidney"),
            *("left adrenal gland", "right adrenal gland", "aorta", "inferior vena cava"),
            *("portal vein and splenic vein", "esophagus"),
        }
    ),
    "chest": frozenset(
        {"left lung", "right lung", "lung", "heart", "trachea", "aorta", "esophagus"}
    ),
    "heart": frozenset(
        {
            *("left ventricle", "right ventricle", "left atrium", "right atrium"),
            *("myocardium", "aorta", "pulmonary artery"),
        }
    ),
    "pelvis": frozenset(
        {"bladder", "urinary bladder", "rectum", "left hip", "right hip", "sacrum"}
    ),
    "brain": frozenset(
        {
            *("brain stem", "brain", "left thalamus", "right thalamus", "thalamus"),
            *("left hippocampus", "right hippocampus", "hippocampus"),
            *("left caudate", "right caudate", "caudate"),
            *("left putamen", "right putamen", "putamen"),
            *("left lateral ventricle", "right lateral ventricle", "lateral ventricle"),
            *("left cerebellum cortex", "right cerebellum cortex", "cerebellum cortex"),
        }
    ),
    "retina": frozenset({"optic disc", "retinal vessel"}),
}
_PAIRED = 0.9  # how suspicious it is that only one of a pair was found


def suspicion(absent: str, found: Collection[str], missed: Collection[str]) -> tuple[float, str]:
    """How strange it is that `absent` was not found, 0..1, and why; natural names.

    The share of the region's organs that were found, of those that were asked for. Where the
    mirror image was found, at least 0.9.

    >>> suspicion("spleen", {"liver", "stomach"}, {"spleen", "pancreas"})
    (0.5, 'liver, stomach are there (upper abdomen)')
    """
    best = (0.0, "")
    for region, organs in TOGETHER.items():
        neighbours = sorted(organs & set(found))
        if absent in organs and neighbours:
            asked = len(neighbours) + len(organs & set(missed))
            share = len(neighbours) / asked
            best = max(best, (share, f"{', '.join(neighbours[:4])} are there ({region})"))
    mirror = mirrored_name(absent)
    if mirror != absent and mirror in found and best[0] < _PAIRED:
        best = (_PAIRED, f"{mirror} is there")
    return best
