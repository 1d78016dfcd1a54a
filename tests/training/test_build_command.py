"""`medgrit build` as a person calls it: its help, its table, and what it says to bad options."""

from __future__ import annotations

import re

import pytest
import typer
from typer.testing import CliRunner

from bird_training.commands.build import EPILOG, build_command
from bird_vlm.console import plain_errors
from build_world import patients, read_facts, write_source


@pytest.fixture(scope="module")
def a_source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("source"), patients(6, slices=1))


def run(*arguments: object):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command(epilog=EPILOG)(plain_errors(build_command))
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


def test_a_build_ends_with_a_table_and_a_sheet(a_source, tmp_path):
    out = tmp_path / "out"
    result = run(a_source, out, "--workers", 1)
    assert result.exit_code == 0, result.output
    for row in ("ct pictures", "cases", "VG", "ROC", "RC", "MIA", "dialogues", "absent objects"):
        assert row in result.output
    assert "18 of 18 pictures taken" in result.output
    assert (out / "sheet.png").is_file()
    again = run(a_source, out, "--workers", 1)
    assert again.exit_code == 0
    assert "18 of 18 pictures taken" in again.output


def test_a_limit_and_no_sheet(a_source, tmp_path):
    out = tmp_path / "out"
    assert run(a_source, out, "--limit", 6, "--no-sheet", "--workers", 1).exit_code == 0
    assert not (out / "sheet.png").exists()
    assert sum(len(read_facts(out, side)) for side in ("train", "test")) == 6


def test_augmented_copies_are_counted(a_source, tmp_path):
    result = run(a_source, tmp_path / "out", "--augment", 1, "--limit", 6, "--workers", 1)
    assert result.exit_code == 0, result.output
    copies = len(list((tmp_path / "out" / "augmented").iterdir()))
    assert f"6 of 18 pictures taken; {copies} augmented copies in train" in result.output
    dry = run(a_source, tmp_path / "dry", "--augment", 2, "--limit", 6, "--dry-run")
    assert "and about 10 augmented copies" in dry.output


def test_a_dry_run_shows_questions_and_leaves_nothing(a_source, tmp_path):
    result = run(a_source, tmp_path / "out", "--dry-run", "--workers", 1)
    assert result.exit_code == 0
    assert "18 of 18 pictures to write" in result.output
    assert not (tmp_path / "out").exists()


def test_a_dry_run_of_a_language_model_estimates_its_cost(a_source, tmp_path):
    options = ("--endpoint", "http://127.0.0.1:9/v1", "--model", "m", "--price-in", 1)
    result = run(
        a_source, tmp_path / "out", "--writer", "llm", *options, "--dry-run", "--workers", 1
    )
    assert result.exit_code == 0, result.output
    assert re.search(r"18 pictures: about [\d,]+ requests, .* cost: about", result.output)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(["--plane", "diagonal"], "plane", id="plane"),
        pytest.param(["--window", "liver"], "must be one of soft tissue", id="window"),
        pytest.param(["--window", "lung"], "holds pictures", id="window-of-pictures"),
        pytest.param(["--augment", "-1"], "augment", id="augment"),
        pytest.param(["--extra", "{"], "extra: is not JSON", id="extra"),
        pytest.param(["--extra", "[1]"], "extra: must be a JSON object", id="extra-list"),
        pytest.param(["--writer", "llm"], "--endpoint", id="no-endpoint"),
        pytest.param(["--limit", "0"], "limit", id="limit"),
        pytest.param(["--test-fraction", "1"], "test-fraction", id="fraction"),
        pytest.param(["--engine", "spark"], "engine", id="engine"),
    ],
)
def test_bad_options_are_named(a_source, tmp_path, options, said, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    result = run(a_source, tmp_path / "out", "--workers", 1, *options)
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_folder_that_cannot_be_made_is_named(a_source, tmp_path):
    (tmp_path / "file").write_text("")
    result = run(a_source, tmp_path / "file" / "out", "--workers", 1)
    assert result.exit_code == 2
    assert "cannot be made" in result.output
