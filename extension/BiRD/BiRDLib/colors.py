"""One colour per label, the same in every scene and session. Knows nothing about MRML."""

import colorsys
import zlib

_SIDES = {"left": -0.07, "right": 0.07}  # neighbours on the colour wheel, yet told apart


def label_color(label):
    """(red, green, blue) in 0..1; spelling, case and word order of the label do not matter.

    >>> label_color("kidney_right") == label_color("Right kidney")
    True
    """
    words = label.lower().replace("_", " ").split()
    number = zlib.crc32(" ".join(sorted(set(words) - set(_SIDES))).encode())
    hue = number % 9973 / 9973.0 + sum(_SIDES.get(word, 0.0) for word in set(words))
    saturation = (0.85, 0.6)[number // 9973 % 2]
    return colorsys.hsv_to_rgb(hue % 1.0, saturation, 1.0)
