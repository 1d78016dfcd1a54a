"""Which weights answered, and where a studies folder keeps its reviews."""

from __future__ import annotations

import pytest

from bird_server.review.errors import ReviewError
from bird_server.review.fingerprint import fingerprint
from bird_server.review.review import Review


@pytest.fixture
def a_model_folder(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(3_000_000))
    return folder


def test_a_copy_elsewhere_has_the_same_fingerprint(a_model_folder, tmp_path):
    before = fingerprint(a_model_folder)

    moved = a_model_folder.rename(tmp_path / "elsewhere")

    assert fingerprint(moved) == before
    assert len(before) == 16


def test_what_does_not_answer_does_not_count(a_model_folder):
    before = fingerprint(a_model_folder)

    (a_model_folder / "README.md").write_text("notes")

    assert fingerprint(a_model_folder) == before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda f: (f / "config.json").write_text("[]"), id="a setting"),
        pytest.param(
            lambda f: (f / "model.safetensors").write_bytes(bytes(2_999_999) + b"\1"), id="a weight"
        ),
        pytest.param(lambda f: (f / "vocab.json").touch(), id="a new file"),
        pytest.param(lambda f: (f / "config.json").rename(f / "generation.json"), id="a name"),
    ],
)
def test_any_change_of_the_model_shows(a_model_folder, change):
    before = fingerprint(a_model_folder)

    change(a_model_folder)

    assert fingerprint(a_model_folder) != before


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ReviewError, match="holds no weights"):
        fingerprint(tmp_path)


def test_reviews_lie_beside_the_studies_out_of_sight(tmp_path):
    Review.open(tmp_path).store.close()

    assert (tmp_path / ".bird" / "review.sqlite3").is_file()
