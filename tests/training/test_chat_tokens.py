"""Tokens are the chat template's, the loss is on the answers, and nothing is cut in an answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bird_training.conversations import Conversation, Exchange
from bird_training.packing import IGNORED
from bird_training.tuning.bird_reader import BirdReader
from bird_training.tuning.chat_tokens import TokenTable, tokenize
from bird_vlm.errors import BirdError
from small_world import TINY_QUERIES

PICTURE = (Path("a.png"),)
ONE = Exchange(
    "Where is the <ref>liver</ref>?", "<ref>liver</ref><box>(1,2),(30,999)</box>", PICTURE
)
TALK = (ONE, Exchange("And the spleen?", "It is not there."), Exchange("Sure?", "Yes."))


def a_conversation(*exchanges: Exchange) -> Conversation:
    return Conversation("ct_1", "VG.json, record 7 (ct_1)", exchanges)


def lengths(processor, *exchanges: Exchange) -> int:
    return tokenize([a_conversation(*exchanges)], BirdReader(processor, 2048), limit=2048).length(0)


def answers_in(table: TokenTable, index: int, processor) -> list[str]:
    """The texts that the labels spell, one per run of labels."""
    _, labels = table.row(index)
    runs = "".join("x" if label != IGNORED else " " for label in labels).split()
    kept = [label for label in labels if label != IGNORED]
    texts = []
    for run in runs:
        texts.append(processor.tokenizer.decode(kept[: len(run)]))
        kept = kept[len(run) :]
    return texts


@pytest.fixture
def a_reader(a_processor) -> BirdReader:
    return BirdReader(a_processor, 2048)


def test_labels_decode_to_exactly_the_answers(a_processor, a_reader):
    table = tokenize([a_conversation(ONE), a_conversation(*TALK)], a_reader, limit=2048)
    for index, exchanges in enumerate([(ONE,), TALK]):
        wanted = [f"{e.answer}<|im_end|>" for e in exchanges]
        assert answers_in(table, index, a_processor) == wanted
        ids, labels = table.row(index)
        assert len(ids) == len(labels) == table.length(index)
        assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))


def test_tokens_are_those_of_the_processor_with_its_picture(a_processor, a_reader):
    messages = a_conversation(*TALK).messages()
    messages[0]["content"][0]["image"] = np.zeros((20, 30), np.uint8)
    chat = a_processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    whole, trained = list(chat["input_ids"][0]), list(chat["assistant_masks"][0])
    ids, labels = tokenize([a_conversation(*TALK)], a_reader, limit=2048).row(0)
    assert ids == whole[: len(ids)]
    assert a_processor.tokenizer.decode(whole[len(ids) :]) == "\n"  # after the last answer
    assert [label != IGNORED for label in labels] == [bool(t) for t in trained[: len(ids)]]
    assert ids.count(a_processor.image_token_id) == TINY_QUERIES


def test_a_long_conversation_loses_whole_exchanges_from_its_end(a_processor, a_reader):
    two = lengths(a_processor, *TALK[:2])
    for limit in (two, lengths(a_processor, *TALK) - 1):
        table = tokenize([a_conversation(*TALK)], a_reader, limit=limit)
        assert table.length(0) == two
        assert (table.counts.kept, table.counts.cut, table.counts.skipped) == (1, 1, 0)
        assert len(answers_in(table, 0, a_processor)) == 2


def test_a_picture_that_is_no_longer_asked_about_goes_too(a_processor, a_reader):
    later = Exchange("And this?", "A spleen.", (Path("b.png"),))
    limit = lengths(a_processor, ONE)
    table = tokenize([a_conversation(ONE, later)], a_reader, limit=limit)
    assert table.pictures == [(0,)]
    assert table.paths == [Path("a.png")]


@pytest.mark.parametrize("too_long", ["cut", "stop"])
def test_an_answer_that_does_not_fit_is_named_and_never_cut(a_processor, a_reader, too_long):
    limit = lengths(a_processor, ONE) - 1
    with pytest.raises(BirdError, match=r"record 7 \(ct_1\): \d+ tokens .* too_long=skip"):
        tokenize([a_conversation(ONE)], a_reader, limit=limit, too_long=too_long)


def test_stop_refuses_what_cut_would_shorten(a_processor, a_reader):
    limit = lengths(a_processor, *TALK) - 1
    with pytest.raises(BirdError, match="record 7"):
        tokenize([a_conversation(*TALK)], a_reader, limit=limit, too_long="stop")


def test_too_long_ones_can_be_left_out(a_processor, a_reader):
    limit = lengths(a_processor, ONE)
    both = [a_conversation(*TALK), a_conversation(ONE)]
    table = tokenize(both, a_reader, limit=limit, too_long="skip")
    assert len(table) == 1
    assert table.counts.skipped == 1
    with pytest.raises(BirdError, match="none of the 1 conversations"):
        tokenize(both[:1], a_reader, limit=limit, too_long="skip")


def test_conversations_of_many_batches_keep_their_order(a_processor, a_reader):
    many = [
        a_conversation(
            Exchange(f"What is {number}?", f"It is {number}.", (Path(f"{number % 7}.png"),))
        )
        for number in range(2100)
    ]
    seen = []
    table = tokenize(many, a_reader, limit=2048, progress=seen.append)
    assert seen == [1000, 2000, 2100]
    assert len(table.paths) == 7
    for number in (0, 999, 1000, 2099):
        assert answers_in(table, number, a_processor) == [f"It is {number}.<|im_end|>"]
        assert table.paths[table.pictures[number][0]].name == f"{number % 7}.png"
