"""The training set: batches of the right shapes whose questions are true of their pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from bird_training.packing import IGNORED
from bird_training.pretraining.pictures import PictureDataset
from bird_training.records import ObjectRecord, PictureRecord
from bird_training.regions import Vocabulary
from bird_vlm.grammar import parse_grounding
from bird_vlm.labels import side_of, without_side
from small_world import TINY_GRID, TINY_SIZE, a_record

TURNS = 4
SIDES = ("left hippocampus", "right hippocampus")


@pytest.fixture
def a_dataset(small_records, a_processor) -> PictureDataset:
    others = [a_record("lung nodule", dataset="LIDC-IDRI"), a_record("polyp", dataset="EndoTect")]
    return PictureDataset(
        small_records,
        Vocabulary([*small_records, *others]),
        a_processor,
        grid=TINY_GRID,
        turns=TURNS,
        workers=0,
    )


def answers_of(dataset: PictureDataset, sample: dict) -> list[str]:
    """The answers that the sample asks the model to learn, as text."""
    packed = sample["sequence"]
    texts = []
    for number in range(1, max(packed.turns) + 1):
        tokens = [
            label
            for label, turn in zip(packed.labels, packed.turns, strict=True)
            if turn == number and label != IGNORED
        ]
        texts.append(dataset.writer.tokenizer.decode(tokens).removesuffix("<|im_end|>"))
    return texts


def groundings_of(dataset: PictureDataset, sample: dict):
    texts = [text for text in answers_of(dataset, sample) if "<box>" in text or " not " in text]
    return [parse_grounding(text) for text in texts]


def known_of(dataset: PictureDataset, sample: dict) -> dict[str, bool]:
    return dict(zip(dataset.classes, sample["dense"][2].bool().tolist(), strict=True))


def test_a_batch_has_the_shapes_that_the_model_takes(a_dataset):
    torch.manual_seed(0)
    samples = [a_dataset[index] for index in range(4)]
    batch = a_dataset.collate(samples)
    tokens, classes = batch["input_ids"].shape[1], len(a_dataset.classes)
    assert classes == 8
    shapes = {name: tuple(value.shape) for name, value in batch.items()}
    assert shapes == {
        "pixel_values": (4, 3, TINY_SIZE, TINY_SIZE),
        "input_ids": (4, tokens),
        "labels": (4, tokens),
        "position_ids": (4, tokens),
        "attention_mask": (4, 1, tokens, tokens),
        "answer_boxes": (int(batch["before_boxes"].sum()), 4),
        "before_boxes": (4, tokens),
        "answer_hulls": (int(batch["before_answers"].sum()), 4),
        "before_answers": (4, tokens),
        "cover": (4, classes, TINY_GRID, TINY_GRID),
        "boxes": (4, classes, 4),
        "known": (4, classes),
    }
    for name in ("pixel_values", "cover", "boxes"):
        assert batch[name].dtype == torch.float32
        assert torch.isfinite(batch[name]).all()
    assert type(batch["pixel_values"]) is torch.Tensor


def test_every_picture_gets_its_questions(a_dataset):
    torch.manual_seed(0)
    for index in (0, 1, 3):
        assert len(answers_of(a_dataset, a_dataset[index])) == TURNS
    assert answers_of(a_dataset, a_dataset[2])  # nothing on it, and yet asked


@pytest.mark.parametrize(
    ("index", "unknown"),
    [
        pytest.param(0, {"lung nodule", "polyp", "skin lesion", "edema"}, id="the-trunk-is-one"),
        pytest.param(1, set(), id="brain"),
        pytest.param(2, set(), id="brain-with-nothing"),
        pytest.param(3, {"edema"}, id="skin"),
    ],
)
def test_known_tells_what_a_picture_tells(a_dataset, index, unknown):
    torch.manual_seed(1)
    known = known_of(a_dataset, a_dataset[index])
    assert {label for label, told in known.items() if not told} == unknown


def test_a_picture_has_cover_and_box_where_its_objects_are(a_dataset):
    torch.manual_seed(0)
    sample = a_dataset[1]
    cover, boxes, _ = sample["dense"]
    shown = {label: cover[row] for label, row in a_dataset.classes.items() if cover[row].any()}
    assert set(shown) == {"brain tumor", "edema"}
    for label in shown:
        x0, y0, x1, y1 = boxes[a_dataset.classes[label]].tolist()
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1
    assert not boxes[a_dataset.classes["liver"]].any()


def test_questions_for_absent_objects_are_never_about_something_on_the_picture(
    a_dataset, small_records
):
    torch.manual_seed(0)
    refused = 0
    for index, record in enumerate(small_records):
        shown = {o.label for o in record.objects}
        shown |= {without_side(label) for label in shown}
        for _ in range(15):
            for grounding in groundings_of(a_dataset, a_dataset[index]):
                assert bool(grounding.boxes_norm) == (grounding.label in shown)
                assert grounding.label != "lung nodule" or index != 0
                refused += not grounding.boxes_norm
    assert refused > 20


def a_head(folder, *labels: str, plane: str = "axial") -> PictureRecord:
    """A grey head with bright hippocampi: the patient's left is on the picture's right."""
    head = np.full((64, 64), 90, np.uint8)
    objects = []
    for label in labels:
        mask = np.zeros_like(head)
        column = 48 if label == SIDES[0] else 8
        mask[28:36, column : column + 8] = 255
        head[mask > 0] = 250
        path = folder / f"{label}-{len(labels)}.png"
        Image.fromarray(mask).save(path)
        objects.append(ObjectRecord(label, path))
    name = "-".join(labels) or "none"
    Image.fromarray(head).save(folder / f"{name}.png")
    record = a_record(dataset="OASIS", modality="mr", plane=plane, image=folder / f"{name}.png")
    return replace(record, objects=tuple(objects))


@pytest.fixture
def heads(tmp_path, a_processor) -> PictureDataset:
    """Pictures with both hippocampi, one of them, or none."""
    records = [a_head(tmp_path, *labels) for labels in (SIDES, SIDES[:1], SIDES[1:], ())]
    return PictureDataset(
        records, Vocabulary(records), a_processor, grid=TINY_GRID, turns=3, workers=0
    )


def bright_sides(sample: dict) -> set[str]:
    """Where the picture itself shows something bright, told by nothing but its pixels."""
    picture = sample["pixel_values"].mean(0)
    tissue = picture[picture > picture.min() + 0.3].median()
    bright = picture > (tissue + picture.max()) / 2
    columns = bright.sum(0)
    middle = TINY_SIZE // 2
    counts = {"left": int(columns[middle:].sum()), "right": int(columns[:middle].sum())}
    return {side for side, count in counts.items() if count >= 3}


def test_left_and_right_are_those_of_the_augmented_picture(heads):
    """The patient's left is on the picture's right, mirrored or not, in words and in targets."""
    torch.manual_seed(0)
    told, mirrored = 0, set()
    for index in (0, 1, 2):
        for _ in range(30):
            sample = heads[index]
            cover = sample["dense"][0]
            for label in SIDES:
                columns = cover[heads.classes[label]].sum(0)
                if columns.any():
                    centre = float((columns * torch.arange(TINY_GRID)).sum() / columns.sum())
                    assert (centre > (TINY_GRID - 1) / 2) == (side_of(label) == "left")
                    mirrored.add((index, label))
            for grounding in groundings_of(heads, sample):
                for x0, _, x1, _ in grounding.boxes_norm:
                    if side_of(grounding.label):
                        told += 1
                        assert (x0 + x1 > 1000) == (side_of(grounding.label) == "left")
    assert told > 40
    assert mirrored >= {(1, SIDES[0]), (1, SIDES[1]), (2, SIDES[0]), (2, SIDES[1])}


def test_no_refusal_and_no_absence_contradicts_the_pixels_of_a_mirrored_picture(heads):
    torch.manual_seed(0)
    refused = 0
    for index in (0, 1, 2):
        for _ in range(30):
            sample = heads[index]
            cover, _, known = sample["dense"]
            sides = bright_sides(sample)
            for grounding in groundings_of(heads, sample):
                if not grounding.boxes_norm:
                    refused += 1
                    assert side_of(grounding.label) not in sides
                    assert side_of(grounding.label) or not sides
            for label in SIDES:
                row = heads.classes[label]
                if known[row] and not cover[row].any():
                    assert side_of(label) not in sides
    assert refused > 5


def test_an_object_that_left_the_picture_is_not_asked_for(tmp_path, a_processor):
    """Nor does it count as absent; here it touches the border and is often cut off."""
    record = a_head(tmp_path, SIDES[0])
    border = np.zeros((64, 64), np.uint8)
    border[28:36, 60:] = 255
    Image.fromarray(border).save(record.objects[0].mask)
    dataset = PictureDataset(
        [record], Vocabulary([record]), a_processor, grid=TINY_GRID, turns=6, workers=0
    )
    torch.manual_seed(0)
    asked, silent = 0, 0
    for _ in range(40):
        groundings = groundings_of(dataset, dataset[0])
        assert all(g.boxes_norm for g in groundings)
        asked, silent = asked + bool(groundings), silent + (not groundings)
    assert asked > 5
    assert silent > 5


def test_draws_are_fresh_and_hang_on_the_seed(a_dataset):
    def draw(seed):
        torch.manual_seed(seed)
        sample = a_dataset[0]
        return sample["pixel_values"], answers_of(a_dataset, sample)

    first, again, other = draw(3), draw(3), draw(4)
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1]
    assert not torch.equal(first[0], other[0])


def test_the_boxes_of_the_answers_come_in_the_order_of_their_numbers(a_dataset):
    torch.manual_seed(2)
    samples = [a_dataset[index] for index in (0, 1, 3)]
    batch = a_dataset.collate(samples)
    written = [
        box
        for sample in samples
        for answer in groundings_of(a_dataset, sample)
        for box in answer.boxes_norm
    ]
    assert written == [tuple(box) for box in (1000 * batch["answer_boxes"]).round().int().tolist()]
    assert set(batch["labels"][batch["before_boxes"]].tolist()) == {
        a_dataset.writer.tokenizer.convert_tokens_to_ids("<box>")
    }


def test_the_hull_of_each_answer_belongs_to_the_token_before_it(a_dataset):
    torch.manual_seed(2)
    samples = [a_dataset[index] for index in (0, 1, 3)]
    batch = a_dataset.collate(samples)
    found = [a.boxes_norm for s in samples for a in groundings_of(a_dataset, s) if a.boxes_norm]
    hulls = (1000 * batch["answer_hulls"]).round().int()
    assert len(hulls) == len(found) > 0
    for hull, boxes in zip(hulls.tolist(), found, strict=True):
        x0, y0, x1, y1 = zip(*boxes, strict=True)
        assert hull == [min(x0), min(y0), max(x1), max(y1)]
    following = batch["labels"].roll(-1, dims=1)[batch["before_answers"]]
    assert set(following.tolist()) == {a_dataset.writer.tokenizer.convert_tokens_to_ids("<ref>")}
    assert (batch["labels"][batch["before_answers"]] == IGNORED).all()


def test_labels_of_the_collated_batch_are_its_answers(a_dataset):
    torch.manual_seed(0)
    samples = [a_dataset[index] for index in range(3)]
    batch = a_dataset.collate(samples)
    for row, sample in enumerate(samples):
        tokens = batch["labels"][row][batch["labels"][row] != IGNORED].tolist()
        text = "".join(f"{answer}<|im_end|>" for answer in answers_of(a_dataset, sample))
        assert a_dataset.writer.tokenizer.decode(tokens) == text
