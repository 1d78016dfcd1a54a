"""What BiRD is asked: one template per task of the paper (section 3.2).

The picture itself ("Picture 1: <img>...</img>") is added by the processor. Knows nothing about
tokens or pictures.
"""

from __future__ import annotations

from bird_vlm.boxes import BoxNorm
from bird_vlm.contract import ReferringTask
from bird_vlm.grammar import REF_END, REF_START, format_box


def grounding_prompt(label: str) -> str:
    """Visual grounding (VG), text in, box out.

    >>> grounding_prompt("liver")
    'Where is the <ref>liver</ref> located in this image?'
    """
    return f"Where is the {REF_START}{label}{REF_END} located in this image?"


def referring_prompt(task: ReferringTask, box_norm: BoxNorm) -> str:
    """Referring object classification (ROC) or referring captioning (RC), box in, text out."""
    if task == "roc":
        return f"What is in the area {format_box(box_norm)}?"
    return f"Describe the region {format_box(box_norm)}."
