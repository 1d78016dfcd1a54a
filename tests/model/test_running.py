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


@pytest.fixture
def a_slice(mni152):
    stack = slice_stack(mni152.geometry(), "axial")
    return slice_picture(mni152, stack, 80)


@pytest.mark.parametrize(
    "running",
    [
        pytest.param(Running("cpu", "bfloat16"), id="bfloat16"),
        pytest.param(Running("cpu", quantize="int8"), id="int8"),
        pytest.param(Running("cpu", quantize="int4"), id="int4"),
    ],
)
def test_smaller_numbers_box_the_same(bird_mini, a_slice, running):
    engine = load_engine("bird-mini", running)
    assert engine.model.get_memory_footprint() < bird_mini.model.get_memory_footprint()
    boxes = [
        model.ground(model.encode([a_slice]), ["left thalamus"])[0][0].boxes_norm
        for model in (bird_mini, engine)
    ]
    assert iou(boxes[0][0], boxes[1][0]) > 0.8


def test_the_layer_that_answers_is_not_quantised():
    engine = load_engine("bird-mini", Running("cpu", quantize="int8"))
    linear = engine.model.model.language_model.layers[0].mlp.down_proj
    assert linear.weight.dtype == torch.int8
    assert engine.model.lm_head.weight.dtype == torch.float32
