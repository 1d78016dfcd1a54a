"""Is what a language model wrote true, as far as the annotation goes?

A text passes if it claims what the annotation says and nothing else, in words that are either the
annotation's or of the list of words that say nothing about a patient. Everything else is refused,
with a reason that a language model can act on. Knows nothing about endpoints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bird_training.facts import PictureFacts, Turn
from bird_training.writers.claims import ClaimReader, Claims, places_of
from bird_training.writers.plan import Ask
from bird_training.writers.wording import MODALITY_NAMES, place_in_words, size_in_words
from bird_vlm.boxes import BoxNorm
from bird_vlm.contract import PLANES
from bird_vlm.errors import GrammarError
from bird_vlm.grammar import REF_END, REF_START, format_box, parse_grounding
from bird_vlm.labels import natural_name, without_side

_LONGEST_QUESTION, _LONGEST_ANSWER, _LONGEST_CAPTION = 200, 400, 800  # characters
_TYPOGRAPHY = str.maketrans(
    {"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "\xa0": " "}
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words of which a question must hold one, so that it asks for what its answer tells.
_WHERE = _words(
    "where find locate located location show mark point position positioned box see highlight "
    "identify detect outline lie lies draw looking spot pinpoint place placed situated indicate "
    "area region sit sits search delineate localise localize frame enclose part select"
)
_DESCRIBE = _words(
    "describe description report characterise characterize summarise summarize sentence explain "
    "caption comment summary detail details interpret tell assess write"
)
_CUES = {
    "modality": _words("modality technique method acquired imaging obtained scan made"),
    "region": {"region", "body", "part", "area", "anatomical", "anatomy"},
    "plane": {"plane", "orientation", "oriented", "planes", "cut", *PLANES},
    "count": {"many", "number", "count", "total"},
    "place": _WHERE,
    "describe": _DESCRIBE,
}
_LEAD_INS = _words("and what")  # "And the spleen?", "What about the spleen?"
# Harmless in a question, a claim in an answer.
_IN_QUESTIONS = _words("many next out times inside")
_IN_BLANKS = _words("abnormal")  # "Nothing abnormal is marked."


class RefusedError(Exception):
    """The text is not to be written; the message tells the language model why."""


class Checker:
    """Checks texts about one picture."""

    def __init__(self, facts: PictureFacts, words: frozenset[str]) -> None:
        self.facts, self.words = facts, words
        self.counts = Counter(o.label for o in facts.objects)
        names = {*self.counts, *facts.absent}
        names |= {without_side(name) for name in names}
        self.reader = ClaimReader(names, [facts.region])
        self.own_words = {w for n in (*self.counts, facts.region) for w in n.lower().split()}

    def caption(self, text: object) -> str:
        """A caption that names every object and no absent one."""
        text = _plain(text, _LONGEST_CAPTION, "caption")
        self._check_whole(text, "caption")
        return text

    def turn(self, ask: Ask, question: object, answer: object) -> Turn:
        """The turn to be written for `ask`; boxes and names are those of the annotation."""
        question = self._question(ask, _plain(question, _LONGEST_QUESTION, "question"))
        if ask.turn.task == "VG":
            text = self._grounding(ask, answer)
        elif ask.turn.task == "ROC":
            text = self._name(ask, _plain(answer, _LONGEST_ANSWER, "answer"))
        elif ask.turn.task == "RC":
            text = self._description(ask, _plain(answer, _LONGEST_ANSWER, "answer"))
        else:
            text = self._analysis(ask, _plain(answer, _LONGEST_CAPTION, "answer"))
        return Turn(ask.turn.task, question, text)

    def _question(self, ask: Ask, text: str) -> str:
        bare = text
        if ask.turn.task == "VG":
            bare = bare.replace(f"{REF_START}{ask.label}{REF_END}", ask.label, 1)
        if ask.box_norm:
            box = format_box(ask.box_norm)
            _refuse(text.count(box) != 1, f"question: must hold {box} once, unchanged")
            bare = bare.replace(box, "box")
        said = self._checked(bare, "question")
        wanted = self._asked_names(ask)
        _refuse(
            sorted(said.labels) != wanted,
            f"question: must name {' and '.join(wanted) or 'no object'}, once and nothing else",
        )
        claims = said.negated or said.places or said.sizes or said.numbers - {1}
        _refuse(bool(claims), "question: ask without negation, place, size or number")
        self._check_asks_for_it(ask, said)
        return text

    def _check_asks_for_it(self, ask: Ask, said: Claims) -> None:
        words = {*said.others, *said.planes}
        topic = "place" if ask.turn.task == "VG" else ask.topic
        follows = ask.turn.task == "VG" and said.others[0] in _LEAD_INS
        fits = follows or topic not in _CUES or bool(_CUES[topic] & words)
        _refuse(not fits, f"question: must ask as {ask.turn.question!r} does")
        names = ask.turn.task == "ROC" and bool(_DESCRIBE & words - {"tell"})
        _refuse(names, "question: asks for more than a name")

    def _asked_names(self, ask: Ask) -> list[str]:
        if ask.turn.task == "MIA":
            return sorted(self.reader.read(ask.turn.question).labels)
        return [ask.label] if ask.turn.task == "VG" else []

    def _grounding(self, ask: Ask, answer: object) -> str:
        _refuse(not isinstance(answer, str), "answer: must be a text")
        try:
            said, true = parse_grounding(answer), parse_grounding(ask.turn.answer)
        except GrammarError as error:
            raise RefusedError(f"{error}; must be exactly {ask.turn.answer!r}") from error
        same = said.label == true.label and sorted(said.boxes_norm) == sorted(true.boxes_norm)
        _refuse(not same, f"answer: must be exactly {ask.turn.answer!r}")
        return ask.turn.answer  # the language of boxes has one form

    def _name(self, ask: Ask, answer: str) -> str:
        _refuse(natural_name(answer) != ask.label, f"answer: must be {ask.label!r} and no more")
        return ask.label

    def _description(self, ask: Ask, text: str) -> str:
        said = self._checked(text, "answer")
        _refuse(set(said.labels) != {ask.label}, f"answer: must name the {ask.label} alone")
        _refuse(said.negated, "answer: holds a negation")
        _refuse(bool(said.numbers - {1}), "answer: holds a number")
        self._check_place(said, [ask.box_norm], f"the {ask.label}")
        return text

    def _analysis(self, ask: Ask, text: str) -> str:
        if ask.topic == "report":
            self._check_whole(text, "answer")
            return text
        said, true = self._checked(text, "answer"), self.reader.read(ask.turn.answer)
        _refuse(
            set(said.labels) != set(true.labels),
            f"answer: must name {', '.join(sorted(set(true.labels))) or 'no object'}, no more",
        )
        _refuse(said.negated != true.negated, f"answer: must say the same as {ask.turn.answer!r}")
        _refuse(_yes_or_no(text) != _yes_or_no(ask.turn.answer), "answer: wrong Yes or No")
        for kind in ("places", "sizes", "numbers"):
            differs = getattr(said, kind) - {1} != getattr(true, kind) - {1}
            _refuse(differs, f"answer: other {kind} than in {ask.turn.answer!r}")
        if ask.topic == "count":
            _refuse(said.numbers != true.numbers, f"answer: must count as {ask.turn.answer!r}")
        for kind in ("modalities", "planes", "regions"):
            lacking = getattr(true, kind) - getattr(said, kind)
            _refuse(bool(lacking), f"answer: does not say {', '.join(sorted(lacking))}")
        return text

    def _check_whole(self, text: str, what: str) -> None:
        """A text about the whole picture: every object, where it lies and how often it is there."""
        said = self._checked(text, what)
        lacking = set(self.counts) - set(said.labels)
        _refuse(bool(lacking), f"{what}: does not name {', '.join(sorted(lacking))}")
        stray = set(said.labels) - set(self.counts)
        _refuse(bool(stray), f"{what}: speaks of {', '.join(sorted(stray))}")
        _refuse(said.negated and bool(self.counts), f"{what}: holds a negation")
        _refuse(not said.modalities, f"{what}: does not tell the modality")
        _refuse(bool(self.facts.region) and not said.regions, f"{what}: does not tell the region")
        for clause in self.reader.clauses(text):
            self._check_clause(clause, what)

    def _check_clause(self, clause: Claims, what: str) -> None:
        labels = set(clause.labels)
        numbers = clause.numbers - {1}
        if not (clause.places or clause.sizes or numbers):
            return
        _refuse(
            len(labels) != 1, f"{what}: give every object its own phrase for place, size and number"
        )
        (label,) = labels
        boxes = [o.box_norm for o in self.facts.objects if o.label == label]
        self._check_place(clause, boxes, f"{what}: the {label}")
        _refuse(not numbers <= {self.counts[label]}, f"{what}: wrong number of {label}")

    def _check_place(self, said: Claims, boxes: Sequence[BoxNorm], what: str) -> None:
        places = frozenset().union(*(places_of(place_in_words(box)) for box in boxes))
        sizes = {size_in_words(box) for box in boxes}
        _refuse(not said.places <= places, f"{what} does not lie there")
        _refuse(not said.sizes <= sizes, f"{what} has another size")

    def _checked(self, text: str, what: str) -> Claims:
        """What the text claims, once its words and the picture's kind are found right."""
        _refuse("<" in text or ">" in text, f"{what}: holds a marker that does not belong there")
        said = self.reader.read(text)
        allowed = self.words | self.own_words | (_IN_QUESTIONS if what == "question" else set())
        allowed |= set() if self.counts else _IN_BLANKS
        unknown = [word for word in said.others if word not in allowed]
        _refuse(
            bool(unknown),
            f"{what}: says {', '.join(map(repr, dict.fromkeys(unknown)))}, which is not annotated; "
            "use plainer words",
        )
        wrong = said.modalities - {self.facts.modality}
        _refuse(bool(wrong), f"{what}: the modality is {MODALITY_NAMES[self.facts.modality]}")
        planes = said.planes - {self.facts.plane} if what != "question" else ()
        _refuse(bool(planes), f"{what}: wrong or unknown plane")
        return said


def _plain(text: object, longest: int, what: str) -> str:
    """The text in one line of plain characters."""
    _refuse(not isinstance(text, str) or not text.strip(), f"{what}: must be a text")
    line = " ".join(text.translate(_TYPOGRAPHY).split())
    _refuse(len(line) > longest, f"{what}: longer than {longest} characters")
    odd = sorted({c for c in line if not (c.isascii() and c.isprintable())})
    _refuse(bool(odd), f"{what}: holds the characters {''.join(odd)!r}")
    return line


def _yes_or_no(text: str) -> str:
    first = text.split(",")[0].split()[0].strip(".,!").lower()
    return first if first in ("yes", "no") else ""


def _refuse(reason_holds: bool, reason: str) -> None:
    if reason_holds:
        raise RefusedError(reason)
