"""`bird models` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from huggingface_hub import constants
from rich.console import Console
from typer.testing import CliRunner, Result

from bird_vlm.catalogue.cards import Card
from bird_vlm.catalogue.installed import shipped_folder
from bird_vlm.catalogue.known import KNOWN, known_model
from bird_vlm.catalogue.listing import Entry, models_table, next_steps
from bird_vlm.catalogue.memory_need import GIB, Room
from bird_vlm.commands.models import models

COMMIT = "a" * 40
A_WORKSTATION = Room("cuda:0", "A workstation", 12 * GIB)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and a terminal of 100 columns."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path / "hub"


def bird_models(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(models)
    return CliRunner().invoke(app, [*arguments, "--device", "cpu"])


def put_into_cache(cache: Path, model_id: str, model_type: str, subfolder: str = "") -> Path:
    """Lay a model out as huggingface_hub does."""
    repository = cache / f"models--{model_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    folder = repository / "snapshots" / COMMIT / subfolder
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    weights = shipped_folder("bird-mini") / "model.safetensors"
    (folder / "model.safetensors").write_bytes(weights.read_bytes())
    return folder


def unknown_card() -> Card:
    return Card("x", None, None, None, None, None, None, None, (), None)


def test_the_table_names_all_and_fits_100_columns():
    result = bird_models()
    assert result.exit_code == 0, result.output
    assert max(len(line) for line in result.stdout.splitlines()) <= 100
    assert "…" not in result.stdout
    for card in KNOWN:
        assert f"\n{card.name} " in result.stdout
        assert (card.id or "ships with BiRD") in result.stdout


def test_what_is_not_known_is_a_question_mark():
    console = Console(width=100)
    with console.capture() as capture:
        console.print(models_table([Entry(unknown_card(), None, A_WORKSTATION)], A_WORKSTATION))
    row = capture.get().splitlines()[2]
    assert row.split() == ["x", *"???????"]


def test_json_tells_the_same_with_null_for_what_is_not_known():
    result = bird_models("--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["device"]["device"] == "cpu"
    assert [model["name"] for model in answer["models"]] == [card.name for card in KNOWN]
    by_name = {model["name"]: model for model in answer["models"]}
    mini, grounder = by_name["bird-mini"], by_name["radgrounder"]
    assert mini["folder"] == str(shipped_folder("bird-mini"))
    assert mini["fits_as"] == "float32"
    assert set(mini["memory_gib"]) == {"float32", "bf16", "int8", "int4"}
    assert (grounder["gated"], grounder["folder"]) == (None, None)
    assert grounder["link"] == "https://huggingface.co/lmb-freiburg/radgrounder"


def test_one_model_in_full_says_what_to_do_next():
    result = bird_models("medgemma-1.5-4b")
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "parameters 4,300,079,472" in text
    assert "accept its licence at https://huggingface.co/google/medgemma-1.5-4b-it" in text
    assert "bird ground scan.nii.gz --text liver --model medgemma-1.5-4b" in text


def test_a_model_of_the_table_that_is_in_the_cache_is_shown_as_here(cache: Path):
    folder = put_into_cache(cache, "lmb-freiburg/radgrounder", "paligemma", "detection")
    assert json.loads(bird_models("radgrounder", "--json").stdout)["folder"] == str(folder)
    assert "hf download" not in bird_models("radgrounder").stdout


def test_other_models_of_the_cache_are_listed_by_their_hub_id(cache: Path):
    folder = put_into_cache(cache, "someone/liver-finder", "qwen3_vl")
    put_into_cache(cache, "someone/speech", "whisper")
    listed = json.loads(bird_models("--json").stdout)["models"][len(KNOWN) :]
    assert [(m["name"], m["family"], m["folder"]) for m in listed] == [
        ("someone/liver-finder", "qwen3-vl", str(folder))
    ]
    assert "someone/liver-finder" in bird_models().stdout
    assert "6,583,128" in bird_models("someone/liver-finder").stdout


def test_a_folder_is_shown_by_what_is_in_it(cache: Path):
    folder = put_into_cache(cache, "someone/liver finder", "bird")
    result = bird_models(str(folder), "--json")
    assert json.loads(result.stdout)["parameters"] == known_model("bird-mini").parameters
    assert f"--model '{folder}'" in bird_models(str(folder)).stdout


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("bird-mimi", "did you mean bird-mini", id="misspelt"),
        pytest.param("no-one/nothing", "not in the table and not on this machine", id="hub id"),
        pytest.param("../up", "is no folder here", id="path"),
    ],
)
def test_a_model_that_is_not_known_is_one_line_and_exit_code_2(name: str, reason: str):
    result = bird_models(name)
    assert result.exit_code == 2
    assert reason in " ".join(result.output.split())
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("name", "folder", "steps"),
    [
        pytest.param(
            "qwen2.5-vl-3b",
            None,
            ["research only", "get it (7 GiB): --model qwen2.5-vl-3b fetches it", "use it"],
            id="research only",
        ),
        pytest.param(
            "qwen-vl-chat",
            Path("/models/qwen vl"),
            ["bird convert '/models/qwen vl' bird-from-qwen", "--model bird-from-qwen"],
            id="to convert",
        ),
        pytest.param(
            "medgemma-27b",
            None,
            ["does not fit", "accept its licence", "get it (51 GiB)", "use it"],
            id="too large",
        ),
        pytest.param("qwen3-vl-8b", Path("/m"), ["--quantize int4"], id="fits when quantized"),
    ],
)
def test_next_steps(name: str, folder: Path | None, steps: list[str]):
    room = Room("cuda:0", "A small card", 11 * GIB)
    told = next_steps(Entry(known_model(name), folder, room))
    assert len(told) == len(steps)
    assert all(step in line for step, line in zip(steps, told, strict=True))


def test_the_page_of_models_names_all():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    for card in KNOWN:
        assert f"\n{card.name} " in page
        assert (card.id or "ships with BiRD") in page
        assert f"| {card.licence} |" in page


def test_help_teaches():
    result = bird_models("--help")
    text = " ".join(result.stdout.split())
    assert "--model NAME" in text
    assert "--json" in text
