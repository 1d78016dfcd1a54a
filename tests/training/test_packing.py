"""Packed questions: each is read as if it were alone, in the words of the chat template."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bird_training.packing import IGNORED, PackedSequence, collate_packed, pack_turns
from bird_training.pretraining.pictures import TurnTokens
from bird_training.writers.dialogues import (
    PlacedObject,
    Turn,
    describing_turn,
    grounding_turn,
    naming_turn,
)
from bird_vlm.grammar import parse_grounding
from small_world import TINY_SIZE

LIVER = PlacedObject("liver", (52, 180, 611, 790))
KIDNEY = PlacedObject("left kidney", (1, 2, 30, 1000))
TURNS = [
    grounding_turn("liver", [LIVER, KIDNEY]),
    grounding_turn("spleen", [LIVER]),
    naming_turn(KIDNEY),
    describing_turn(LIVER, "ct"),
]
TOKENS = st.lists(st.integers(1, 50), min_size=1, max_size=6)


@pytest.fixture
def a_writer(a_processor) -> TurnTokens:
    return TurnTokens(a_processor)


@pytest.fixture
def two_pictures() -> torch.Tensor:
    return torch.randn(2, 3, TINY_SIZE, TINY_SIZE, generator=torch.Generator().manual_seed(1))


def a_conversation(turn: Turn, image) -> list[dict]:
    content = [{"type": "image", "image": image}, {"type": "text", "text": turn.question}]
    return [{"role": "user", "content": content}, {"role": "assistant", "content": turn.answer}]


def turn_of(packed: PackedSequence, number: int) -> list[int]:
    """Where prefix and turn `number` stand in the packed sequence."""
    return [i for i, turn in enumerate(packed.turns) if turn in (0, number)]


def test_a_packed_turn_has_the_tokens_of_its_conversation(a_processor, a_writer):
    image = torch.zeros(20, 30, dtype=torch.uint8).numpy()
    packed = a_writer.pack(TURNS)
    for number, turn in enumerate(TURNS, start=1):
        chat = a_processor.apply_chat_template(
            a_conversation(turn, image),
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        whole, trained = chat["input_ids"][0], chat["assistant_masks"][0]
        places = turn_of(packed, number)
        line_end = a_processor.tokenizer("\n", add_special_tokens=False)["input_ids"]
        assert [packed.input_ids[i] for i in places] + line_end == list(whole)
        loss_on = [packed.labels[i] != IGNORED for i in places]
        assert loss_on == [bool(t) for t in trained[: -len(line_end)]]


def test_the_loss_covers_answers_and_their_ends_and_nothing_else(a_processor, a_writer):
    packed = a_writer.pack(TURNS)
    for number, turn in enumerate(TURNS, start=1):
        wanted = [
            label
            for label, owner in zip(packed.labels, packed.turns, strict=True)
            if owner == number and label != IGNORED
        ]
        assert a_processor.tokenizer.decode(wanted) == f"{turn.answer}<|im_end|>"
    assert all(
        label in (IGNORED, token)
        for label, token in zip(packed.labels, packed.input_ids, strict=True)
    )
    assert {packed.labels[i] for i, turn in enumerate(packed.turns) if turn == 0} == {IGNORED}


@torch.inference_mode()
@pytest.mark.parametrize("order", [TURNS, TURNS[::-1]], ids=["as-written", "reversed"])
def test_logits_of_a_packed_turn_are_those_of_the_turn_alone(a_bird, a_writer, two_pictures, order):
    a_bird.eval()
    sequences = [a_writer.pack(order), a_writer.pack(order[:2])]  # the second one gets padding
    embeds = a_bird.get_image_features(two_pictures)
    batch = collate_packed(sequences, a_writer.pad_id)
    batch.pop("labels")
    together = a_bird(image_embeds=embeds, **batch).logits
    for row, packed in enumerate(sequences):
        for number in range(1, max(packed.turns) + 1):
            places = turn_of(packed, number)
            alone = a_bird(
                input_ids=batch["input_ids"][row : row + 1, places],
                image_embeds=embeds[row : row + 1],
            ).logits[0]
            assert alone.std() > 0.05
            torch.testing.assert_close(together[row, places], alone, atol=1e-4, rtol=0)


def test_the_packed_loss_is_that_of_the_turns_one_by_one(a_bird, a_writer, two_pictures):
    a_bird.eval()
    embeds = a_bird.get_image_features(two_pictures[:1]).detach()

    def loss_and_count(turns):
        batch = collate_packed([a_writer.pack(turns)], a_writer.pad_id)
        count = (batch["labels"] != IGNORED).sum()
        return a_bird(image_embeds=embeds, **batch).loss.item(), int(count)

    together, count = loss_and_count(TURNS)
    alone = [loss_and_count([turn]) for turn in TURNS]
    assert count == sum(c for _, c in alone)
    assert together == pytest.approx(sum(value * c for value, c in alone) / count, abs=1e-4)


def test_an_answer_hangs_on_the_picture_and_not_on_other_answers(a_bird, a_writer, two_pictures):
    """Changes in one turn reach no other turn; a change of the picture reaches all."""
    a_bird.eval()
    packed = a_writer.pack(TURNS)
    batch = collate_packed([packed], a_writer.pad_id)
    batch.pop("labels")
    first = [i for i, turn in enumerate(packed.turns) if turn == 1]
    others = [i for i, turn in enumerate(packed.turns) if turn != 1]
    changed = batch["input_ids"].clone()
    changed[0, first] = changed[0, first].flip(0)
    with torch.inference_mode():
        usual, disturbed, other = (
            a_bird(**{**batch, "input_ids": ids}, pixel_values=two_pictures[i : i + 1]).logits[0]
            for ids, i in ((batch["input_ids"], 0), (changed, 0), (batch["input_ids"], 1))
        )
    torch.testing.assert_close(usual[others], disturbed[others], atol=1e-5, rtol=0)
    assert not torch.allclose(usual[first], disturbed[first], atol=1e-2)
    assert (usual - other).abs().amax(-1)[-5:].min() > 1e-3


@given(TOKENS, st.lists(st.tuples(TOKENS, TOKENS), max_size=4))
def test_every_turn_continues_from_the_prefix(prefix, turns):
    packed = pack_turns(prefix, turns)
    lengths = {len(v) for v in vars(packed).values()}
    assert lengths == {len(prefix) + sum(len(q) + len(a) for q, a in turns)}
    for number, (question, answer) in enumerate(turns, start=1):
        places = turn_of(packed, number)
        assert [packed.input_ids[i] for i in places] == prefix + question + answer
        assert [packed.position_ids[i] for i in places] == list(range(len(places)))


@given(st.lists(st.lists(st.tuples(TOKENS, TOKENS), max_size=3), min_size=1, max_size=3))
def test_the_mask_lets_a_token_read_its_own_past_only(many_turns):
    sequences = [pack_turns([7, 8], turns) for turns in many_turns]
    batch = collate_packed(sequences, pad_id=0)
    longest = max(len(s.input_ids) for s in sequences)
    assert batch["attention_mask"].shape == (len(sequences), 1, longest, longest)
    assert batch["attention_mask"].dtype == torch.bool
    assert batch["attention_mask"].any(-1).all()  # nobody reads nothing, not even padding
    for row, packed in enumerate(sequences):
        for reader, own in enumerate(packed.turns):
            expected = [i for i, t in enumerate(packed.turns) if i <= reader and t in (0, own)]
            assert batch["attention_mask"][row, 0, reader].nonzero()[:, 0].tolist() == expected


def test_padding_is_ignored(a_writer):
    short, long = a_writer.pack(TURNS[:1]), a_writer.pack(TURNS)
    batch = collate_packed([short, long], a_writer.pad_id)
    length = len(short.input_ids)
    assert batch["input_ids"][0, :length].tolist() == short.input_ids
    assert set(batch["input_ids"][0, length:].tolist()) == {a_writer.pad_id}
    assert set(batch["labels"][0, length:].tolist()) == {IGNORED}


def test_answers_survive_the_tokenizer(a_processor, a_writer):
    for turn in TURNS[:2]:
        packed = a_writer.pack([turn])
        wanted = [label for label in packed.labels if label != IGNORED]
        text = a_processor.tokenizer.decode(wanted).removesuffix("<|im_end|>")
        assert parse_grounding(text) == parse_grounding(turn.answer)
