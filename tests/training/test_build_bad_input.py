"""Sources with missing, broken or hostile files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from bird_training.sources.sa_med2d import CLASSES_FILE, INDEX_FILE
from bird_vlm.errors import BirdError
from build_world import (
    build_here,
    change_index,
    patients,
    read_entries,
    skipped,
    write_source,
)

FIRST = "ct_00--BTCV--p00--z_0000"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_gigantic(path: Path) -> None:
    """More pixels than Pillow opens."""
    Image.new("1", (20_000, 9_000)).save(path)


def shrink(path: Path) -> None:
    with Image.open(path) as picture:
        picture.resize((10, 10)).save(path)


class TestBadInput:
    @pytest.mark.parametrize(
        ("name", "spoil", "reason"),
        [
            pytest.param(f"images/{FIRST}.png", Path.unlink, "missing", id="no-image"),
            pytest.param(f"images/{FIRST}.png", truncate, "cannot be read", id="half-an-image"),
            pytest.param(f"masks/{FIRST}--0000_000.png", Path.unlink, "cannot be", id="no-mask"),
            pytest.param(f"masks/{FIRST}--0000_000.png", truncate, "cannot be", id="half-a-mask"),
            pytest.param(f"masks/{FIRST}--0000_000.png", make_gigantic, "cannot be", id="bomb"),
            pytest.param(f"masks/{FIRST}--0001_000.png", shrink, "10 x 10, its", id="small-mask"),
            pytest.param(
                f"masks/{FIRST}--0000_000.png", lambda p: p.write_text("no"), "cannot", id="text"
            ),
        ],
    )
    def test_a_picture_with_a_bad_file_is_left_out_and_listed(
        self, a_source_to_spoil, tmp_path, name, spoil, reason
    ):
        spoil(a_source_to_spoil / name)
        report = build_here(a_source_to_spoil, tmp_path / "out")
        assert report["skipped"] == 1
        [(skipped_name, told)] = skipped(tmp_path / "out").items()
        assert skipped_name == f"{FIRST}.png"
        assert reason in told
        assert Path(name).name in told
        assert FIRST not in {e["id"] for e in read_entries(tmp_path / "out", "captions")}

    @pytest.mark.parametrize(
        ("image", "masks"),
        [
            pytest.param("../../etc/ct--BTCV--p--z_1.png", [], id="image-above"),
            pytest.param("/etc/ct--BTCV--p--z_1.png", [], id="image-absolute"),
            pytest.param("masks/ct--BTCV--p--z_1.png", [], id="image-elsewhere"),
            pytest.param(
                "images/ct--BTCV--p--z_1.png", ["../../etc/a--0000_000.png"], id="mask-above"
            ),
            pytest.param("images\\..\\..\\ct--BTCV--p--z_1.png", [], id="windows"),
        ],
    )
    def test_names_that_lead_out_of_the_folder_are_left_out(
        self, a_source_to_spoil, tmp_path, image, masks
    ):
        change_index(a_source_to_spoil, lambda index: index | {image: masks})
        build_here(a_source_to_spoil, tmp_path / "out")
        [(_, reason)] = skipped(tmp_path / "out").items()
        assert "no path inside" in reason or "lies outside" in reason

    def test_a_source_without_one_good_picture_is_an_error(self, a_source_to_spoil, tmp_path):
        shutil.rmtree(a_source_to_spoil / "masks")
        with pytest.raises(BirdError, match=r"all 16 pictures had to be skipped.*skipped.jsonl"):
            build_here(a_source_to_spoil, tmp_path / "out")
        assert len(skipped(tmp_path / "out")) == 16
        write_source(a_source_to_spoil, patients(4))
        assert build_here(a_source_to_spoil, tmp_path / "out")["taken"] == 16

    def test_pictures_of_unknown_modalities_take_no_places_of_the_limit(
        self, a_source_to_spoil, tmp_path
    ):
        strange = {f"images/optical_00--Odd--p{k}--2d_0000.png": [] for k in range(4)}
        classes = a_source_to_spoil / CLASSES_FILE
        classes.write_text(json.dumps(json.loads(classes.read_text()) | {"Odd": {}}))
        change_index(a_source_to_spoil, lambda index: index | strange)
        report = build_here(a_source_to_spoil, tmp_path / "out", limit=9)
        assert (report["found"], report["taken"], report["skipped"]) == (16, 9, 4)
        assert {Path(name).name for name in strange} == set(skipped(tmp_path / "out"))

    def test_an_index_of_many_digits_is_built(self, a_source_to_spoil, tmp_path):
        many = f"ct_00--BTCV--p99--z_{10**22}"
        for kind in ("images", "masks"):
            for path in (a_source_to_spoil / kind).glob(f"{FIRST}*"):
                path.rename(path.with_name(path.name.replace(FIRST, many)))
        change_index(
            a_source_to_spoil, lambda index: json.loads(json.dumps(index).replace(FIRST, many))
        )
        assert build_here(a_source_to_spoil, tmp_path / "out")["taken"] == 16

    def test_a_missing_or_strange_folder_is_named(self, tmp_path):
        with pytest.raises(BirdError, match=r"nowhere: no such folder"):
            build_here(tmp_path / "nowhere", tmp_path / "out")
        with pytest.raises(BirdError, match=rf"looked for {INDEX_FILE}"):
            build_here(tmp_path, tmp_path / "out")

    def test_a_med_grit_folder_is_recognised(self, a_build, tmp_path):
        with pytest.raises(BirdError, match="questions already"):
            build_here(a_build, tmp_path / "out")
