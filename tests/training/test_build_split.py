"""The split of a build: no case, patient or near-duplicate is on both sides."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from bird_training.records import PictureRecord
from bird_training.twins import find_twins
from build_world import (
    TASK_FILES,
    build_here,
    patients,
    read_facts,
    write_source,
)


def sides_of_cases(out: Path) -> dict[tuple[str, str], set[str]]:
    cases: dict[tuple[str, str], set[str]] = {}
    for side in ("train", "test"):
        for facts in read_facts(out, side):
            cases.setdefault((facts["dataset"], facts["case"]), set()).add(side)
    return cases


def sides_of_twins(out: Path) -> list[tuple[str, str]]:
    """Sides of all pairs of nearly equal pictures, by the rule that find_twins has."""
    side_of, records = {}, []
    for side in ("train", "test"):
        for f in read_facts(out, side):
            side_of[f["id"]] = side
            image = out / f["image"]
            records.append(
                PictureRecord(f["id"], image, f["modality"], f["dataset"], f["case"], ())
            )
    return [(side_of[a.id], side_of[b.id]) for a, b in find_twins(records)]


class TestSplit:
    def test_no_case_is_on_both_sides(self, a_build):
        sides = sides_of_cases(a_build)
        assert {len(found) for found in sides.values()} == {1}
        for dataset in ("BTCV", "BraTS2013", "ISIC2018"):
            held_out = [case for case, side in sides.items() if side == {"test"}]
            assert sum(name == dataset for name, _ in held_out) == 2

    def test_a_picture_published_twice_brings_its_patients_to_one_side(self, tmp_path):
        source = write_source(tmp_path / "source", patients(10))
        for case in range(0, 10, 2):  # 0 and 1, 2 and 3, ... share a picture
            path = source / f"images/dermoscopy_00--ISIC2018--r{case:02d}--2d_0000.png"
            with Image.open(path) as picture:
                again = ImageEnhance.Brightness(picture).enhance(1.1)
                again.save(str(path).replace(f"r{case:02d}", f"r{case + 1:02d}"))
        for seed in range(3):
            out = tmp_path / f"out{seed}"
            build_here(source, out, test_fraction=0.25 + seed * 0.2)
            pairs = sides_of_twins(out)
            assert len(pairs) == 5
            assert all(first == second for first, second in pairs)

    def test_a_picture_in_two_data_sets_brings_both_patients_to_one_side(self, tmp_path):
        source = write_source(tmp_path / "source", patients(10))
        for case in range(10):
            skin = source / f"images/dermoscopy_00--ISIC2018--r{case:02d}--2d_0000.png"
            shutil.copy(skin, source / f"images/mr_t1--BraTS2013--q{case:02d}--z_0007.png")
        for seed, fraction in enumerate((0.2, 0.5)):
            out = tmp_path / f"out{seed}"
            build_here(source, out, test_fraction=fraction)
            pairs = sides_of_twins(out)
            assert len(pairs) == 10
            assert all(first == second for first, second in pairs)
            assert {side for pair in pairs for side in pair} == {"train", "test"}

    @pytest.mark.shared
    @pytest.mark.slow
    def test_real_pictures_no_case_patient_or_near_duplicate_is_on_both_sides(
        self, shared, tmp_path
    ):
        out = tmp_path / "out"
        report = build_here(shared / "data" / "sa_med2d_mini", out, workers=2)
        assert report["found"] == 4621
        assert report["skipped"] < 10
        for side in ("train", "test"):
            assert len(report["sides"][side]["pictures"]) == 8
            assert all(report["sides"][side]["entries"][name] > 500 for name in TASK_FILES)
        assert {len(found) for found in sides_of_cases(out).values()} == {1}
        patients_of = {
            side: {
                re.match(r"LIDC-IDRI-\d{4}", f["id"].split("--")[2])[0]
                for f in read_facts(out, side)
                if f["dataset"] == "LIDC-IDRI"
            }
            for side in ("train", "test")
        }
        assert patients_of["train"]
        assert not patients_of["train"] & patients_of["test"]
        pairs = sides_of_twins(out)
        assert len(pairs) >= 20
        assert [pair for pair in pairs if pair[0] != pair[1]] == []
