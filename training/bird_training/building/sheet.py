"""A sheet of a finished build to look at: pictures with their boxes, and what is asked of them.

Reads what is on disk, one record at a time. Knows nothing about how it was built.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from bird_training.building.merge import FACTS_FILE, FILES, SIDES
from bird_training.building.sampling import draw
from bird_training.building.shards import facts_from_json
from bird_training.conversations import stream_records
from bird_training.facts import PictureFacts
from bird_training.sources.reading import read_slice_picture
from bird_vlm.boxes import norm_to_pixel
from bird_vlm.overlay import label_colours

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont
WIDTH = 1960  # pixels
COLUMNS = 2
_PICTURE = 380  # edge of the square that a picture is fitted into
_MARGIN, _GAP, _TITLE = 24, 18, 64
_LINE = 3
_BACKGROUND, _CARD, _INK, _DIM = (17, 18, 22), (28, 30, 36), (238, 238, 238), (150, 155, 165)
_TAGS = {
    "captions": ("caption", (190, 190, 200)),
    "VG": ("VG", (120, 190, 255)),
    "ROC": ("ROC", (255, 190, 90)),
    "RC": ("RC", (140, 225, 140)),
    "MIA": ("MIA", (235, 150, 235)),
    "dialogues": ("dialogue", (255, 140, 130)),
}
_TAG_WIDTH = 74
_BIG, _BOLD, _FONT, _SMALL = (ImageFont.load_default(size) for size in (28, 19, 16, 14))
_PICTURE_MARK = re.compile(r"Picture \d+: <img>.*?</img>\n")
_MARKERS = re.compile(r"</?(?:ref|box)>")


@dataclass
class Card:
    """One picture of the sheet."""

    side: str
    facts: PictureFacts
    said: dict[str, list[list[str]]] = field(default_factory=lambda: defaultdict(list))


def write_sheet(out: Path, path: Path, per_modality: int = 2) -> int:
    """Writes a PNG of `per_modality` pictures of each modality of the build in `out`.

    Which ones hangs on their names; several data sets of a modality take turns. Returns how many
    there are. Raises BirdError where a file of the build cannot be read.
    """
    cards = _choose(out, per_modality)
    for side in SIDES:
        wanted = {card.facts.id: card for card in cards if card.side == side}
        for name in FILES:
            for record in stream_records(out / side / f"{name}.json"):
                if card := wanted.get(record["id"]):
                    card.said[name] += record["conversations"]
    width = (WIDTH - 2 * _MARGIN - (COLUMNS - 1) * _GAP) // COLUMNS
    sheet = _arranged([_draw_card(out, card, width) for card in cards])
    ImageDraw.Draw(sheet).text((_MARGIN, 20), _title(cards), _INK, _BIG)
    unfinished = path.with_name(f".{path.name}.unfinished")
    sheet.save(unfinished, format="PNG")
    unfinished.replace(path)
    return len(cards)


def _choose(out: Path, per_modality: int) -> list[Card]:
    """By modality; of each data set in turn the picture whose name has the lowest lot."""
    best: dict[tuple[str, str], list[Card]] = defaultdict(list)
    for side, facts in _all_facts(out):
        kept = best[facts.modality, facts.dataset]
        kept.append(Card(side, facts))
        kept.sort(key=lambda card: (not card.facts.objects, draw(card.facts.id)))
        del kept[per_modality:]
    by_modality: dict[str, list[tuple[int, str, Card]]] = defaultdict(list)
    for (modality, dataset), cards in best.items():
        by_modality[modality] += [(turn, dataset, card) for turn, card in enumerate(cards)]
    return [
        card
        for _, choice in sorted(by_modality.items())
        for _, _, card in sorted(choice, key=lambda item: item[:2])[:per_modality]
    ]


def _all_facts(out: Path) -> Iterator[tuple[str, PictureFacts]]:
    for side in SIDES:
        with (out / side / FACTS_FILE).open(encoding="utf-8") as lines:
            for line in lines:
                yield side, facts_from_json(json.loads(line))


def _arranged(drawn: Sequence[Image.Image]) -> Image.Image:
    """The cards in rows, each row as tall as its tallest card."""
    rows = [drawn[start : start + COLUMNS] for start in range(0, len(drawn), COLUMNS)]
    heights = [max(card.height for card in row) for row in rows]
    size = WIDTH, _TITLE + _MARGIN + sum(height + _GAP for height in heights)
    sheet, y = Image.new("RGB", size, _BACKGROUND), _TITLE
    for row, height in zip(rows, heights, strict=True):
        x = _MARGIN
        for card in row:
            sheet.paste(_CARD, (x, y, x + card.width, y + height))
            sheet.paste(card, (x, y))
            x += card.width + _GAP
        y += height + _GAP
    return sheet


def _title(cards: Sequence[Card]) -> str:
    modalities = len({card.facts.modality for card in cards})
    return f"Med-GRIT   |   {len(cards)} pictures of {modalities} modalities"


def _draw_card(out: Path, card: Card, width: int) -> Image.Image:
    """The picture with the text beside it, as tall as they need."""
    colours = label_colours(sorted({o.label for o in card.facts.objects}))
    picture = _draw_picture(out, card.facts, colours)
    text = _text_of(card, colours, 2 * _GAP + _PICTURE, width - _GAP)
    canvas = Image.new("RGB", (width, max(_PICTURE + _GAP, text.y) + _GAP), _CARD)
    canvas.paste(picture, (_GAP + (_PICTURE - picture.width) // 2, _GAP))
    text.draw(canvas)
    return canvas


def _text_of(card: Card, colours: dict[str, Colour], left: int, right: int) -> _Column:
    facts, text = card.facts, _Column(left, right, _GAP)
    known = (facts.modality, facts.dataset, facts.case, facts.region, facts.plane, card.side)
    text.line(" · ".join(filter(None, known)), _INK, _BOLD)
    text.words(list(colours.items()))
    for name, (tag, colour) in _TAGS.items():
        for question, answer in card.said[name]:
            text.exchange(tag, colour, _plain(question), _plain(answer), name != "captions")
    return text


def _draw_picture(out: Path, facts: PictureFacts, colours: dict[str, Colour]) -> Image.Image:
    picture = Image.fromarray(read_slice_picture(out / facts.image)).convert("RGB")
    scale = _PICTURE / max(picture.size)
    size = tuple(max(1, round(edge * scale)) for edge in picture.size)
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    canvas = ImageDraw.Draw(picture)
    for placed in facts.objects:
        x0, y0, x1, y1 = map(round, norm_to_pixel(placed.box_norm, *size))
        corner = max(x0, x1 - 1), max(y0, y1 - 1)
        canvas.rectangle((x0, y0, *corner), outline=colours[placed.label], width=_LINE)
    return picture


def _plain(text: str) -> str:
    return " ".join(_MARKERS.sub("", _PICTURE_MARK.sub("", text)).split())


class _Column:
    """Text that flows down between two edges; `y` is where it ends."""

    def __init__(self, left: int, right: int, top: int) -> None:
        self.left, self.right, self.y = left, right, top
        self.placed: list[tuple[tuple[float, float], str, Colour, Font]] = []

    def line(self, text: str, colour: Colour, font: Font = _FONT, indent: int = 0) -> None:
        for part in _wrapped(text, font, self.right - self.left - indent):
            self.placed.append(((self.left + indent, self.y), part, colour, font))
            self.y += round(font.size) + 5

    def words(self, coloured: Sequence[tuple[str, Colour]]) -> None:
        """Words in their colours, side by side."""
        x = self.left
        for word, colour in coloured:
            length = _FONT.getlength(word)
            if x > self.left and x + length > self.right:
                x, self.y = self.left, self.y + 21
            self.placed.append(((x, self.y), word, colour, _FONT))
            x += length + 14
        self.y += 30 if coloured else 4

    def exchange(self, tag: str, colour: Colour, question: str, answer: str, ask: bool) -> None:
        """A question and its answer beside the name of its task."""
        self.placed.append(((self.left, self.y), tag, colour, _SMALL))
        if ask:
            self.line(question, _DIM, _SMALL, _TAG_WIDTH)
        self.line(answer, _INK, _FONT, _TAG_WIDTH)
        self.y += 5

    def draw(self, canvas: Image.Image) -> None:
        pen = ImageDraw.Draw(canvas)
        for place, text, colour, font in self.placed:
            pen.text(place, text, colour, font)


def _wrapped(text: str, font: Font, width: float) -> Iterator[str]:
    """Lines of at most `width` pixels, or one word."""
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            yield line
            longer = word
        line = longer
    yield line
