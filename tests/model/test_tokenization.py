"""The tokenizer: the golden ids of Qwen-VL-Chat, round trips, and files that are broken."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from bird_vlm.errors import CheckpointError
from bird_vlm.tokenization_bird import (
    CHAT_TOKENS,
    IMAGE_TOKENS,
    MARKUP_TOKENS,
    BirdTokenizer,
    number_ids,
    tokenizer_from_tiktoken,
    train_small_tokenizer,
    write_tiktoken,
)
from tiny_bird import SENTENCES

BOX = "<ref>liver</ref><box>(12,340),(567,1000)</box>"


@pytest.fixture(scope="module")
def qwen(shared) -> BirdTokenizer:
    return tokenizer_from_tiktoken(shared / "golden/qwen_vl_chat_files/qwen.tiktoken")


@pytest.mark.shared
def test_golden_texts_have_the_golden_ids(qwen, shared):
    golden = json.loads((shared / "golden/qwen_vl_chat_files/golden_ids.json").read_text())
    assert len(golden) == 68
    wrong = [case["text"] for case in golden if qwen(case["text"]).input_ids != case["ids"]]
    assert wrong == []


@pytest.mark.shared
def test_qwen_tokenizer_comes_back_from_disk_with_its_ranks(qwen, shared, tmp_path):
    qwen.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is BirdTokenizer
    assert loaded(BOX).input_ids == qwen(BOX).input_ids
    write_tiktoken(loaded, tmp_path / "ranks")
    original = shared / "golden/qwen_vl_chat_files/qwen.tiktoken"
    assert (tmp_path / "ranks").read_bytes() == original.read_bytes()


@pytest.mark.shared
def test_qwen_control_tokens_have_their_ids(qwen):
    tokens = [*CHAT_TOKENS, *MARKUP_TOKENS, *IMAGE_TOKENS]
    ids = [*range(151643, 151646), *range(151851, 151860)]
    assert qwen.convert_tokens_to_ids(tokens) == ids
    assert len(qwen) == 151860


def test_ranks_file_joins_as_tiktoken_does(a_ranks_file, tmp_path):
    tokenizer = tokenizer_from_tiktoken(a_ranks_file)
    assert tokenizer.tokenize("liver veli") == ["li", "ver", "Ġ", "ve", "li"]
    assert tokenizer.convert_tokens_to_ids("<imgpad>") == 475
    write_tiktoken(tokenizer, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == a_ranks_file.read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("IQ== 0\nIg==", "line 2 is not a base64 token", id="no rank"),
        pytest.param("\u00a7 0\n", "line 1 is not a base64 token", id="no base64"),
        pytest.param("IQ== 0\nIg== 2\n", "its 2 ranks have gaps", id="gap"),
        pytest.param("", "its 0 ranks have gaps", id="empty"),
    ],
)
def test_broken_ranks_files_are_refused(content, message, tmp_path):
    path = tmp_path / "qwen.tiktoken"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        tokenizer_from_tiktoken(path)


def test_small_tokenizer_speaks_the_same_dialect(a_small_tokenizer):
    tokens = a_small_tokenizer.tokenize(BOX)
    coordinates = tokens[tokens.index("<box>") + 1 : tokens.index("</box>")]
    assert coordinates == ["(", *"12", ",", *"340", "),(", *"567", ",", *"1000", ")"]
    assert tokens[0] == "<ref>"
    assert tokens[tokens.index("<box>") - 1] == "</ref>"


def test_numbers_may_be_one_token_each(a_tokenizer_of_numbers):
    tokens = a_tokenizer_of_numbers.tokenize(BOX)
    coordinates = tokens[tokens.index("<box>") + 1 : tokens.index("</box>")]
    assert coordinates == ["(", "12", ",", "340", "),(", "567", ",", "1000", ")"]
    assert a_tokenizer_of_numbers.tokenize("2048") == ["204", "8"]


def test_the_tokens_of_numbers_come_in_their_order(a_tokenizer_of_numbers, a_small_tokenizer):
    ids = number_ids(a_tokenizer_of_numbers, 1001)
    assert a_tokenizer_of_numbers.convert_ids_to_tokens(ids) == [str(n) for n in range(1001)]
    digits = number_ids(a_small_tokenizer, 10)
    assert a_small_tokenizer.convert_ids_to_tokens(digits) == list("0123456789")
    assert number_ids(a_small_tokenizer, 11) == []


def test_small_tokenizer_learns_its_texts(a_small_tokenizer):
    assert len(a_small_tokenizer) <= 400
    assert "Ġlocated" in a_small_tokenizer.tokenize(SENTENCES[0])


@pytest.mark.parametrize("made", ["a_small_tokenizer", "a_tokenizer_of_numbers"])
def test_small_tokenizer_comes_back_from_disk(made, tmp_path, request):
    tokenizer = request.getfixturevalue(made)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is BirdTokenizer
    assert loaded(BOX).input_ids == tokenizer(BOX).input_ids
    assert (loaded.eos_token, loaded.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert loaded.padding_side == "left"


@settings(deadline=None)  # the first text of a loaded machine is slow
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back(a_small_tokenizer, a_tokenizer_of_numbers, text):
    for tokenizer in (a_small_tokenizer, a_tokenizer_of_numbers):
        assert tokenizer.decode(tokenizer(text).input_ids) == unicodedata.normalize("NFC", text)


def test_markup_stays_when_control_tokens_are_dropped(a_small_tokenizer):
    ids = a_small_tokenizer(f"<|im_start|>{BOX}<|im_end|>").input_ids
    assert a_small_tokenizer.decode(ids, skip_special_tokens=True) == BOX


def test_vocabulary_smaller_than_its_bytes_is_refused():
    with pytest.raises(CheckpointError, match="vocab_size: bytes and control tokens alone need"):
        train_small_tokenizer(SENTENCES, vocab_size=200)
