"""The baseline: it learns, survives a kill, and is scored as bird-mini is."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from bird_training.cli import app
from bird_training.evaluation.evaluate import evaluate
from bird_training.evaluation.predictions import read_predictions
from bird_training.evaluation.questions import read_test_set
from bird_training.sources.sa_med2d import read_sa_med2d
from bird_vlm.grammar import format_absent, format_present
from small_world import ABDOMEN, write_sa_med2d

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def box_regressor(monkeypatch) -> ModuleType:
    """With small pictures."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = import_module("box_regressor")
    monkeypatch.setattr(module, "SIZE", 64)
    return module


@pytest.fixture(scope="module")
def a_test_set(a_folder_of_cases, tmp_path_factory) -> Path:
    """The held-out side of the source as `medgrit build` writes it."""
    out = tmp_path_factory.mktemp("built") / "out"
    done = CliRunner().invoke(app, ["build", str(a_folder_of_cases), str(out)])
    assert done.exit_code == 0, done.output
    return out / "test"


def run(module: ModuleType, monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["box_regressor.py", *map(str, arguments), "--workers", "0"])
    module.main()


def test_a_run_answers_and_goes_on_after_a_kill(
    box_regressor, a_folder_of_cases, a_test_set, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    common = (a_folder_of_cases, out, "--device", "cpu", "--questions", a_test_set)
    run(box_regressor, monkeypatch, *common, "--minutes", 0.03)
    first = json.loads((out / "predictions" / "run.json").read_text())["fingerprint"]
    assert f"medgrit evaluate --predictions {out / 'predictions'}" in capsys.readouterr().err
    report = evaluate(read_predictions(out / "predictions"))
    assert set(report["VG"]["recall"]) == {"ct", "mr", "dermoscopy"}

    with pytest.raises(SystemExit):
        run(box_regressor, monkeypatch, *common, "--minutes", 0.05, "--resume")
    assert "holds answers of a finished run" in capsys.readouterr().err

    (out / "predictions").rename(out / "first")
    run(box_regressor, monkeypatch, *common, "--minutes", 0.05, "--resume")
    second = json.loads((out / "predictions" / "run.json").read_text())["fingerprint"]
    assert int(second.split()[0]) > int(first.split()[0]) > 0


def test_resuming_what_never_began_is_refused(
    box_regressor, a_folder_of_cases, a_test_set, tmp_path, monkeypatch, capsys
):
    asked = ("--questions", a_test_set, "--resume")
    with pytest.raises(SystemExit) as left:
        run(box_regressor, monkeypatch, a_folder_of_cases, tmp_path, *asked)
    assert left.value.code == 2
    assert "resume: there is no" in capsys.readouterr().err


def test_a_test_set_of_training_cases_is_refused(
    box_regressor, a_folder_of_cases, a_test_set, tmp_path, monkeypatch, capsys
):
    asked = ("--questions", a_test_set.parent / "train", "--minutes", "0.01")
    with pytest.raises(SystemExit):
        run(box_regressor, monkeypatch, a_folder_of_cases, tmp_path, *asked)
    assert "which is trained on" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("asked", "boxes"),
    [
        pytest.param("edema", 1, id="a class"),
        pytest.param("kidney", 2, id="a word without side means both"),
        pytest.param("spleen", 0, id="a word that no training picture had"),
    ],
)
def test_its_answers_are_in_the_language_of_boxes(box_regressor, a_test_set, asked, boxes):
    labels = ["edema", "left kidney", "right kidney"]
    training = box_regressor.Training.begin(labels, Path("unused"))
    training.model = Always((0.1, 0.2, 0.3, 0.4))
    question = replace(read_test_set(a_test_set)[0], annotation=format_absent(asked))
    [[answer]] = box_regressor.BoxAnswerer(training).answer([[question]])
    assert answer.text == format_present(asked, ((100, 200, 300, 400),) * boxes)


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
