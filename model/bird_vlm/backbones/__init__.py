"""The model families that can be run, one module each, and the table of them.

Importing it loads no model library.
"""

from __future__ import annotations

from bird_vlm.catalogue.cards import Family

BACKBONES: dict[Family, str] = {  # module of this package, and its class that is an `Engine`
    "bird": "bird:BirdEngine",
    "qwen2.5-vl": "chat:ChatEngine",
    "qwen3-vl": "chat:ChatEngine",
    "paligemma": "chat:ChatEngine",
    "gemma3": "chat:ChatEngine",
}
