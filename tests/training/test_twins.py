"""Near-duplicates are found under whatever name, and different patients are not taken for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter

from bird_training import twins
from bird_training.records import PictureRecord
from bird_training.splits import split_by_case
from bird_training.twins import find_twins
from bird_vlm.errors import BirdError
from small_world import a_record


def a_scene(seed: int) -> Image.Image:
    """Smooth blobs, other ones for every seed."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(120, 160)), 9)
    noise = (noise - noise.min()) / np.ptp(noise)
    return Image.fromarray((255 * noise).astype(np.uint8))


def kept(folder: Path, case: str, picture: Image.Image, **fields) -> PictureRecord:
    path = folder / f"{fields.get('dataset', 'BTCV')}-{case}.png"
    picture.save(path)
    return replace(a_record("liver", case=case, **fields), image=path)


def brighter(picture: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(1.15)


def scaled(picture: Image.Image) -> Image.Image:
    return picture.resize((237, 181))


def next_frame(picture: Image.Image) -> Image.Image:
    return picture.crop((2, 1, *picture.size))


def coloured(picture: Image.Image) -> Image.Image:
    return picture.convert("RGB")


@pytest.mark.parametrize("change", [brighter, scaled, next_frame, coloured])
def test_the_same_picture_under_another_name_is_found(tmp_path, change):
    first = kept(tmp_path, "p1", a_scene(1))
    second = kept(tmp_path, "p2", change(a_scene(1)))
    others = [kept(tmp_path, f"q{seed}", a_scene(seed)) for seed in range(2, 12)]
    assert find_twins([first, *others, second]) == [(first, second)]


def test_slices_of_one_case_are_no_twins(tmp_path):
    records = [kept(tmp_path, "p1", a_scene(1)), kept(tmp_path, "p1", brighter(a_scene(1)))]
    assert find_twins(records) == []


def test_a_picture_in_two_data_sets_is_found_though_its_case_has_one_name(tmp_path):
    first = kept(tmp_path, "p1", a_scene(1))
    second = kept(tmp_path, "p1", brighter(a_scene(1)), dataset="ACDC")
    other = kept(tmp_path, "p2", a_scene(2), dataset="ACDC")
    assert find_twins([first, other, second]) == [(first, second)]


def test_twins_far_apart_in_a_long_list_are_found(tmp_path, monkeypatch):
    """Pictures are compared tile by tile."""
    monkeypatch.setattr(twins, "_TILE", 4)
    records = [kept(tmp_path, f"p{seed}", a_scene(seed)) for seed in range(11)]
    again = [kept(tmp_path, f"q{seed}", scaled(a_scene(seed))) for seed in (0, 5, 10)]
    found = find_twins([*records, *again])
    assert set(found) == {(records[seed], a) for seed, a in zip((0, 5, 10), again, strict=True)}


def test_even_pictures_are_no_twins(tmp_path):
    grey = Image.new("L", (64, 64), 90)
    assert find_twins([kept(tmp_path, "p1", grey), kept(tmp_path, "p2", grey)]) == []


def test_reading_is_reported(tmp_path):
    seen = []
    records = [kept(tmp_path, f"p{n}", a_scene(n)) for n in range(3)]
    find_twins(records, on_picture=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    record = kept(tmp_path, "p1", a_scene(1))
    record.image.write_bytes(b"not a picture")
    with pytest.raises(BirdError, match=r"BTCV-p1\.png: cannot be read"):
        find_twins([record])


@pytest.mark.shared
def test_real_twins_stay_on_one_side(real_records):
    pairs = find_twins(real_records)
    found = {((a.dataset, a.case), (b.dataset, b.case)) for a, b in pairs}
    assert 10 < len(found) < 100  # of ten million pairs
    assert all(first[0] == second[0] for first, second in found)  # these data sets share no scan
    assert not {first[0] for first, _ in found} & {"BTCV", "ACDC", "LIDC-IDRI"}
    for side in split_by_case(real_records, 0.15, pairs):
        cases = {(r.dataset, r.case) for r in side}
        for first, second in found:
            assert (first in cases) == (second in cases)
