"""Where in an answer the numbers of its boxes stand: how sure a model was of a box is how sure it
was of these.

Knows text; knows nothing about tokens or probabilities.
"""

from __future__ import annotations

from bird_vlm.boxes import BoxNorm
from bird_vlm.dialects.dialect import BoxDialect
from bird_vlm.dialects.shown import ShownPicture
from bird_vlm.errors import GrammarError

Span = tuple[int, int]  # first character, and the one after the last


def number_spans(dialect: BoxDialect, text: str, shown: ShownPicture) -> dict[BoxNorm, list[Span]]:
    """The four numbers of each box in `text`; of a box that is written twice, the first time.

    What is no box of the picture is passed over: `parse` complains of it.
    """
    found: dict[BoxNorm, list[Span]] = {}
    for match in dialect.written_box.finditer(text):
        try:
            box_norm = dialect.grid(shown).read([float(number) for number in match.groups()], text)
        except (GrammarError, ValueError):
            continue
        found.setdefault(box_norm, [match.span(group) for group in range(1, 5)])
    return found
