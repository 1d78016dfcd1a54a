"""How a model is run is checked before anything is loaded."""

from __future__ import annotations

import pytest
import torch

from bird_vlm.boxes import iou
from bird_vlm.engine import load_engine
from bird_vlm.errors import BadRequestError, CheckpointError
from bird_vlm.running import Running
from bird_vlm.slices import slice_stack
from bird_vlm.windows import slice_picture


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        pytest.param({"precision": "half"}, "precision: must be .* got 'half'", id="precision"),
        pytest.param({"quantize": "int3"}, "quantize: must be int8 or int4", id="quantize"),
    ],
)
def test_an_unknown_choice_is_refused(choices, said):
    with pytest.raises(BadRequestError, match=said):
        Running(**choices)


@pytest.mark.parametrize("device", ["tpu", "cuda:99"])
def test_an_unknown_device_is_refused(device):
    with pytest.raises(CheckpointError, match=f"device: .*{device}"):
        load_engine("bird-mini", Running(device))


@pytest.fixture(scope="module")
def some_slices(mni152):
    stack = slice_stack(mni152.geometry(), "axial")
    return [slice_picture(mni152, stack, index) for index in range(72, 90, 3)]


@pytest.mark.parametrize(
    "running",
    [
        pytest.param(Running("cpu", "bfloat16"), id="bfloat16"),
        pytest.param(Running("cpu", quantize="int8"), id="int8"),
        pytest.param(Running("cpu", quantize="int4"), id="int4"),
    ],
)
def test_smaller_numbers_box_nearly_the_same(bird_mini, some_slices, running):
    engine = load_engine("bird-mini", running)
    assert engine.model.get_memory_footprint() < bird_mini.model.get_memory_footprint()
    labels = ["left thalamus", "right thalamus", "left caudate", "right putamen"]
    plain, small = (
        [answer.boxes_norm for answers in model.ground(features, labels) for answer in answers]
        for model in (bird_mini, engine)
        for features in [model.encode(some_slices)]
    )
    overlaps = [iou(one[0], other[0]) for one, other in zip(plain, small, strict=True)]
    assert len(overlaps) == 24
    assert sum(overlaps) / len(overlaps) > 0.8


def test_the_layer_that_answers_is_not_quantised():
    engine = load_engine("bird-mini", Running("cpu", quantize="int8"))
    linear = engine.model.model.language_model.layers[0].mlp.down_proj
    assert linear.weight.dtype == torch.int8
    assert engine.model.lm_head.weight.dtype == torch.float32
