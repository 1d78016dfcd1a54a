"""What is certainly not on a picture: never something that is, or that might be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_training.regions import Vocabulary, region_of
from bird_vlm.labels import side_of, without_side
from small_world import a_record

DATASETS = ["BTCV", "LIDC-IDRI", "ACDC", "STS", "OASIS", "MSD_Hippocampus", "BUSI", "Unheard"]
TRUNK = {"BTCV", "LIDC-IDRI", "ACDC", "STS"}
NAMES = ["liver", "left kidney", "right kidney", "kidney", "left hippocampus", "hippocampus"]
RECORDS = st.lists(
    st.builds(
        lambda labels, dataset, plane: a_record(*labels, dataset=dataset, plane=plane),
        st.lists(st.sampled_from(NAMES), max_size=4),
        st.sampled_from(DATASETS),
        st.sampled_from(["", "axial", "coronal", "sagittal"]),
    ),
    min_size=1,
    max_size=8,
)


def shown_on(record):
    return {o.label for o in record.objects}


@given(RECORDS)
def test_nothing_that_is_annotated_on_a_picture_counts_as_absent(records):
    vocabulary = Vocabulary(records)
    for record in records:
        absent = {*vocabulary.near_misses(record), *vocabulary.elsewhere(record.dataset)}
        assert not absent & shown_on(record)
        assert not absent & {without_side(label) for label in shown_on(record)}


@given(RECORDS)
def test_a_side_is_not_absent_where_the_picture_shows_the_object_without_its_side(records):
    vocabulary = Vocabulary(records)
    for record in records:
        for label in vocabulary.near_misses(record):
            assert not (side_of(label) and without_side(label) in shown_on(record))


@given(RECORDS)
def test_a_sagittal_picture_never_misses_a_side(records):
    vocabulary = Vocabulary(records)
    for record in records:
        if record.plane == "sagittal":
            assert not [x for x in vocabulary.near_misses(record) if side_of(x)]


@given(RECORDS)
def test_nothing_is_concluded_within_the_trunk_or_within_one_region(records):
    vocabulary = Vocabulary(records)
    for dataset in vocabulary.by_dataset:
        for label in vocabulary.elsewhere(dataset):
            annotating = {d for d, labels in vocabulary.by_dataset.items() if label in labels}
            assert region_of(dataset) not in {region_of(d) for d in annotating}
            assert not (dataset in TRUNK and annotating & TRUNK)


def test_words_that_fit_any_region_are_never_taken_for_absent_elsewhere():
    records = [a_record("edema", dataset="BraTS2013"), a_record("soft tissue tumor", dataset="STS")]
    assert Vocabulary(records).elsewhere("STS") == []


def test_a_chest_may_show_the_breast_but_the_breast_shows_no_heart():
    records = [
        a_record("breast tumor", dataset="BUSI"),
        a_record("left lung", dataset="COVID-CXR"),
        a_record("left ventricle", dataset="ACDC"),
    ]
    assert Vocabulary(records).elsewhere("COVID-CXR") == []
    assert Vocabulary(records).elsewhere("BUSI") == ["left lung", "left ventricle"]


@pytest.fixture
def a_body() -> Vocabulary:
    return Vocabulary(
        [
            a_record("liver", "left kidney", dataset="BTCV"),
            a_record("right kidney", dataset="BTCV"),
            a_record("lung nodule", dataset="LIDC-IDRI"),
            a_record("left ventricle", dataset="ACDC", modality="mr"),
            a_record("soft tissue tumor", dataset="STS", modality="pet"),
            a_record("left hippocampus", dataset="OASIS", modality="mr", plane="axial"),
            a_record("hippocampus", dataset="OASIS", modality="mr", plane="sagittal"),
            a_record("brain tumor", dataset="BraTS2013", modality="mr"),
            a_record("polyp", dataset="EndoTect", modality="endoscopy"),
            a_record(dataset="PH2", modality="dermoscopy"),
        ]
    )


@pytest.mark.parametrize(
    ("dataset", "absent"),
    [
        pytest.param("BTCV", ["brain tumor", "hippocampus", "left hippocampus"], id="bowel-in-it"),
        pytest.param(
            "EndoTect",
            [
                *("brain tumor", "hippocampus", "left hippocampus", "left kidney"),
                *("left ventricle", "liver", "lung nodule", "right kidney", "soft tissue tumor"),
            ],
            id="inside-the-bowel",
        ),
        pytest.param(
            "OASIS",
            [
                *("left kidney", "left ventricle", "liver", "lung nodule", "polyp"),
                *("right kidney", "soft tissue tumor"),
            ],
            id="brain",
        ),
        pytest.param("Unheard", [], id="unknown-region"),
    ],
)
def test_objects_of_other_regions_are_elsewhere(a_body, dataset, absent):
    assert a_body.elsewhere(dataset) == absent


@pytest.mark.parametrize(
    ("record", "missing"),
    [
        pytest.param(a_record("liver"), ["left kidney", "right kidney"], id="two-missing"),
        pytest.param(a_record("left kidney", "liver"), ["right kidney"], id="one-side-missing"),
        pytest.param(a_record(), ["left kidney", "liver", "right kidney"], id="nothing-shown"),
        pytest.param(
            a_record(dataset="OASIS", plane="axial"),
            ["brain tumor", "hippocampus", "left hippocampus"],
            id="axial",
        ),
        pytest.param(
            a_record("left hippocampus", dataset="OASIS", plane="axial"),
            ["brain tumor"],
            id="side-shown",
        ),
        pytest.param(
            a_record(dataset="OASIS", plane="sagittal"),
            ["brain tumor", "hippocampus"],
            id="sagittal",
        ),
        pytest.param(a_record(dataset="PH2"), [], id="nothing-ever-annotated"),
    ],
)
def test_near_misses_are_what_the_data_set_annotates_elsewhere(a_body, record, missing):
    assert a_body.near_misses(record) == missing


def test_labels_are_listed_by_modality(a_body):
    assert a_body.by_modality["mr"] == {
        *("left ventricle", "left hippocampus", "hippocampus", "brain tumor")
    }
    assert a_body.by_modality["dermoscopy"] == set()
    assert a_body.labels == sorted(set(a_body.labels))


@pytest.mark.shared
def test_on_the_real_pictures_no_absence_contradicts_a_mask(real_records):
    vocabulary = Vocabulary(real_records)
    for record in real_records:
        absent = {*vocabulary.near_misses(record), *vocabulary.elsewhere(record.dataset)}
        assert not absent & shown_on(record)
    assert all(region_of(name) != name for name in vocabulary.by_dataset)  # all are known
