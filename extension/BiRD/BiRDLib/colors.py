"""One colour per label, the same in every scene and session. Knows nothing about MRML."""

import colorsys
import zlib
from functools import lru_cache

# Neighbours in this list get colours far apart; it goes on from region to region.
_COMMON = """
    liver, spleen, kidney, pancreas, gallbladder, stomach, aorta, inferior vena cava, adrenal gland,
    esophagus, duodenum, portal vein and splenic vein, lung, heart, trachea, lung nodule, bladder,
    prostate, uterus, rectum, femur, thalamus, hippocampus, caudate, putamen, lateral ventricle,
    brain stem, cerebellum cortex, brain tumor, edema, enhancing tumor, ventricle, atrium,
    myocardium, soft tissue tumor
"""
_GOLDEN = 0.61803398875  # of the colour wheel, from one name to the next
_SATURATIONS = (0.95, 0.6)
_SIDES = {"left": -0.07, "right": 0.07}  # neighbours on the colour wheel, yet told apart


@lru_cache(maxsize=1024)
def label_color(label):
    """(red, green, blue) in 0..1; spelling, case and word order of the label do not matter.

    >>> label_color("kidney_right") == label_color("Right kidney")
    True
    """
    words = label.lower().replace("_", " ").split()
    core = frozenset(words) - set(_SIDES)
    number = zlib.crc32(" ".join(sorted(core)).encode())
    hue, pale = _PLACES.get(core, (number % 9973 / 9973.0, number // 9973 % 2))
    hue += sum(_SIDES.get(word, 0.0) for word in set(words))
    return colorsys.hsv_to_rgb(hue % 1.0, _SATURATIONS[pale], 1.0)


_NAMES = [frozenset(name.split()) for name in _COMMON.split(",")]
_PLACES = {name: (0.05 + n * _GOLDEN, n % 2) for n, name in enumerate(_NAMES)}
