"""What a language model wrote is held against the annotation, sentence by sentence."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from an_abdomen import AN_ABDOMEN, LEFT_KIDNEY, LIVER
from bird_training.facts import PlacedObject
from bird_training.writers.checks import Checker, RefusedError
from bird_training.writers.plan import plan_picture
from bird_training.writers.prompting import Prompts

WORDS = Prompts().words

FACTS_OF_CHECKS = replace(
    AN_ABDOMEN,
    objects=(
        LIVER,
        LEFT_KIDNEY,
        PlacedObject("edema", (10, 10, 60, 60)),
        PlacedObject("edema", (800, 800, 900, 900)),
    ),
)
GOOD_CAPTION = "An axial CT image of the abdomen with the liver, the left kidney and edema."


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        pytest.param(GOOD_CAPTION, None, id="plain"),
        pytest.param(
            "This CT scan depicts the abdomen. The large liver lies in the left part, the small "
            "left kidney on the right. There are two areas of edema.",
            None,
            id="place-size-number",
        ),
        pytest.param(GOOD_CAPTION.replace("CT", "MRI"), "modality is CT", id="modality"),
        pytest.param(GOOD_CAPTION.replace("CT ", ""), "not tell the modality", id="no-modality"),
        pytest.param(GOOD_CAPTION.replace("axial", "coronal"), "plane", id="plane"),
        pytest.param(GOOD_CAPTION.replace("abdomen", "image"), "tell the region", id="no-region"),
        pytest.param(GOOD_CAPTION.replace("abdomen", "pelvis"), "'pelvis'", id="other-region"),
        pytest.param(GOOD_CAPTION.replace(" and edema", ""), "not name edema", id="left-out"),
        pytest.param(GOOD_CAPTION + " The spleen is seen.", "speaks of spleen", id="absent"),
        pytest.param(GOOD_CAPTION + " No spleen.", "speaks of spleen", id="absent-denied"),
        pytest.param(GOOD_CAPTION + " The heart is seen.", "'heart'", id="not-annotated"),
        pytest.param(GOOD_CAPTION + " It is benign.", "'benign'", id="diagnosis"),
        pytest.param(GOOD_CAPTION + " The liver is 12 cm.", "'cm'", id="measure"),
        pytest.param(GOOD_CAPTION + " There are 3 areas of edema.", "wrong number", id="number"),
        pytest.param(GOOD_CAPTION + " The liver is on the right.", "not lie there", id="place"),
        pytest.param(GOOD_CAPTION + " A small liver.", "another size", id="size"),
        pytest.param(GOOD_CAPTION + " The liver is not seen.", "negation", id="denied"),
        pytest.param(GOOD_CAPTION + " <box>(1,1),(2,2)</box>", "marker", id="marker"),
        pytest.param(GOOD_CAPTION + " 肝臓", "characters", id="script"),
        pytest.param(GOOD_CAPTION + " See http://a.example", "'http'", id="address"),
        pytest.param(GOOD_CAPTION + " seen" * 200, "longer than", id="long"),
        pytest.param(None, "must be a text", id="null"),
    ],
)
def test_captions_are_checked(caption, reason):
    checker = Checker(FACTS_OF_CHECKS, WORDS)
    if reason is None:
        assert checker.caption(caption) == caption
        return
    with pytest.raises(RefusedError, match=reason):
        checker.caption(caption)


def an_ask(task: str, topic: str, label: str = ""):
    """One that the plan draws of this kind sooner or later."""
    for seed in range(2000):
        plan = plan_picture(FACTS_OF_CHECKS, random.Random(seed), 1)
        for ask in plan.asks:
            if (ask.turn.task, ask.topic) == (task, topic) and label in ("", ask.label):
                return ask
    raise AssertionError(f"no {task} {topic} about {label}")


LIVER_BOX = "<box>(52,180),(611,790)</box>"
WHERE = "Where is the <ref>liver</ref>?"


@pytest.mark.parametrize(
    ("ask", "question", "answer", "reason"),
    [
        pytest.param(
            ("VG", "present", "liver"), WHERE, f"<ref>liver</ref>{LIVER_BOX}", None, id="vg"
        ),
        pytest.param(
            ("VG", "present", "liver"),
            WHERE,
            f"It is here: <ref>liver</ref> {LIVER_BOX}.",
            None,
            id="vg-prose-becomes-canonical",
        ),
        pytest.param(
            ("VG", "present", "liver"),
            WHERE,
            "<ref>liver</ref><box>(52,180),(611,791)</box>",
            "must be exactly",
            id="vg-moved",
        ),
        pytest.param(
            ("VG", "present", "edema"),
            "Where is the edema?",
            "<ref>edema</ref><box>(10,10),(60,60)</box>",
            "must be exactly",
            id="vg-one-of-two",
        ),
        pytest.param(
            ("VG", "present", "liver"), WHERE, f"<ref>liver{LIVER_BOX}", "without", id="vg-open"
        ),
        pytest.param(
            ("VG", "present", "liver"),
            WHERE,
            "The liver is not present in the image.",
            "must be exactly",
            id="vg-denied",
        ),
        pytest.param(
            ("VG", "absent", "spleen"),
            "Where is the spleen?",
            f"<ref>spleen</ref>{LIVER_BOX}",
            "must be exactly",
            id="absent-with-a-box",
        ),
        pytest.param(
            ("VG", "present", "liver"),
            "Where is the heart?",
            f"<ref>liver</ref>{LIVER_BOX}",
            "'heart'",
            id="vg-other-question",
        ),
        pytest.param(
            ("VG", "present", "liver"),
            "Where is the large liver?",
            f"<ref>liver</ref>{LIVER_BOX}",
            "without negation, place, size",
            id="vg-question-that-claims",
        ),
        pytest.param(
            ("VG", "present", "liver"),
            "Is the liver fine?",
            f"<ref>liver</ref>{LIVER_BOX}",
            "'fine'",
            id="vg-no-place-asked",
        ),
        pytest.param(
            ("ROC", "name", "liver"),
            f"What is in {LIVER_BOX}?",
            "The Liver.",
            None,
            id="roc-becomes-the-name",
        ),
        pytest.param(
            ("ROC", "name", "liver"),
            f"What is in {LIVER_BOX}?",
            "spleen",
            "must be",
            id="roc-wrong",
        ),
        pytest.param(
            ("ROC", "name", "liver"),
            f"Is the liver in {LIVER_BOX}?",
            "liver",
            "must name no object",
            id="roc-gives-it-away",
        ),
        pytest.param(
            ("ROC", "name", "liver"),
            "What is in <box>(52,180),(611,791)</box>?",
            "liver",
            "unchanged",
            id="roc-other-box",
        ),
        pytest.param(
            ("RC", "describe", "liver"),
            f"Describe {LIVER_BOX}.",
            "The large liver, in the left part of this CT image.",
            None,
            id="rc",
        ),
        pytest.param(
            ("RC", "describe", "liver"),
            f"Describe {LIVER_BOX}.",
            "The liver looks enlarged.",
            "'enlarged'",
            id="rc-finding",
        ),
        pytest.param(
            ("RC", "describe", "liver"),
            f"Describe {LIVER_BOX}.",
            "The liver in the upper right part.",
            "not lie there",
            id="rc-place",
        ),
        pytest.param(
            ("RC", "describe", "liver"),
            f"Describe {LIVER_BOX}.",
            "The liver and the left kidney.",
            "name the liver alone",
            id="rc-two",
        ),
        pytest.param(
            ("MIA", "absent"), "Is the spleen seen?", "Yes, the spleen is seen.", None, id="mia-lie"
        ),
    ],
)
def test_questions_and_answers_are_checked(ask, question, answer, reason):
    asked = an_ask(*ask)
    checker = Checker(FACTS_OF_CHECKS, WORDS)
    if ask[0] == "MIA":
        label = checker.reader.read(asked.turn.question).labels[0]
        question, answer = question.replace("spleen", label), answer.replace("spleen", label)
        reason = "must say the same"
    if reason is None:
        turn = checker.turn(asked, question, answer)
        assert (turn.question, turn.answer) == (
            question,
            answer if ask[0] == "RC" else asked.turn.answer,
        )
        return
    with pytest.raises(RefusedError, match=reason):
        checker.turn(asked, question, answer)


@pytest.mark.parametrize(
    ("topic", "lie", "reason"),
    [
        pytest.param("kind", "This is a PET image of the abdomen.", "modality is", id="kind"),
        pytest.param("region", "The image shows the liver.", "no object, no more", id="region"),
        pytest.param("plane", "It is sagittal.", "plane", id="plane"),
        pytest.param("seen", "It shows the liver.", "must name edema", id="seen"),
        pytest.param("count", "There are three areas of edema.", "other numbers", id="count"),
        pytest.param("count", "There is one area of edema.", "other numbers", id="count-one"),
        pytest.param("modality", "It is a scan.", "does not say ct", id="nothing-said"),
        pytest.param("present", "The {label} is visible.", "wrong Yes or No", id="no-yes"),
        pytest.param("present", "No, the {label} is visible.", "must say the same", id="no"),
    ],
)
def test_answers_about_the_picture_must_say_what_the_annotation_says(topic, lie, reason):
    ask = an_ask("MIA", topic)
    label = Checker(FACTS_OF_CHECKS, WORDS).reader.read(ask.turn.question).labels[:1]
    lie = lie.format(label="".join(label))
    with pytest.raises(RefusedError, match=reason):
        Checker(FACTS_OF_CHECKS, WORDS).turn(ask, ask.turn.question, lie)
