"""Prompts: one template per task, in the grammar's own marks."""

from __future__ import annotations

from hypothesis import given

from bird_vlm.contract import REFERRING_TASKS
from bird_vlm.grammar import format_box
from bird_vlm.prompts import grounding_prompt, referring_prompt
from geometries import norm_boxes


def test_grounding_marks_the_label():
    assert "<ref>left kidney</ref>" in grounding_prompt("left kidney")


@given(norm_boxes())
def test_referring_shows_the_box(box_norm):
    prompts = [referring_prompt(task, box_norm) for task in REFERRING_TASKS]
    assert all(format_box(box_norm) in prompt for prompt in prompts)
    assert len(set(prompts)) == len(REFERRING_TASKS)
