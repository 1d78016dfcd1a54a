"""Questions about an image and their answers, in turns.

The server answers one question at a time, so the turns before are put into the next question as far
as they fit. Knows nothing about MRML, Qt or HTTP.
"""

import html
from collections import namedtuple

from .links import parse_links, without_marks

MAX_CHARACTERS = 1000  # of a question, by the protocol
_FORBIDDEN = str.maketrans(dict.fromkeys("<>|", " "))  # they belong to the model's language

# reply: answers.Reply; volume_id: the node ID of the volume that was asked about.
Turn = namedtuple("Turn", "question reply volume_id")


class Conversation:
    """The turns about one volume; another volume starts a new one."""

    def __init__(self):
        self.turns = []

    def prompt(self, question, volume_id):
        """The question with as much of what was said before as the protocol has room for.

        >>> Conversation().prompt("Is it  large?", "")
        'Is it large?'
        """
        question = _plain(question)[:MAX_CHARACTERS]
        told = ""
        for turn in reversed(self.turns):
            if turn.volume_id != volume_id:
                break
            earlier = "Question: {} Answer: {} ".format(
                _plain(turn.question), _plain(without_marks(turn.reply.text))
            )
            longer = "{}{}Question: {}".format(earlier, told, question)
            if len(longer) > MAX_CHARACTERS:
                break
            told = earlier + told
        return "{}Question: {}".format(told, question) if told else question

    def add(self, question, reply, volume_id):
        self.turns.append(Turn(" ".join(question.split()), reply, volume_id))

    def clear(self):
        self.turns = []

    def link(self, anchor):
        """(Turn, links.Part or None) of a link in `as_html`; the Part is None for the slice's own.

        Raises KeyError for a link of an earlier conversation.
        """
        kind, _, numbers = anchor.partition(":")
        turn, _, part = numbers.partition("/")
        if kind not in ("slice", "box") or not turn.isdigit() or int(turn) >= len(self.turns):
            raise KeyError(anchor)
        turn = self.turns[int(turn)]
        return turn, parse_links(turn.reply.text)[int(part)] if kind == "box" else None

    def as_html(self):
        """All turns as rich text, with a link per box and per slice."""
        return "".join(_turn_html(n, turn) for n, turn in enumerate(self.turns))


def _turn_html(n, turn):
    words = "".join(
        '<a href="box:{}/{}">{}</a>'.format(n, k, html.escape(part.words))
        if part.boxes_norm
        else html.escape(part.words)
        for k, part in enumerate(parse_links(turn.reply.text))
    )
    where = '<a href="slice:{}">{} slice {}</a>'.format(n, turn.reply.plane, turn.reply.slice)
    return "<p><b>{}</b><br/>{} <small>({})</small></p>".format(
        html.escape(turn.question), words, where
    )


def _plain(text):
    return " ".join(text.translate(_FORBIDDEN).split())
