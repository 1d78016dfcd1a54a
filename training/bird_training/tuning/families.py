"""The model families that can be fine-tuned, and what a recipe may call by the same name in all.

A family gives its training three things: a configuration that transformers makes the network from,
a `Reader` (reader.py), and the parts below. Knows nothing about torch, weights or data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Parts:
    """Beginnings of parameter names."""

    vision: tuple[str, ...]  # all that sees, the bridge included
    bridge: tuple[str, ...]  # what turns seen features into the language model's inputs

    def named(self, names: Iterable[str]) -> tuple[str, ...]:
        """`names` with "vision" and "bridge" replaced by this family's own.

        >>> FAMILY_PARTS["qwen2_5_vl"].named(["bridge", "lm_head"])
        ('model.visual.merger', 'lm_head')
        """
        known = {"vision": self.vision, "bridge": self.bridge}
        return tuple(own for name in names for own in known.get(name, (name,)))


FAMILY_PARTS: dict[str, Parts] = {  # by `model_type` of a config.json
    "bird": Parts(("model.vision_tower",), ("model.vision_tower.attn_pool",)),
    "qwen2_5_vl": Parts(("model.visual",), ("model.visual.merger",)),
    "qwen3_vl": Parts(
        ("model.visual",), ("model.visual.merger", "model.visual.deepstack_merger_list")
    ),
}
