"""Labels: many spellings, one name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bird_vlm.labels import natural_name, side_of, without_side


@pytest.mark.parametrize(
    ("label", "name"),
    [
        pytest.param("liver", "liver", id="plain"),
        pytest.param("kidney_right", "right kidney", id="dataset"),
        pytest.param("Right Kidney", "right kidney", id="capitals"),
        pytest.param("  right\tkidney ", "right kidney", id="blanks"),
        pytest.param("the kidney (right)", "right kidney", id="article and brackets"),
        pytest.param("Kidney, right?", "right kidney", id="punctuation"),
        pytest.param("lung_upper_lobe_left", "left lung upper lobe", id="side last"),
        pytest.param("rib_left_7", "left rib 7", id="side in the middle"),
        pytest.param("vertebrae_L2", "vertebrae l2", id="level"),
        pytest.param("malignant_breast_tumour", "malignant breast tumor", id="British"),
        pytest.param("left_ventricle", "left ventricle", id="side first"),
    ],
)
def test_natural_name(label, name):
    assert natural_name(label) == name


@given(st.text(max_size=30))
def test_a_natural_name_stays_as_it_is(label):
    assert natural_name(natural_name(label)) == natural_name(label)


@pytest.mark.parametrize(
    ("name", "bare"), [("left kidney", "kidney"), ("liver", "liver"), ("right", "")]
)
def test_without_side(name, bare):
    assert without_side(name) == bare


@pytest.mark.parametrize(
    ("name", "side"),
    [("left kidney", "left"), ("right", "right"), ("liver", ""), ("leftover", ""), ("", "")],
)
def test_side_of(name, side):
    assert side_of(name) == side
