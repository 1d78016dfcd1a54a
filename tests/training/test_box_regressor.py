"""The baseline: it learns, survives a kill, and is scored as bird-mini is."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from bird_training.masks import record_boxes_norm
from bird_training.sources.sa_med2d import read_sa_med2d
from small_world import ABDOMEN, TWO_EDEMAS, Drawn, write_sa_med2d

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def box_regressor(monkeypatch) -> ModuleType:
    """With small pictures."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = import_module("box_regressor")
    monkeypatch.setattr(module, "SIZE", 64)
    return module


def run(module: ModuleType, monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["box_regressor.py", *map(str, arguments), "--workers", "0"])
    module.main()


def test_a_run_reports_and_goes_on_after_a_kill(
    box_regressor, a_folder_of_cases, tmp_path, monkeypatch, capsys
):
    out, numbers = tmp_path / "out", tmp_path / "numbers.json"
    common = (a_folder_of_cases, out, "--device", "cpu", "--json", numbers)
    run(box_regressor, monkeypatch, *common, "--minutes", 0.03)
    first = json.loads(numbers.read_text())
    assert set(first["recall"]) == {"ct", "mr", "dermoscopy"}
    assert first["mean"] == pytest.approx(sum(first["recall"].values()) / 3)
    assert 2_000_000 < first["parameters"] < 3_000_000
    assert first["steps"] > 0
    assert first["seconds"] >= 1.8
    assert "dermoscopy" in capsys.readouterr().out

    longer_s = first["seconds"] + 1
    run(box_regressor, monkeypatch, *common, "--minutes", longer_s / 60, "--resume")
    second = json.loads(numbers.read_text())
    assert second["steps"] > first["steps"]
    assert second["seconds"] >= longer_s - 0.1
    assert second["hits_total"].keys() == first["hits_total"].keys()


def test_resuming_what_never_began_is_refused(
    box_regressor, a_folder_of_cases, tmp_path, monkeypatch, capsys
):
    with pytest.raises(SystemExit) as left:
        run(box_regressor, monkeypatch, a_folder_of_cases, tmp_path, "--resume")
    assert left.value.code == 2
    assert "resume: there is no" in capsys.readouterr().err


def test_a_checkpoint_of_other_objects_is_refused(box_regressor, tmp_path):
    box_regressor.Training.begin(["liver"], tmp_path / "c.pt").save()
    with pytest.raises(box_regressor.BirdError, match="other objects"):
        box_regressor.Training.begin(["spleen"], tmp_path / "c.pt").load()


def test_it_learns_which_of_two_squares_a_class_means(box_regressor):
    torch.manual_seed(0)
    training = box_regressor.Training.begin(["bright", "dark"], Path("unused"))
    losses = []
    for _ in range(40):
        pictures, boxes = torch.full((8, 3, 64, 64), 0.5), torch.zeros(8, 2, 4)
        for number, corners in enumerate(torch.randint(0, 40, (8, 2, 2)).tolist()):
            for which, (x, y) in enumerate(corners):
                pictures[number, :, y : y + 16, x : x + 16] = 1.0 - which
                boxes[number, which] = torch.tensor([x, y, x + 16, y + 16]) / 64
        asked = torch.randint(0, 2, (8,))
        batch = {
            "pictures": pictures,
            "picture_of": torch.arange(8),
            "classes": asked,
            "boxes": boxes[torch.arange(8), asked],
        }
        before = training.loss
        training.step(batch, done=0.3)
        losses.append((training.loss - 0.98 * before) / 0.02)
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_only_asked_pictures_and_classes_matter(box_regressor):
    torch.manual_seed(0)
    network = box_regressor.BoxRegressor(3).eval()
    pictures = torch.rand(2, 3, 64, 64)
    boxes = network(pictures, torch.tensor([0, 1, 1]), torch.tensor([2, 0, 2]))
    alone = network(pictures[1:], torch.tensor([0]), torch.tensor([0]))
    assert boxes.shape == (3, 4)
    assert torch.allclose(boxes[1:2], alone, atol=1e-5)
    assert not torch.allclose(boxes[0], boxes[2], atol=1e-4)


class Always(nn.Module):
    """Answers every question with one box, in 0..1."""

    def __init__(self, box: tuple[float, ...]) -> None:
        super().__init__()
        self.box = box

    def forward(self, pictures, picture_of, classes) -> torch.Tensor:
        return torch.tensor(self.box).expand(len(classes), 4)


def test_scores_count_every_target_box(box_regressor, tmp_path):
    """Asked for edema it finds one of two; the tumour is somewhere else; the liver is unknown."""
    source = write_sa_med2d(tmp_path / "source", [ABDOMEN, TWO_EDEMAS])
    training = box_regressor.Training.begin(["brain tumor", "edema"], tmp_path / "c.pt")
    training.model = Always((6 / 64, 6 / 48, 16 / 64, 16 / 48))
    tallies = box_regressor.measure(training, read_sa_med2d(source))
    assert tallies == {("ct", "BTCV"): [0, 3], ("mr", "BraTS2013"): [1, 3]}
    report = box_regressor.report(tallies, training, {"train": 0, "test": 2})
    assert report.recall == {"ct": 0.0, "mr": 1 / 3}
    assert report.mean == pytest.approx(1 / 6)


def test_boxes_of_a_record_come_largest_first(tmp_path):
    squares = tuple((1, (10 * i, 0, 10 * i + 3 + i, 8)) for i in range(5))
    drawn = Drawn("mr_t1--BraTS2013--p09--z_0001", squares)
    [record] = read_sa_med2d(write_sa_med2d(tmp_path, [drawn]))
    boxes = record_boxes_norm(record, most=3)
    assert [box[0] for box in boxes["edema"]] == [625, 469, 312]
    assert boxes.keys() == {"edema"}


def test_training_pictures_have_their_boxes_on_the_bright_rectangles(box_regressor, tmp_path):
    source = write_sa_med2d(tmp_path, [ABDOMEN])
    records = read_sa_med2d(source)
    dataset = box_regressor.BoxPictures(records, ["left kidney", "liver", "right kidney"])
    torch.manual_seed(0)
    for _ in range(10):
        sample = dataset[0]
        assert sample["picture"].shape == (3, 64, 64)
        assert ((sample["boxes"] >= 0) & (sample["boxes"] <= 1)).all()
        for box in (sample["boxes"] * 64).round().int().tolist():
            x0, y0, x1, y1 = box
            inside = sample["picture"][0, y0:y1, x0:x1]
            assert inside.mean() > sample["picture"].mean()
    batch = box_regressor.collate([dataset[0], dataset[0]])
    assert len(batch["picture_of"]) == len(batch["classes"]) == len(batch["boxes"])
