"""Tallies of a scripted model's answers, counted by hand."""

from __future__ import annotations

import pytest
import torch

from bird_training.dialogues import MAX_BOXES
from bird_training.regions import Vocabulary
from bird_training.sources.sa_med2d import read_sa_med2d
from bird_training.validate import Tally, macro_mean, tally_picture, validate
from bird_vlm.boxes import pixel_to_norm
from bird_vlm.engine import PictureAnswer, TextAnswer
from small_world import SIZE, Drawn, write_sa_med2d


class ScriptedEngine:
    """Answers by table. A label's entry is its boxes in pixels, or a text that is unreadable;
    without an entry it is refused. Names are given by box in pixels."""

    def __init__(self, boxes: dict | None = None, names: dict | None = None) -> None:
        self.boxes = boxes or {}
        self.names = {norm(box): name for box, name in (names or {}).items()}
        self.pictures: list[tuple[int, ...]] = []
        self.asked: list[str] = []

    def encode(self, pictures) -> torch.Tensor:
        self.pictures += [picture.shape for picture in pictures]
        return torch.zeros(len(pictures), 1, 1)

    def ground(self, features, labels) -> list[list[PictureAnswer]]:
        assert len(features) == 1
        self.asked += labels
        return [[self._answer(label) for label in labels]]

    def refer(self, features, box_norm, task) -> TextAnswer:
        assert task == "roc"
        return TextAnswer(self.names.get(box_norm, "something else"), 1.0)

    def _answer(self, label: str) -> PictureAnswer:
        entry = self.boxes.get(label)
        if entry is None:
            return PictureAnswer(0.1, "")
        if isinstance(entry, str):
            return PictureAnswer(0.9, entry, unreadable=True)
        return PictureAnswer(0.9, "<ref>...", tuple(norm(box) for box in entry))


def norm(box_pixel):
    return pixel_to_norm(box_pixel, *SIZE)


LIVER, LEFT, RIGHT = (4, 10, 30, 34), (44, 20, 54, 32), (16, 36, 26, 46)
TUMOR, EDEMA, EDEMA_2 = (40, 10, 56, 30), (6, 6, 16, 16), (20, 30, 30, 40)
NO_OVERLAP = (58, 40, 64, 48)


def tally(**counts: int) -> Tally:
    return Tally(**counts)


@pytest.mark.parametrize(
    ("picture", "engine", "absent", "expected"),
    [
        pytest.param(
            0,
            ScriptedEngine({"liver": [LIVER], "left kidney": [LEFT], "right kidney": [RIGHT]}),
            ["spleen", "polyp"],
            tally(targets=3, found=3, asked_present=3, asked_absent=2, refused_absent=2, named=3),
            id="all-found-and-all-absent-refused",
        ),
        pytest.param(
            *(0, ScriptedEngine({"liver": [NO_OVERLAP], "spleen": [LIVER]})),
            ["spleen", "polyp"],
            tally(
                targets=3,
                found=0,
                asked_present=3,
                refused_present=2,
                asked_absent=2,
                refused_absent=1,
                named=3,
            ),
            id="a-wrong-box-two-refusals-and-a-hallucination",
        ),
        pytest.param(
            *(1, ScriptedEngine({"edema": [EDEMA, EDEMA_2], "brain tumor": [NO_OVERLAP, TUMOR]})),
            [],
            tally(targets=3, found=3, asked_present=2, named=3),
            id="several-boxes-of-an-object-and-any-answered-box",
        ),
        pytest.param(
            *(1, ScriptedEngine({"edema": [EDEMA], "brain tumor": [TUMOR]})),
            [],
            tally(targets=3, found=2, asked_present=2, named=3),
            id="one-of-two-instances",
        ),
        pytest.param(
            *(1, ScriptedEngine({"edema": "<box>(1,2", "liver": "<ref>", "brain tumor": [TUMOR]})),
            ["liver"],
            tally(targets=3, found=1, asked_present=2, asked_absent=1, named=3, unreadable=2),
            id="unreadable-is-neither-found-nor-refused",
        ),
        pytest.param(
            *(2, ScriptedEngine({"edema": [EDEMA]})),
            ["brain tumor", "edema", "liver"],
            tally(asked_absent=3, refused_absent=2),
            id="a-picture-with-nothing-on-it",
        ),
        pytest.param(
            *(2, ScriptedEngine()),
            [],
            tally(),
            id="nothing-to-ask",
        ),
        pytest.param(
            0,
            ScriptedEngine(names={LIVER: "The Liver.", LEFT: "right kidney", RIGHT: "kidney"}),
            [],
            tally(targets=3, asked_present=3, refused_present=3, named=3, named_right=1),
            id="a-name-needs-every-word",
        ),
        pytest.param(
            0,
            ScriptedEngine(names={LEFT: "kidney on the left", RIGHT: "the right kidney"}),
            [],
            tally(targets=3, asked_present=3, refused_present=3, named=3, named_right=2),
            id="words-in-any-order",
        ),
    ],
)
def test_answers_are_counted_by_hand(small_records, picture, engine, absent, expected):
    record = small_records[picture]
    assert tally_picture(engine, record, absent) == expected
    assert engine.pictures == [(48, 64)]
    assert engine.asked == list(dict.fromkeys(o.label for o in record.objects)) + absent


