"""What a grounding answer must look like, reduced to the few choices that are the model's.

    <ref>liver</ref><box>(52,180),(611,790)</box>

The words and the signs around the numbers are known beforehand. To be chosen are the numbers, each
within what keeps the box well formed, and whether another box follows. Knows tokens; knows nothing
about networks.
"""

from __future__ import annotations

import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from bird_vlm.boxes import NORM_MAX, BoxNorm
from bird_vlm.confidence import geometric_mean
from bird_vlm.grammar import BOX_END, BOX_START, REF_END, REF_START
from bird_vlm.tokenization_bird import CORNER_JOINT, number_ids

_SIGNS = (",", CORNER_JOINT, ",", ")")  # behind the four numbers of a box
_DIGITS = 10


class AnswerTokens:
    """The tokens of answers in one vocabulary."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.whole = number_ids(tokenizer, NORM_MAX + 1)  # none where numbers are of digits
        self.numbers = self.whole or number_ids(tokenizer, _DIGITS)
        self.value_of = {token: str(value) for value, token in enumerate(self.numbers)}
        self.box_start, self.box_end, self.corner = (
            tokenizer.convert_tokens_to_ids(sign) for sign in (BOX_START, BOX_END, "(")
        )
        self.signs = tokenizer.convert_tokens_to_ids(list(_SIGNS))
        self.end = tokenizer.eos_token_id

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


class BoxFrame:
    """One box on its way, from behind `<box>` to `</box>`."""

    def __init__(self, words: AnswerTokens) -> None:
        self.words = words
        self.numbers: list[int] = []
        self.spelled = ""  # of the number under way
        self.opened = self.done = False

    @property
    def choices(self) -> list[int]:
        """The token ids that may come next; one of them where there is nothing to choose."""
        words = self.words
        if not self.opened:
            return [words.corner]
        if len(self.numbers) == 4:
            return [words.box_end]
        if not words.whole:
            return self._digits()
        low, high = self._bounds()
        return [self._sign] if self.spelled else words.whole[low : high + 1]

    def take(self, token: int) -> None:
        """One of `choices` is written."""
        if not self.opened:
            self.opened = True
        elif len(self.numbers) == 4:
            self.done = True
        elif token == self._sign:
            self.numbers.append(int(self.spelled))
            self.spelled = ""
        else:
            self.spelled += self.words.value_of[token]

    @property
    def _sign(self) -> int:
        """The token behind the number under way."""
        return self.words.signs[len(self.numbers)]

    def _bounds(self) -> tuple[int, int]:
        """What the number may be for a box whose corners are not swapped."""
        if len(self.numbers) < 2:
            return 0, NORM_MAX - 1
        return self.numbers[-2] + 1, NORM_MAX

    def _digits(self) -> list[int]:
        low, high = self._bounds()
        leading = [d for d in range(_DIGITS) if self._leads(d, low, high)]
        digits = [self.words.numbers[digit] for digit in leading]
        finished = self.spelled and low <= int(self.spelled) <= high
        return [*digits, self._sign] if finished else digits

    def _leads(self, digit: int, low: int, high: int) -> bool:
        """Whether a number in low..high begins with what is spelled and this digit."""
        if self.spelled == "0":
            return False
        begun = int(f"{self.spelled}{digit}")
        if begun == 0:
            return low == 0
        spans = ((begun * 10**more, (begun + 1) * 10**more - 1) for more in range(4))
        return any(first <= high and last >= low for first, last in spans)


class Writing:
    """An answer that grounds a label, on its way.

    `pending` are the tokens to feed next; behind the last of them stands one of `choices`. When it
    is `done`, `tokens` are the whole answer, `boxes_norm` its boxes and `scores` how sure each was.
    """

    def __init__(self, words: AnswerTokens, label: str, most: int) -> None:
        """At most `most` boxes are written."""
        self.words, self.most = words, most
        self.tokens = words.ids(f"{REF_START}{label}{REF_END}")
        self.pending = list(self.tokens)
        self.boxes: list[BoxFrame] = []
        self.shares: list[list[float]] = []  # of each box's numbers or digits
        self.done = False
        self._take(words.box_start)
        self._take_what_must_follow()

    @property
    def boxes_norm(self) -> tuple[BoxNorm, ...]:
        return tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in (box.numbers for box in self.boxes))

    @property
    def scores(self) -> tuple[float, ...]:
        """0..1 per box."""
        return tuple(map(geometric_mean, self.shares))

    @property
    def choices(self) -> list[int]:
        """Token ids, of which the model takes one."""
        box = self.boxes[-1]
        return [self.words.box_start, self.words.end] if box.done else box.choices

    def choose(self, token: int, share: float) -> None:
        """Write a choice, which had probability `share`, 0..1, and what follows from it."""
        self.pending = []
        if token in self.words.value_of:
            self.shares[-1].append(share)
        self._take(token)
        self._take_what_must_follow()
        if self.done:
            self.pending = []

    def _take_what_must_follow(self) -> None:
        while not self.done and len(self.choices) == 1:
            self._take(self.choices[0])

    def _take(self, token: int) -> None:
        if token == self.words.end:
            self.done = True
            return
        self.tokens.append(token)
        self.pending.append(token)
        if token == self.words.box_start:
            self.boxes.append(BoxFrame(self.words))
            self.shares.append([])
            return
        self.boxes[-1].take(token)
        self.done = self.boxes[-1].done and len(self.boxes) == self.most


class BoxGrammar(LogitsProcessor):
    """Lets free text write well-formed boxes only; everything outside of boxes is free."""

    def __init__(self, words: AnswerTokens, prompt: int) -> None:
        """`prompt` is how many tokens stand before the answer."""
        self.words, self.prompt = words, prompt

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for row, tokens in enumerate(input_ids[:, self.prompt :].tolist()):
            choices = self._choices(tokens)
            if choices:
                allowed = torch.full_like(scores[row], -torch.inf)
                allowed[choices] = scores[row, choices]
                scores[row] = allowed
        return scores

    def _choices(self, tokens: list[int]) -> list[int]:
        """What may come next; empty where anything may."""
        if self.words.box_start not in tokens:
            return []
        start = len(tokens) - tokens[::-1].index(self.words.box_start)
        box = BoxFrame(self.words)
        for token in tokens[start:]:
            if box.done:
                return []
            box.take(token)
        return [] if box.done else box.choices
