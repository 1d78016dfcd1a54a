"""What is known of a picture: boxes that are right, what is left out, and what is surely absent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bird_training.building.metadata import (
    absent_objects,
    med_grit_id,
    picture_facts,
    region_of_objects,
)
from bird_training.records import ObjectRecord, PictureRecord
from bird_training.regions import Vocabulary
from bird_vlm.errors import BirdError
from small_world import a_record


def a_picture(folder: Path, *objects: tuple[str, tuple[int, int, int, int]], **fields):
    """100 x 50 pixels with one mask per object, each a filled rectangle."""
    image = folder / "picture.png"
    Image.new("L", (100, 50), 90).save(image)
    records = []
    for number, (label, (x0, y0, x1, y1)) in enumerate(objects):
        mask = np.zeros((50, 100), np.uint8)
        mask[y0:y1, x0:x1] = 255
        path = folder / f"mask{number}.png"
        Image.fromarray(mask).save(path)
        records.append(ObjectRecord(label, path))
    return replace(a_record(**fields), id="ct_1", image=image, objects=tuple(records))


@pytest.fixture
def a_vocabulary() -> Vocabulary:
    return Vocabulary(
        [
            a_record("liver", "left kidney", "right kidney", "spleen"),
            a_record("brain tumor", "edema", dataset="BraTS2013", modality="mr"),
        ]
    )


def facts_of(record: PictureRecord, vocabulary: Vocabulary, **options):
    return picture_facts(record, vocabulary, **options)


def test_each_instance_has_its_box_in_thousandths(tmp_path, a_vocabulary):
    record = a_picture(
        tmp_path,
        ("liver", (10, 5, 60, 25)),
        ("spleen", (70, 10, 90, 30)),
        ("liver", (0, 40, 8, 48)),
    )
    facts = facts_of(record, a_vocabulary)
    assert [(o.label, o.box_norm) for o in facts.objects] == [
        ("liver", (0, 800, 80, 960)),
        ("liver", (100, 100, 600, 500)),
        ("spleen", (700, 200, 900, 600)),
    ]
    assert (facts.region, facts.modality, facts.case) == ("abdomen", "ct", "p")


def test_areas_are_those_of_the_masks(tmp_path, a_vocabulary):
    record = a_picture(tmp_path, ("liver", (10, 5, 60, 25)), ("spleen", (70, 10, 90, 30)))
    mask = np.zeros((50, 100), np.uint8)
    mask[10:15, 70:80] = mask[25:30, 80:90] = 255  # two corners of one box
    mask[20, 75] = 255  # a speck
    Image.fromarray(mask).save(record.objects[1].mask)
    liver, spleen = facts_of(record, a_vocabulary).objects
    assert (liver.area_norm, liver.parts) == (200_000, 1)
    assert (spleen.area_norm, spleen.parts) == (20_200, 2)
    assert spleen.box_norm == (700, 200, 900, 600)


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        pytest.param((10, 10, 13, 14), True, id="twelve-pixels"),
        pytest.param((10, 10, 21, 11), False, id="eleven-pixels"),
        pytest.param((10, 10, 10, 10), False, id="empty"),
        pytest.param((0, 0, 100, 50), True, id="whole-picture"),
    ],
)
def test_what_nobody_can_point_at_is_left_out_and_yet_not_absent(tmp_path, a_vocabulary, box, kept):
    record = a_picture(tmp_path, ("liver", box), ("spleen", (70, 10, 90, 30)))
    facts = facts_of(record, a_vocabulary)
    assert ("liver" in {o.label for o in facts.objects}) == kept
    assert "liver" not in facts.absent


def test_a_line_too_thin_for_a_box_is_left_out(tmp_path, a_vocabulary):
    image, mask = tmp_path / "wide.png", tmp_path / "line.png"
    Image.new("L", (1000, 1000)).save(image)
    values = np.zeros((1000, 1000), np.uint8)
    values[500:504, 100:900] = 255  # four thousandths high
    Image.fromarray(values).save(mask)
    record = replace(a_record(), id="ct_1", image=image, objects=(ObjectRecord("liver", mask),))
    assert facts_of(record, a_vocabulary).objects == ()


def test_hard_absences_come_first(tmp_path, a_vocabulary):
    record = a_picture(tmp_path, ("liver", (10, 5, 60, 25)))
    absent = facts_of(record, a_vocabulary).absent
    assert set(absent[:3]) == {"left kidney", "right kidney", "spleen"}
    assert absent[3:] == ("brain tumor",)  # an edema could be anywhere


def test_only_what_was_looked_for_counts_as_absent(a_vocabulary):
    record = a_record("liver", dataset="BTCV")
    absent = absent_objects(record, a_vocabulary, annotated=("liver", "spleen"))
    assert absent[0] == "spleen"
    assert not {"left kidney", "right kidney"} & set(absent)


def test_another_picture_of_the_same_kind_draws_other_absences(a_vocabulary):
    records = [replace(a_record("liver"), id=f"ct_{n}") for n in range(20)]
    assert len({absent_objects(record, a_vocabulary)[0] for record in records}) == 3


def test_sagittal_pictures_have_no_sides(tmp_path, a_vocabulary):
    record = a_picture(tmp_path, ("left kidney", (10, 5, 60, 25)), plane="sagittal")
    facts = facts_of(record, a_vocabulary)
    assert [o.label for o in facts.objects] == ["kidney"]
    assert not [name for name in facts.absent if "left" in name or "right" in name]


@pytest.mark.parametrize(
    ("labels", "region"),
    [
        (["liver", "spleen", "vertebrae l1"], "abdomen"),
        ([*(f"left rib {n}" for n in range(1, 12)), "liver", "left kidney", "spleen"], "abdomen"),
        (["left lung", "right lung", "heart", "liver"], "chest"),
        (["vertebrae l1", "spinal cord"], "spine"),
        (["left lateral ventricle", "left thalamus"], "brain"),
        (["left ventricle", "myocardium"], "chest"),
        (["soft tissue tumor"], ""),
        ([], ""),
    ],
)
def test_the_region_is_told_by_the_objects_where_the_data_set_is_unknown(labels, region):
    assert region_of_objects(labels) == region


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("ct_00--BTCV--p--z_1", "ct_00--BTCV--p--z_1"),
        ("ct--BTCV--p--z_1", "ct_ct--BTCV--p--z_1"),
        ("amos_1", "ct_amos_1"),
    ],
)
def test_an_id_starts_with_its_modality(given, expected):
    assert med_grit_id(replace(a_record(), id=given)) == expected


def test_an_unknown_modality_is_refused(tmp_path, a_vocabulary):
    record = replace(a_picture(tmp_path), modality="optical")
    with pytest.raises(BirdError, match="modality: 'optical' is none of ct, mr"):
        facts_of(record, a_vocabulary)


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path, a_vocabulary):
    record = a_picture(tmp_path, ("liver", (10, 5, 60, 25)))
    Image.new("L", (50, 100), 255).save(record.objects[0].mask)
    with pytest.raises(BirdError, match=r"mask0.png: is 50 x 100, its picture 100 x 50"):
        facts_of(record, a_vocabulary)
