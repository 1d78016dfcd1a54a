"""The table of known models. To add one, add a `Card` here; docs/models.md tells how.

Facts are those of the publishers: licence and gating from the model's page, parameters counted in
the published weights (RadGrounder's in the model that it was fine-tuned from), image size and
modalities from its card or paper. Knows nothing about what is installed.
"""

from __future__ import annotations

from bird_vlm.catalogue.cards import Card

_MEDGEMMA = ("chest X-ray", "dermatology", "ophthalmology", "histopathology")

KNOWN: tuple[Card, ...] = (
    Card(
        name="bird-mini",
        id=None,
        family="bird",
        dialect="bird",
        parameters=6_583_128,
        licence="research use",
        research_only=True,
        gated=False,
        made_for=(
            *("CT", "MR", "PET", "X-ray", "ultrasound"),
            *("endoscopy", "dermoscopy", "fundus"),
        ),
        image_size=160,
        note="Comes with the package; answers for the objects in its labels.json and no others.",
    ),
    Card(
        name="qwen-vl-chat",
        id="Qwen/Qwen-VL-Chat",
        family="qwen-vl",
        dialect="bird",
        parameters=9_656_935_168,
        licence="Tongyi Qianwen",
        research_only=False,
        gated=False,
        made_for=("general",),
        image_size=448,
        note="What BiRD was fine-tuned from; nothing medical is published for it.",
    ),
    Card(
        name="qwen2.5-vl-3b",
        id="Qwen/Qwen2.5-VL-3B-Instruct",
        family="qwen2.5-vl",
        dialect="qwen2.5-vl",
        parameters=3_754_622_976,
        licence="Qwen Research",
        research_only=True,
        gated=False,
        made_for=("general",),
        image_size="native",
    ),
    Card(
        name="qwen2.5-vl-7b",
        id="Qwen/Qwen2.5-VL-7B-Instruct",
        family="qwen2.5-vl",
        dialect="qwen2.5-vl",
        parameters=8_292_166_656,
        licence="Apache-2.0",
        research_only=False,
        gated=False,
        made_for=("general",),
        image_size="native",
    ),
    Card(
        name="qwen3-vl-2b",
        id="Qwen/Qwen3-VL-2B-Instruct",
        family="qwen3-vl",
        dialect="qwen3-vl",
        parameters=2_127_532_032,
        licence="Apache-2.0",
        research_only=False,
        gated=False,
        made_for=("general",),
        image_size="native",
    ),
    Card(
        name="qwen3-vl-4b",
        id="Qwen/Qwen3-VL-4B-Instruct",
        family="qwen3-vl",
        dialect="qwen3-vl",
        parameters=4_437_815_808,
        licence="Apache-2.0",
        research_only=False,
        gated=False,
        made_for=("general",),
        image_size="native",
    ),
    Card(
        name="qwen3-vl-8b",
        id="Qwen/Qwen3-VL-8B-Instruct",
        family="qwen3-vl",
        dialect="qwen3-vl",
        parameters=8_767_123_696,
        licence="Apache-2.0",
        research_only=False,
        gated=False,
        made_for=("general",),
        image_size="native",
    ),
    Card(
        name="medgemma-1.5-4b",
        id="google/medgemma-1.5-4b-it",
        family="gemma3",
        dialect="gemma3",
        parameters=4_300_079_472,
        licence="HAI-DEF terms",
        research_only=False,
        gated=True,
        made_for=(*_MEDGEMMA, "CT", "MR"),
        image_size=896,
        note="Boxes are published for anatomy on chest X-rays only.",
    ),
    Card(
        name="medgemma-4b",
        id="google/medgemma-4b-it",
        family="gemma3",
        dialect=None,
        parameters=4_300_079_472,
        licence="HAI-DEF terms",
        research_only=False,
        gated=True,
        made_for=_MEDGEMMA,
        image_size=896,
        note="No boxes are published for this version; medgemma-1.5-4b has them.",
    ),
    Card(
        name="medgemma-27b",
        id="google/medgemma-27b-it",
        family="gemma3",
        dialect=None,
        parameters=27_432_406_640,
        licence="HAI-DEF terms",
        research_only=False,
        gated=True,
        made_for=_MEDGEMMA,
        image_size=896,
        note="Said to know anatomy boxes of chest X-rays; how it writes them was not found.",
    ),
    Card(
        name="paligemma2-3b",
        id="google/paligemma2-3b-mix-448",
        family="paligemma",
        dialect="paligemma",
        parameters=3_032_979_696,
        licence="Gemma terms",
        research_only=False,
        gated=True,
        made_for=("general",),
        image_size=448,
        note="Answers `detect liver`; nothing medical is published for it.",
    ),
    Card(
        name="radgrounder",
        id="lmb-freiburg/radgrounder",
        family="paligemma",
        dialect="radgrounder",
        parameters=3_032_094_960,
        licence="CC BY-NC-SA 4.0, Gemma terms",
        research_only=True,
        gated=None,
        made_for=("CT", "MR"),
        image_size=224,
        note="Boxes stand within the reports that it writes for a slice, in English or German.",
        subfolder="detection",
    ),
)


def known_model(text: str) -> Card | None:
    """The card of a short name or hub id, whatever its case; None where the table has none."""
    wanted = text.casefold()
    names = {key.casefold(): card for card in KNOWN for key in (card.name, card.id) if key}
    return names.get(wanted)
