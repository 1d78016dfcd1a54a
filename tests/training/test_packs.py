"""Packed rows give the logits of conversations alone, hold each once, and never overflow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bird_training.conversations import Conversation, Exchange
from bird_training.packing import IGNORED
from bird_training.tuning.bird_reader import BirdReader
from bird_training.tuning.chat_tokens import TokenTable, tokenize
from bird_training.tuning.packs import PackDataset, fill_packs, group_length, groups_of, sequence_of
from small_world import TINY_QUERIES

LIMIT = 260


@pytest.fixture(scope="module")
def a_reader(a_processor) -> BirdReader:
    return BirdReader(a_processor, 2048)


@pytest.fixture(scope="module")
def a_table(tmp_path_factory, a_reader) -> TokenTable:
    """Three pictures, two of which have several conversations; one brings a second picture in."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{name}.png" for name in "abc"]
    for seed, path in enumerate(paths):
        grey = np.random.default_rng(seed).integers(0, 255, (40, 50), dtype=np.uint8)
        Image.fromarray(grey).save(path)
    a, b, c = ((path,) for path in paths)
    talks = [
        (Exchange("Where is the liver?", "Here.", a),),
        (Exchange("Where is the spleen?", "Nowhere.", a), Exchange("Sure?", "Yes.")),
        (Exchange("What is it?", "A kidney.", b),),
        (Exchange("Where is the liver?", "There.", a),),
        (Exchange("First?", "One.", b), Exchange("Second?", "Two.", c)),
        (Exchange("First?", "Three.", b), Exchange("Other?", "Four.", c)),
    ]
    conversations = [Conversation(f"ct_{n}", f"x, {n}", talk) for n, talk in enumerate(talks)]
    return tokenize(conversations, a_reader, limit=LIMIT)


@pytest.fixture(scope="module", params=[True, False], ids=["shared", "alone"])
def a_dataset(request, a_table, a_reader) -> PackDataset:
    return PackDataset(a_table, a_reader, tokens=LIMIT, batch=4, share=request.param, seed=0)


def alone(bird, table: TokenTable, index: int, dataset: PackDataset) -> torch.Tensor:
    """Logits at the places that predict the answers of conversation `index` read by itself."""
    ids, labels = table.row(index)
    pixels = dataset._pixels(table.pictures[index])
    logits = bird(input_ids=torch.tensor([ids]), **pixels).logits[0]
    return logits[:-1][torch.tensor(labels)[1:] != IGNORED]


@torch.inference_mode()
def test_packed_logits_are_those_of_each_conversation_alone(a_bird, a_table, a_dataset):
    a_bird.eval()
    rows = range(len(a_dataset.packs))
    batch = a_dataset.collate([a_dataset[row] for row in rows])
    labels = batch.pop("labels")
    logits = a_bird(**batch).logits
    together = [logits[row, :-1][labels[row, 1:] != IGNORED] for row in rows]
    apart = [
        torch.cat([alone(a_bird, a_table, i, a_dataset) for group in pack for i in group])
        for pack in a_dataset.packs
    ]
    for packed, single in zip(together, apart, strict=True):
        assert single.std() > 0.05
        torch.testing.assert_close(packed, single, atol=1e-4, rtol=0)


def test_every_conversation_is_in_one_row(a_table, a_dataset):
    held = sorted(i for pack in a_dataset.packs for group in pack for i in group)
    assert held == list(range(len(a_table)))
    for row in range(len(a_dataset.packs)):
        assert len(a_dataset[row]["sequence"].input_ids) <= LIMIT


def test_without_shared_pictures_no_mask_is_needed(a_dataset):
    batch = a_dataset.collate([a_dataset[row] for row in range(len(a_dataset.packs))])
    shares = any(len(group) > 1 for pack in a_dataset.packs for group in pack)
    assert ("attention_mask" in batch) == shares


def test_questions_about_one_picture_share_it(a_table):
    groups = groups_of(a_table, LIMIT, share=True)
    assert sorted(map(sorted, groups)) == [[0, 1, 3], [2], [4, 5]]
    shared = group_length(a_table, (0, 1, 3))
    assert shared < sum(a_table.length(i) for i in (0, 1, 3)) - 2 * TINY_QUERIES
    assert shared == len(sequence_of(a_table, (0, 1, 3)).input_ids)


def test_a_group_is_split_where_it_would_not_fit(a_table):
    limit = group_length(a_table, (0, 1))
    groups = groups_of(a_table, limit, share=True)
    assert (0, 1) in groups
    assert (3,) in groups


@torch.inference_mode()
def test_fillers_make_whole_batches_without_a_loss(a_bird, a_dataset):
    assert len(a_dataset) % 4 == 0
    assert 0 < len(a_dataset) - len(a_dataset.packs) < 4
    batch = a_dataset.collate([a_dataset[len(a_dataset) - 1]])
    assert (batch["labels"] == IGNORED).all()
    assert float(a_bird(**batch, num_items_in_batch=torch.tensor(5)).loss) == 0


def test_packs_hang_on_the_seed_alone(a_table, a_reader):
    def packs(seed: int):
        return PackDataset(a_table, a_reader, tokens=LIMIT, batch=1, share=False, seed=seed).packs

    assert packs(1) == packs(1)
    assert any(packs(1) != packs(seed) for seed in range(2, 6))


@given(st.lists(st.integers(1, 100), min_size=1, max_size=200), st.integers(0, 5))
def test_rows_hold_everything_once_and_never_too_much(lengths, seed):
    groups = [(number,) for number in range(len(lengths))]
    packs = fill_packs(groups, lengths, 100, seed)
    held = [number for pack in packs for (number,) in pack]
    assert sorted(held) == list(range(len(lengths)))
    assert all(sum(lengths[number] for (number,) in pack) <= 100 for pack in packs)


def test_rows_of_the_papers_lengths_are_well_filled():
    lengths = np.random.default_rng(0).integers(310, 420, 3000).tolist()
    packs = fill_packs([(n,) for n in range(3000)], lengths, 2048, 0)
    assert sum(lengths) / (2048 * len(packs)) > 0.9


def test_an_unreadable_picture_is_named(tmp_path, a_reader):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    talk = Conversation("ct_1", "x", (Exchange("q?", "a.", (Path(broken),)),))
    table = tokenize([talk], a_reader, limit=LIMIT)
    dataset = PackDataset(table, a_reader, tokens=LIMIT, batch=1, share=True, seed=0)
    with pytest.raises(ValueError, match=r"broken\.png"):
        dataset[0]
