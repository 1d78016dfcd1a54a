"""What is worth knowing of a model before it is loaded: its card, its family, its box dialect.

Knows nothing about which models there are, where they lie or how they are loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Family = Literal["bird", "qwen-vl", "qwen2.5-vl", "qwen3-vl", "paligemma", "gemma3"]
FAMILIES: tuple[Family, ...] = get_args(Family)

Dialect = Literal["bird", "qwen2.5-vl", "qwen3-vl", "paligemma", "radgrounder", "gemma3"]
DIALECTS: dict[Dialect, str] = {  # the names are those of bird_vlm.dialects, the words for people
    "bird": "<ref>liver</ref><box>(x0,y0),(x1,y1)</box>, 0..1000 of width and height",
    "qwen2.5-vl": 'JSON "bbox_2d": [x0, y0, x1, y1], pixels of the picture as the model resized it',
    "qwen3-vl": 'JSON "bbox_2d": [x0, y0, x1, y1], 0..1000 of width and height',
    "paligemma": "four <locNNNN> tokens and a label; y0, x0, y1, x1 in 1024 bins",
    "radgrounder": "<p bbox=(four <locNNNN> tokens) id=<segNNN>>label</p> within a report; "
    "x0, y0, x1, y1 in 512 bins",
    "gemma3": 'JSON "box_2d": [y0, x0, y1, x1], 0..1000 of width and height',
}

MODEL_TYPES: dict[str, Family] = {  # `model_type` of a config.json
    "bird": "bird",
    "qwen": "qwen-vl",
    "qwen2_5_vl": "qwen2.5-vl",
    "qwen3_vl": "qwen3-vl",
    "paligemma": "paligemma",
    "gemma3": "gemma3",
}
BY_CONVERSION: tuple[Family, ...] = ("qwen-vl",)  # run once `bird convert` has made them ours
FAMILY_DIALECTS: dict[Family, Dialect] = {  # of a model whose own is not known
    "bird": "bird",
    "qwen-vl": "bird",
    "qwen2.5-vl": "qwen2.5-vl",
    "qwen3-vl": "qwen3-vl",
    "paligemma": "paligemma",
    "gemma3": "gemma3",
}


@dataclass(frozen=True)
class Card:
    """One model. What could not be found in its publisher's own words is None, shown as "?"."""

    name: str  # what users type
    id: str | None  # owner/name on the hub; None for a shipped model or a folder
    family: Family | None
    dialect: Dialect | None  # how it writes boxes; None where none is published
    parameters: int | None  # all weights, the vision tower included
    licence: str | None
    research_only: bool | None  # its licence or its training data forbid commercial use
    gated: bool | None  # the hub asks for a login and an accepted licence
    made_for: tuple[str, ...]  # modalities of its training pictures
    image_size: int | Literal["native"] | None  # pixels of a square, or the picture's own size
    note: str = ""  # what its publishers say of boxes on medical pictures
    subfolder: str = ""  # where the model lies within its hub repository

    @property
    def link(self) -> str | None:
        return self.id and f"https://huggingface.co/{self.id}"
