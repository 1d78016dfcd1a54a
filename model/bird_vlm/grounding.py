"""Many labels on many pictures, at the price of the choices that are the model's.

Every picture is read once for all its labels, and remembered where it has a name; the first token
after a question tells whether the object is there, and only where it is are the numbers of its
boxes decoded; the signs around them are fed. Knows pictures' features and words; knows nothing
about volumes.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from transformers import ProcessorMixin

from bird_vlm.answers import PictureAnswer
from bird_vlm.batches import in_batches
from bird_vlm.confidence import token_probabilities
from bird_vlm.frames import AnswerTokens, Writing
from bird_vlm.grammar import MAX_BOXES, REF_START, format_absent
from bird_vlm.memory import Memory, read_pictures
from bird_vlm.modeling_bird import BirdForConditionalGeneration
from bird_vlm.packed import PackedDecoder, Place
from bird_vlm.prompts import grounding_prompt
from bird_vlm.tensor_cache import TensorCache

_LABELS_AT_ONCE = 16
_TOKENS_AT_ONCE = 8192  # on a device without memory of its own
_MEMORY_SHARE = 0.5  # of a device's free memory, for what one batch takes
_MOST_REMEMBERED = 4 << 20  # bytes of a picture; what is larger is sooner read anew than moved


@dataclass(frozen=True)
class _Questions:
    """What every picture of a batch is asked, in tokens."""

    labels: Sequence[str]
    questions: list[list[int]]
    absent_ids: list[int]  # how the answer begins where the object is absent

    @property
    def length(self) -> int:
        return sum(map(len, self.questions))


class Grounder:
    """Grounds with one network."""

    def __init__(
        self,
        network: BirdForConditionalGeneration,
        processor: ProcessorMixin,
        budget: int | None = None,
    ) -> None:
        """`budget` is how many tokens the decoder reads at once; by default what memory allows."""
        self.network, self.processor = network, processor
        self.budget = budget or tokens_at_once(network)
        self.words = AnswerTokens(processor.tokenizer)
        self.present_id = self.words.ids(REF_START)[0]
        self.prefix, self.after_question = processor.around_question()
        self.memories = TensorCache()

    def ground(
        self,
        features: torch.Tensor,
        labels: Sequence[str],
        threshold: float,
        names: Sequence[Hashable] | None = None,
    ) -> list[list[PictureAnswer]]:
        """Ask for every label on every picture; answers[picture][label].

        `features` are (pictures, image tokens, width). An object whose presence probability is
        below `threshold` is absent and gets no boxes. Pictures that have `names` are not read again
        the next time.
        """
        asked = [
            self._questions(labels[start : start + _LABELS_AT_ONCE])
            for start in range(0, len(labels), _LABELS_AT_ONCE)
        ]
        length = len(self.prefix) + max((q.length for q in asked), default=0)
        answers: list[list[PictureAnswer]] = []

        def ground(batch: slice) -> None:
            memories = self._read(features[batch], names[batch] if names is not None else None)
            found = [self._batch(memories, questions, threshold) for questions in asked]
            answers.extend(list(chain(*rows)) for rows in zip(*found, strict=True))

        size = max(1, self.budget // length)
        fitted = in_batches(len(features) if labels else 0, size, ground)
        if fitted < size:
            self.budget = fitted * length
        return answers or [[] for _ in features]

    def _read(self, features: torch.Tensor, names: Sequence[Hashable] | None) -> list[Memory]:
        """What the decoder remembers of each picture, from earlier where it does."""
        if names is None:
            return read_pictures(self.network, features, self.prefix)
        found = self.memories.get(names)
        lacking = [place for place, memory in enumerate(found) if memory is None]
        if lacking:
            fresh = read_pictures(self.network, features[lacking], self.prefix)
            if fresh[0].nbytes <= _MOST_REMEMBERED:
                self.memories.put([names[place] for place in lacking], fresh)
            for place, memory in zip(lacking, fresh, strict=True):
                found[place] = memory
        return [memory.to(features.device) for memory in found]

    def _questions(self, labels: Sequence[str]) -> _Questions:
        prompts = [grounding_prompt(label) for label in labels]
        self.processor.refuse_control_tokens(prompts)
        return _Questions(
            labels,
            [self.words.ids(prompt + self.after_question) for prompt in prompts],
            [self.words.ids(format_absent(label))[0] for label in labels],
        )

    @torch.inference_mode()
    def _batch(
        self, memories: Sequence[Memory], asked: _Questions, threshold: float
    ) -> list[list[PictureAnswer]]:
        decoder = PackedDecoder(self.network, self.processor.tokenizer.pad_token_id, memories)
        presence = self._presence(decoder.begin(asked.questions), asked).tolist()
        writings = {
            (row, column): Writing(self.words, label, MAX_BOXES)
            for row, shares in enumerate(presence)
            for column, label in enumerate(asked.labels)
            if shares[column] >= threshold
        }
        self._write(decoder, writings)
        return [
            [self._answer(share, writings.get((r, column))) for column, share in enumerate(shares)]
            for r, shares in enumerate(presence)
        ]

    def _presence(self, logits: torch.Tensor, asked: _Questions) -> torch.Tensor:
        """(rows, labels) probabilities, from the logits behind the questions."""
        absent = torch.tensor(asked.absent_ids, device=logits.device).expand(len(logits), -1)
        absent = logits.gather(-1, absent[..., None])[..., 0]
        return torch.sigmoid(logits[..., self.present_id].float() - absent.float())

    def _write(self, decoder: PackedDecoder, writings: Mapping[Place, Writing]) -> None:
        """Write all answers to their ends, a choice of each at a time."""
        while waiting := {p: writing for p, writing in writings.items() if not writing.done}:
            decoder.keep(sorted({row for row, _ in waiting}))
            logits = decoder.extend({place: w.pending for place, w in waiting.items()})
            chosen = best_of(logits, [writing.choices for writing in waiting.values()])
            shares = token_probabilities(logits[:, None], chosen[:, None], self.words.whole)
            for writing, token, share in zip(
                waiting.values(), chosen.tolist(), shares[:, 0].tolist(), strict=True
            ):
                writing.choose(token, share)

    def _answer(self, presence: float, writing: Writing | None) -> PictureAnswer:
        if writing is None:
            return PictureAnswer(presence, "")
        text = self.processor.tokenizer.decode(writing.tokens, skip_special_tokens=False)
        return PictureAnswer(presence, text, writing.boxes_norm, writing.scores)


def tokens_at_once(network: BirdForConditionalGeneration) -> int:
    """How many tokens the free memory of the network's device holds on their way through it.

    A token takes its keys and values three times, as remembered, as gathered and as extended, and
    the widest layer's activations some times over.
    """
    if network.device.type != "cuda":
        return _TOKENS_AT_ONCE
    text = network.config.get_text_config()
    width = text.hidden_size // text.num_attention_heads * text.num_key_value_heads
    values = 3 * 2 * text.num_hidden_layers * width + 8 * text.intermediate_size
    free, _ = torch.cuda.mem_get_info(network.device)
    return max(_TOKENS_AT_ONCE // 4, int(_MEMORY_SHARE * free / values / network.dtype.itemsize))


def best_of(logits: torch.Tensor, choices: Sequence[Sequence[int]]) -> torch.Tensor:
    """(n,) the most likely of each row's choices; logits (n, vocabulary)."""
    most = max(map(len, choices))
    ids = torch.tensor([[*row, *[row[0]] * (most - len(row))] for row in choices])
    best = logits.gather(1, ids.to(logits.device)).argmax(1, keepdim=True)
    return ids.to(logits.device).gather(1, best)[:, 0]
