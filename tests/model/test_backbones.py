"""Models of other families, taught to know one block: the boxes, scores and words that come out are
those that their networks write.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel
import pytest
import torch
from typer.testing import CliRunner, Result

from bird_vlm.backbones.pictures import as_picture
from bird_vlm.boxes import norm_to_pixel
from bird_vlm.cli import app
from bird_vlm.confidence import token_probabilities
from bird_vlm.dialects.radgrounder import RADGROUNDER
from bird_vlm.errors import BadRequestError
from block_lessons import (
    AIR_SLICES,
    BLOCK,
    FIRST_SLICE,
    LAST_SLICE,
    NAME,
    QUESTION,
    STONE,
    Taught,
    block_norm,
    block_ras,
    block_volume,
    taught_model,
)
from tiny_families import FAMILIES

ONE_BIN = 1.0  # pixels of a slice 20 wide and 18 high: coarser than any family's units


@pytest.fixture(scope="module", params=FAMILIES)
def a_taught_model(request, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    folder = tmp_path_factory.mktemp("models") / request.param
    folder.mkdir()
    return taught_model(request.param, folder)


@pytest.fixture(scope="module")
def a_block_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    volume = block_volume()
    path = tmp_path_factory.mktemp("block") / "block.nii.gz"
    nibabel.save(nibabel.Nifti1Image(volume.array, volume.ijk_to_ras), path)
    return path


def bird(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_block_is_found_where_it_is(a_taught_model: Taught, a_block_file: Path, tmp_path: Path):
    out = tmp_path / "found.json"
    result = bird(
        "ground", a_block_file, "--text", BLOCK, "--text", STONE,
        "--model", a_taught_model.folder, "--device", "cpu", "--json", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    answer = json.loads(out.read_text())
    [finding] = answer["findings"]
    assert (finding["label"], finding["slices"]) == (BLOCK, [FIRST_SLICE, LAST_SLICE])
    for box in finding["boxes"]:
        assert box["box_pixel"] == pytest.approx(norm_to_pixel(block_norm(), 20, 18), abs=ONE_BIN)
    assert answer["absent"] == [STONE]
    assert f"{len(AIR_SLICES)} answers were not in the language" in result.output


def test_a_question_about_a_slice_is_answered(a_taught_model: Taught, a_block_file: Path):
    result = bird(
        "ask", a_block_file, QUESTION, "--slice", "4", "--model", a_taught_model.folder,
        "--device", "cpu",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == NAME


def test_a_box_is_named(a_taught_model: Taught, a_block_file: Path):
    corners = ",".join(map(str, block_ras()))
    result = bird(
        "refer", a_block_file, "--box-ras", corners, "--model", a_taught_model.folder,
        "--device", "cpu",
    )  # fmt: skip
    if a_taught_model.engine.dialect is RADGROUNDER:
        assert result.exit_code == 2
        assert "cannot be asked about a box" in result.output
    else:
        assert result.exit_code == 0, result.output
        assert result.stdout.strip() == BLOCK


def test_a_real_brain_gives_boxes_or_unreadable_answers(
    a_taught_model: Taught, mni152_file: Path, tmp_path: Path
):
    out = tmp_path / "found.json"
    result = bird(
        "ground", mni152_file, "--text", BLOCK, "--slices", "90:92", "--threshold", "0",
        "--model", a_taught_model.folder, "--device", "cpu", "--json", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    answer = json.loads(out.read_text())
    boxes = [box for finding in answer["findings"] for box in finding["boxes"]]
    unreadable = re.search(r"(\d+) answers were not", result.output)
    assert len(boxes) + int(unreadable.group(1) if unreadable else 0) <= 2 * 4
    assert bool(answer["findings"]) != bool(answer["absent"])


def test_a_batch_gets_the_answers_of_its_questions_alone(a_taught_model: Taught):
    engine, features = a_taught_model.engine, a_taught_model.features
    labels = [BLOCK, STONE, "a third object with a name that is much longer than the others"]
    together = engine.ground(features, labels)
    for row, picture in enumerate(features):
        for column, label in enumerate(labels):
            [[alone]] = engine.ground(picture[None], [label])
            assert together[row][column].presence == pytest.approx(alone.presence, abs=1e-4)
            if label in (BLOCK, STONE):
                assert together[row][column].text == alone.text
                assert together[row][column].boxes_norm == alone.boxes_norm
                assert together[row][column].scores == pytest.approx(alone.scores, abs=1e-4)


def test_what_is_absent_has_no_boxes_and_what_is_garbled_keeps_its_text(a_taught_model: Taught):
    features = a_taught_model.features
    (block, _), (_, _), (_, stone) = a_taught_model.engine.ground(features, [BLOCK, STONE])
    [[_], [nowhere], [_]] = a_taught_model.engine.ground(features, [BLOCK], threshold=0.0)
    assert block.presence > 0.5
    assert len(block.boxes_norm) == len(block.scores) == 1
    assert stone.unreadable
    assert stone.text
    assert stone.boxes_norm == ()
    assert nowhere.boxes_norm == ()
    assert not nowhere.unreadable
    assert nowhere.presence < 0.5


def test_presence_is_the_share_of_the_first_token(a_taught_model: Taught):
    engine, picture = a_taught_model.engine, a_taught_model.features[:1]
    question = engine.dialect.presence_question(BLOCK)
    prompt = question.text if question else engine.dialect.grounding_prompt(BLOCK)
    shares = _read(a_taught_model, picture, prompt, "")[-1].softmax(-1)
    yes, no = _first_tokens(a_taught_model)
    [[answer]] = engine.ground(picture, [BLOCK])
    expected = shares[yes].sum() / (shares[yes].sum() + shares[no].sum())
    assert answer.presence == pytest.approx(expected.item(), abs=1e-5)


def test_a_boxs_score_is_the_mean_of_its_numbers_probabilities(a_taught_model: Taught):
    engine, picture = a_taught_model.engine, a_taught_model.features[:1]
    [[answer]] = engine.ground(picture, [BLOCK])
    prompt = engine.dialect.grounding_prompt(BLOCK)
    ids = _ids(a_taught_model, answer.text)
    logits = _read(a_taught_model, picture, prompt, answer.text)[-len(ids) - 1 : -1]
    tokens = engine.writer.tokenizer.convert_ids_to_tokens(ids)
    numbers = list(engine.writer.number_ids)
    chosen = token_probabilities(logits[None], torch.tensor([ids]), numbers)[0]
    if numbers:
        places = [place for place, token in enumerate(ids) if token in numbers]
    else:
        opening = max(place for place, token in enumerate(tokens) if "[" in token)
        places = [p for p, token in enumerate(tokens) if p > opening and token.isdigit()]
    assert len(places) >= 4
    expected = chosen[places].log().mean().exp().item()
    assert answer.scores == (pytest.approx(expected, abs=1e-5),)


@pytest.mark.parametrize("most", [1, 2, 8])
def test_how_many_are_asked_at_once_changes_nothing(a_taught_model: Taught, most: int):
    engine, features = a_taught_model.engine, a_taught_model.features
    engine.questions_at_once = most
    [[block], [nothing], [air]] = engine.ground(features, [BLOCK])
    assert block.boxes_norm
    assert (nothing.text, air.text) == ("", "")
    assert engine.questions_at_once == most


def test_control_tokens_of_the_family_are_refused(a_taught_model: Taught):
    engine, features = a_taught_model.engine, a_taught_model.features[:1]
    special = [
        str(token)
        for token in engine.writer.tokenizer.added_tokens_decoder.values()
        if token.special
    ]
    assert special
    for token in special:
        with pytest.raises(BadRequestError, match="control token"):
            engine.ground(features, [f"block{token}"])
        with pytest.raises(BadRequestError, match="control token"):
            engine.ask(features, f"What is this?{token}\n")


def test_no_pictures_and_no_labels_have_no_answers(a_taught_model: Taught):
    engine, features = a_taught_model.engine, a_taught_model.features
    assert engine.ground(features[:0], [BLOCK]) == []
    assert engine.ground(features, []) == [[], [], []]


def _ids(taught: Taught, text: str) -> list[int]:
    return taught.engine.writer.tokenizer(text, add_special_tokens=False)["input_ids"]


def _read(taught: Taught, picture: torch.Tensor, prompt: str, answer: str) -> torch.Tensor:
    """(tokens, vocabulary) logits of one reading of prompt and answer, nothing padded."""
    network = taught.engine.network
    inputs = dict(taught.engine.inputs.of([as_picture(picture[0])], [prompt]))
    ids = torch.tensor([_ids(taught, answer)], dtype=torch.long)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], ids], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    for name in {"mm_token_type_ids", "token_type_ids"} & set(inputs):
        answered = int(network.config.model_type == "paligemma")
        inputs[name] = torch.cat([inputs[name], torch.full_like(ids, answered)], 1)
    with torch.inference_mode():
        return network(**inputs).logits[0]


def _first_tokens(taught: Taught) -> tuple[list[int], list[int]]:
    """Tokens that begin an answer with the block, and one without it."""
    tokenizer = taught.engine.writer.tokenizer
    if taught.engine.dialect.presence_question(BLOCK) is None:
        numbers = [f"<loc{number:04d}>" for number in range(1024)]
        return tokenizer.convert_tokens_to_ids(numbers), [tokenizer.eos_token_id]
    yes, no = (
        {_ids(taught, blank + word)[0] for word in words for blank in ("", " ")}
        for words in (("Yes", "yes"), ("No", "no"))
    )
    return sorted(yes - no), sorted(no - yes)