def test_a_colour_picture_reaches_the_model_in_colour(small_records):
    engine = ScriptedEngine({"skin lesion": [(20, 12, 44, 36)]})
    counted = tally_picture(engine, small_records[3], [])
    assert engine.pictures == [(48, 64, 3)]
    assert counted.found == 1


@pytest.mark.parametrize(
    ("answered", "found"),
    [
        pytest.param((6, 6, 16, 16), 1, id="exact"),
        pytest.param((6, 6, 16, 12), 1, id="six-tenths"),
        pytest.param((6, 6, 16, 11), 0, id="exactly-half-is-not-above"),
        pytest.param((1, 1, 21, 21), 0, id="a-quarter"),
    ],
)
def test_found_is_an_overlap_above_one_half(small_records, answered, found):
    engine = ScriptedEngine({"edema": [answered]})
    assert tally_picture(engine, small_records[1], []).found == found


def test_of_many_instances_the_largest_are_the_targets(tmp_path):
    boxes = [(2 + 10 * n, 4, 4 + 11 * n, 20) for n in range(MAX_BOXES + 2)]
    many = Drawn("mr_t1--BraTS2013--p--z_0001", tuple((1, box) for box in boxes))
    (record,) = read_sa_med2d(write_sa_med2d(tmp_path, [many]))
    counted = tally_picture(ScriptedEngine({"edema": boxes[2:]}), record, [])
    assert (counted.targets, counted.found) == (MAX_BOXES, MAX_BOXES)
    assert tally_picture(ScriptedEngine({"edema": boxes[:2]}), record, []).found == 0


def test_validation_adds_up_by_modality_and_asks_what_is_certainly_absent(small_records):
    engine = ScriptedEngine(
        {"liver": [LIVER], "brain tumor": [TUMOR], "skin lesion": [(20, 12, 44, 36)]},
        names={LIVER: "liver", TUMOR: "edema", (20, 12, 44, 36): "a skin lesion"},
    )
    seen: list[tuple[int, int]] = []
    tallies = validate(
        engine, small_records, Vocabulary(small_records), lambda *done: seen.append(done)
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert set(tallies) == {"ct", "mr", "dermoscopy"}
    ct, mr, skin = (tallies[name] for name in ("ct", "mr", "dermoscopy"))
    # Absent from the abdomen: two brain objects and the lesion; from each brain: four questions.
    assert (ct.asked_absent, mr.asked_absent, skin.asked_absent) == (3, 8, 4)
    assert ct.refused_absent == 1  # of tumor, edema and lesion only the edema is refused
    assert ct.rates() == pytest.approx(
        {"recall": 1 / 3, "false_refusal": 2 / 3, "absent_refused": 1 / 3, "naming": 1 / 3}
    )
    assert (mr.targets, mr.found, mr.refused_present, mr.named_right) == (3, 1, 1, 0)
    assert (skin.targets, skin.found, skin.named_right) == (1, 1, 1)
    assert macro_mean(tallies, "recall") == pytest.approx((1 / 3 + 1 / 3 + 1) / 3)
    assert macro_mean(tallies, "naming") == pytest.approx((1 / 3 + 0 + 1) / 3)


def test_the_same_picture_is_always_asked_for_the_same_objects(small_records):
    engines = [ScriptedEngine(), ScriptedEngine()]
    for engine, records in zip(engines, (small_records, small_records[::-1]), strict=True):
        validate(engine, records, Vocabulary(small_records))
    assert sorted(engines[0].asked) == sorted(engines[1].asked)


def test_the_mean_over_modalities_is_unweighted():
    tallies = {"ct": Tally(targets=1000, found=1000), "pet": Tally(targets=1), "mr": Tally()}
    assert macro_mean(tallies, "recall") == 0.5
    assert macro_mean(tallies, "naming") is None  # nobody was asked


def test_rates_of_nothing_are_unknown():
    assert set(Tally().rates().values()) == {None}
