"""The marks in a model's answer: words, and names with the boxes they stand for.

    The <ref>liver</ref><box>(52,180),(611,790)</box> is enlarged.

Boxes are `box_norm`: x0, y0, x1, y1 in 0..1000 of the slice's picture. What is not a well-formed
mark is shown as it came. Knows nothing about slices, MRML or Qt.
"""

import re
from collections import namedtuple

from .i18n import tr as _

# words: as the user reads them; boxes_norm: empty for plain words.
Part = namedtuple("Part", "words boxes_norm")

_NUMBER = r"\s*([0-9]{1,4})\s*"
_BOX = r"<box>\s*\({n},{n}\)\s*,\s*\({n},{n}\)\s*</box>".format(n=_NUMBER)
_BOX_PLAIN = _BOX.replace("([0-9]", "(?:[0-9]")
_LINK = re.compile(r"(?:<ref>(.*?)</ref>\s*)?((?:{b}\s*)+)".format(b=_BOX_PLAIN), re.DOTALL)
_REF_ALONE = re.compile(r"<ref>(.*?)</ref>", re.DOTALL)


def parse_links(text):
    """A text as Parts, in order.

    >>> parse_links("The <ref>liver</ref><box>(1,2),(30,40)</box> is large.")[1]
    Part(words='liver', boxes_norm=((1, 2, 30, 40),))
    """
    parts, end = [], 0
    for match in _LINK.finditer(text):
        boxes = tuple(filter(_is_box, (tuple(map(int, m)) for m in re.findall(_BOX, match[2]))))
        if not boxes:
            continue
        parts.append(_plain(text[end : match.start()]))
        parts.append(Part((match[1] or _("this place")).strip() or _("this place"), boxes))
        trailing = len(match[2]) - len(match[2].rstrip())
        end = match.end() - trailing
    parts.append(_plain(text[end:]))
    return [part for part in parts if part.words]


def without_marks(text):
    """The words alone, as the user reads them.

    >>> without_marks("The <ref>liver</ref><box>(1,2),(30,40)</box> is large.")
    'The liver is large.'
    """
    return "".join(part.words for part in parse_links(text))


def _plain(text):
    return Part(_REF_ALONE.sub(r"\1", text), ())


def _is_box(box):
    x0, y0, x1, y1 = box
    return x0 < x1 <= 1000 and y0 < y1 <= 1000
